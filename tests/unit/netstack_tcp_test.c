/* TCP through a netstack, against the kernel's own TCP; see netstack_fixture.h. */
#include "tests/unit/unit.h"

#include "tests/unit/netstack_fixture.h"

static struct fixture *fixture;

static int setup(void **state)
{
    (void)state;
    fixture = fixture_start();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_stop(fixture);
    return 0;
}

/* A connection through the netstack, both ends. */
struct pair {
    int client, server;
};

static struct pair connected(void)
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

static void close_pair(struct pair pair)
{
    close(pair.client);
    close(pair.server);
}

/* True when it becomes so within 20 s. */
static bool flows_become(uint32_t count)
{
    for (int i = 0; i < 2000; i++) {
        if (fixture_stats(fixture).tcp_flows == count)
            return true;
        usleep(10000);
    }
    return false;
}

static void echo(int from, int to, const char *text)
{
    char got[64] = "";
    assert_int_equal(send(from, text, strlen(text), 0), strlen(text));
    assert_int_equal(recv(to, got, sizeof got, 0), strlen(text));
    assert_string_equal(got, text);
}

static void test_bytes_both_ways(void **state)
{
    (void)state;
    struct pair pair = connected();
    for (int i = 0; i < 100; i++) {
        echo(pair.client, pair.server, "up");
        echo(pair.server, pair.client, "down");
    }
    close_pair(pair);
    assert_true(flows_become(0));
}

/* ---- refusals ---- */

static void test_refused(void **state)
{
    uint16_t port;
    (void)state;
    close(fixture_serve(SOCK_STREAM, &port));
    for (int i = 0; i < 20; i++) {
        uint64_t before = fixture_now_us();
        assert_int_equal(fixture_connect(SOCK_STREAM, FIXTURE_TARGET, port), -ECONNREFUSED);
        assert_int_equal(fixture_connect(SOCK_STREAM, FIXTURE_REFUSED, port), -ECONNREFUSED);
        assert_true(fixture_now_us() - before < 500000);
    }
    assert_int_equal(fixture_stats(fixture).tcp_refused, 40);
    assert_int_equal(fixture_stats(fixture).tcp_flows, 0);
}

static void test_unreachable(void **state)
{
    (void)state;
    uint64_t before = fixture_now_us();
    assert_int_equal(fixture_connect(SOCK_STREAM, FIXTURE_NO_HOST, 80), -EHOSTUNREACH);
    assert_int_equal(fixture_connect(SOCK_STREAM, FIXTURE_NO_NET, 80), -ENETUNREACH);
    assert_true(fixture_now_us() - before < 500000);
}

/* No answer at all: never a connection that opens and closes. */
static void test_dropped(void **state)
{
    (void)state;
    struct sockaddr_in to = fixture_address(FIXTURE_DROPPED, 80);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), -1);
    assert_int_equal(poll(&wait, 1, 300), 0);
    assert_true(fixture_stats(fixture).packets_dropped > 0);
    close(fd);
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
static void fill(uint8_t *data, size_t size, size_t at)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)((at + i) * 31 + ((at + i) >> 11));
}

static bool stream_step(struct stream *stream, uint8_t *data, size_t at, size_t *moved)
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

static void *stream_run(void *argument)
{
    struct stream *stream = argument;
    static __thread uint8_t data[65536];
    size_t at = 0, moved;
    while (at < stream->size && stream_step(stream, data, at, &moved))
        at += moved;
    stream->is_good = at == stream->size;
    return NULL;
}

static void run_streams(struct stream *streams, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pthread_create(&streams[i].thread, NULL, stream_run, &streams[i]);
    for (size_t i = 0; i < count; i++)
        pthread_join(streams[i].thread, NULL);
    for (size_t i = 0; i < count; i++)
        assert_true(streams[i].is_good);
}

#define BULK ((size_t)48 << 20)

static void bulk(bool up, bool down, bool is_slow)
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

static void test_bulk(void **state)
{
    (void)state;
    bulk(true, false, false);
    bulk(false, true, false);
    bulk(true, true, false);
    bulk(true, true, true);
    assert_true(flows_become(0));
}

static void set_room(struct fixture *f, void *argument)
{
    f->room = *(size_t *)argument;
}

