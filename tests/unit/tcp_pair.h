/* TCP connections through a netstack, both ends, and bytes that run through them; see netstack_fixture.h. */
#ifndef KTVPN_TESTS_TCP_PAIR_H
#define KTVPN_TESTS_TCP_PAIR_H

#include "tests/unit/unit.h"

#include "tests/unit/netstack_fixture.h"

static struct fixture *fixture;

static inline int setup(void **state)
{
    (void)state;
    fixture = fixture_start();
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    fixture_stop(fixture);
    return 0;
}

/* A connection through the netstack, both ends. */
struct pair {
    int client, server;
};

static inline struct pair connected(void)
{
    uint16_t port;
    int listener = fixture_serve(SOCK_STREAM, &port);
    struct pair pair = {.client = fixture_connect(SOCK_STREAM, FIXTURE_TARGET, port)};
    assert_true(pair.client >= 0);
    pair.server = fixture_accept(listener);
    assert_true(pair.server >= 0);
    close(listener);
    return pair;
}

static inline void close_pair(struct pair pair)
{
    close(pair.client);
    close(pair.server);
}

/* True when it becomes so within 20 s. */
static inline bool flows_become(uint32_t count)
{
    for (int i = 0; i < 2000; i++) {
        if (fixture_stats(fixture).tcp_flows == count)
            return true;
        usleep(10000);
    }
    return false;
}

static inline void echo(int from, int to, const char *text)
{
    char got[64] = "";
    assert_int_equal(send(from, text, strlen(text), 0), strlen(text));
    assert_int_equal(recv(to, got, sizeof got, 0), strlen(text));
    assert_string_equal(got, text);
}

/* ---- many bytes ---- */

struct stream {
    pthread_t thread;
    int fd;
    size_t size;
    bool sends, is_slow;
    unsigned char hash[32];
    bool is_good;
};

/* The bytes of a stream follow from their place in it. */
static inline void fill(uint8_t *data, size_t size, size_t at)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)((at + i) * 31 + ((at + i) >> 11));
}

static inline bool stream_step(struct stream *stream, uint8_t *data, size_t at, size_t *moved)
{
    static __thread uint8_t want[65536];
    size_t part = KT_MIN(sizeof want, stream->size - at);
    ssize_t n;
    if (stream->sends) {
        fill(data, part, at);
        n = send(stream->fd, data, part, MSG_NOSIGNAL);
    } else {
        n = recv(stream->fd, data, stream->is_slow ? KT_MIN(part, 10000) : part, 0);
        fill(want, n > 0 ? (size_t)n : 0, at);
        if (n > 0 && memcmp(want, data, (size_t)n) != 0)
            return false;
    }
    *moved = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static inline void *stream_run(void *argument)
{
    struct stream *stream = argument;
    static __thread uint8_t data[65536];
    size_t at = 0, moved;
    while (at < stream->size && stream_step(stream, data, at, &moved))
        at += moved;
    stream->is_good = at == stream->size;
    return NULL;
}

static inline void run_streams(struct stream *streams, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pthread_create(&streams[i].thread, NULL, stream_run, &streams[i]);
    for (size_t i = 0; i < count; i++)
        pthread_join(streams[i].thread, NULL);
    for (size_t i = 0; i < count; i++)
        assert_true(streams[i].is_good);
}

#define BULK ((size_t)48 << 20)

static inline void bulk(bool up, bool down, bool is_slow)
{
    struct pair pair = connected();
    struct stream streams[4];
    size_t count = 0;
    if (up) {
        streams[count++] = (struct stream){.fd = pair.client, .size = BULK, .sends = true};
        streams[count++] = (struct stream){.fd = pair.server, .size = BULK, .is_slow = is_slow};
    }
    if (down) {
        streams[count++] = (struct stream){.fd = pair.server, .size = BULK, .sends = true};
        streams[count++] = (struct stream){.fd = pair.client, .size = BULK, .is_slow = is_slow};
    }
    run_streams(streams, count);
    close_pair(pair);
}

static inline void set_room(struct fixture *f, void *argument)
{
    f->room = *(size_t *)argument;
}

/* ---- a reader that stalls ---- */

/* Sends until nothing more fits; how much that was. */
static inline size_t stuff(int fd)
{
    static uint8_t data[65536];
    size_t sent = 0;
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    while (poll(&wait, 1, 300) == 1) {
        fill(data, sizeof data, sent);
        ssize_t n = send(fd, data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
    }
    return sent;
}

static inline void stall(bool is_up)
{
    struct pair pair = connected();
    int from = is_up ? pair.client : pair.server, to = is_up ? pair.server : pair.client;
    size_t sent = stuff(from);
    assert_true(sent > 100000);
    struct pair other = connected(); /* somebody else is served meanwhile */
    echo(other.client, other.server, "hello");
    echo(other.server, other.client, "hello");
    struct stream reader = {.fd = to, .size = sent};
    uint64_t before = fixture_now_us();
    run_streams(&reader, 1);
    assert_true(fixture_now_us() - before < 5000000);
    echo(from, to, "still there");
    close_pair(pair);
    close_pair(other);
    assert_true(flows_become(0));
}

/* ---- ends ---- */

static inline void expect_end(int fd, int error, uint64_t limit_us)
{
    char byte;
    uint64_t before = fixture_now_us();
    ssize_t n = recv(fd, &byte, 1, 0);
    int got = errno;
    assert_int_equal(n, error == 0 ? 0 : -1);
    if (error != 0)
        assert_int_equal(got, error);
    assert_true(fixture_now_us() - before < limit_us);
}

/* What was sent before the reset arrives before it. */
static inline void reset_behind_bytes(bool is_up)
{
    static uint8_t data[50000];
    struct pair pair = connected();
    int from = is_up ? pair.client : pair.server, to = is_up ? pair.server : pair.client;
    assert_int_equal(send(from, data, sizeof data, 0), sizeof data);
    assert_int_equal(recv(to, data, 1, MSG_PEEK), 1);
    fixture_close_with_reset(from);
    struct stream all = {.fd = to, .size = sizeof data};
    size_t got = 0;
    ssize_t n;
    while ((n = recv(to, data, sizeof data, 0)) > 0)
        got += (size_t)n;
    assert_int_equal(n, -1);
    assert_int_equal(errno, ECONNRESET);
    assert_true(got == 0 || got == all.size);
    close(to);
    assert_true(flows_become(0));
}

/* The tests of one file; main()'s return value. */
#define tcp_pair_run(tests) \
    (fixture_enter_namespace() ? unit_run(tests) : (printf("skipped: no network namespace or no TUN device here\n"), 0))
#define TCP_PAIR_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
