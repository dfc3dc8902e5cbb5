/* The queue's order, back-pressure, and flows that stay on their carrier. */
#include "common/link.h"

#include <errno.h>
#include <string.h>

#include "common/cursor.h"
#include "common/mem.h"
#include "common/packet.h"
#include "tests/unit/unit.h"

/* Two carriers that are open, back to back, without a network between them. */
struct pair {
    struct carrier client, agent;
};

static void move(struct carrier *from, struct carrier *to)
{
    size_t size, room;
    const uint8_t *data;
    while ((data = carrier_tx(from, &size)) != NULL) {
        uint8_t *rx = carrier_rx(to, &room);
        size_t n = KT_MIN(size, room);
        memcpy(rx, data, n);
        carrier_received(to, n);
        carrier_sent(from, n);
    }
}

static void shake_hands(struct pair *pair)
{
    struct noise_keypair ours, theirs;
    struct carrier_record record;
    noise_keypair_generate(&ours);
    noise_keypair_generate(&theirs);
    assert_int_equal(carrier_init(&pair->client, &ours, theirs.public_key, 1, 0), 0);
    assert_int_equal(carrier_init(&pair->agent, &theirs, NULL, 1, 0), 0);
    for (int i = 0; i < 2; i++) {
        move(&pair->agent, &pair->client);
        assert_int_equal(carrier_next(&pair->client, 0, &record), 0);
        move(&pair->client, &pair->agent);
        assert_int_equal(carrier_next(&pair->agent, 0, &record), 0);
    }
    assert_int_equal(pair->client.state, CARRIER_OPEN);
    assert_int_equal(pair->agent.state, CARRIER_OPEN);
}

static void part(struct pair *pair)
{
    carrier_deinit(&pair->client);
    carrier_deinit(&pair->agent);
}

/* A UDP packet of flow `flow` with a number inside. */
static size_t make_packet(uint8_t *out, size_t size, uint16_t flow, uint32_t number)
{
    memset(out, 0xee, size);
    struct cursor cursor = cursor_writer(out, size);
    cursor_put_u32(&cursor, 0x45000000 | (uint32_t)size);
    cursor_put_u32(&cursor, 0);
    cursor_put_u32(&cursor, 0x40110000);
    cursor_put_bytes(&cursor, "\x0a\1\2\3\xc6\x12\0\7", 8);
    cursor_put_u16(&cursor, flow);
    cursor_put_u16(&cursor, 53);
    cursor_put_u32(&cursor, number);
    assert_true(cursor_ok(&cursor));
    return size;
}

static int send_one(struct link *link, size_t size, uint16_t flow, uint32_t number)
{
    static uint8_t packet[WIRE_MTU];
    struct carrier_part parts = {packet, make_packet(packet, size, flow, number)};
    return link_send(link, &parts, 1);
}

/* Takes what came to the agent's side; checks that flow's numbers are `*next`, `*next` + 1, ... */
static int receive(struct pair *pair, uint32_t *next)
{
    struct carrier_record record;
    int count = 0, rc;
    move(&pair->client, &pair->agent);
    while ((rc = carrier_next(&pair->agent, 0, &record)) == 1) {
        struct cursor cursor = cursor_reader(record.body, record.size);
        cursor_seek(&cursor, 24);
        assert_int_equal(cursor_u32(&cursor), (*next)++);
        for (size_t i = 28; i < record.size; i++)
            assert_int_equal(record.body[i], 0xee);
        count++;
    }
    assert_int_equal(rc, 0);
    move(&pair->agent, &pair->client); /* acknowledgements */
    assert_int_equal(carrier_next(&pair->client, 0, &record), 0);
    return count;
}

