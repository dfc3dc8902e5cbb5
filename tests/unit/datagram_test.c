/* UDP and ping through a netstack, against the kernel's own; see netstack_fixture.h. */
#include "tests/unit/unit.h"

#include <netinet/ip_icmp.h>

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

static void fill(uint8_t *data, size_t size, uint8_t seed)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 7 + seed);
}

/* One datagram there, and what came back to where it came from. */
static void echo(int client, int server, size_t size)
{
    static uint8_t sent[0x10000], got[0x10000];
    struct sockaddr_in from;
    socklen_t from_size = sizeof from;
    fill(sent, size, (uint8_t)size);
    assert_int_equal(send(client, sent, size, 0), size);
    assert_int_equal(recvfrom(server, got, sizeof got, 0, (struct sockaddr *)&from, &from_size), size);
    assert_memory_equal(sent, got, size);
    assert_int_equal(sendto(server, got, size, 0, (struct sockaddr *)&from, from_size), size);
    memset(got, 0, size);
    assert_int_equal(recv(client, got, sizeof got, 0), size);
    assert_memory_equal(sent, got, size);
}

static void test_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 100, 1472, 1473, 9000, 32768, 60000, FIXTURE_MTU - 28};
    uint16_t port;
    int server = fixture_serve(SOCK_DGRAM, &port), client = fixture_connect(SOCK_DGRAM, FIXTURE_TARGET, port);
    (void)state;
    for (size_t i = 0; i < KT_ARRAY_LEN(sizes); i++)
        echo(client, server, sizes[i]);
    assert_int_equal(fixture_stats(fixture).udp_flows, 1);
    close(client);
    close(server);
}

/* An answer larger than the tunnel's packets comes as fragments, and the kernel puts them together. */
static void test_answer_in_fragments(void **state)
{
    static uint8_t sent[65507], got[0x10000];
    struct sockaddr_in from;
    socklen_t from_size = sizeof from;
    uint16_t port;
    int server = fixture_serve(SOCK_DGRAM, &port), client = fixture_connect(SOCK_DGRAM, FIXTURE_TARGET, port);
    (void)state;
    fill(sent, sizeof sent, 3);
    assert_int_equal(send(client, "?", 1, 0), 1);
    assert_int_equal(recvfrom(server, got, sizeof got, 0, (struct sockaddr *)&from, &from_size), 1);
    assert_int_equal(sendto(server, sent, sizeof sent, 0, (struct sockaddr *)&from, from_size), sizeof sent);
    assert_int_equal(recv(client, got, sizeof got, 0), sizeof sent);
    assert_memory_equal(sent, got, sizeof sent);
    close(client);
    close(server);
}

static void test_closed_port(void **state)
{
    uint16_t port;
    char byte;
    close(fixture_serve(SOCK_DGRAM, &port));
    (void)state;
    const struct {
        const char *address;
        int error;
    } cases[] = {{FIXTURE_TARGET, ECONNREFUSED}, {FIXTURE_REFUSED, ECONNREFUSED}};
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        int client = fixture_connect(SOCK_DGRAM, cases[i].address, port);
        assert_int_equal(send(client, "?", 1, 0), 1);
        assert_int_equal(recv(client, &byte, 1, 0), -1);
        assert_int_equal(errno, cases[i].error);
        close(client);
    }
}

#define MANY 1000
static void test_many_flows(void **state)
{
    static int clients[MANY];
    char got[16], want[16];
    struct sockaddr_in from;
    socklen_t from_size = sizeof from;
    uint16_t port;
    int server = fixture_serve(SOCK_DGRAM, &port);
    (void)state;
    for (int i = 0; i < MANY; i++) {
        clients[i] = fixture_connect(SOCK_DGRAM, FIXTURE_TARGET, port);
        assert_true(clients[i] >= 0);
        int size = snprintf(want, sizeof want, "%d", i);
        assert_int_equal(send(clients[i], want, (size_t)size, 0), size);
    }
    for (int i = 0; i < MANY; i++) {
        ssize_t size = recvfrom(server, got, sizeof got, 0, (struct sockaddr *)&from, &from_size);
        assert_true(size > 0);
        assert_int_equal(sendto(server, got, (size_t)size, 0, (struct sockaddr *)&from, from_size), size);
    }
    for (int i = 0; i < MANY; i++) {
        int size = snprintf(want, sizeof want, "%d", i);
        assert_int_equal(recv(clients[i], got, sizeof got, 0), size);
        assert_memory_equal(got, want, (size_t)size);
        assert_int_equal(recv(clients[i], got, sizeof got, MSG_DONTWAIT), -1); /* once, not twice */
    }
    assert_int_equal(fixture_stats(fixture).udp_flows, MANY);
    for (int i = 0; i < MANY; i++)
        close(clients[i]);
    close(server);
}

