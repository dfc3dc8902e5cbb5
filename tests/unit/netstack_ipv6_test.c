/* Both families through the netstack and a real TUN device: TCP, datagrams of any size in fragments, echo, and what
 * comes back instead of an answer. */
#include "tests/unit/netstack_fixture.h"

#include <linux/errqueue.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "tests/unit/unit.h"

static struct fixture *fixture;

struct family {
    const char *loopback, *target, *refused, *dropped, *no_host, *no_net;
    int af, level, recverr, hops, overhead;
};
static const struct family families[] = {
    {"127.0.0.1", FIXTURE_TARGET, FIXTURE_REFUSED, FIXTURE_DROPPED, FIXTURE_NO_HOST, FIXTURE_NO_NET, AF_INET,
     IPPROTO_IP, IP_RECVERR, IP_TTL, 28},
    {"::1", FIXTURE_TARGET6, FIXTURE_REFUSED6, FIXTURE_DROPPED6, FIXTURE_NO_HOST6, FIXTURE_NO_NET6, AF_INET6,
     IPPROTO_IPV6, IPV6_RECVERR, IPV6_UNICAST_HOPS, 48},
};
#define EACH_FAMILY(f) for (const struct family *f = families; f < families + KT_ARRAY_LEN(families); f++)

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
    return kt_mem_live() != 0;
}

static void fill(uint8_t *data, size_t size, uint8_t seed)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 7 + i / 256 + seed);
}

static void send_all(int fd, const uint8_t *data, size_t size)
{
    for (ssize_t n; size > 0; data += n, size -= (size_t)n) {
        n = send(fd, data, size, MSG_NOSIGNAL);
        assert_true(n > 0);
    }
}

static void receive_all(int fd, const uint8_t *want, size_t size)
{
    static uint8_t got[1 << 20];
    for (ssize_t n; size > 0; want += n, size -= (size_t)n) {
        n = recv(fd, got, KT_MIN(size, sizeof got), 0);
        assert_true(n > 0);
        assert_memory_equal(got, want, (size_t)n);
    }
}

static void tcp_carries_bytes_and_ends(void **state)
{
    static uint8_t data[300000];
    char byte;
    (void)state;
    fill(data, sizeof data, 1);
    EACH_FAMILY(f)
    {
        uint16_t port;
        int listener = fixture_serve_at(SOCK_STREAM, f->loopback, &port);
        int client = fixture_connect(SOCK_STREAM, f->target, port);
        assert_true(client >= 0);
        int server = fixture_accept(listener);
        send_all(client, data, sizeof data);
        receive_all(server, data, sizeof data);
        shutdown(client, SHUT_WR);
        assert_int_equal(recv(server, &byte, 1, 0), 0);
        send_all(server, data, sizeof data);
        close(server);
        receive_all(client, data, sizeof data);
        assert_int_equal(recv(client, &byte, 1, 0), 0);
        close(client);
        close(listener);
    }
}

/* At once, so that a program with a second address tries that one. */
static void tcp_is_refused_truly(void **state)
{
    (void)state;
    EACH_FAMILY(f)
    {
        uint16_t port;
        close(fixture_serve_at(SOCK_STREAM, f->loopback, &port));
        uint64_t from_us = fixture_now_us();
        assert_int_equal(fixture_connect(SOCK_STREAM, f->target, port), -ECONNREFUSED);
        assert_int_equal(fixture_connect(SOCK_STREAM, f->refused, port), -ECONNREFUSED);
        assert_int_equal(fixture_connect(SOCK_STREAM, f->no_host, port), -EHOSTUNREACH);
        assert_int_equal(fixture_connect(SOCK_STREAM, f->no_net, port), -ENETUNREACH);
        assert_true(fixture_now_us() - from_us < 900000); /* the kernel's next SYN would come after 1 s */
    }
}

