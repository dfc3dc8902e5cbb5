/* The life of TCP flows, against the kernel's own TCP on both sides: refusals, ends, many of them, the cap, no memory.
 */
#include "tests/unit/tcp_pair.h"

#include "netstack/stack.h"

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

static void test_bulk_both_ways(void **state)
{
    (void)state;
    bulk(true, true, false);
    bulk(true, true, true);
    assert_true(flows_become(0));
}

/* ---- ends ---- */

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

/* ---- the cap ---- */

static void set_cap(struct fixture *f, void *argument)
{
    f->netstack->flows.max = *(uint32_t *)argument;
}

static bool is_alive(struct pair pair)
{
    struct pollfd wait = {.fd = pair.client};
    return poll(&wait, 1, 0) == 0; /* POLLERR and POLLHUP come unasked */
}

static void expect_reset(struct pair pair)
{
    struct pollfd wait = {.fd = pair.client};
    assert_int_equal(poll(&wait, 1, 20000), 1);
    assert_true((wait.revents & POLLERR) != 0);
    close_pair(pair);
}

/* Acknowledges the FIN now: an acknowledgement that the kernel delays would be a sign of life, later. */
static void acknowledge(int fd)
{
    const int on = 1;
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on), 0);
}

/* Under the cap a new flow takes the place of the half-closed one that was silent for longest; open flows stay, and
 * when all are open the SYN is dropped. */
static void test_cap(void **state)
{
    (void)state;
    uint32_t cap = 4;
    struct pair open = connected(), half[3];
    for (size_t i = 0; i < KT_ARRAY_LEN(half); i++) {
        half[i] = connected();
        bool is_server = i == 0;
        shutdown(is_server ? half[i].server : half[i].client, SHUT_WR);
        expect_end(is_server ? half[i].client : half[i].server, 0, 20000000);
        acknowledge(is_server ? half[i].client : half[i].server);
    }
    for (int i = 0; i < 2; i++)
        (void)fixture_stats(fixture);                   /* the netstack has seen that */
    echo(half[0].client, half[0].server, "not silent"); /* so the second one is silent for longest */
    fixture_call(fixture, set_cap, &cap);
    struct pair fifth = connected();
    expect_reset(half[1]);
    assert_true(is_alive(half[0]) && is_alive(half[2]) && is_alive(open));
    struct pair sixth = connected();
    expect_reset(half[2]);
    struct pair seventh = connected();
    expect_reset(half[0]);
    assert_int_equal(fixture_stats(fixture).tcp_flows, 4);

    struct sockaddr_in to = fixture_address(FIXTURE_TARGET, 80);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), -1);
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    assert_int_equal(poll(&wait, 1, 300), 0); /* neither connected nor refused */
    assert_int_equal(fixture_stats(fixture).tcp_flows, 4);
    close(fd);
    echo(open.client, open.server, "still there");
    close_pair(open);
    close_pair(fifth);
    close_pair(sixth);
    close_pair(seventh);
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
    const struct CMUnitTest tests[] = {
        TCP_PAIR_TEST(test_bytes_both_ways),
        TCP_PAIR_TEST(test_refused),
        TCP_PAIR_TEST(test_unreachable),
        TCP_PAIR_TEST(test_dropped),
        TCP_PAIR_TEST(test_bulk_both_ways),
        TCP_PAIR_TEST(test_half_close),
        TCP_PAIR_TEST(test_close),
        TCP_PAIR_TEST(test_reset),
        TCP_PAIR_TEST(test_thousand_at_once),
        TCP_PAIR_TEST(test_ten_thousand_flows),
        TCP_PAIR_TEST(test_cap),
        TCP_PAIR_TEST(test_no_memory),
    };
    return tcp_pair_run(tests);
}
