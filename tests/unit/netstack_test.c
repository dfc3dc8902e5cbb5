/* The owner's side of a netstack, packet by packet, without a kernel: what is dropped, refused and counted, and its
 * life. */
#include "netstack/netstack.h"
#include "netstack/ip_head.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/cursor.h"
#include "common/mem.h"
#include "common/packet.h"
#include "tests/unit/unit.h"

#define CLIENT 0xc6120001
#define TARGET 0x0a000001
#define SYN 2
#define RST 4
#define ACK 16

struct owner {
    uv_loop_t loop;
    struct netstack *netstack;
    enum netstack_verdict verdict;
    struct netstack_route route; /* used if its port is not 0 */
    unsigned outputs, routes;
    bool is_blocked;
    bool is_closed;
    uint8_t last[1500];
    size_t last_size;
};

static int on_output(void *context, const struct carrier_part *parts, int count)
{
    struct owner *owner = context;
    if (owner->is_blocked)
        return -ENOBUFS;
    owner->last_size = 0;
    for (int i = 0; i < count; i++) {
        assert_true(owner->last_size + parts[i].size <= sizeof owner->last);
        memcpy(owner->last + owner->last_size, parts[i].data, parts[i].size);
        owner->last_size += parts[i].size;
    }
    owner->outputs++;
    return 0;
}

static enum netstack_verdict on_route(void *context, const struct netstack_flow *flow, struct netstack_route *route)
{
    struct owner *owner = context;
    assert_int_equal(route->port, flow->target_port);
    assert_true(address_equal(&route->address, &flow->target));
    owner->routes++;
    if (owner->route.port != 0)
        *route = owner->route;
    return owner->verdict;
}

static void on_closed(void *context)
{
    ((struct owner *)context)->is_closed = true;
}

static int setup(void **state)
{
    const struct netstack_ops ops = {.output = on_output, .route = on_route};
    struct owner *owner = test_calloc(1, sizeof *owner);
    uv_loop_init(&owner->loop);
    *state = owner;
    return netstack_open(&owner->netstack, &owner->loop, 1500, &ops, owner);
}

static int teardown(void **state)
{
    struct owner *owner = *state;
    netstack_close(owner->netstack, on_closed);
    bool was_early = owner->is_closed;
    uv_run(&owner->loop, UV_RUN_DEFAULT);
    int rc = was_early || !owner->is_closed || uv_loop_close(&owner->loop) != 0 || kt_mem_live() != 0;
    test_free(owner);
    return rc;
}

static size_t put_ip(uint8_t *out, uint32_t from, uint32_t to, uint8_t protocol, size_t body)
{
    struct cursor cursor = cursor_writer(out, 20);
    cursor_put_u16(&cursor, 0x4500);
    cursor_put_u16(&cursor, (uint16_t)(20 + body));
    cursor_put_u32(&cursor, 0);
    cursor_put_u8(&cursor, 64);
    cursor_put_u8(&cursor, protocol);
    cursor_put_u16(&cursor, 0);
    cursor_put_u32(&cursor, from);
    cursor_put_u32(&cursor, to);
    return 20 + body;
}

static void input_tcp(struct owner *owner, uint32_t from, uint32_t to, uint8_t flags, uint32_t acknowledge)
{
    uint8_t packet[40];
    size_t size = put_ip(packet, from, to, PACKET_TCP, 20);
    struct cursor cursor = cursor_writer(packet, sizeof packet);
    cursor_seek(&cursor, 20);
    cursor_put_u16(&cursor, 40000);
    cursor_put_u16(&cursor, 80);
    cursor_put_u32(&cursor, (flags & SYN) != 0 ? 1000 : 1001);
    cursor_put_u32(&cursor, acknowledge);
    cursor_put_u16(&cursor, (uint16_t)(0x5000 | flags));
    cursor_put_u16(&cursor, 65535);
    cursor_put_u32(&cursor, 0);
    netstack_input(owner->netstack, packet, size);
}

static uint64_t dropped(const struct owner *owner)
{
    struct netstack_stats stats;
    netstack_stats(owner->netstack, &stats);
    return stats.packets_dropped;
}

/* A listener on loopback; its address becomes the route. */
static int serve(struct owner *owner)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    owner->route = (struct netstack_route){.address = address_v4(0x7f000001), .port = ntohs(address.sin_port)};
    return fd;
}