/* A link that takes one packet a turn, as a carrier does: nothing is lost, nobody starves. */
static void test_bulk_with_back_pressure(void **state)
{
    size_t room = 65536;
    struct pair pairs[4];
    struct stream streams[16];
    (void)state;
    fixture_call(fixture, set_room, &room);
    bulk(true, true, false);
    for (size_t i = 0; i < KT_ARRAY_LEN(pairs); i++) {
        pairs[i] = connected();
        streams[4 * i] = (struct stream){.fd = pairs[i].server, .size = 8 << 20, .sends = true};
        streams[4 * i + 1] = (struct stream){.fd = pairs[i].client, .size = 8 << 20};
        streams[4 * i + 2] = (struct stream){.fd = pairs[i].client, .size = 8 << 20, .sends = true};
        streams[4 * i + 3] = (struct stream){.fd = pairs[i].server, .size = 8 << 20};
    }
    run_streams(streams, KT_ARRAY_LEN(streams));
    for (size_t i = 0; i < KT_ARRAY_LEN(pairs); i++)
        close_pair(pairs[i]);
}

/* ---- a reader that stalls ---- */

/* Sends until nothing more fits; how much that was. */
static size_t stuff(int fd)
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

static void test_stalled_reader(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pair pair = connected();
        int from = i == 0 ? pair.client : pair.server, to = i == 0 ? pair.server : pair.client;
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
    }
    assert_true(flows_become(0));
}

/* A reader that stalls for longer than any timer, after the writer has closed: it loses nothing. */
static void test_slow_reader_after_close(void **state)
{
    (void)state;
    struct pair pair = connected();
    char byte;
    shutdown(pair.client, SHUT_WR); /* so that lwIP goes to LAST_ACK */
    assert_int_equal(recv(pair.server, &byte, 1, 0), 0);
    size_t sent = stuff(pair.server);
    close(pair.server);
    struct pollfd never = {.fd = -1};
    poll(&never, 1, 3000);
    struct stream reader = {.fd = pair.client, .size = sent};
    run_streams(&reader, 1);
    assert_int_equal(recv(pair.client, &byte, 1, 0), 0);
    close(pair.client);
    assert_true(flows_become(0));
}

/* ---- ends ---- */

static void expect_end(int fd, int error, uint64_t limit_us)
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

static void test_half_close(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pair pair = connected();
        int first = i == 0 ? pair.client : pair.server, second = i == 0 ? pair.server : pair.client;
        echo(first, second, "question");
        shutdown(first, SHUT_WR);
        expect_end(second, 0, 200000);
        assert_true(fixture_stats(fixture).tcp_flows == 1);
        struct stream streams[2] = {{.fd = second, .size = 4 << 20, .sends = true}, {.fd = first, .size = 4 << 20}};
        run_streams(streams, 2);
        shutdown(second, SHUT_WR);
        expect_end(first, 0, 200000);
        close_pair(pair);
        assert_true(flows_become(0));
    }
}

static void test_close(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct pair pair = connected();
        echo(pair.client, pair.server, "x");
        close(i % 2 == 0 ? pair.server : pair.client);
        expect_end(i % 2 == 0 ? pair.client : pair.server, 0, 200000);
        close(i % 2 == 0 ? pair.client : pair.server);
    }
    assert_true(flows_become(0));
}

static void test_reset(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct pair pair = connected();
        echo(pair.client, pair.server, "x");
        fixture_close_with_reset(i % 2 == 0 ? pair.server : pair.client);
        expect_end(i % 2 == 0 ? pair.client : pair.server, ECONNRESET, 200000);
        close(i % 2 == 0 ? pair.client : pair.server);
    }
    assert_true(flows_become(0));
}

/* What was sent before the reset arrives before it. */
static void test_bytes_then_reset(void **state)
{
    (void)state;
    static uint8_t data[50000];
    for (int i = 0; i < 2; i++) {
        struct pair pair = connected();
        int from = i == 0 ? pair.server : pair.client, to = i == 0 ? pair.client : pair.server;
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
    }
    assert_true(flows_become(0));
}

/* The client goes on sending to a server that has closed: it is reset, as by a direct connection. */
static void test_send_to_closed(void **state)
{
    (void)state;
    struct pair pair = connected();
    struct pollfd wait = {.fd = pair.client};
    close(pair.server);
    expect_end(pair.client, 0, 200000);
    assert_int_equal(send(pair.client, "x", 1, MSG_NOSIGNAL), 1);
    assert_int_equal(poll(&wait, 1, 2000), 1);
    assert_true((wait.revents & (POLLERR | POLLHUP)) != 0);
    close(pair.client);
    assert_true(flows_become(0));
}