static void without_a_carrier_packets_wait(void **state)
{
    (void)state;
    struct link link;
    struct pair pair;
    shake_hands(&pair);
    assert_int_equal(link_init(&link, 200000, 5), 0);
    assert_false(link_is_up(&link));
    assert_int_equal(link.down_since_ms, 5);
    assert_null(link_pick(&link, (const uint8_t *)"", 0));
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(send_one(&link, 1000, 1, i), 0);
    assert_int_equal(link.packets_queued, 10);
    link_flush(&link); /* nothing to flush to */
    assert_int_equal(link.packets_sent, 0);
    assert_int_equal(link_attach(&link, &pair.client), 0);
    assert_int_equal(send_one(&link, 1000, 1, 10), 0); /* behind the others */
    link_flush(&link);
    assert_int_equal(link_queued_bytes(&link), 0);
    assert_int_equal(send_one(&link, 1000, 1, 11), 0);
    assert_int_equal(link.packets_sent, 12);
    uint32_t next = 0;
    assert_int_equal(receive(&pair, &next), 12);
    link_detach(&link, &pair.client, 99);
    assert_int_equal(link.down_since_ms, 99);
    link_detach(&link, &pair.client, 100); /* not there any more: nothing happens */
    assert_int_equal(link.down_since_ms, 99);
    link_deinit(&link);
    link_deinit(&link);
    part(&pair);
}

static void full_means_told_and_nothing_lost(void **state)
{
    (void)state;
    struct link link;
    struct pair pair;
    shake_hands(&pair);
    assert_int_equal(link_init(&link, 4 * WIRE_MTU, 0), 0);
    assert_int_equal(link_attach(&link, &pair.client), 0);
    uint32_t sent = 0, next = 0;
    while (link_has_room(&link))
        assert_int_equal(send_one(&link, WIRE_MTU, 1, sent++), 0); /* has_room keeps its word for the largest packet */
    while (send_one(&link, 1200, 1, sent) == 0)
        sent++;
    assert_int_equal(send_one(&link, 1200, 1, sent), -ENOBUFS);
    assert_false(link_has_room(&link));
    while (next < sent) {
        assert_true(receive(&pair, &next) > 0);
        link_flush(&link);
    }
    assert_true(link_has_room(&link));
    assert_int_equal(link.packets_sent, sent);
    link_deinit(&link);
    part(&pair);
}

/* Sizes, sends and flushes by a seeded random, for many rounds of a small queue. */
static void order_survives_long_use(void **state)
{
    (void)state;
    struct pair pair;
    shake_hands(&pair);
    for (uint32_t seed = 1; seed <= 20; seed++) {
        struct link link;
        uint32_t random = seed, sent = 0, next = 0, refused = 0;
        assert_int_equal(link_init(&link, 12000 + 777 * seed, 0), 0);
        for (int step = 0; step < 3000; step++) {
            random = random * 1664525u + 1013904223u;
            uint32_t draw = random >> 8;
            size_t size = 28 + draw % (draw % 7 == 0 ? 4000 : 600);
            int rc = send_one(&link, size, 1, sent);
            assert_true(rc == 0 || rc == -ENOBUFS);
            sent += rc == 0;
            refused += rc != 0;
            if (draw % 11 != 0)
                continue;
            assert_int_equal(link_attach(&link, &pair.client), 0);
            link_flush(&link);
            assert_int_equal(link_queued_bytes(&link), 0);
            receive(&pair, &next);
            assert_int_equal(next, sent);
            link_detach(&link, &pair.client, 0);
        }
        assert_true(refused > 0 && sent > 1000);
        link_deinit(&link);
    }
    part(&pair);
}

/* A queue that is never empty: packets go out one by one while others come in. */
static void order_survives_partial_flushes(void **state)
{
    (void)state;
    struct link link;
    struct pair pair;
    shake_hands(&pair);
    assert_int_equal(link_init(&link, 300001, 0), 0);
    assert_int_equal(link_attach(&link, &pair.client), 0);
    uint32_t random = 1, sent = 0, next = 0, queued_rounds = 0;
    for (int step = 0; step < 2000; step++) {
        random = random * 1664525u + 1013904223u;
        while (send_one(&link, 28 + (random >> 8) % 30000, 1, sent) == 0)
            sent++;
        receive(&pair, &next); /* makes room for about 64 KB */
        link_flush(&link);
        queued_rounds += link_queued_bytes(&link) > 0;
    }
    assert_true(queued_rounds > 1900);
    while (next < sent) {
        receive(&pair, &next);
        link_flush(&link);
    }
    assert_int_equal(link.packets_sent, sent);
    link_deinit(&link);
    part(&pair);
}