static void test_martians(void **state)
{
    static const uint32_t bad[] = {0, 0x7f000001, 0xe0000001, 0xffffffff};
    struct owner *owner = *state;
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++) {
        input_tcp(owner, bad[i], TARGET, SYN, 0);
        input_tcp(owner, CLIENT, bad[i], SYN, 0);
    }
    assert_int_equal(dropped(owner), 2 * KT_ARRAY_LEN(bad));
    assert_int_equal(owner->outputs + owner->routes, 0);
}

/* Each kind is counted by itself. */
static void test_kinds_of_drops(void **state)
{
    static const struct {
        const char *target;
        enum netstack_drop drop;
    } cases[] = {{"0.1.2.3", NETSTACK_DROP_UNSPECIFIED},   {"127.0.0.1", NETSTACK_DROP_LOOPBACK},
                 {"224.0.0.251", NETSTACK_DROP_MULTICAST}, {"255.255.255.255", NETSTACK_DROP_BROADCAST},
                 {"::", NETSTACK_DROP_UNSPECIFIED},        {"::ffff:10.0.0.1", NETSTACK_DROP_UNSPECIFIED},
                 {"::1", NETSTACK_DROP_LOOPBACK},          {"fe80::1", NETSTACK_DROP_LINK_LOCAL},
                 {"ff02::16", NETSTACK_DROP_MULTICAST},    {"10.0.0.1", NETSTACK_DROP_PROTOCOL},
                 {"fd00:10::1", NETSTACK_DROP_PROTOCOL}};
    struct owner *owner = *state;
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        uint8_t packet[64] = {0};
        struct netstack_stats before, after;
        struct ip_head head = {.protocol = 47, .body_size = 8};
        struct cursor cursor = cursor_writer(packet, sizeof packet);
        assert_int_equal(address_parse(&head.target, cases[i].target), 0);
        assert_int_equal(
            address_parse(&head.source, head.target.family == ADDRESS_V6 ? "fd6b:7476:706e::5" : "198.18.0.5"), 0);
        ip_head_put(&cursor, &head);
        netstack_stats(owner->netstack, &before);
        netstack_input(owner->netstack, packet, cursor.at + 8);
        netstack_stats(owner->netstack, &after);
        for (int drop = 0; drop < NETSTACK_DROPS; drop++)
            assert_int_equal(after.drops[drop] - before.drops[drop], (int)cases[i].drop == drop);
    }
    assert_int_equal(owner->outputs + owner->routes, 0);
}

static void test_malformed(void **state)
{
    struct owner *owner = *state;
    uint8_t packet[64] = {0};
    for (size_t size = 0; size < 40; size++) { /* a header that promises more than there is, or too little */
        (void)put_ip(packet, CLIENT, TARGET, PACKET_TCP, 20);
        netstack_input(owner->netstack, packet, size);
    }
    packet[0] = 0x60; /* to :: */
    netstack_input(owner->netstack, packet, sizeof packet);
    (void)put_ip(packet, CLIENT, TARGET, 47, 20);
    netstack_input(owner->netstack, packet, 40);
    netstack_input_done(owner->netstack);
    assert_int_equal(dropped(owner), 42);
    assert_int_equal(owner->outputs + owner->routes, 0);
}

static void test_refuse(void **state)
{
    struct owner *owner = *state;
    owner->verdict = NETSTACK_REFUSE;
    input_tcp(owner, CLIENT, TARGET, SYN, 0);
    netstack_input_done(owner->netstack);
    assert_int_equal(owner->outputs, 1);
    assert_int_equal(owner->last[33], RST | ACK);
    static const uint8_t want[] = {0, 0, 3, 233}; /* acknowledges the SYN */
    assert_memory_equal(owner->last + 28, want, 4);
}

static void test_drop(void **state)
{
    struct owner *owner = *state;
    owner->verdict = NETSTACK_DROP;
    input_tcp(owner, CLIENT, TARGET, SYN, 0);
    assert_int_equal(owner->outputs, 0);
    assert_int_equal(dropped(owner), 1);
}

/* A segment of no connection is answered with RST, a RST with nothing. */
static void test_stray(void **state)
{
    struct owner *owner = *state;
    input_tcp(owner, CLIENT, TARGET, RST, 0);
    assert_int_equal(owner->outputs, 0);
    input_tcp(owner, CLIENT, TARGET, ACK, 77);
    assert_int_equal(owner->outputs, 1);
    assert_int_equal(owner->last[33] & RST, RST);
    assert_int_equal(owner->routes, 0);
}

static uint32_t last_sequence(const struct owner *owner)
{
    struct cursor cursor = cursor_reader(owner->last, owner->last_size);
    cursor_seek(&cursor, 24);
    return cursor_u32(&cursor);
}

