/* Two real carriers, back to back in memory: handshake, records, rekey, time. What a hostile other side says is in
 * carrier_peer_test.c. */
#include "common/carrier.h"

#include <errno.h>
#include <string.h>

#include "common/cursor.h"
#include "common/flight.h"
#include "common/mem.h"
#include "tests/unit/peer.h"
#include "tests/unit/unit.h"

struct pair {
    struct noise_keypair client_keys, agent_keys;
    struct carrier client, agent;
};

#define FEATURES (WIRE_FEATURE_IPV4 | WIRE_FEATURE_AEGIS256)

static size_t tag_size(void)
{
    return noise_has_aegis() ? NOISE_TAG_MAX : NOISE_TAG_SIZE;
}

static void meet(struct pair *pair)
{
    noise_keypair_generate(&pair->client_keys);
    noise_keypair_generate(&pair->agent_keys);
    assert_int_equal(carrier_init(&pair->agent, &pair->agent_keys, NULL, FEATURES | WIRE_FEATURE_IPV6, 0), 0);
    assert_int_equal(carrier_init(&pair->client, &pair->client_keys, pair->agent_keys.public_key, FEATURES, 0), 0);
}

static void part(struct pair *pair)
{
    carrier_deinit(&pair->client);
    carrier_deinit(&pair->agent);
}

/* At most `limit` bytes. */
static size_t move(struct carrier *from, struct carrier *to, size_t limit)
{
    size_t size;
    const uint8_t *data = carrier_tx(from, &size);
    if (data == NULL)
        return 0;
    size = peer_give(to, data, KT_MIN(size, limit));
    carrier_sent(from, size);
    return size;
}

static void shake_hands(struct pair *pair, size_t step)
{
    meet(pair);
    while (pair->client.state != CARRIER_OPEN || pair->agent.state != CARRIER_OPEN) {
        size_t moved = move(&pair->agent, &pair->client, step);
        assert_int_equal(peer_next(&pair->client, 0), 0);
        moved += move(&pair->client, &pair->agent, step);
        assert_int_equal(peer_next(&pair->agent, 0), 0);
        assert_true(moved > 0);
    }
}

static int seal(struct carrier *carrier, enum wire_type type, const void *body, size_t size)
{
    struct carrier_part one = {body, size};
    return carrier_seal(carrier, type, &one, 1);
}

/* Moves everything both ways until nothing moves; the records must be ours, they are not looked at. */
static void settle(struct pair *pair, uint64_t now_ms)
{
    size_t moved = 1;
    while (moved > 0) {
        moved = move(&pair->client, &pair->agent, SIZE_MAX) + move(&pair->agent, &pair->client, SIZE_MAX);
        while (peer_next(&pair->agent, now_ms) == 1)
            continue;
        while (peer_next(&pair->client, now_ms) == 1)
            continue;
    }
}

static void shaken_hands_know_each_other(void **state)
{
    (void)state;
    static const size_t steps[] = {1, 7, 96, SIZE_MAX};
    for (size_t i = 0; i < KT_ARRAY_LEN(steps); i++) {
        struct pair pair;
        shake_hands(&pair, steps[i]);
        assert_memory_equal(pair.client.peer, pair.agent_keys.public_key, WIRE_KEY_SIZE);
        assert_memory_equal(pair.agent.peer, pair.client_keys.public_key, WIRE_KEY_SIZE);
        uint32_t agreed = noise_has_aegis() ? FEATURES : WIRE_FEATURE_IPV4; /* what both want and can */
        assert_int_equal(pair.client.features, agreed);
        assert_int_equal(pair.agent.features, agreed);
        assert_int_equal(pair.client.bytes_in, 44 + 48);
        assert_int_equal(pair.client.bytes_out, 6 + 96);
        part(&pair);
        part(&pair);
    }
}