/* ---- a carrier that dies ---- */

static void cut(struct fixture *f, void *argument)
{
    (void)argument;
    f->is_cut = true;
}

static void freeze(struct fixture *f, void *argument)
{
    (void)argument;
    f->is_paused = true;
    netstack_freeze(f->netstack);
}

static void thaw(struct fixture *f, void *argument)
{
    (void)argument;
    f->is_cut = f->is_paused = false;
    netstack_thaw(f->netstack);
}

static void test_freeze_and_thaw(void **state)
{
    (void)state;
    struct pair pair = connected();
    char got[8] = "";
    struct pollfd wait = {.fd = pair.client, .events = POLLIN};
    echo(pair.server, pair.client, "before");
    fixture_call(fixture, cut, NULL); /* what is sent now dies with the carrier */
    assert_int_equal(send(pair.server, "lost", 4, 0), 4);
    assert_int_equal(poll(&wait, 1, 200), 0);
    fixture_call(fixture, freeze, NULL);
    assert_int_equal(send(pair.server, "late", 4, 0), 4);
    assert_int_equal(poll(&wait, 1, 1500), 0);
    fixture_call(fixture, thaw, NULL);
    uint64_t before = fixture_now_us();
    assert_int_equal(recv(pair.client, got, 8, MSG_WAITALL), 8);
    assert_memory_equal(got, "lostlate", 8);
    assert_true(fixture_now_us() - before < 200000); /* not after a back-off */
    close_pair(pair);
}

static void *outages(void *argument)
{
    struct pollfd never = {.fd = -1};
    (void)argument;
    for (int i = 0; i < 4; i++) {
        poll(&never, 1, 50);
        fixture_call(fixture, cut, NULL);
        poll(&never, 1, 5);
        fixture_call(fixture, freeze, NULL);
        poll(&never, 1, 100);
        fixture_call(fixture, thaw, NULL);
    }
    return NULL;
}

static void test_bulk_through_outages(void **state)
{
    pthread_t thread;
    (void)state;
    pthread_create(&thread, NULL, outages, NULL);
    bulk(true, true, false);
    pthread_join(thread, NULL);
}

/* ---- many flows ---- */

static void test_thousand_at_once(void **state)
{
    static int fds[1000];
    uint16_t port;
    int listener = fixture_serve(SOCK_STREAM, &port);
    struct sockaddr_in to = fixture_address(FIXTURE_TARGET, port);
    (void)state;
    for (size_t i = 0; i < KT_ARRAY_LEN(fds); i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&to, sizeof to), -1);
        assert_int_equal(errno, EINPROGRESS);
    }
    for (size_t i = 0; i < KT_ARRAY_LEN(fds); i++) {
        struct pollfd wait = {.fd = fds[i], .events = POLLOUT};
        assert_int_equal(poll(&wait, 1, 20000), 1);
        assert_int_equal(send(fds[i], &i, sizeof i, 0), sizeof i);
    }
    for (size_t i = 0; i < KT_ARRAY_LEN(fds); i++) { /* each is answered with its own number */
        size_t number;
        int fd = fixture_accept(listener);
        assert_int_equal(recv(fd, &number, sizeof number, MSG_WAITALL), sizeof number);
        assert_int_equal(send(fd, &number, sizeof number, 0), sizeof number);
        close(fd);
    }
    for (size_t i = 0; i < KT_ARRAY_LEN(fds); i++) {
        size_t number;
        struct pollfd wait = {.fd = fds[i], .events = POLLIN};
        assert_int_equal(poll(&wait, 1, 20000), 1);
        assert_int_equal(recv(fds[i], &number, sizeof number, 0), sizeof number);
        assert_int_equal(number, i);
        close(fds[i]);
    }
    close(listener);
    assert_true(flows_become(0));
}

#define MANY 10000

static void many_servers(int listener, int go)
{
    static int fds[MANY];
    char byte;
    for (int i = 0; i < MANY; i++)
        fds[i] = fixture_accept(listener);
    for (int i = 0; i < MANY; i++) {
        if (recv(fds[i], &byte, 1, 0) != 1 || send(fds[i], &byte, 1, 0) != 1)
            _exit(1);
    }
    (void)!read(go, &byte, 1);
    _exit(0);
}

