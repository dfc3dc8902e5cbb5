/* ICMP unreachable: what it quotes, its checksums, and when there is none. */
#include "netstack/icmp_error.h"

#include <errno.h>
#include <string.h>

#include "netstack/ip_head.h"
#include "netstack/stack.h"
#include "tests/unit/unit.h"

#define CLIENT 0xc6120005u
#define TARGET 0x0a000001u
#define ICMP_AT IPV4_HEAD_SIZE
#define QUOTE_AT (ICMP_AT + 8)

static struct {
    uint8_t data[1280];
    size_t size, count;
    int rc;
} output;

static int on_output(void *context, const struct carrier_part *parts, int count)
{
    (void)context;
    assert_int_equal(count, 1);
    assert_true(parts[0].size <= sizeof output.data);
    if (output.rc != 0)
        return output.rc;
    memcpy(output.data, parts[0].data, parts[0].size);
    output.size = parts[0].size;
    output.count++;
    return 0;
}

static struct netstack netstack;

static int setup(void **state)
{
    (void)state;
    memset(&output, 0, sizeof output);
    memset(&netstack, 0, sizeof netstack);
    netstack.ops.output = on_output;
    netstack.errors_left = 10;
    return 0;
}

/* A UDP packet whose header has `options` bytes of options; every byte of it is different. */
static struct packet make_packet(uint8_t *data, size_t options, size_t size)
{
    struct packet packet;
    struct ip_head head = {.source = address_v4(CLIENT),
                           .target = address_v4(TARGET),
                           .protocol = PACKET_UDP,
                           .body_size = size - IPV4_HEAD_SIZE};
    struct cursor cursor = cursor_writer(data, size);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i + 100);
    ip_head_put(&cursor, &head);
    data[0] = (uint8_t)(0x40 | (IPV4_HEAD_SIZE + options) / 4);
    assert_int_equal(packet_parse(&packet, data, size), 0);
    assert_int_equal(packet.head_size, IPV4_HEAD_SIZE + options);
    return packet;
}

static void expect_error(const uint8_t *data, size_t quote, int code)
{
    struct packet packet;
    struct address from = address_v4(TARGET), to = address_v4(CLIENT);
    assert_int_equal(output.count, 1);
    assert_int_equal(output.size, QUOTE_AT + quote);
    assert_int_equal(packet_parse(&packet, output.data, output.size), 0);
    assert_int_equal(packet.protocol, PACKET_ICMP);
    assert_int_equal(packet.size, output.size);
    assert_true(address_equal(&packet.source, &from) && address_equal(&packet.target, &to));
    assert_int_equal(packet_checksum(packet_sum(output.data, IPV4_HEAD_SIZE, 0)), 0);
    assert_int_equal(packet_checksum(packet_sum(output.data + ICMP_AT, output.size - ICMP_AT, 0)), 0);
    assert_int_equal(output.data[ICMP_AT], 3);
    assert_int_equal(output.data[ICMP_AT + 1], code);
    assert_memory_equal(output.data + ICMP_AT + 4, "\0\0\0\0", 4);
    assert_memory_equal(output.data + QUOTE_AT, data, quote);
}

static void it_quotes_the_header_and_eight_bytes(void **state)
{
    (void)state;
    static const enum icmp_code codes[] = {ICMP_NET, ICMP_HOST, ICMP_PORT, ICMP_PROHIBITED};
    static const int wire_codes[] = {0, 1, 3, 13};
    for (size_t i = 0; i < KT_ARRAY_LEN(codes); i++) {
        uint8_t data[200];
        struct packet packet = make_packet(data, 0, sizeof data);
        (void)setup(NULL);
        icmp_error_send(&netstack, &packet, data, &(struct icmp_error){.code = codes[i]});
        expect_error(data, IPV4_HEAD_SIZE + 8, wire_codes[i]);
    }
}

static void it_quotes_all_options(void **state)
{
    (void)state;
    uint8_t data[200];
    struct packet packet = make_packet(data, IPV4_HEAD_MAX - IPV4_HEAD_SIZE, sizeof data);
    icmp_error_send(&netstack, &packet, data, &(struct icmp_error){.code = ICMP_PORT});
    expect_error(data, IPV4_HEAD_MAX + 8, 3);
}

/* No byte behind the packet is told to anybody. The odd sizes are there for the checksum. */
static void a_short_packet_is_quoted_as_far_as_it_goes(void **state)
{
    (void)state;
    for (size_t size = IPV4_HEAD_SIZE; size < IPV4_HEAD_SIZE + 8; size++) {
        uint8_t data[64];
        struct packet packet = make_packet(data, 0, size);
        (void)setup(NULL);
        icmp_error_send(&netstack, &packet, data, &(struct icmp_error){.code = ICMP_HOST});
        expect_error(data, size, 1);
    }
}