static void records_of_any_size(void **state)
{
    (void)state;
    struct pair pair;
    shake_hands(&pair, SIZE_MAX);
    static uint8_t data[WIRE_BODY_MAX + 1];
    randombytes_buf(data, sizeof data);
    static const size_t sizes[] = {0, 1, 19, 20, 1400, 65000, WIRE_BODY_MAX};
    for (size_t i = 0; i < KT_ARRAY_LEN(sizes); i++) {
        size_t cut = sizes[i] / 3;
        struct carrier_part parts[3] = {{data, cut}, {NULL, 0}, {data + cut, sizes[i] - cut}};
        assert_int_equal(carrier_seal(&pair.agent, WIRE_PACKET, parts, 3), 0);
        struct carrier_record record;
        do { /* byte by byte, in steps that are not the record's */
            (void)move(&pair.agent, &pair.client, sizes[i] < 100 ? 1 : 999);
        } while (carrier_next(&pair.client, 0, &record) == 0);
        assert_int_equal(record.type, WIRE_PACKET);
        assert_int_equal(record.size, sizes[i]);
        assert_memory_equal(record.body, data, sizes[i]);
    }
    assert_int_equal(seal(&pair.agent, WIRE_PACKET, data, WIRE_BODY_MAX + 1), -EMSGSIZE);
    assert_int_equal(pair.client.records_in, KT_ARRAY_LEN(sizes));
    assert_int_equal(pair.agent.records_out, KT_ARRAY_LEN(sizes));
    part(&pair);
}

static void nothing_before_open(void **state)
{
    (void)state;
    struct pair pair;
    meet(&pair);
    assert_int_equal(seal(&pair.client, WIRE_OPEN, "x", 1), -ENOTCONN);
    assert_int_equal(seal(&pair.agent, WIRE_OPEN, "x", 1), -ENOTCONN);
    assert_false(carrier_has_room(&pair.client));
    carrier_probe(&pair.client, 99999);
    size_t size;
    assert_null(carrier_tx(&pair.client, &size));
    assert_int_equal(size, 0);
    part(&pair);
    struct carrier zeroed = {0};
    carrier_deinit(&zeroed);
    kt_mem_fail_nth(1);
    assert_int_equal(carrier_init(&pair.client, &pair.client_keys, NULL, 1, 0), -ENOMEM);
}

/* Runs a handshake in which byte `at` of the whole conversation (HELLO, INIT, RESP) is changed; what the side that
 * notices says, and 0 when nobody does. */
static int tampered_handshake(size_t at, bool *client_noticed)
{
    struct pair pair;
    meet(&pair);
    size_t seen = 0;
    int rc = 0;
    for (int turn = 0; rc == 0 && turn < 4; turn++) {
        struct carrier *from = turn % 2 == 0 ? &pair.agent : &pair.client,
                       *to = turn % 2 == 0 ? &pair.client : &pair.agent;
        uint8_t bytes[256];
        size_t size;
        (void)carrier_tx(from, &size);
        assert_true(size < sizeof bytes && peer_take(from, bytes, size));
        if (at >= seen && at - seen < size)
            bytes[at - seen] ^= 0x80;
        seen += size;
        assert_int_equal(peer_give(to, bytes, size), size);
        rc = peer_next(to, 0);
        *client_noticed = to == &pair.client;
        assert_true(rc == 0 || to->state == CARRIER_CLOSED);
    }
    assert_true(rc != 0 || seen == 44 + 102 + 48);
    part(&pair);
    return rc;
}

static void every_byte_of_the_handshake_counts(void **state)
{
    (void)state;
    bool client_noticed;
    for (size_t at = 0; at < 44 + 102 + 48; at++) {
        int rc = tampered_handshake(at, &client_noticed);
        bool by_client = at < 8 || at >= 44 + 102;
        assert_int_equal(client_noticed, by_client);
        if (at < 6)
            assert_int_equal(rc, -EPROTO); /* magic */
        else if (at < 8 || at == 44 || at == 45)
            assert_int_equal(rc, -EPROTONOSUPPORT);
        else
            assert_int_equal(rc, by_client ? -EBADMSG : -EKEYREJECTED);
    }
    assert_int_equal(tampered_handshake(SIZE_MAX, &client_noticed), 0);
}