/* The next new flow takes the place of the one that was silent for longest. */
static void test_cap(void **state)
{
    uint16_t port;
    int server = fixture_serve(SOCK_DGRAM, &port);
    (void)state;
    for (int i = 0; i < NETSTACK_UDP_MAX + 50; i++) {
        int client = fixture_connect(SOCK_DGRAM, FIXTURE_TARGET, port);
        assert_int_equal(send(client, "?", 1, MSG_DONTWAIT), 1);
        close(client);
        if (i % 64 == 0)
            (void)fixture_stats(fixture); /* lets the netstack keep up */
    }
    assert_true(fixture_stats(fixture).udp_flows <= NETSTACK_UDP_MAX);
    int client = fixture_connect(SOCK_DGRAM, FIXTURE_TARGET, port);
    char byte = 0;
    while (recv(server, &byte, 1, MSG_DONTWAIT) == 1)
        continue;
    assert_int_equal(send(client, "!", 1, 0), 1);
    while (byte != '!')
        assert_int_equal(recv(server, &byte, 1, 0), 1);
    close(client);
    close(server);
}

static int ping_socket(const char *target)
{
    const struct timeval limit = {.tv_sec = 1};
    struct sockaddr_in to = fixture_address(target, 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void test_ping(void **state)
{
    (void)state;
    int fd = ping_socket(FIXTURE_TARGET);
    for (uint16_t i = 0; i < 20; i++) {
        struct {
            struct icmphdr head;
            uint8_t data[200];
        } sent = {.head = {.type = ICMP_ECHO, .un.echo.sequence = htons(i)}}, got;
        fill(sent.data, sizeof sent.data, (uint8_t)i);
        assert_int_equal(send(fd, &sent, sizeof sent, 0), sizeof sent);
        assert_int_equal(recv(fd, &got, sizeof got, 0), sizeof got);
        assert_int_equal(got.head.type, ICMP_ECHOREPLY);
        assert_int_equal(ntohs(got.head.un.echo.sequence), i);
        assert_memory_equal(got.data, sent.data, sizeof sent.data);
    }
    assert_int_equal(fixture_stats(fixture).ping_flows, 1);
    close(fd);
}

/* An address that nobody holds does not answer: there is no forged echo. */
static void test_ping_nobody(void **state)
{
    (void)state;
    int fd = ping_socket(FIXTURE_DROPPED);
    struct icmphdr head = {.type = ICMP_ECHO};
    assert_int_equal(send(fd, &head, sizeof head, 0), sizeof head);
    assert_int_equal(recv(fd, &head, sizeof head, 0), -1);
    assert_int_equal(errno, EAGAIN);
    close(fd);
}

static void set_room(struct fixture *f, void *argument)
{
    f->room = *(size_t *)argument;
}

/* A link that takes 64 KiB a turn loses no answer. */
static void test_slow_output(void **state)
{
    static uint8_t data[60000];
    size_t room = 65536;
    struct sockaddr_in from;
    socklen_t from_size = sizeof from;
    uint16_t port;
    const int space = 64 << 20;
    int server = fixture_serve(SOCK_DGRAM, &port), client = fixture_connect(SOCK_DGRAM, FIXTURE_TARGET, port);
    (void)state;
    setsockopt(client, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof space);
    fixture_call(fixture, set_room, &room);
    assert_int_equal(send(client, "?", 1, 0), 1);
    assert_int_equal(recvfrom(server, data, sizeof data, 0, (struct sockaddr *)&from, &from_size), 1);
    for (int i = 0; i < 3; i++) { /* what a socket's receive buffer holds */
        fill(data, sizeof data, (uint8_t)i);
        assert_int_equal(sendto(server, data, sizeof data, 0, (struct sockaddr *)&from, from_size), sizeof data);
    }
    for (int i = 0; i < 3; i++) {
        static uint8_t got[0x10000];
        fill(data, sizeof data, (uint8_t)i);
        assert_int_equal(recv(client, got, sizeof got, 0), sizeof data);
        assert_memory_equal(got, data, sizeof data);
    }
    close(client);
    close(server);
}

int main(void)
{
    if (!fixture_enter_namespace()) {
        printf("skipped: no network namespace or no TUN device here\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_answer_in_fragments, setup, teardown),
        cmocka_unit_test_setup_teardown(test_closed_port, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_flows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ping, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ping_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slow_output, setup, teardown),
    };
    return unit_run(tests);
}