static void without_a_queue_full_is_refused_at_once(void **state)
{
    (void)state;
    struct link link;
    struct pair pair;
    shake_hands(&pair);
    assert_int_equal(link_init(&link, 0, 0), 0);
    assert_int_equal(send_one(&link, 100, 1, 0), -ENOBUFS);
    assert_false(link_has_room(&link));
    assert_int_equal(link_attach(&link, &pair.client), 0);
    uint32_t sent = 0, next = 0;
    for (; link_has_room(&link); sent++)
        assert_int_equal(send_one(&link, 9000, 1, sent), 0);
    assert_int_equal(send_one(&link, 9000, 1, sent), -ENOBUFS);
    link_flush(&link);
    assert_int_equal(link_queued_bytes(&link), 0);
    assert_int_equal(receive(&pair, &next), sent);
    assert_true(link_has_room(&link));
    link_deinit(&link);
    part(&pair);
}

static void what_is_no_packet_is_refused(void **state)
{
    (void)state;
    struct link link;
    static uint8_t data[WIRE_MTU + 1];
    assert_int_equal(link_init(&link, 1 << 20, 0), 0);
    struct carrier_part parts[2] = {{data, WIRE_PACKET_MIN - 1}, {data, 100}};
    assert_int_equal(link_send(&link, parts, 1), -EMSGSIZE);
    assert_int_equal(link_send(&link, parts, 2), -EMSGSIZE); /* the first part holds the header */
    parts[0].size = WIRE_MTU + 1;
    assert_int_equal(link_send(&link, parts, 1), -EMSGSIZE);
    parts[0].size = WIRE_MTU;
    assert_int_equal(link_send(&link, parts, 1), 0);
    parts[1].size = 1;
    assert_int_equal(link_send(&link, parts, 2), -EMSGSIZE);
    assert_int_equal(link_send(&link, parts, 0), -EMSGSIZE);
    link_deinit(&link);
}

/* However a packet is cut into parts, and whether it waited in the queue or not: its flow's carrier stays the same. */
static void flows_stay_on_their_carrier(void **state)
{
    (void)state;
    struct link link;
    struct pair pairs[3];
    assert_int_equal(link_init(&link, 1 << 20, 0), 0);
    for (size_t i = 0; i < 3; i++) {
        shake_hands(&pairs[i]);
        pairs[i].client.slot = (uint8_t)i;
        assert_int_equal(link_attach(&link, &pairs[i].client), 0);
    }
    uint8_t packet[1000];
    bool used[3] = {false};
    for (uint16_t flow = 0; flow < 50; flow++) {
        size_t size = make_packet(packet, sizeof packet, flow, 0);
        struct carrier *want = link_pick(&link, packet, size);
        static const size_t cuts[] = {20, 21, 22, 24, 28, 64, 500, 1000};
        for (size_t i = 0; i < KT_ARRAY_LEN(cuts); i++) {
            struct carrier_part parts[3] = {
                {packet, cuts[i]}, {packet + cuts[i], 0}, {packet + cuts[i], size - cuts[i]}};
            uint64_t before = want->records_out;
            assert_int_equal(link_send(&link, parts, 3), 0);
            assert_int_equal(want->records_out, before + 1);
        }
        for (size_t i = 0; i < 3; i++) {
            used[i] |= want == &pairs[i].client;
            struct carrier_record record;
            move(&pairs[i].client, &pairs[i].agent);
            while (carrier_next(&pairs[i].agent, 0, &record) == 1)
                assert_memory_equal(record.body, packet, size);
        }
    }
    assert_true(used[0] && used[1] && used[2]);
    link_deinit(&link);
    for (size_t i = 0; i < 3; i++)
        part(&pairs[i]);
}