static void another_agents_key_is_told_apart(void **state)
{
    (void)state;
    struct pair pair, other;
    meet(&pair);
    meet(&other);
    (void)move(&other.agent, &pair.client, SIZE_MAX); /* a new pod, and the client has the old one's key */
    assert_int_equal(peer_next(&pair.client, 0), 0);
    (void)move(&pair.client, &other.agent, SIZE_MAX);
    assert_int_equal(peer_next(&other.agent, 0), -EKEYREJECTED);
    assert_int_equal(other.agent.state, CARRIER_CLOSED);
    assert_int_equal(peer_next(&other.agent, 0), -EPROTO); /* stays closed */
    part(&pair);
    part(&other);
}

static void a_replayed_init_is_refused(void **state)
{
    (void)state;
    struct pair pair;
    struct carrier again;
    uint8_t init[102];
    meet(&pair);
    (void)move(&pair.agent, &pair.client, SIZE_MAX);
    assert_int_equal(peer_next(&pair.client, 0), 0);
    assert_true(peer_take(&pair.client, init, sizeof init));
    peer_give(&pair.agent, init, sizeof init);
    assert_int_equal(peer_next(&pair.agent, 0), 0);
    assert_int_equal(carrier_init(&again, &pair.agent_keys, NULL, 3, 0), 0); /* the same agent, another HELLO */
    peer_give(&again, init, sizeof init);
    assert_int_equal(peer_next(&again, 0), -EKEYREJECTED);
    carrier_deinit(&again);
    part(&pair);
}

static void every_byte_of_a_record_counts(void **state)
{
    (void)state;
    struct pair pair;
    shake_hands(&pair, SIZE_MAX);
    assert_int_equal(seal(&pair.client, WIRE_PACKET, "twenty bytes of data", 20), 0);
    uint8_t record[2 + 4 + 20 + NOISE_TAG_MAX];
    size_t size = sizeof record - NOISE_TAG_MAX + tag_size();
    assert_true(peer_take(&pair.client, record, size));
    part(&pair);
    for (size_t at = 0; at < size; at++) {
        /* The keys are gone with the pair; a copy of the carrier is not possible: a fresh pair for each byte. */
        shake_hands(&pair, SIZE_MAX);
        assert_int_equal(seal(&pair.client, WIRE_PACKET, "twenty bytes of data", 20), 0);
        assert_true(peer_take(&pair.client, record, size));
        record[at] ^= 1;
        peer_give(&pair.agent, record, size);
        int rc = peer_next(&pair.agent, 0);
        assert_int_equal(rc, at < 2 ? 0 : -EBADMSG); /* a larger size waits for more */
        if (at == 1) {
            peer_give(&pair.agent, "x", 1);
            assert_int_equal(peer_next(&pair.agent, 0), -EBADMSG);
        }
        part(&pair);
    }
}

static void replayed_and_reordered_records_are_refused(void **state)
{
    (void)state;
    for (int swap = 0; swap < 2; swap++) {
        struct pair pair;
        shake_hands(&pair, SIZE_MAX);
        assert_int_equal(seal(&pair.client, WIRE_PACKET, "1", 1) + seal(&pair.client, WIRE_PACKET, "2", 1), 0);
        uint8_t one[7 + NOISE_TAG_MAX], two[7 + NOISE_TAG_MAX];
        size_t size = 7 + tag_size();
        assert_true(peer_take(&pair.client, one, size) && peer_take(&pair.client, two, size));
        peer_give(&pair.agent, swap ? two : one, size);
        peer_give(&pair.agent, one, size);
        if (!swap)
            assert_int_equal(peer_next(&pair.agent, 0), 1);
        assert_int_equal(peer_next(&pair.agent, 0), -EBADMSG);
        part(&pair);
    }
}

