/* Order within a flow, turns between flows, and memory that comes back whole. */
#include "common/fair_queue.h"

#include <errno.h>
#include <string.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

static uint8_t fill(unsigned bucket, uint32_t number)
{
    return (uint8_t)(bucket * 31 + number * 7);
}

static int put(struct fair_queue *queue, unsigned bucket, uint32_t number, size_t size)
{
    static uint8_t packet[WIRE_MTU];
    memset(packet, fill(bucket, number), size);
    struct carrier_part parts[3] = {{packet, size / 3}, {packet, 0}, {packet, size - size / 3}};
    return fair_queue_put(queue, bucket, parts, 3);
}

static void expect_content(const struct fair_packet *packet, uint32_t number)
{
    size_t size = 0;
    for (int i = 0; i < packet->count; i++) {
        const uint8_t *data = packet->part[i].data;
        for (size_t at = 0; at < packet->part[i].size; at++)
            assert_int_equal(data[at], fill(packet->bucket, number));
        size += packet->part[i].size;
    }
    assert_int_equal(size, packet->size);
}

static void a_flow_keeps_its_order(void **state)
{
    (void)state;
    struct fair_queue *queue = fair_queue_new(1 << 20);
    struct fair_packet packet;
    static const size_t sizes[] = {1, 20, 1019, 1020, 1021, 2044, 2045, 40000, WIRE_MTU};
    for (uint32_t i = 0; i < KT_ARRAY_LEN(sizes); i++)
        assert_int_equal(put(queue, 5, i, sizes[i]), 0);
    fair_queue_rewind(queue);
    for (uint32_t i = 0; i < KT_ARRAY_LEN(sizes); i++) {
        assert_true(fair_queue_has(queue, 5));
        assert_true(fair_queue_next(queue, &packet));
        assert_int_equal(packet.size, sizes[i]);
        expect_content(&packet, i);
        fair_queue_sent(queue);
    }
    assert_false(fair_queue_next(queue, &packet));
    assert_false(fair_queue_has(queue, 5));
    assert_int_equal(fair_queue_bytes(queue), 0);
    fair_queue_free(queue);
}

static void a_sparse_flow_goes_before_bulk(void **state)
{
    (void)state;
    struct fair_queue *queue = fair_queue_new(4 << 20);
    struct fair_packet packet;
    for (uint32_t i = 0; i < 30; i++)
        assert_int_equal(put(queue, 1, i, WIRE_MTU), 0);
    fair_queue_rewind(queue);
    for (uint32_t i = 0; i < 10; i++) {
        assert_true(fair_queue_next(queue, &packet));
        fair_queue_sent(queue);
    }
    for (uint32_t round = 0; round < 5; round++) { /* a request at a time, in each pass */
        assert_int_equal(put(queue, 2 + round, 0, 100), 0);
        fair_queue_rewind(queue);
        assert_true(fair_queue_next(queue, &packet));
        assert_int_equal(packet.bucket, 2 + round);
        fair_queue_sent(queue);
        assert_true(fair_queue_next(queue, &packet));
        assert_int_equal(packet.bucket, 1);
        fair_queue_sent(queue);
        assert_true(fair_queue_next(queue, &packet));
        fair_queue_skip(queue);
        assert_false(fair_queue_next(queue, &packet));
    }
    fair_queue_free(queue);
}

/* Whatever the sizes of their packets, bulk flows get the same number of bytes. */
static void bulk_flows_share_by_bytes(void **state)
{
    (void)state;
    static const size_t size[] = {100, 1400, 20000, WIRE_MTU};
    struct fair_queue *queue = fair_queue_new(32 << 20);
    struct fair_packet packet;
    uint32_t next[4] = {0}, sent[4] = {0};
    size_t bytes[4] = {0};
    fair_queue_rewind(queue);
    for (size_t total = 0; total < 4000000; total += packet.size) {
        for (unsigned i = 0; i < 4; i++) {
            while (next[i] - sent[i] < 4)
                assert_int_equal(put(queue, i, next[i]++, size[i]), 0);
        }
        fair_queue_rewind(queue);
        assert_true(fair_queue_next(queue, &packet));
        expect_content(&packet, sent[packet.bucket]++);
        bytes[packet.bucket] += packet.size;
        fair_queue_sent(queue);
    }
    for (unsigned i = 0; i < 4; i++)
        assert_in_range(bytes[i], 1000000 - 2 * WIRE_MTU, 1000000 + 2 * WIRE_MTU);
    fair_queue_free(queue);
}