static void many_clients(uint16_t port, int tell, int go)
{
    static int fds[MANY];
    char byte = 'x';
    for (int i = 0; i < MANY; i++) {
        fds[i] = fixture_connect(SOCK_STREAM, FIXTURE_TARGET, port);
        if (fds[i] < 0)
            _exit(1);
    }
    for (int i = 0; i < MANY; i++)
        (void)!send(fds[i], &byte, 1, 0);
    for (int i = 0; i < MANY; i++) {
        if (recv(fds[i], &byte, 1, 0) != 1)
            _exit(2);
    }
    (void)!write(tell, "k", 1);
    (void)!read(go, &byte, 1);
    _exit(0);
}

static long resident_kb(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL || fscanf(file, "%*d %ld", &pages) != 1)
        pages = 0;
    if (file != NULL)
        fclose(file);
    return pages * 4;
}

/* Clients and servers are processes of their own: one process may not hold that many descriptors. */
static void test_ten_thousand_flows(void **state)
{
    uint16_t port;
    char byte = 0;
    int tell[2], go[2], status, listener = fixture_serve(SOCK_STREAM, &port);
    struct rlimit files;
    (void)state;
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < MANY + 200)
        skip();
    assert_int_equal(pipe(tell), 0);
    assert_int_equal(pipe(go), 0);
    long before = resident_kb();
    pid_t server = fork();
    if (server == 0) {
        close(go[1]);
        many_servers(listener, go[0]);
    }
    pid_t client = fork();
    if (client == 0) {
        close(go[1]);
        many_clients(port, tell[1], go[0]);
    }
    close(tell[1]);
    assert_int_equal(read(tell[0], &byte, 1), 1);
    assert_int_equal(fixture_stats(fixture).tcp_flows, MANY);
    printf("%ld bytes resident per idle flow\n", (resident_kb() - before) * 1024 / MANY);
#ifndef __SANITIZE_ADDRESS__
    assert_true((resident_kb() - before) * 1024 / MANY < 8192);
#endif
    struct pair pair = connected();
    for (int i = 0; i < 100; i++)
        echo(pair.client, pair.server, "x");
    close_pair(pair);
    close(go[0]);
    close(go[1]);
    assert_int_equal(waitpid(client, &status, 0), client);
    assert_int_equal(status, 0);
    assert_int_equal(waitpid(server, &status, 0), server);
    assert_int_equal(status, 0);
    close(tell[0]);
    close(listener);
    assert_true(flows_become(0));
}

/* ---- no memory ---- */

static void fail_nth(struct fixture *f, void *argument)
{
    (void)f;
    kt_mem_fail_nth(*(unsigned long *)argument);
}

/* Whatever request for memory fails: a connection may die, the next one works. */
static void test_no_memory(void **state)
{
    (void)state;
    for (unsigned long nth = 1; nth < 20; nth++) {
        unsigned long off = 0;
        uint16_t port;
        int listener = fixture_serve(SOCK_STREAM, &port);
        fixture_call(fixture, fail_nth, &nth);
        int client = fixture_connect(SOCK_STREAM, FIXTURE_TARGET, port);
        if (client >= 0) {
            int server = fixture_accept(listener);
            char byte;
            (void)!send(client, "x", 1, MSG_NOSIGNAL);
            /* It may be the first try's, which died: then nobody answers the client. */
            if (recv(server, &byte, 1, 0) == 1 && send(server, "x", 1, MSG_NOSIGNAL) == 1)
                (void)!recv(client, &byte, 1, 0);
            close(server);
            close(client);
        }
        fixture_call(fixture, fail_nth, &off);
        close(listener);
    }
    struct pair pair = connected();
    echo(pair.client, pair.server, "alive");
    close_pair(pair);
    assert_true(flows_become(0));
}

int main(void)
{
    if (!fixture_enter_namespace()) {
        printf("skipped: no network namespace or no TUN device here\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bytes_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unreachable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bulk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bulk_with_back_pressure, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stalled_reader, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_reader_after_close, setup, teardown),
        cmocka_unit_test_setup_teardown(test_half_close, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bytes_then_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_send_to_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_freeze_and_thaw, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bulk_through_outages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_thousand_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ten_thousand_flows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };
    return unit_run(tests);
}