static void a_tiny_record_is_refused(void **state)
{
    (void)state;
    for (uint8_t size = 0; size < 20; size++) {
        struct pair pair;
        shake_hands(&pair, SIZE_MAX);
        uint8_t record[40] = {0, size};
        peer_give(&pair.agent, record, sizeof record);
        assert_int_equal(peer_next(&pair.agent, 0), -EPROTO);
        part(&pair);
    }
}

/* Numbered packets both ways, moved in random pieces, while time runs through ten rekeys. */
static void rekeys_during_traffic(void **state)
{
    (void)state;
    struct pair pair;
    shake_hands(&pair, SIZE_MAX);
    uint32_t sent[2] = {0}, got[2] = {0}, random = 1;
    static uint8_t body[3000];
    for (uint64_t now = 0; now < 10 * WIRE_REKEY_MS; now += 50) {
        for (int side = 0; side < 2; side++) {
            struct carrier *from = side ? &pair.agent : &pair.client, *to = side ? &pair.client : &pair.agent;
            random = random * 1664525u + 1013904223u;
            memcpy(body, &sent[side], sizeof sent[side]);
            if (random >> 30 != 0)
                sent[side] += seal(from, WIRE_PACKET, body, 4 + (random >> 8) % 2000) == 0;
            (void)move(from, to, (random >> 12) % 3000);
            struct carrier_record record;
            while (carrier_next(to, now, &record) == 1) {
                assert_int_equal(record.type, WIRE_PACKET);
                assert_memory_equal(record.body, &got[side], sizeof got[side]);
                got[side]++;
            }
            assert_int_equal(to->state, CARRIER_OPEN);
            assert_int_equal(carrier_tick(from, now), 0);
        }
    }
    assert_true(got[0] > 1000 && got[1] > 1000);
    uint64_t acks = pair.client.bytes_in / FLIGHT_ACK_BYTES + 1;
    assert_in_range(pair.client.records_out - sent[0], 2 * 9 + 200,
                    2 * 10 + 245 + acks); /* INIT and DONE, and echoes */
    part(&pair);
}

static void an_old_key_ends_the_carrier(void **state)
{
    (void)state;
    struct pair pair;
    shake_hands(&pair, SIZE_MAX);
    uint64_t now = 0;
    for (; now <= WIRE_REJECT_MS; now += 1000) { /* a client that sends, but never ticks, so never rekeys */
        assert_int_equal(seal(&pair.client, WIRE_PACKET, "x", 1), 0);
        settle(&pair, now);
        assert_int_equal(carrier_tick(&pair.agent, now), 0);
    }
    assert_int_equal(seal(&pair.client, WIRE_PACKET, "x", 1), 0);
    settle(&pair, now);
    assert_int_equal(carrier_tick(&pair.agent, now), -ETIMEDOUT);
    assert_int_equal(pair.agent.state, CARRIER_CLOSED);
    assert_int_equal(carrier_tick(&pair.client, now), -ETIMEDOUT);
    part(&pair);
}

static void echoes_measure_the_round_trip(void **state)
{
    (void)state;
    struct pair pair;
    shake_hands(&pair, SIZE_MAX);
    assert_int_equal(carrier_tick(&pair.client, WIRE_ECHO_MS - 1), 0);
    size_t size;
    assert_null(carrier_tx(&pair.client, &size)); /* not yet */
    assert_int_equal(carrier_tick(&pair.client, WIRE_ECHO_MS), 0);
    settle(&pair, WIRE_ECHO_MS + 40);
    assert_int_equal(pair.client.rtt_us, 40000);
    assert_int_equal(carrier_silent_ms(&pair.client, WIRE_ECHO_MS + 100), 60);
    carrier_probe(&pair.client, 6000);
    settle(&pair, 6120);
    assert_int_equal(pair.client.rtt_us, (7 * 40000 + 120000) / 8);
    assert_int_equal(pair.agent.rtt_us, 0);
    part(&pair);
}

