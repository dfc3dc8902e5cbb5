/* ICMP unreachable: what it quotes, its checksums, and when there is none. */
#include "netstack/icmp_error.h"

#include <errno.h>
#include <string.h>

#include "netstack/ipv4.h"
#include "netstack/stack.h"
#include "tests/unit/unit.h"

#define CLIENT 0xc6120005u
#define TARGET 0x0a000001u
#define ICMP_AT IPV4_HEAD_SIZE
#define QUOTE_AT (ICMP_AT + 8)

static struct {
    uint8_t data[256];
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
    return 0;
}

/* A UDP packet whose header has `options` bytes of options; every byte of it is different. */
static struct packet make_packet(uint8_t *data, size_t options, size_t size)
{
    struct packet packet;
    struct ipv4_head head = {.source = address_v4(CLIENT),
                             .target = address_v4(TARGET),
                             .protocol = PACKET_UDP,
                             .body_size = size - IPV4_HEAD_SIZE};
    struct cursor cursor = cursor_writer(data, size);
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i + 100);
    ipv4_put_head(&cursor, &head);
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
    for (size_t i = 0; i < KT_ARRAY_LEN(codes); i++) {
        uint8_t data[200];
        struct packet packet = make_packet(data, 0, sizeof data);
        (void)setup(NULL);
        icmp_error_send(&netstack, &packet, data, codes[i]);
        expect_error(data, IPV4_HEAD_SIZE + 8, codes[i]);
    }
}

static void it_quotes_all_options(void **state)
{
    (void)state;
    uint8_t data[200];
    struct packet packet = make_packet(data, IPV4_HEAD_MAX - IPV4_HEAD_SIZE, sizeof data);
    icmp_error_send(&netstack, &packet, data, ICMP_PORT);
    expect_error(data, IPV4_HEAD_MAX + 8, ICMP_PORT);
}

/* No byte behind the packet is told to anybody. The odd sizes are there for the checksum. */
static void a_short_packet_is_quoted_as_far_as_it_goes(void **state)
{
    (void)state;
    for (size_t size = IPV4_HEAD_SIZE; size < IPV4_HEAD_SIZE + 8; size++) {
        uint8_t data[64];
        struct packet packet = make_packet(data, 0, size);
        (void)setup(NULL);
        icmp_error_send(&netstack, &packet, data, ICMP_HOST);
        expect_error(data, size, ICMP_HOST);
    }
}

static void without_room_it_is_lost(void **state)
{
    (void)state;
    uint8_t data[64];
    struct packet packet = make_packet(data, 0, sizeof data);
    output.rc = -ENOBUFS;
    icmp_error_send(&netstack, &packet, data, ICMP_HOST);
    assert_true(netstack.is_blocked);
    output.rc = -EMSGSIZE;
    icmp_error_send(&netstack, &packet, data, ICMP_HOST);
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
        cmocka_unit_test_setup(without_room_it_is_lost, setup),
        cmocka_unit_test(only_what_the_network_said_has_a_code),
    };
    return unit_run(tests);
}
