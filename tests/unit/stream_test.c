/* Plain TCP streams on the real loop: two ends over loopback, and the ways in which they break. */
#include "netstack/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

struct seen {
    int opened, failed, closed, error, events;
    char text[STREAM_TEXT_MAX];
    bool reads; /* reads all there is when told */
    size_t bytes;
    ssize_t last;
    bool closes; /* closes itself in on_ready */
};

struct fixture {
    uv_loop_t loop;
    int listener;
    struct address address;
    uint16_t port;
};

static void on_open(struct stream *stream)
{
    ((struct seen *)stream->context)->opened++;
}

static void on_ready(struct stream *stream, int events)
{
    struct seen *seen = stream->context;
    seen->events |= events;
    char buffer[65536];
    while (seen->reads && (seen->last = stream_read(stream, buffer, sizeof buffer)) > 0)
        seen->bytes += (size_t)seen->last;
    if (seen->closes)
        stream_close(stream);
}

static void on_failed(struct stream *stream, int error, const char *text)
{
    struct seen *seen = stream->context;
    seen->failed++;
    seen->error = error;
    (void)snprintf(seen->text, sizeof seen->text, "%s", text);
}

static void on_closed(struct stream *stream)
{
    ((struct seen *)stream->context)->closed++;
}

static void listen_to(struct stream *stream, struct seen *seen)
{
    stream->context = seen;
    stream->on_open = on_open;
    stream->on_ready = on_ready;
    stream->on_failed = on_failed;
    stream->on_closed = on_closed;
}

static int setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.address = address_v4(0x7f000001)};
    assert_int_equal(uv_loop_init(&fixture.loop), 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    fixture.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fixture.listener, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(fixture.listener, 8), 0);
    assert_int_equal(getsockname(fixture.listener, (struct sockaddr *)&in, &size), 0);
    fixture.port = ntohs(in.sin_port);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    (void)close(f->listener);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static void run_until(struct fixture *f, const int *flag)
{
    while (*flag == 0)
        assert_true(uv_run(&f->loop, UV_RUN_ONCE) != 0 || *flag != 0);
}

/* An open stream and the plain fd of its other end. */
static struct stream *dial(struct fixture *f, struct seen *seen, int *peer)
{
    struct stream *stream = NULL;
    assert_int_equal(stream_dial_tcp(&stream, &f->loop, &f->address, f->port), 0);
    listen_to(stream, seen);
    assert_int_equal(seen->opened, 0);
    run_until(f, &seen->opened);
    *peer = accept(f->listener, NULL, NULL);
    assert_true(*peer >= 0);
    return stream;
}

static void dials_and_moves_bytes(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {.reads = true};
    int peer;
    struct stream *stream = dial(f, &seen, &peer);
    char buffer[8];
    assert_int_equal(stream_read(stream, buffer, sizeof buffer), -EAGAIN);
    assert_int_equal(stream_write(stream, "ping", 4), 4);
    assert_int_equal(recv(peer, buffer, sizeof buffer, 0), 4);
    assert_memory_equal(buffer, "ping", 4);

    stream_want(stream, STREAM_WRITABLE);
    run_until(f, &seen.events);
    assert_int_equal(seen.events, STREAM_WRITABLE);
    seen.events = 0;
    stream_want(stream, STREAM_READABLE);
    assert_int_equal(send(peer, "pong", 4, 0), 4);
    run_until(f, &seen.events);
    assert_int_equal(seen.events, STREAM_READABLE);
    assert_int_equal(seen.bytes, 4);
    (void)close(peer);
    while (seen.last != 0)
        assert_int_not_equal(uv_run(&f->loop, UV_RUN_ONCE), 0);
    stream_close(stream);
    stream_close(stream);
    assert_int_equal(seen.closed, 0);
    run_until(f, &seen.closed);
    assert_int_equal(seen.failed, 0);
}

static void refused_dial_fails_later_and_once(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    (void)close(f->listener);
    struct stream *stream = NULL;
    assert_int_equal(stream_dial_tcp(&stream, &f->loop, &f->address, f->port), 0);
    listen_to(stream, &seen);
    run_until(f, &seen.failed);
    assert_int_equal(seen.error, -ECONNREFUSED);
    assert_non_null(strstr(seen.text, "127.0.0.1:"));
    assert_non_null(strstr(seen.text, "refused"));
    assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0); /* nothing is left to wait for */
    assert_int_equal(seen.failed, 1);
    assert_int_equal(seen.opened, 0);
    stream_close(stream);
    run_until(f, &seen.closed);
}