/* While one carrier is full the flows of the others go on, and a request does not wait behind its neighbours' bulk. */
static void a_full_carrier_holds_its_own_flows_only(void **state)
{
    (void)state;
    struct link link;
    struct pair pairs[2];
    uint8_t packet[100];
    assert_int_equal(link_init(&link, 4 << 20, 0), 0);
    for (size_t i = 0; i < 2; i++) {
        shake_hands(&pairs[i]);
        pairs[i].client.slot = (uint8_t)i;
        assert_int_equal(link_attach(&link, &pairs[i].client), 0);
    }
    uint16_t bulk = 0, other = 1, sparse = 2;
    struct carrier *full = link_pick(&link, packet, make_packet(packet, sizeof packet, bulk, 0));
    while (link_pick(&link, packet, make_packet(packet, sizeof packet, other, 0)) == full)
        other++;
    while (sparse == other || link_pick(&link, packet, make_packet(packet, sizeof packet, sparse, 0)) != full)
        sparse++;
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(send_one(&link, 50000, bulk, i), 0);
    size_t queued = link_queued_bytes(&link);
    assert_true(queued >= 16 * 50000);
    uint64_t before = full->records_out;
    assert_int_equal(send_one(&link, 200, sparse, 0), 0); /* its reserve */
    assert_int_equal(full->records_out, before + 1);
    struct pair *free_pair = full == &pairs[0].client ? &pairs[1] : &pairs[0];
    for (uint32_t i = 0, next = 0; i < 100; i++) {
        assert_int_equal(send_one(&link, 50000, other, i), 0);
        link_flush(&link);
        assert_int_equal(receive(free_pair, &next), 1);
    }
    assert_int_equal(link_queued_bytes(&link), queued);
    link_detach(&link, full, 0);                     /* lost: what waited goes by the other one, in order */
    uint32_t next = 20 - (uint32_t)(queued / 50000); /* those before were sealed, and are lost with it */
    while (link_queued_bytes(&link) > 0) {
        link_flush(&link);
        assert_true(receive(free_pair, &next) > 0);
    }
    assert_int_equal(next, 20);
    link_deinit(&link);
    for (size_t i = 0; i < 2; i++)
        part(&pairs[i]);
}

/* Only the flows of the carrier that goes, or of the one that comes, move. */
static void a_lost_carrier_moves_its_own_flows_only(void **state)
{
    (void)state;
    struct link link;
    struct carrier carriers[4] = {{.slot = 0}, {.slot = 1}, {.slot = 2}, {.slot = 3}};
    size_t flows[4] = {0};
    assert_int_equal(link_init(&link, 0, 0), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(link_attach(&link, &carriers[i]), 0);
    struct link before = link;
    link_detach(&link, &carriers[1], 0);
    for (uint32_t hash = 1; hash <= 4000; hash++) {
        struct carrier *was = link_pick_hash(&before, hash), *is = link_pick_hash(&link, hash);
        flows[was->slot]++;
        assert_true(was == &carriers[1] || is == was);
        assert_true(is != &carriers[1]);
    }
    for (size_t i = 0; i < 4; i++)
        assert_in_range(flows[i], 800, 1200);
    assert_null(link_least_loaded(&(struct link){0}));
    link_deinit(&link);
}

static void carriers_are_counted(void **state)
{
    (void)state;
    struct link link;
    struct carrier carriers[WIRE_CARRIERS_MAX + 1] = {{0}};
    assert_int_equal(link_init(&link, 0, 0), 0);
    for (size_t i = 0; i < WIRE_CARRIERS_MAX; i++)
        assert_int_equal(link_attach(&link, &carriers[i]), 0);
    assert_int_equal(link_attach(&link, &carriers[WIRE_CARRIERS_MAX]), -ENOSPC);
    link_detach(&link, &carriers[WIRE_CARRIERS_MAX], 1); /* was never there */
    assert_int_equal(link.carriers, WIRE_CARRIERS_MAX);
    link_detach(&link, &carriers[3], 1);
    assert_int_equal(link.carriers, WIRE_CARRIERS_MAX - 1);
    assert_ptr_equal(link.carrier[3], &carriers[4]);
    assert_true(link_is_up(&link));
    link_deinit(&link);
    kt_mem_fail_nth(1);
    assert_int_equal(link_init(&link, 1000, 0), -ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_carrier_packets_wait),
        cmocka_unit_test(full_means_told_and_nothing_lost),
        cmocka_unit_test(order_survives_long_use),
        cmocka_unit_test(order_survives_partial_flushes),
        cmocka_unit_test(without_a_queue_full_is_refused_at_once),
        cmocka_unit_test(what_is_no_packet_is_refused),
        cmocka_unit_test(flows_stay_on_their_carrier),
        cmocka_unit_test(a_full_carrier_holds_its_own_flows_only),
        cmocka_unit_test(a_lost_carrier_moves_its_own_flows_only),
        cmocka_unit_test(carriers_are_counted),
    };
    return unit_run(tests);
}
