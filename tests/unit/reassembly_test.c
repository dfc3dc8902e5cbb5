/* Fragments: in any order, twice, in disagreement, too many, too late. */
#include "netstack/reassembly.h"

#include <errno.h>
#include <string.h>

#include "common/mem.h"
#include "netstack/ip_head.h"
#include "netstack/pool.h"
#include "tests/unit/unit.h"

#define PIECE 64

static struct reassembly reassembly;
static uint8_t body[0x10000];
static const uint8_t *whole;
static size_t whole_size;

static int setup(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)(i * 31 + i / 256);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kt_mem_fail_nth(0);
    reassembly_deinit(&reassembly);
    pool_trim();
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

/* body[offset .. offset + size) as a fragment of datagram `id`. */
static int add(bool is_v6, uint32_t id, size_t offset, size_t size, bool has_more, uint64_t now_ms)
{
    static uint8_t data[IP_HEAD_MAX + 0x10000];
    struct ip_head head = {.protocol = PACKET_UDP,
                           .hops = 9,
                           .body_size = size,
                           .id = id,
                           .offset = (uint16_t)offset,
                           .has_more = has_more};
    struct cursor cursor = cursor_writer(data, sizeof data);
    struct packet packet;
    assert_int_equal(address_parse(&head.source, is_v6 ? "fd6b:7476:706e::5" : "198.18.0.5"), 0);
    assert_int_equal(address_parse(&head.target, is_v6 ? "fd00:10::1" : "10.0.0.1"), 0);
    ip_head_put(&cursor, &head);
    memcpy(data + cursor.at, body + offset, size);
    assert_int_equal(packet_parse(&packet, data, cursor.at + size), 0);
    return reassembly_add(&reassembly, &packet, data, now_ms, &whole, &whole_size);
}

static void expect_whole(bool is_v6, size_t size)
{
    struct packet packet;
    size_t head_size = is_v6 ? IPV6_HEAD_SIZE : IPV4_HEAD_SIZE;
    assert_int_equal(whole_size, head_size + size);
    assert_int_equal(packet_parse(&packet, whole, whole_size), 0);
    assert_int_equal(packet.size, whole_size);
    assert_int_equal(packet.head_size, head_size);
    assert_int_equal(packet.protocol, PACKET_UDP);
    assert_int_equal(packet.hops, 9);
    assert_false(packet.is_fragment);
    assert_memory_equal(whole + head_size, body, size);
    reassembly_pop(&reassembly, whole);
    assert_int_equal(reassembly.count, 0);
}

static void two_pieces_in_both_orders(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        bool is_v6 = (i & 1) != 0, last_first = (i & 2) != 0;
        size_t size = is_v6 ? 0xffff : 0xffff - IPV4_HEAD_SIZE;
        assert_int_equal(last_first ? add(is_v6, 7, 64000, size - 64000, false, 0) : add(is_v6, 7, 0, 64000, true, 0),
                         0);
        assert_int_equal(last_first ? add(is_v6, 7, 0, 64000, true, 0) : add(is_v6, 7, 64000, size - 64000, false, 0),
                         1);
        expect_whole(is_v6, size);
    }
}

/* Every second one, then the others backwards. */
static void many_pieces_in_disorder(void **state)
{
    (void)state;
    const size_t pieces = 2 * REASSEMBLY_RANGES, last = pieces - 1;
    for (size_t i = 0; i < pieces; i += 2)
        assert_int_equal(add(true, 1, i * PIECE, PIECE, true, 0), 0);
    for (size_t i = last; i > 1; i -= 2)
        assert_int_equal(add(true, 1, i * PIECE, i == last ? 5 : PIECE, i != last, 0), 0);
    assert_int_equal(add(true, 1, PIECE, PIECE, true, 0), 1);
    expect_whole(true, last * PIECE + 5);
}

static void a_copy_does_no_harm(void **state)
{
    (void)state;
    assert_int_equal(add(false, 1, 0, 2 * PIECE, true, 0), 0);
    assert_int_equal(add(false, 1, 0, 2 * PIECE, true, 0), 0);
    assert_int_equal(add(false, 1, PIECE, PIECE, true, 0), 0);
    assert_int_equal(add(false, 1, 2 * PIECE, 3, false, 0), 1);
    expect_whole(false, 2 * PIECE + 3);
}