static void unreachable_dial_fails_later(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    struct address nowhere = address_v4(0xffffffff);
    struct stream *stream = NULL;
    assert_int_equal(stream_dial_tcp(&stream, &f->loop, &nowhere, 9), 0);
    listen_to(stream, &seen);
    run_until(f, &seen.failed);
    assert_true(seen.error < 0);
    stream_close(stream);
    run_until(f, &seen.closed);
    nowhere.family = ADDRESS_NONE;
    assert_int_equal(stream_dial_tcp(&stream, &f->loop, &nowhere, 9), -EAFNOSUPPORT);
}

static void dials_by_a_device(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    struct stream *stream = NULL;
    assert_int_equal(stream_dial_tcp_by(&stream, &f->loop, &f->address, f->port, "lo"), 0);
    listen_to(stream, &seen);
    run_until(f, &seen.opened);
    stream_close(stream);
    run_until(f, &seen.closed);
    seen = (struct seen){0};
    assert_int_equal(stream_dial_tcp_by(&stream, &f->loop, &f->address, f->port, "nowhere0"), 0);
    listen_to(stream, &seen);
    run_until(f, &seen.failed);
    assert_int_equal(seen.error, -ENODEV);
    assert_int_equal(seen.opened, 0);
    stream_close(stream);
    run_until(f, &seen.closed);
}

static void closed_while_dialling_tells_only_closed(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    struct stream *stream = NULL;
    assert_int_equal(stream_dial_tcp(&stream, &f->loop, &f->address, f->port), 0);
    listen_to(stream, &seen);
    stream_close(stream);
    run_until(f, &seen.closed);
    assert_int_equal(seen.opened + seen.failed, 0);
}

/* A reset must not hide the bytes that came before it, and must not make the loop spin or lose the stream. */
static void reset_is_told_after_the_bytes_before_it(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {.reads = true};
    int peer;
    struct stream *stream = dial(f, &seen, &peer);
    struct linger reset = {.l_onoff = 1};
    assert_int_equal(send(peer, "last words", 10, 0), 10);
    assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
    (void)close(peer);
    stream_want(stream, STREAM_READABLE);
    run_until(f, &seen.events);
    assert_int_equal(seen.bytes, 10);
    assert_int_equal(seen.last, -ECONNRESET);
    assert_int_equal(stream_write(stream, "x", 1), -EPIPE);
    seen.closes = true;
    run_until(f, &seen.closed);
}

static void full_stream_says_again_and_then_writable(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    int peer;
    struct stream *stream = dial(f, &seen, &peer);
    static char block[65536];
    ssize_t n;
    size_t written = 0, got = 0;
    while ((n = stream_write(stream, block, sizeof block)) > 0)
        written += (size_t)n;
    assert_int_equal(n, -EAGAIN);
    assert_true(written > 0);
    stream_want(stream, STREAM_WRITABLE);
    while (got < written) {
        n = recv(peer, block, sizeof block, 0);
        assert_true(n > 0);
        got += (size_t)n;
    }
    run_until(f, &seen.events);
    assert_true(stream_write(stream, block, sizeof block) > 0);
    stream_close(stream);
    (void)close(peer);
    run_until(f, &seen.closed);
}

static void takes_over_an_fd(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {.reads = true, .closes = true};
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    struct stream *stream = NULL;
    kt_mem_fail_nth(1);
    assert_int_equal(stream_from_fd(&stream, &f->loop, pair[0]), -ENOMEM);
    assert_int_equal(fcntl(pair[0], F_GETFD), FD_CLOEXEC); /* still ours */
    assert_int_equal(stream_from_fd(&stream, &f->loop, pair[0]), 0);
    listen_to(stream, &seen);
    stream_want(stream, STREAM_READABLE);
    assert_int_equal(write(pair[1], "abc", 3), 3);
    run_until(f, &seen.closed); /* by itself, in on_ready */
    assert_int_equal(seen.bytes, 3);
    assert_int_equal(seen.opened, 0);
    assert_int_equal(read(pair[1], &(char){0}, 1), 0);
    (void)close(pair[1]);
    kt_mem_fail_nth(1);
    assert_int_equal(stream_dial_tcp(&stream, &f->loop, &f->address, f->port), -ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(dials_and_moves_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_dial_fails_later_and_once, setup, teardown),
        cmocka_unit_test_setup_teardown(unreachable_dial_fails_later, setup, teardown),
        cmocka_unit_test_setup_teardown(dials_by_a_device, setup, teardown),
        cmocka_unit_test_setup_teardown(closed_while_dialling_tells_only_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(reset_is_told_after_the_bytes_before_it, setup, teardown),
        cmocka_unit_test_setup_teardown(full_stream_says_again_and_then_writable, setup, teardown),
        cmocka_unit_test_setup_teardown(takes_over_an_fd, setup, teardown),
    };
    return unit_run(tests);
}
