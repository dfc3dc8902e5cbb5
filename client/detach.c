#include "client/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* A signal handler has no other place for what it needs. */
static volatile sig_atomic_t child_pid;

static void hand_on(int number)
{
    if (child_pid > 0)
        (void)kill((pid_t)child_pid, number);
}

static void handed_on(sigset_t *out)
{
    (void)sigemptyset(out);
    (void)sigaddset(out, SIGINT);
    (void)sigaddset(out, SIGTERM);
    (void)sigaddset(out, SIGHUP);
}

/* Waits for the child's word or its end. The signals are blocked when it is called, so that none comes too early. */
static KT_NORETURN void wait_for_child(pid_t pid, int fd, const sigset_t *mask)
{
    child_pid = pid;
    struct sigaction action = {.sa_handler = hand_on};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    (void)sigprocmask(SIG_SETMASK, mask, NULL);
    char word = 0;
    ssize_t size;
    do
        size = read(fd, &word, 1);
    while (size < 0 && errno == EINTR);
    if (size == 1)
        _exit(0);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int detach_start(struct detach *detach)
{
    int ends[2];
    detach->ready_fd = -1;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    sigset_t signals, mask;
    handed_on(&signals);
    (void)sigprocmask(SIG_BLOCK, &signals, &mask);
    pid_t pid = fork();
    if (pid < 0) {
        int rc = -errno;
        (void)sigprocmask(SIG_SETMASK, &mask, NULL);
        (void)close(ends[0]);
        (void)close(ends[1]);
        return rc;
    }
    if (pid > 0) {
        (void)close(ends[1]);
        wait_for_child(pid, ends[0], &mask);
    }
    (void)sigprocmask(SIG_SETMASK, &mask, NULL);
    (void)close(ends[0]);
    (void)setsid();
    detach->ready_fd = ends[1];
    return 0;
}

void detach_ready(struct detach *detach, const char *log_path)
{
    if (detach->ready_fd < 0)
        return;
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int log_fd = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (null_fd >= 0)
        (void)dup2(null_fd, STDIN_FILENO);
    int out = log_fd >= 0 ? log_fd : null_fd;
    if (out >= 0) {
        (void)dup2(out, STDOUT_FILENO);
        (void)dup2(out, STDERR_FILENO);
    }
    if (null_fd > STDERR_FILENO)
        (void)close(null_fd);
    if (log_fd > STDERR_FILENO)
        (void)close(log_fd);
    (void)!write(detach->ready_fd, "1", 1);
    (void)close(detach->ready_fd);
    detach->ready_fd = -1;
}
