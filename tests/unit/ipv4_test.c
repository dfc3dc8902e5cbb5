/* The IPv4 headers that we write: each field, the checksum, and what packet_parse() reads in them. */
#include "netstack/ipv4.h"

#include <string.h>

#include "common/packet.h"
#include "tests/unit/unit.h"

static struct ipv4_head head_of(size_t body_size)
{
    return (struct ipv4_head){.source = address_v4(0x0a000001),
                              .target = address_v4(0xc6120005),
                              .protocol = PACKET_UDP,
                              .body_size = body_size};
}

static void put(uint8_t out[static IPV4_HEAD_SIZE], const struct ipv4_head *head)
{
    struct cursor cursor = cursor_writer(out, IPV4_HEAD_SIZE);
    ipv4_put_head(&cursor, head);
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
    struct ipv4_head head = head_of(100);
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
        struct ipv4_head head = head_of(sizes[i]);
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
        struct ipv4_head head = head_of(8);
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
    struct ipv4_head head = head_of(1);
    for (size_t size = 0; size < sizeof out; size++) {
        struct cursor cursor = cursor_writer(out, size);
        ipv4_put_head(&cursor, &head);
        assert_false(cursor_ok(&cursor));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_packet_is_written),
        cmocka_unit_test(the_reader_agrees_at_every_size),
        cmocka_unit_test(fragments_say_where_they_belong),
        cmocka_unit_test(without_room_the_cursor_says_so),
    };
    return unit_run(tests);
}