/* A stream is in order: while one echo is out, a second one can tell nothing, and must not hide the first one's answer.
 */
static void probes_do_not_disturb_a_slow_echo(void **state)
{
    (void)state;
    struct pair pair;
    shake_hands(&pair, SIZE_MAX);
    for (uint64_t now = 1000; now < 3000; now += 100)
        carrier_probe(&pair.client, now);
    settle(&pair, 3000);
    assert_int_equal(pair.client.rtt_us, 2000000);
    assert_int_equal(pair.client.records_out, 1);
    carrier_probe(&pair.client, 3100); /* the next one is allowed again */
    assert_int_equal(pair.client.records_out, 2);
    part(&pair);
}

static void silence_ends_the_carrier(void **state)
{
    (void)state;
    struct pair pair;
    shake_hands(&pair, SIZE_MAX);
    for (uint64_t now = 0; now <= WIRE_DEAD_MS; now += 500) {
        assert_int_equal(carrier_tick(&pair.client, now), 0);
        assert_int_equal(carrier_tick(&pair.agent, now), 0);
    }
    assert_int_equal(carrier_tick(&pair.client, WIRE_DEAD_MS + 1), -ETIMEDOUT);
    assert_int_equal(carrier_tick(&pair.agent, WIRE_DEAD_MS + 1), -ETIMEDOUT);
    part(&pair);

    shake_hands(&pair, SIZE_MAX); /* a slow path gets eight round trips */
    carrier_probe(&pair.client, 1000);
    settle(&pair, 4000);
    assert_int_equal(pair.client.rtt_us, 3000000);
    assert_int_equal(carrier_tick(&pair.client, 4000 + 24000), 0);
    assert_int_equal(carrier_tick(&pair.client, 4000 + 24001), -ETIMEDOUT);
    part(&pair);
}

static void a_slow_handshake_ends(void **state)
{
    (void)state;
    struct pair pair;
    meet(&pair);
    assert_int_equal(carrier_tick(&pair.client, WIRE_HANDSHAKE_MS), 0);
    assert_int_equal(carrier_tick(&pair.client, WIRE_HANDSHAKE_MS + 1), -ETIMEDOUT);
    assert_int_equal(carrier_tick(&pair.client, WIRE_HANDSHAKE_MS + 1), -ETIMEDOUT);
    for (int i = 0; i < 20; i++) { /* bytes do not help, only the end does */
        peer_give(&pair.agent, "x", 1);
        assert_int_equal(peer_next(&pair.agent, 9000), 0);
    }
    assert_int_equal(carrier_tick(&pair.agent, WIRE_HANDSHAKE_MS + 1), -ETIMEDOUT);
    part(&pair);
}

/* tx full of packets: controls still fit. Full of controls: echo replies and the rekey still fit, so the carrier lives.
 */