static void datagrams_of_all_sizes(void **state)
{
    static uint8_t sent[0x10000], got[0x10000];
    (void)state;
    EACH_FAMILY(f)
    {
        static const size_t sizes[] = {0, 1, 1473, 60000, FIXTURE_MTU - 48, FIXTURE_MTU - 47, FIXTURE_MTU - 27, 65507};
        struct sockaddr_storage from;
        uint16_t port;
        int server = fixture_serve_at(SOCK_DGRAM, f->loopback, &port);
        int client = fixture_connect(SOCK_DGRAM, f->target, port);
        const int space = 4 << 20;
        setsockopt(client, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof space);
        for (size_t i = 0; i < KT_ARRAY_LEN(sizes); i++) {
            socklen_t from_size = sizeof from;
            fill(sent, sizes[i], (uint8_t)i);
            assert_int_equal(send(client, sent, sizes[i], 0), sizes[i]);
            assert_int_equal(recvfrom(server, got, sizeof got, 0, (struct sockaddr *)&from, &from_size), sizes[i]);
            assert_memory_equal(sent, got, sizes[i]);
            assert_int_equal(sendto(server, sent, sizes[i], 0, (struct sockaddr *)&from, from_size), sizes[i]);
            assert_int_equal(recv(client, got, sizeof got, 0), sizes[i]);
            assert_memory_equal(sent, got, sizes[i]);
        }
        close(client);
        close(server);
    }
}

static void datagrams_are_refused_truly(void **state)
{
    (void)state;
    EACH_FAMILY(f)
    {
        uint16_t port;
        close(fixture_serve_at(SOCK_DGRAM, f->loopback, &port));
        const struct {
            const char *address;
            int error;
        } cases[] = {{f->target, ECONNREFUSED}, {f->refused, ECONNREFUSED}};
        for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
            char byte;
            int client = fixture_connect(SOCK_DGRAM, cases[i].address, port);
            assert_int_equal(send(client, "?", 1, 0), 1);
            assert_int_equal(recv(client, &byte, 1, 0), -1);
            assert_int_equal(errno, cases[i].error);
            close(client);
        }
    }
}

static int ping_socket(const struct family *f, const char *target)
{
    struct sockaddr_storage to;
    const struct timeval limit = {.tv_sec = 5};
    socklen_t size = fixture_sockaddr(&to, target, 0);
    int fd = socket(f->af, SOCK_DGRAM | SOCK_CLOEXEC, f->af == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, size), 0);
    return fd;
}

static void echoes_are_answered(void **state)
{
    static uint8_t got[65000];
    static struct {
        struct icmphdr head; /* ICMPv6's has the same fields */
        uint8_t data[64900];
    } sent;
    static const size_t sizes[] = {8, 64, 1500, sizeof sent};
    (void)state;
    EACH_FAMILY(f)
    {
        int fd = ping_socket(f, f->target);
        for (size_t i = 0; i < KT_ARRAY_LEN(sizes); i++) {
            sent.head = (struct icmphdr){.type = f->af == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST,
                                         .un.echo.sequence = htons((uint16_t)i)};
            fill(sent.data, sizeof sent.data, (uint8_t)i);
            assert_int_equal(send(fd, &sent, sizes[i], 0), sizes[i]);
            assert_int_equal(recv(fd, got, sizeof got, 0), sizes[i]);
            assert_int_equal(got[0], f->af == AF_INET ? ICMP_ECHOREPLY : ICMP6_ECHO_REPLY);
            assert_int_equal(got[6] << 8 | got[7], i);
            assert_memory_equal(got + 8, sent.data, sizes[i] - 8);
        }
        close(fd);
    }
}

/* The first error that the socket is told; who said it is `from`. */
static struct sock_extended_err wait_for_error(int fd, struct sockaddr_storage *from)
{
    union {
        struct cmsghdr align;
        char bytes[512];
    } control;
    struct sock_extended_err error = {0};
    struct msghdr message = {.msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct pollfd poll_fd = {.fd = fd};
    assert_int_equal(poll(&poll_fd, 1, 5000), 1);
    assert_true(recvmsg(fd, &message, MSG_ERRQUEUE) >= 0);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_type != IP_RECVERR && c->cmsg_type != IPV6_RECVERR)
            continue;
        memcpy(&error, CMSG_DATA(c), sizeof error);
        memcpy(from, SO_EE_OFFENDER((struct sock_extended_err *)(void *)CMSG_DATA(c)),
               error.ee_origin == SO_EE_ORIGIN_ICMP6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
    }
    return error;
}