static void disagreement_spoils_it(void **state)
{
    (void)state;
    static const struct {
        size_t offset, size;
        bool has_more, changes;
    } cases[] = {{PIECE, 2 * PIECE, true, false}, /* reaches over an end */
                 {0, 2 * PIECE, true, true},      /* other bytes */
                 {6 * PIECE, PIECE, true, false}, /* behind the last one */
                 {2 * PIECE, 8, false, false},    /* another last one, before */
                 {6 * PIECE, 8, false, false}};   /* and behind */
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        uint32_t id = (uint32_t)i;
        assert_int_equal(add(true, id, 0, 2 * PIECE, true, 0), 0);
        assert_int_equal(add(true, id, 4 * PIECE, 8, false, 0), 0);
        body[1] ^= cases[i].changes;
        assert_int_equal(add(true, id, cases[i].offset, cases[i].size, cases[i].has_more, 0), -EBADMSG);
        body[1] ^= cases[i].changes;
        assert_int_equal(add(true, id, 2 * PIECE, 2 * PIECE, true, 0), -EBADMSG); /* what would complete it */
    }
}

static void malformed_pieces_leave_nothing(void **state)
{
    (void)state;
    assert_int_equal(add(false, 1, 0, 12, true, 0), -EBADMSG); /* no multiple of 8, and more to come */
    assert_int_equal(add(false, 1, 8, 0, false, 0), -EBADMSG);
    assert_int_equal(add(false, 1, 65512, 8, false, 0), -EBADMSG); /* 65,535 with the header at most */
    assert_int_equal(add(true, 1, 65528, 8, false, 0), -EBADMSG);
    assert_int_equal(reassembly.count, 0);
    struct packet tcp = {.protocol = PACKET_TCP, .is_fragment = true, .has_more = true, .head_size = 20, .size = 28};
    assert_int_equal(reassembly_add(&reassembly, &tcp, body, 0, &whole, &whole_size), -EPROTONOSUPPORT);
}

static void more_holes_than_can_be_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < REASSEMBLY_RANGES; i++)
        assert_int_equal(add(false, 1, i * 2 * PIECE, PIECE, true, 0), 0);
    assert_int_equal(add(false, 1, REASSEMBLY_RANGES * 2 * PIECE, PIECE, true, 0), -EBADMSG);
    assert_int_equal(add(false, 1, PIECE, PIECE, true, 0), -EBADMSG);
}

static void the_oldest_makes_room(void **state)
{
    (void)state;
    for (uint32_t id = 0; id <= REASSEMBLY_MAX; id++)
        assert_int_equal(add(false, id, 0, PIECE, true, id), 0);
    assert_int_equal(reassembly.count, REASSEMBLY_MAX);
    assert_int_equal(add(false, 0, PIECE, 1, false, 100), 0); /* 0 is gone, and takes the place of 1 */
    assert_int_equal(add(false, 2, PIECE, 1, false, 100), 1);
    reassembly_pop(&reassembly, whole);
    assert_int_equal(reassembly.count, REASSEMBLY_MAX - 1);
}

static void time_ends_it(void **state)
{
    (void)state;
    assert_int_equal(add(false, 1, 0, PIECE, true, 1000), 0);
    assert_int_equal(add(false, 2, 0, PIECE, true, 2000), 0);
    reassembly_tick(&reassembly, 1000 + REASSEMBLY_MS - 1);
    assert_int_equal(reassembly.count, 2);
    reassembly_tick(&reassembly, 1000 + REASSEMBLY_MS);
    assert_int_equal(reassembly.count, 1);
    assert_int_equal(add(false, 1, PIECE, 1, false, 7000), 0);
}

static void families_and_ids_do_not_meet(void **state)
{
    (void)state;
    assert_int_equal(add(false, 1, 0, PIECE, true, 0), 0);
    assert_int_equal(add(true, 1, PIECE, 1, false, 0), 0);
    assert_int_equal(add(false, 2, PIECE, 1, false, 0), 0);
    assert_int_equal(reassembly.count, 3);
}

static void without_memory_a_piece_is_lost(void **state)
{
    (void)state;
    pool_trim();
    kt_mem_fail_nth(1);
    assert_int_equal(add(false, 1, 0, PIECE, true, 0), -ENOMEM);
    kt_mem_fail_nth(0);
    assert_int_equal(reassembly.count, 0);
}

int main(void)
{
#define REASSEMBLY_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        REASSEMBLY_TEST(two_pieces_in_both_orders),
        REASSEMBLY_TEST(many_pieces_in_disorder),
        REASSEMBLY_TEST(a_copy_does_no_harm),
        REASSEMBLY_TEST(disagreement_spoils_it),
        REASSEMBLY_TEST(malformed_pieces_leave_nothing),
        REASSEMBLY_TEST(more_holes_than_can_be_kept),
        REASSEMBLY_TEST(the_oldest_makes_room),
        REASSEMBLY_TEST(time_ends_it),
        REASSEMBLY_TEST(families_and_ids_do_not_meet),
        REASSEMBLY_TEST(without_memory_a_piece_is_lost),
    };
    return unit_run(tests);
}
