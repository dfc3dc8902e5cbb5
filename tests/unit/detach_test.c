/* Going to the background, seen from the shell: a child of the test plays the program. */
#include "client/detach.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static char folder[] = "/tmp/ktvpn-detach-XXXXXX";
static char log_path[64];

enum ending { BECOMES_READY, FAILS, WAITS_FOR_SIGNAL };

static volatile sig_atomic_t was_told;

static void on_signal(int number)
{
    was_told = number;
}

/* The program: never returns. `told` is written to once its signal handler is set. */
static KT_NORETURN void program(enum ending ending, int told)
{
    struct detach detach;
    struct sigaction action = {.sa_handler = on_signal};
    if (detach_start(&detach) != 0)
        _exit(99);
    (void)sigaction(SIGINT, &action, NULL);
    (void)!write(told, "1", 1);
    switch (ending) {
    case BECOMES_READY:
        detach_ready(&detach, log_path);
        (void)!write(STDERR_FILENO, "in the background\n", 18);
        (void)!write(told, "2", 1);
        _exit(0);
    case FAILS:
        _exit(7);
    case WAITS_FOR_SIGNAL:
        while (was_told == 0)
            (void)usleep(1000);
        _exit(was_told == SIGINT ? 8 : 9);
    }
    _exit(98);
}

static pid_t start(enum ending ending, int *told)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0)
        program(ending, ends[1]);
    (void)close(ends[1]);
    *told = ends[0];
    char word = 0;
    assert_int_equal(read(*told, &word, 1), 1);
    return pid;
}

static int ending_of(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_ready(void **state KT_UNUSED)
{
    int told;
    char word = 0, text[64] = "";
    pid_t pid = start(BECOMES_READY, &told);
    assert_int_equal(ending_of(pid), 0);
    assert_int_equal(read(told, &word, 1), 1); /* its line is written */
    int fd = open(log_path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, text, sizeof text - 1), 18);
    assert_string_equal(text, "in the background\n");
    (void)close(fd);
    (void)close(told);
}

static void test_exit_code(void **state KT_UNUSED)
{
    int told;
    assert_int_equal(ending_of(start(FAILS, &told)), 7);
    (void)close(told);
}

static void test_signal_is_handed_on(void **state KT_UNUSED)
{
    int told;
    pid_t pid = start(WAITS_FOR_SIGNAL, &told);
    assert_int_equal(kill(pid, SIGINT), 0);
    assert_int_equal(ending_of(pid), 8);
    (void)close(told);
}

static void test_not_detached(void **state KT_UNUSED)
{
    struct detach detach = {.ready_fd = -1};
    detach_ready(&detach, "/nowhere/at.all"); /* nothing happens */
}

static int set_up(void **state KT_UNUSED)
{
    if (mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(log_path, sizeof log_path, "%s/log", folder);
    return 0;
}

static int tear_down(void **state KT_UNUSED)
{
    (void)unlink(log_path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ready), cmocka_unit_test(test_exit_code),
                                       cmocka_unit_test(test_signal_is_handed_on), cmocka_unit_test(test_not_detached)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
