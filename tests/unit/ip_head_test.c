/* The IPv4 and IPv6 headers that we write: each field, the checksum, and what packet_parse() reads in them. */
#include "netstack/ip_head.h"

#include <string.h>

#include "common/packet.h"
#include "tests/unit/unit.h"

static struct ip_head head_of(size_t body_size)
{
    return (struct ip_head){.source = address_v4(0x0a000001),
                            .target = address_v4(0xc6120005),
                            .protocol = PACKET_UDP,
                            .body_size = body_size};
}

static void put(uint8_t out[static IPV4_HEAD_SIZE], const struct ip_head *head)
{
    struct cursor cursor = cursor_writer(out, IPV4_HEAD_SIZE);
    ip_head_put(&cursor, head);
    assert_true(cursor_ok(&cursor));
    assert_int_equal(cursor.at, IPV4_HEAD_SIZE);
    assert_int_equal(packet_checksum(packet_sum(out, IPV4_HEAD_SIZE, 0)), 0); /* RFC 1071: with its own sum it is 0 */
}

static void a_whole_packet_is_written(void **state)
{
    (void)state;
    static const uint8_t want[] = {0x45, 0,    0,  120, 0, 0, 0x40, 0,    64,   17,
                                   0x65, 0x6a, 10, 0,   0, 1, 0xc6, 0x12, 0x00, 0x05};
    uint8_t out[IPV4_HEAD_SIZE];
    struct ip_head head = head_of(100);
    put(out, &head);
    assert_memory_equal(out, want, 10);
    assert_memory_equal(out + 12, want + 12, 8);
}

static void the_reader_agrees_at_every_size(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 8, 1480, 0xffff - IPV4_HEAD_SIZE};
    static uint8_t data[0x10000];
    for (size_t i = 0; i < KT_ARRAY_LEN(sizes); i++) {
        struct packet packet;
        struct ip_head head = head_of(sizes[i]);
        put(data, &head);
        assert_int_equal(packet_parse(&packet, data, sizeof data - 1), 0);
        assert_int_equal(packet.size, IPV4_HEAD_SIZE + sizes[i]);
        assert_int_equal(packet.head_size, IPV4_HEAD_SIZE);
        assert_int_equal(packet.protocol, PACKET_UDP);
        assert_false(packet.is_fragment);
        assert_true(address_equal(&packet.source, &head.source) && address_equal(&packet.target, &head.target));
    }
}

/* RFC 791: offsets in units of 8, "more fragments" in all but the last; RFC 6864: an id, and no "don't fragment". */
static void fragments_say_where_they_belong(void **state)
{
    (void)state;
    static const struct {
        uint16_t offset;
        bool has_more;
        uint8_t want[2];
    } cases[] = {{0, true, {0x20, 0}},
                 {1480, true, {0x20, 185}},
                 {1480, false, {0, 185}},
                 {65528, false, {0x1f, 0xff}},
                 {0, false, {0x40, 0}}};
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        uint8_t data[IPV4_HEAD_SIZE + 8] = {0};
        struct packet packet;
        struct ip_head head = head_of(8);
        head.id = 0x1234;
        head.offset = cases[i].offset;
        head.has_more = cases[i].has_more;
        put(data, &head);
        assert_memory_equal(data + 6, cases[i].want, 2);
        assert_true(data[4] == 0x12 && data[5] == 0x34);
        assert_int_equal(packet_parse(&packet, data, sizeof data), 0);
        assert_int_equal(packet.is_fragment, cases[i].offset > 0 || cases[i].has_more);
    }
}

static void without_room_the_cursor_says_so(void **state)
{
    (void)state;
    uint8_t out[IPV4_HEAD_SIZE];
    struct ip_head head = head_of(1);
    for (size_t size = 0; size < sizeof out; size++) {
        struct cursor cursor = cursor_writer(out, size);
        ip_head_put(&cursor, &head);
        assert_false(cursor_ok(&cursor));
    }
}

static void ipv6_is_read_back(void **state)
{
    (void)state;
    static uint8_t data[IP_HEAD_MAX + 0xffff];
    static const struct {
        size_t size;
        uint16_t offset;
        bool has_more;
    } cases[] = {{0, 0, false}, {1, 0, false},        {0xffff, 0, false},
                 {8, 0, true},  {64952, 64952, true}, {9, 1480, false}};
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        bool is_fragment = cases[i].offset > 0 || cases[i].has_more;
        struct ip_head head = {.protocol = PACKET_UDP,
                               .body_size = cases[i].size,
                               .offset = cases[i].offset,
                               .has_more = cases[i].has_more,
                               .hops = 7,
                               .service = 0xb8,
                               .id = is_fragment ? 0x12345678 : 0};
        struct cursor cursor = cursor_writer(data, sizeof data);
        struct packet packet;
        assert_int_equal(address_parse(&head.source, "fd00:10::1"), 0);
        assert_int_equal(address_parse(&head.target, "fd6b:7476:706e::5"), 0);
        ip_head_put(&cursor, &head);
        assert_true(cursor_ok(&cursor));
        assert_int_equal(cursor.at, ip_head_size(&head));
        assert_int_equal(packet_parse(&packet, data, cursor.at + cases[i].size), 0);
        assert_int_equal(packet.head_size, is_fragment ? 48 : 40);
        assert_int_equal(packet.size, packet.head_size + cases[i].size);
        assert_int_equal(packet.protocol, PACKET_UDP);
        assert_int_equal(packet.hops, 7);
        assert_int_equal(packet.service, 0xb8);
        assert_int_equal(packet.is_fragment, is_fragment);
        assert_int_equal(packet.fragment_offset, cases[i].offset);
        assert_int_equal(packet.has_more, cases[i].has_more);
        assert_int_equal(packet.fragment_id, head.id);
        assert_true(address_equal(&packet.source, &head.source) && address_equal(&packet.target, &head.target));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_packet_is_written),       cmocka_unit_test(the_reader_agrees_at_every_size),
        cmocka_unit_test(fragments_say_where_they_belong), cmocka_unit_test(ipv6_is_read_back),
        cmocka_unit_test(without_room_the_cursor_says_so),
    };
    return unit_run(tests);
}
