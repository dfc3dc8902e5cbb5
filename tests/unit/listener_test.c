/* Listening on the real loop, and what happens when descriptors run out. */
#include "agent/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/log.h"
#include "common/mem.h"
#include "tests/unit/unit.h"

struct fixture {
    uv_loop_t loop;
    struct listener *listener;
    struct address address;
    int accepted, warnings;
    uint16_t last_port;
    int close_after; /* close the listener in this accept */
};

static void on_accept(void *context, int fd, const struct address *from, uint16_t from_port)
{
    struct fixture *f = context;
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(address_is_loopback(from));
    f->last_port = from_port;
    (void)close(fd);
    if (++f->accepted == f->close_after)
        listener_close(f->listener);
}

static void on_log(void *context, enum log_level level, const char *line KT_UNUSED)
{
    ((struct fixture *)context)->warnings += level == LOG_LEVEL_WARNING;
}

static int setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.address = address_v4(0x7f000001)};
    assert_int_equal(uv_loop_init(&fixture.loop), 0);
    assert_int_equal(listener_open(&fixture.listener, &fixture.loop, &fixture.address, 0, on_accept, &fixture), 0);
    assert_int_not_equal(listener_port(fixture.listener), 0);
    log_open(on_log, &fixture, LOG_LEVEL_DEBUG);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    listener_close(f->listener);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static int dial(const struct fixture *f)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    in.sin_port = htons(listener_port(f->listener));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

static void run_until(struct fixture *f, const int *counter, int value)
{
    while (*counter < value)
        assert_true(uv_run(&f->loop, UV_RUN_ONCE) != 0 || *counter >= value);
}

static void hands_over_each_connection(void **state)
{
    struct fixture *f = *state;
    int fds[50];
    for (int i = 0; i < 50; i++)
        fds[i] = dial(f);
    run_until(f, &f->accepted, 50);
    struct sockaddr_in in;
    socklen_t size = sizeof in;
    assert_int_equal(getsockname(fds[49], (struct sockaddr *)&in, &size), 0);
    assert_int_equal(f->last_port, ntohs(in.sin_port));
    for (int i = 0; i < 50; i++)
        (void)close(fds[i]);
}

static void may_be_closed_in_its_callback(void **state)
{
    struct fixture *f = *state;
    int one = dial(f), two = dial(f);
    f->close_after = 1;
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(f->accepted, 1);
    f->listener = NULL;
    (void)close(one);
    (void)close(two);
}

static void errors_are_returned(void **state)
{
    struct fixture *f = *state;
    struct listener *other = NULL;
    struct address nobodys = address_v4(0xc0000201); /* 192.0.2.1 */
    assert_int_equal(listener_open(&other, &f->loop, &f->address, listener_port(f->listener), on_accept, f),
                     -EADDRINUSE);
    assert_int_equal(listener_open(&other, &f->loop, &nobodys, 0, on_accept, f), -EADDRNOTAVAIL);
    kt_mem_fail_nth(1);
    assert_int_equal(listener_open(&other, &f->loop, &f->address, 0, on_accept, f), -ENOMEM);
    listener_close(NULL);
}

/* With no descriptor left the loop rests, says so once, and goes on when there are some again. */
static void shortage_of_descriptors_is_waited_out(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, none;
    int fd = dial(f);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)fd + 1; /* all below are in use, but for holes that are filled here */
    int filler[256], fillers = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    while (fillers < 256 && (filler[fillers] = dup(fd)) >= 0)
        fillers++;
    run_until(f, &f->warnings, 1);
    uint64_t started = uv_hrtime();
    int turns = 0;
    while (uv_hrtime() - started < 3ull * LISTENER_PAUSE_MS * 1000000) {
        assert_int_not_equal(uv_run(&f->loop, UV_RUN_ONCE), 0);
        turns++;
    }
    assert_true(turns < 30);
    assert_int_equal(f->warnings, 1);
    assert_int_equal(f->accepted, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    run_until(f, &f->accepted, 1);
    for (int i = 0; i < fillers; i++)
        (void)close(filler[i]);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hands_over_each_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(may_be_closed_in_its_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_are_returned, setup, teardown),
        cmocka_unit_test_setup_teardown(shortage_of_descriptors_is_waited_out, setup, teardown),
    };
    return unit_run(tests);
}