/* As traceroute does it: with one hop the netstack answers, with two the target does. Here the netstack's own address
 * is loopback's, and the kernel takes nothing from there out of a device: what is looked at is the packet itself. */
static struct {
    uint8_t data[128];
    size_t size;
} caught;

static void catch_output(struct fixture *f, void *argument)
{
    (void)argument;
    f->catch_size = 0;
}

static void copy_caught(struct fixture *f, void *argument)
{
    (void)argument;
    caught.size = f->catch_size;
    memcpy(caught.data, f->catch, sizeof caught.data);
}

static void wait_for_caught(void)
{
    for (int i = 0; i < 5000; i++) {
        fixture_call(fixture, copy_caught, NULL);
        if (caught.size > 0)
            return;
        poll(NULL, 0, 1);
    }
    fail();
}

static void the_netstack_is_the_first_hop(void **state)
{
    (void)state;
    EACH_FAMILY(f)
    {
        for (int kind = 0; kind < 3; kind++) { /* UDP, echo, TCP */
            const int one = 1;
            struct sockaddr_storage to;
            struct packet packet, quoted;
            socklen_t size = fixture_sockaddr(&to, f->target, 40000);
            int fd = kind == 1 ? ping_socket(f, f->target)
                               : socket(f->af, (kind == 0 ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);
            assert_int_equal(setsockopt(fd, f->level, f->hops, &one, sizeof one), 0);
            fixture_call(fixture, catch_output, NULL);
            struct icmphdr echo = {.type = f->af == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST};
            if (kind != 1)
                (void)connect(fd, (struct sockaddr *)&to, size);
            if (kind != 2)
                assert_true(send(fd, &echo, sizeof echo, 0) > 0);
            wait_for_caught();
            assert_int_equal(packet_parse(&packet, caught.data, caught.size), 0);
            const uint8_t *icmp = caught.data + packet.head_size;
            struct address own;
            assert_int_equal(address_parse(&own, f->loopback), 0);
            assert_int_equal(packet.protocol, f->af == AF_INET ? PACKET_ICMP : PACKET_ICMPV6);
            assert_true(address_equal(&packet.source, &own));
            assert_int_equal(icmp[0], f->af == AF_INET ? ICMP_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED);
            assert_int_equal(icmp[1], 0);
            uint8_t quote[128] = {0};
            memcpy(quote, icmp + 8, packet.size - packet.head_size - 8);
            quote[2] = 0; /* IPv4: as long as the quote, not as the packet was */
            quote[3] = f->af == AF_INET ? 28 : quote[3];
            assert_int_equal(packet_parse(&quoted, quote, sizeof quote), 0);
            assert_true(address_equal(&quoted.source, &packet.target));
            assert_int_equal(quoted.hops, 1);
            close(fd);
        }
    }
}

static void the_target_is_the_second_hop(void **state)
{
    const int two = 2;
    (void)state;
    EACH_FAMILY(f)
    {
        uint16_t port;
        close(fixture_serve_at(SOCK_DGRAM, f->loopback, &port));
        int client = fixture_connect(SOCK_DGRAM, f->target, port);
        assert_int_equal(setsockopt(client, f->level, f->hops, &two, sizeof two), 0);
        assert_int_equal(setsockopt(client, f->level, f->recverr, &two, sizeof two), 0);
        assert_int_equal(send(client, "?", 1, 0), 1);
        struct sockaddr_storage from = {0};
        struct sock_extended_err error = wait_for_error(client, &from);
        assert_int_equal(error.ee_errno, ECONNREFUSED);
        close(client);
    }
}

int main(void)
{
    if (!fixture_enter_namespace()) {
        printf("skipped: no network namespace or no TUN device here\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tcp_carries_bytes_and_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(tcp_is_refused_truly, setup, teardown),
        cmocka_unit_test_setup_teardown(datagrams_of_all_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(datagrams_are_refused_truly, setup, teardown),
        cmocka_unit_test_setup_teardown(echoes_are_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(the_netstack_is_the_first_hop, setup, teardown),
        cmocka_unit_test_setup_teardown(the_target_is_the_second_hop, setup, teardown),
    };
    return unit_run(tests);
}