/* RFC 4443: type, code, the pseudo-header's checksum, and as much of the packet as fits into 1280 bytes. */
static void over_ipv6_it_quotes_more(void **state)
{
    (void)state;
    static const struct {
        enum icmp_code code;
        uint8_t type, wire_code;
        uint32_t mtu;
    } cases[] = {{ICMP_NET, 1, 0, 0},        {ICMP_HOST, 1, 3, 0},       {ICMP_PORT, 1, 4, 0},
                 {ICMP_PROHIBITED, 1, 1, 0}, {ICMP_TOO_BIG, 2, 0, 1400}, {ICMP_HOPS, 3, 0, 0}};
    static const size_t sizes[] = {40, 47, 100, 1232, 1400};
    static uint8_t data[2000];
    for (size_t i = 0; i < KT_ARRAY_LEN(cases) * KT_ARRAY_LEN(sizes); i++) {
        size_t size = sizes[i / KT_ARRAY_LEN(cases)], n = i % KT_ARRAY_LEN(cases);
        struct icmp_error error = {.code = cases[n].code, .mtu = cases[n].mtu};
        struct ip_head head = {.protocol = PACKET_UDP, .body_size = size - IPV6_HEAD_SIZE};
        struct cursor cursor = cursor_writer(data, sizeof data);
        struct packet packet;
        (void)setup(NULL);
        assert_int_equal(address_parse(&head.source, "fd6b:7476:706e::5"), 0);
        assert_int_equal(address_parse(&head.target, "fd00:10::1"), 0);
        assert_int_equal(address_parse(&error.from, "fd00:20::1"), 0);
        ip_head_put(&cursor, &head);
        assert_int_equal(packet_parse(&packet, data, size), 0);
        icmp_error_send(&netstack, &packet, data, &error);
        size_t quote = KT_MIN(size, 1232);
        assert_int_equal(output.size, 48 + quote);
        assert_int_equal(packet_parse(&packet, output.data, output.size), 0);
        assert_int_equal(packet.protocol, PACKET_ICMPV6);
        assert_true(address_equal(&packet.source, &error.from) && address_equal(&packet.target, &head.source));
        assert_int_equal(output.data[40], cases[n].type);
        assert_int_equal(output.data[41], cases[n].wire_code);
        assert_int_equal(output.data[46] << 8 | output.data[47], cases[n].mtu);
        uint32_t sum = packet_pseudo_sum(&packet, output.size - 40);
        assert_int_equal(packet_checksum(packet_sum(output.data + 40, output.size - 40, sum)), 0);
        assert_memory_equal(output.data + 48, data, quote);
    }
}

static void no_more_than_a_tick_allows(void **state)
{
    (void)state;
    uint8_t data[64];
    struct packet packet = make_packet(data, 0, sizeof data);
    for (int i = 0; i < 20; i++)
        icmp_error_send(&netstack, &packet, data, &(struct icmp_error){.code = ICMP_PORT});
    assert_int_equal(output.count, 10);
}

static void without_room_it_is_lost(void **state)
{
    (void)state;
    uint8_t data[64];
    struct packet packet = make_packet(data, 0, sizeof data);
    output.rc = -ENOBUFS;
    icmp_error_send(&netstack, &packet, data, &(struct icmp_error){.code = ICMP_HOST});
    assert_true(netstack.is_blocked);
    output.rc = -EMSGSIZE;
    icmp_error_send(&netstack, &packet, data, &(struct icmp_error){.code = ICMP_HOST});
    assert_int_equal(netstack.stats.packets_dropped, 1);
    assert_int_equal(output.count, 0);
}

static void only_what_the_network_said_has_a_code(void **state)
{
    (void)state;
    static const struct {
        int error, code;
    } cases[] = {{-ECONNREFUSED, ICMP_PORT},
                 {-ENETUNREACH, ICMP_NET},
                 {-EHOSTUNREACH, ICMP_HOST},
                 {-EHOSTDOWN, ICMP_HOST},
                 {-ETIMEDOUT, ICMP_HOST},
                 {-ENOPROTOOPT, ICMP_HOST},
                 {-EAFNOSUPPORT, ICMP_NET},
                 {-EACCES, ICMP_PROHIBITED},
                 {-EPERM, ICMP_PROHIBITED},
                 {-ENOMEM, -1},
                 {-EMFILE, -1},
                 {-ENODEV, -1},
                 {-EADDRNOTAVAIL, -1},
                 {0, -1},
                 {ECONNREFUSED, -1}};
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++)
        assert_int_equal(icmp_error_code(cases[i].error), cases[i].code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(it_quotes_the_header_and_eight_bytes, setup),
        cmocka_unit_test_setup(it_quotes_all_options, setup),
        cmocka_unit_test_setup(a_short_packet_is_quoted_as_far_as_it_goes, setup),
        cmocka_unit_test_setup(over_ipv6_it_quotes_more, setup),
        cmocka_unit_test_setup(no_more_than_a_tick_allows, setup),
        cmocka_unit_test_setup(without_room_it_is_lost, setup),
        cmocka_unit_test(only_what_the_network_said_has_a_code),
    };
    return unit_run(tests);
}