static void test_handshake_and_reset(void **state)
{
    struct owner *owner = *state;
    struct netstack_stats stats;
    char byte;
    int listener = serve(owner);
    input_tcp(owner, CLIENT, TARGET, SYN, 0);
    while (owner->outputs == 0)
        uv_run(&owner->loop, UV_RUN_ONCE);
    assert_int_equal(owner->last[33], SYN | ACK);
    input_tcp(owner, CLIENT, TARGET, ACK, last_sequence(owner) + 1);
    netstack_input_done(owner->netstack);
    int fd = accept(listener, NULL, NULL);
    input_tcp(owner, CLIENT, TARGET, RST, 0);
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    netstack_stats(owner->netstack, &stats);
    assert_int_equal(stats.tcp_flows, 0);
    assert_int_equal(stats.tcp_opened, 1);
    assert_int_equal(owner->routes, 1);
    close(fd);
    close(listener);
}

/* The initial sequence number of the same connection does not stay the same, nor move by a constant. */
static void test_sequence_numbers(void **state)
{
    struct owner *owner = *state;
    int listener = serve(owner);
    uint32_t seen[8];
    for (uint32_t i = 0; i < KT_ARRAY_LEN(seen); i++) {
        unsigned before = owner->outputs;
        input_tcp(owner, CLIENT + i, TARGET, SYN, 0);
        while (owner->outputs == before)
            uv_run(&owner->loop, UV_RUN_ONCE);
        seen[i] = last_sequence(owner);
        for (uint32_t j = 0; j < i; j++)
            assert_true(seen[i] - seen[j] > 100000 || seen[j] - seen[i] > 100000);
    }
    close(listener);
}

/* A SYN-ACK that finds no room goes with the resume. */
static void test_blocked(void **state)
{
    struct owner *owner = *state;
    struct netstack_stats stats = {0};
    int listener = serve(owner);
    owner->is_blocked = true;
    input_tcp(owner, CLIENT, TARGET, SYN, 0);
    while (stats.tcp_opened == 0) {
        uv_run(&owner->loop, UV_RUN_NOWAIT);
        netstack_stats(owner->netstack, &stats);
    }
    assert_int_equal(owner->outputs, 0);
    owner->is_blocked = false;
    netstack_resume(owner->netstack);
    assert_int_equal(owner->outputs, 1);
    assert_int_equal(owner->last[33], SYN | ACK);
    close(listener);
}

/* Two in one process do not see each other's connections. */
static void test_two_netstacks(void **state)
{
    struct owner *one = *state, *two;
    void *other;
    assert_int_equal(setup(&other), 0);
    two = other;
    int listener = serve(one);
    input_tcp(one, CLIENT, TARGET, SYN, 0);
    while (one->outputs == 0)
        uv_run(&one->loop, UV_RUN_ONCE);
    uint32_t acknowledge = last_sequence(one) + 1;
    input_tcp(two, CLIENT, TARGET, ACK, acknowledge);
    assert_int_equal(two->last[33] & RST, RST);
    input_tcp(one, CLIENT, TARGET, ACK, acknowledge);
    netstack_input_done(one->netstack);
    assert_int_equal(one->outputs, 1);
    netstack_close(two->netstack, NULL);
    uv_run(&two->loop, UV_RUN_DEFAULT);
    uv_loop_close(&two->loop);
    test_free(two);
    input_tcp(one, CLIENT, TARGET, ACK, acknowledge); /* the first one's is still there */
    netstack_input_done(one->netstack);
    assert_int_equal(one->outputs, 1);
    close(listener);
}

static void test_no_memory(void **state)
{
    const struct netstack_ops ops = {.output = on_output, .route = on_route};
    struct netstack *netstack = NULL;
    uv_loop_t loop;
    unsigned failed = 0;
    (void)state;
    uv_loop_init(&loop);
    for (unsigned long nth = 1; nth < 10; nth++) {
        kt_mem_fail_nth(nth);
        int rc = netstack_open(&netstack, &loop, 1500, &ops, NULL);
        kt_mem_fail_nth(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        failed += rc != 0;
        if (rc == 0)
            netstack_close(netstack, NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(kt_mem_live(), 0);
    }
    assert_true(failed >= 3);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(kt_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_martians, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kinds_of_drops, setup, teardown),
        cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refuse, setup, teardown),
        cmocka_unit_test_setup_teardown(test_drop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stray, setup, teardown),
        cmocka_unit_test_setup_teardown(test_handshake_and_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sequence_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blocked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_netstacks, setup, teardown),
        cmocka_unit_test(test_no_memory),
    };
    return unit_run(tests);
}