static void a_full_tx_still_rekeys(void **state)
{
    (void)state;
    for (int agent_is_full = 0; agent_is_full < 2; agent_is_full++) {
        struct pair pair;
        shake_hands(&pair, SIZE_MAX);
        struct carrier *full = agent_is_full ? &pair.agent : &pair.client;
        static uint8_t body[WIRE_BODY_MAX];
        while (carrier_has_room(full))
            assert_int_equal(seal(full, WIRE_PACKET, body, 65000), 0);
        assert_int_equal(seal(full, WIRE_PACKET, body, 5000), -ENOBUFS);
        size_t small = 0;
        while (seal(full, WIRE_PACKET, body, 4000) == 0)
            small++;
        assert_in_range(small, 4, 30); /* have a reserve */
        assert_int_equal(seal(full, WIRE_DNS_ANSWER, body, 60000), 0);
        size_t before, after;
        while (seal(full, WIRE_DNS_ANSWER, body, 0) == 0)
            continue;
        (void)carrier_tx(full, &before);
        assert_int_equal(seal(full, WIRE_DNS_ANSWER, body, 100), -ENOBUFS);
        (void)carrier_tx(full, &after);
        assert_int_equal(before, after);
        struct carrier_record record;
        for (uint64_t now = 500; now < 3 * WIRE_REKEY_MS; now += 500) {
            if (!agent_is_full)
                assert_int_equal(seal(&pair.agent, WIRE_PACKET, body, 20), 0); /* not silent */
            assert_int_equal(carrier_tick(&pair.client, now), 0);
            assert_int_equal(carrier_tick(&pair.agent, now), 0);
            /* only towards the full side; what it says waits until 10 s after the rekey began */
            (void)move(agent_is_full ? &pair.client : &pair.agent, full, SIZE_MAX);
            while (carrier_next(full, now, &record) == 1)
                continue;
            assert_int_equal(full->state, CARRIER_OPEN);
            if (now % 10000 == 0)
                settle(&pair, now);
        }
        settle(&pair, 3 * WIRE_REKEY_MS);
        assert_int_equal(pair.agent.state, CARRIER_OPEN);
        assert_int_equal(pair.client.state, CARRIER_OPEN);
        part(&pair);
    }
}

static void rx_always_has_room(void **state)
{
    (void)state;
    struct pair pair;
    shake_hands(&pair, SIZE_MAX);
    static uint8_t body[WIRE_BODY_MAX];
    struct carrier_record record;
    uint32_t random = 1;
    size_t records = 0, room;
    for (int i = 0; i < 3000; i++) {
        random = random * 1664525u + 1013904223u;
        if (carrier_has_room(&pair.agent))
            assert_int_equal(seal(&pair.agent, WIRE_PACKET, body, WIRE_BODY_MAX - (random >> 28)), 0);
        assert_true(move(&pair.agent, &pair.client, 1 + (random >> 8) % 50000) > 0);
        while (carrier_next(&pair.client, 0, &record) == 1)
            records++;
        assert_non_null(carrier_rx(&pair.client, &room));
        assert_true(room >= 65535);
        (void)move(&pair.client, &pair.agent, SIZE_MAX); /* acknowledgements */
        assert_int_equal(carrier_next(&pair.agent, 0, &record), 0);
    }
    assert_true(records > 300);
    part(&pair);

    static uint8_t junk[WIRE_RX_SIZE];
    meet(&pair); /* before the handshake, too */
    assert_int_equal(peer_give(&pair.client, junk, sizeof junk), sizeof junk);
    assert_int_equal(peer_give(&pair.client, junk, 1), 0);
    assert_int_equal(peer_next(&pair.client, 0), -EPROTO);
    part(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shaken_hands_know_each_other),
        cmocka_unit_test(records_of_any_size),
        cmocka_unit_test(nothing_before_open),
        cmocka_unit_test(every_byte_of_the_handshake_counts),
        cmocka_unit_test(another_agents_key_is_told_apart),
        cmocka_unit_test(a_replayed_init_is_refused),
        cmocka_unit_test(every_byte_of_a_record_counts),
        cmocka_unit_test(replayed_and_reordered_records_are_refused),
        cmocka_unit_test(a_tiny_record_is_refused),
        cmocka_unit_test(rekeys_during_traffic),
        cmocka_unit_test(an_old_key_ends_the_carrier),
        cmocka_unit_test(echoes_measure_the_round_trip),
        cmocka_unit_test(probes_do_not_disturb_a_slow_echo),
        cmocka_unit_test(silence_ends_the_carrier),
        cmocka_unit_test(a_slow_handshake_ends),
        cmocka_unit_test(a_full_tx_still_rekeys),
        cmocka_unit_test(rx_always_has_room),
    };
    return unit_run(tests);
}
