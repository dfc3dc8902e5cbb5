/* The control socket: a real loop on one side, a thread that asks on the other. */
#include "client/control.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/unit/control_fixture.h"

static int ask_status(struct fixture *fixture)
{
    return control_ask(fixture->instance.socket_path, "status", 1000, &fixture->printed);
}

static int ask_down(struct fixture *fixture)
{
    return control_ask(fixture->instance.socket_path, "down", 1000, &fixture->printed);
}

static void test_status(void **state KT_UNUSED)
{
    struct fixture fixture;
    with_control(&fixture, ask_status);
    assert_int_equal(fixture.asked, 0);
    assert_non_null(strstr(fixture.printed, "connected"));
    kt_free(fixture.printed);
    assert_int_equal(kt_mem_live(), 0);
}

static void test_down_waits_for_the_end(void **state KT_UNUSED)
{
    struct fixture fixture;
    with_control(&fixture, ask_down);
    assert_int_equal(fixture.asked, 0);
    assert_true(fixture.is_down);
    assert_string_equal(fixture.printed, "");
    kt_free(fixture.printed);
}

static void test_nobody(void **state KT_UNUSED)
{
    char *answer = NULL;
    assert_int_equal(control_ask("/nowhere/at.all", "status", 100, &answer), -ECONNREFUSED);
    assert_null(answer);
}

static int connect_raw(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Nonsense, an endless line, many silent peers: each is closed, and a good asker is still answered. */
static int ask_hostile(struct fixture *fixture)
{
    static const char *const nonsense[] = {"\n", "fly\n", "status status\n",
                                           "0123456789012345678901234567890123456789012345678901234567890123456789"};
    for (size_t i = 0; i < KT_ARRAY_LEN(nonsense); i++) {
        int fd = connect_raw(fixture->instance.socket_path);
        char byte;
        (void)send(fd, nonsense[i], strlen(nonsense[i]), MSG_NOSIGNAL);
        ssize_t size = read(fd, &byte, 1);
        (void)close(fd);
        if (size > 0)
            return -1;
    }
    int silent[CONTROL_PEERS_MAX - 1];
    for (size_t i = 0; i < KT_ARRAY_LEN(silent); i++)
        silent[i] = connect_raw(fixture->instance.socket_path);
    int rc = ask_status(fixture);
    for (size_t i = 0; i < KT_ARRAY_LEN(silent); i++)
        (void)close(silent[i]);
    return rc != 0 ? rc : strstr(fixture->printed, "connected") != NULL ? 0 : -2;
}

static void test_hostile_peers(void **state KT_UNUSED)
{
    struct fixture fixture;
    with_control(&fixture, ask_hostile);
    assert_int_equal(fixture.asked, 0);
    kt_free(fixture.printed);
}

/* A ktvpn that hangs (SIGSTOP): nobody takes the connections, and soon there is no room for more. */
static void test_hanging_instance(void **state KT_UNUSED)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int waiting[8];
    char *answer = NULL;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/hangs", folder);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(control_ask(address.sun_path, "status", 50, &answer), -ETIMEDOUT);
    for (size_t i = 0; i < KT_ARRAY_LEN(waiting); i++) {
        waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(waiting[i], (const struct sockaddr *)&address, sizeof address);
    }
    assert_int_equal(control_ask(address.sun_path, "status", 50, &answer), -ETIMEDOUT);
    for (size_t i = 0; i < KT_ARRAY_LEN(waiting); i++)
        (void)close(waiting[i]);
    (void)close(fd);
    (void)unlink(address.sun_path);
}

static void test_no_memory(void **state KT_UNUSED)
{
    static const struct control_ops ops = {.on_status = on_status, .on_down = on_down};
    uv_loop_t loop;
    struct control *control = NULL;
    assert_int_equal(uv_loop_init(&loop), 0);
    kt_mem_fail_nth(1);
    assert_int_equal(control_open(&control, &loop, "/nowhere/at.all", &ops, NULL), -ENOMEM);
    assert_true(control_open(&control, &loop, "/nowhere/at.all", &ops, NULL) < 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(kt_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_down_waits_for_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_peers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hanging_instance, set_up, tear_down),
        cmocka_unit_test(test_no_memory),
    };
    return unit_run(tests);
}