/* A flow that sends one small packet after another is new once, not always. */
static void a_flow_is_not_new_twice(void **state)
{
    (void)state;
    struct fair_queue *queue = fair_queue_new(1 << 20);
    struct fair_packet packet;
    bool was_served = false;
    assert_int_equal(put(queue, 9, 0, 5000), 0);
    assert_int_equal(put(queue, 9, 1, 5000), 0);
    assert_int_equal(put(queue, 9, 2, 5000), 0);
    for (uint32_t i = 0; i < 50 && !was_served; i++) {
        assert_int_equal(put(queue, 3, i, 1000), 0);
        fair_queue_rewind(queue);
        for (int room = 2; fair_queue_next(queue, &packet); room--) {
            if (room <= 0) {
                fair_queue_skip(queue);
                continue;
            }
            was_served |= packet.bucket == 9 && room == 2;
            fair_queue_sent(queue);
        }
    }
    assert_true(was_served);
    fair_queue_free(queue);
}

static void those_of_a_full_carrier_hide_nobody(void **state)
{
    (void)state;
    struct fair_queue *queue = fair_queue_new(4 << 20);
    struct fair_packet packet;
    uint32_t seen = 0;
    for (unsigned bucket = 0; bucket < 200; bucket++)
        assert_int_equal(put(queue, bucket, 0, 1500), 0);
    for (int pass = 0; pass < 3; pass++) {
        fair_queue_rewind(queue);
        while (fair_queue_next(queue, &packet)) {
            if (packet.bucket % 2 == 0) {
                fair_queue_skip(queue);
                continue;
            }
            seen++;
            fair_queue_sent(queue);
        }
    }
    assert_int_equal(seen, 100);
    assert_int_equal(fair_queue_bytes(queue), 100 * 1500);
    fair_queue_free(queue);
}

static void full_is_told_and_takes_nothing(void **state)
{
    (void)state;
    struct fair_queue *queue = fair_queue_new(10 * FAIR_QUEUE_BLOCK);
    struct fair_packet packet;
    assert_false(fair_queue_has_room(queue, 1));
    assert_int_equal(put(queue, 0, 0, 6000), 0);
    assert_int_equal(put(queue, 1, 0, 6000), -ENOBUFS);
    assert_false(fair_queue_has(queue, 1));
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(put(queue, 2, i, 1), 0);
    assert_int_equal(put(queue, 2, 4, 1), -ENOBUFS);
    fair_queue_rewind(queue);
    while (fair_queue_next(queue, &packet))
        fair_queue_sent(queue);
    assert_int_equal(put(queue, 1, 0, 10 * FAIR_QUEUE_BLOCK - 4), 0);
    fair_queue_free(queue);
}

/* Seeded random puts, sends and skips against counters of each flow; afterwards all blocks are free again. */
static void long_use_loses_no_block(void **state)
{
    (void)state;
    struct fair_queue *queue = fair_queue_new(300 * FAIR_QUEUE_BLOCK);
    struct fair_packet packet;
    static uint32_t put_count[FAIR_QUEUE_BUCKETS], sent_count[FAIR_QUEUE_BUCKETS];
    uint32_t random = 7, refused = 0;
    for (int step = 0; step < 20000; step++) {
        random = random * 1664525u + 1013904223u;
        uint32_t draw = random >> 8;
        unsigned bucket = draw % 37 * 27;
        int rc = put(queue, bucket, put_count[bucket], 1 + draw % (draw % 5 == 0 ? 20000 : 500));
        put_count[bucket] += rc == 0;
        refused += rc != 0;
        if (draw % 13 != 0)
            continue;
        fair_queue_rewind(queue);
        for (unsigned n = 0; fair_queue_next(queue, &packet); n++) {
            if ((draw >> n % 24 & 1) != 0 && draw % 3 != 0) {
                fair_queue_skip(queue);
                continue;
            }
            expect_content(&packet, sent_count[packet.bucket]++);
            fair_queue_sent(queue);
        }
    }
    fair_queue_rewind(queue);
    while (fair_queue_next(queue, &packet))
        fair_queue_sent(queue);
    assert_true(refused > 0);
    assert_true(fair_queue_has_room(queue, 300 / FAIR_QUEUE_PARTS));
    assert_int_equal(put(queue, 0, 0, WIRE_MTU), 0);
    fair_queue_free(queue);
    kt_mem_fail_nth(1);
    assert_null(fair_queue_new(1000));
    assert_int_equal(kt_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flow_keeps_its_order),
        cmocka_unit_test(a_sparse_flow_goes_before_bulk),
        cmocka_unit_test(bulk_flows_share_by_bytes),
        cmocka_unit_test(a_flow_is_not_new_twice),
        cmocka_unit_test(those_of_a_full_carrier_hide_nobody),
        cmocka_unit_test(full_is_told_and_takes_nothing),
        cmocka_unit_test(long_use_loses_no_block),
    };
    return unit_run(tests);
}
