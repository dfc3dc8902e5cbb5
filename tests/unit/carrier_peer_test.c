/* A carrier and an authenticated but hostile other side: every record that is sealed rightly and should not have been.
 */
#include <errno.h>
#include <malloc.h>
#include <string.h>

#include "tests/unit/peer.h"
#include "tests/unit/unit.h"

#define HEAD(type) ((uint32_t)(type) << 24)

/* A fresh carrier gets one record. */
static int says(bool to_client, uint32_t head, const void *body, size_t size)
{
    struct peer peer;
    struct carrier carrier;
    if (to_client)
        peer_open_client(&peer, &carrier, 0);
    else
        peer_open_agent(&peer, &carrier, 0);
    peer_seal(&peer, &carrier, head, body, size);
    int rc = peer_next(&carrier, 0);
    assert_int_equal(carrier.state, rc < 0 ? CARRIER_CLOSED : CARRIER_OPEN);
    carrier_deinit(&carrier);
    return rc;
}

static void only_known_records_are_taken(void **state)
{
    (void)state;
    uint8_t body[200] = {0};
    for (uint32_t type = 0; type < 256; type++) {
        bool is_own = type == WIRE_ECHO_REQUEST || type == WIRE_ECHO_REPLY ||
                      (type >= WIRE_REKEY_INIT && type <= WIRE_REKEY_DONE) || type == WIRE_ACK;
        bool is_known = type >= WIRE_PACKET && type <= WIRE_ACK;
        for (int to_client = 0; to_client < 2; to_client++)
            assert_int_equal(says(to_client, HEAD(type), body, 20), is_own || !is_known ? -EPROTO : 1);
    }
    for (int bit = 0; bit < 24; bit++)
        assert_int_equal(says(true, HEAD(WIRE_PACKET) | 1u << bit, body, 20), -EPROTO);
    assert_int_equal(says(true, HEAD(WIRE_ACK), body, 8), 0);
    assert_int_equal(says(true, HEAD(WIRE_ACK), body, 7), -EPROTO);
    assert_int_equal(says(true, HEAD(WIRE_ACK), body, 9), -EPROTO);
    assert_int_equal(says(true, HEAD(WIRE_ACK), "\xff\0\0\0\0\0\0", 8), -EPROTO); /* more than was sent */
    assert_int_equal(says(true, HEAD(WIRE_ECHO_REQUEST), body, 8), 0);
    assert_int_equal(says(true, HEAD(WIRE_ECHO_REPLY), body, 8), 0); /* nobody asked: ignored */
    assert_int_equal(says(false, HEAD(WIRE_ECHO_REPLY), body, 8), 0);
    assert_int_equal(says(false, HEAD(WIRE_ECHO_REQUEST), body, 7), -EPROTO);
    assert_int_equal(says(false, HEAD(WIRE_ECHO_REPLY), body, 9), -EPROTO);
}

static void rekeys_that_nobody_began_are_refused(void **state)
{
    (void)state;
    uint8_t body[200] = {0};
    for (int to_client = 0; to_client < 2; to_client++) {
        assert_int_equal(says(to_client, HEAD(WIRE_REKEY_RESP), body, WIRE_NOISE_RESP_SIZE), -EPROTO);
        assert_int_equal(says(to_client, HEAD(WIRE_REKEY_DONE), NULL, 0), -EPROTO);
        int rc =
            says(to_client, HEAD(WIRE_REKEY_INIT), body, WIRE_NOISE_INIT_SIZE); /* a low-order point, for the agent */
        assert_int_equal(rc, -EPROTO);
    }
    randombytes_buf(body, sizeof body);
    body[31] &= 0x7f;
    assert_int_equal(says(false, HEAD(WIRE_REKEY_INIT), body, WIRE_NOISE_INIT_SIZE), -EBADMSG);
    for (size_t size = 0; size < 200; size += 5) /* 96 is none of them */
        assert_int_equal(says(false, HEAD(WIRE_REKEY_INIT), body, size), -EPROTO);
}

/* The peer begins a rekey as the client, with `keys`, and gives REKEY_INIT. */
static void begin_rekey(struct peer *peer, struct carrier *carrier, const struct noise_keypair *keys)
{
    uint8_t init[WIRE_NOISE_INIT_SIZE];
    noise_initiator_init(&peer->rekey, keys, peer->handshake.rs, peer->handshake.h, NOISE_HASH_SIZE);
    assert_int_equal(noise_write_init(&peer->rekey, init, NULL, 0), 0);
    peer_seal(peer, carrier, HEAD(WIRE_REKEY_INIT), init, sizeof init);
}

static void the_agent_rekeys_by_the_book(void **state)
{
    (void)state;
    struct peer peer;
    struct carrier carrier;
    uint8_t body[WIRE_RECORD_MAX], nothing[1];
    size_t size = 0;
    peer_open_agent(&peer, &carrier, 0);
    for (int round = 0; round < 3; round++) {
        begin_rekey(&peer, &carrier, &peer.keys);
        peer_seal(&peer, &carrier, HEAD(WIRE_ECHO_REQUEST), "12345678", 8); /* still with the old key */
        assert_int_equal(peer_next(&carrier, 0), 0);
        assert_int_equal(peer_open(&peer, &carrier, body, &size), WIRE_REKEY_RESP); /* with the old key */
        assert_int_equal(noise_read_resp(&peer.rekey, body, size, nothing), 0);
        peer_seal(&peer, &carrier, HEAD(WIRE_REKEY_DONE), NULL, 0);
        noise_split(&peer.rekey, NOISE_CHACHAPOLY, &peer.tx, &peer.rx);
        assert_int_equal(peer_open(&peer, &carrier, body, &size), WIRE_ECHO_REPLY); /* with the new one */
        peer_seal(&peer, &carrier, HEAD(WIRE_PACKET), body, 8);
        assert_int_equal(peer_next(&carrier, 0), 1);
        peer.handshake = peer.rekey;
        memcpy(peer.handshake.rs, peer.rekey.rs, NOISE_KEY_SIZE);
    }
    carrier_deinit(&carrier);
}

static void the_agent_refuses_rekeys_against_the_book(void **state)
{
    (void)state;
    struct peer peer;
    struct carrier carrier;
    struct noise_keypair other;
    uint8_t body[WIRE_RECORD_MAX];
    size_t size = 0;
    noise_keypair_generate(&other);
    peer_open_agent(&peer, &carrier, 0); /* another client's key: the session would change hands */
    begin_rekey(&peer, &carrier, &other);
    assert_int_equal(peer_next(&carrier, 0), -EPROTO);
    carrier_deinit(&carrier);

    peer_open_agent(&peer, &carrier, 0); /* a second INIT before DONE */
    begin_rekey(&peer, &carrier, &peer.keys);
    assert_int_equal(peer_next(&carrier, 0), 0);
    assert_int_equal(peer_open(&peer, &carrier, body, &size), WIRE_REKEY_RESP);
    begin_rekey(&peer, &carrier, &peer.keys);
    assert_int_equal(peer_next(&carrier, 0), -EPROTO);
    carrier_deinit(&carrier);

    peer_open_agent(&peer, &carrier, 0); /* DONE with a body */
    begin_rekey(&peer, &carrier, &peer.keys);
    peer_seal(&peer, &carrier, HEAD(WIRE_REKEY_DONE), "x", 1);
    assert_int_equal(peer_next(&carrier, 0), -EPROTO);
    carrier_deinit(&carrier);

    peer_open_agent(&peer, &carrier, 0); /* after DONE the old key is dead */
    begin_rekey(&peer, &carrier, &peer.keys);
    peer_seal(&peer, &carrier, HEAD(WIRE_REKEY_DONE), NULL, 0);
    peer_seal(&peer, &carrier, HEAD(WIRE_PACKET), body, 20);
    assert_int_equal(peer_next(&carrier, 0), -EBADMSG);
    carrier_deinit(&carrier);

    peer_open_agent(&peer, &carrier, 0); /* INIT and never DONE: the key grows old */
    begin_rekey(&peer, &carrier, &peer.keys);
    for (uint64_t now = 0; now <= WIRE_REJECT_MS; now += 10000) {
        peer_seal(&peer, &carrier, HEAD(WIRE_ECHO_REQUEST), body, 8);
        assert_int_equal(peer_next(&carrier, now), 0);
        assert_int_equal(carrier_tick(&carrier, now), 0);
    }
    assert_int_equal(carrier_tick(&carrier, WIRE_REJECT_MS + 1), -ETIMEDOUT);
    carrier_deinit(&carrier);
}

/* The client asks for a rekey; the peer has read REKEY_INIT. */
static void asked_to_rekey(struct peer *peer, struct carrier *carrier)
{
    uint8_t body[WIRE_RECORD_MAX], nothing[1];
    size_t size = 0;
    peer_open_client(peer, carrier, 0);
    for (uint64_t now = 0; now <= WIRE_REKEY_MS; now += 10000) {
        peer_seal(peer, carrier, HEAD(WIRE_ECHO_REQUEST), "12345678", 8);
        assert_int_equal(peer_next(carrier, now), 0);
        assert_int_equal(carrier_tick(carrier, now), 0);
    }
    int type;
    while ((type = peer_open(peer, carrier, body, &size)) != WIRE_REKEY_INIT)
        assert_true(type == WIRE_ECHO_REQUEST || type == WIRE_ECHO_REPLY);
    noise_responder_init(&peer->rekey, &peer->keys, peer->handshake.h, NOISE_HASH_SIZE);
    assert_int_equal(size, WIRE_NOISE_INIT_SIZE);
    assert_int_equal(noise_read_init(&peer->rekey, body, size, nothing), 0);
}

static void the_client_rekeys_by_the_book(void **state)
{
    (void)state;
    struct peer peer;
    struct carrier carrier;
    uint8_t resp[WIRE_NOISE_RESP_SIZE], body[WIRE_RECORD_MAX];
    size_t size = 0;
    asked_to_rekey(&peer, &carrier);
    assert_int_equal(noise_write_resp(&peer.rekey, resp, NULL, 0), 0);
    peer_seal(&peer, &carrier, HEAD(WIRE_REKEY_RESP), resp, sizeof resp);
    struct noise_cipher next_rx;
    noise_split(&peer.rekey, NOISE_CHACHAPOLY, &next_rx, &peer.tx);
    peer_seal(&peer, &carrier, HEAD(WIRE_PACKET), body, 20);
    assert_int_equal(peer_next(&carrier, WIRE_REKEY_MS), 1);
    int type;
    while ((type = peer_open(&peer, &carrier, body, &size)) != WIRE_REKEY_DONE)
        assert_int_equal(type, WIRE_ECHO_REPLY);
    peer.rx = next_rx;
    struct carrier_part part = {body, 20};
    assert_int_equal(carrier_seal(&carrier, WIRE_PACKET, &part, 1), 0);
    assert_int_equal(peer_open(&peer, &carrier, body, &size), WIRE_PACKET);
    carrier_deinit(&carrier);
}

/* A right RESP of any other size: its payload would be written somewhere. */
static void a_resp_with_a_payload_is_refused(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 16, 1000, 60000};
    for (size_t i = 0; i < KT_ARRAY_LEN(sizes); i++) {
        struct peer peer;
        struct carrier carrier;
        static uint8_t payload[60000], resp[60000 + WIRE_NOISE_RESP_SIZE];
        asked_to_rekey(&peer, &carrier);
        assert_int_equal(noise_write_resp(&peer.rekey, resp, payload, sizes[i]), 0);
        peer_seal(&peer, &carrier, HEAD(WIRE_REKEY_RESP), resp, WIRE_NOISE_RESP_SIZE + sizes[i]);
        assert_int_equal(peer_next(&carrier, WIRE_REKEY_MS), -EPROTO);
        carrier_deinit(&carrier);
    }
}

static void an_unanswered_rekey_ends_the_carrier(void **state)
{
    (void)state;
    struct peer peer;
    struct carrier carrier;
    asked_to_rekey(&peer, &carrier);
    for (uint64_t now = WIRE_REKEY_MS; now <= WIRE_REJECT_MS; now += 1000) {
        peer_seal(&peer, &carrier, HEAD(WIRE_ECHO_REQUEST), "12345678", 8);
        assert_int_equal(peer_next(&carrier, now), 0);
        assert_int_equal(carrier_tick(&carrier, now), 0);
    }
    assert_int_equal(carrier_tick(&carrier, WIRE_REJECT_MS + 1), -ETIMEDOUT);
    carrier_deinit(&carrier);
}

/* A peer that asks for echoes and never reads: tx is bounded, and the carrier only stops answering. */
static void echo_floods_are_bounded(void **state)
{
    (void)state;
    struct peer peer;
    struct carrier carrier;
    peer_open_agent(&peer, &carrier, 0);
    size_t size = 0;
    for (int i = 0; i < 20000; i++) {
        peer_seal(&peer, &carrier, HEAD(WIRE_ECHO_REQUEST), "12345678", 8);
        assert_int_equal(peer_next(&carrier, 0), 0);
    }
    (void)carrier_tx(&carrier, &size);
    assert_in_range(size, 1000, WIRE_TX_SIZE);
    uint8_t body[WIRE_RECORD_MAX], nothing[1];
    begin_rekey(&peer, &carrier, &peer.keys); /* which still has its room */
    assert_int_equal(peer_next(&carrier, 0), 0);
    int type;
    while ((type = peer_open(&peer, &carrier, body, &size)) == WIRE_ECHO_REPLY || type == WIRE_ACK)
        continue;
    assert_int_equal(type, WIRE_REKEY_RESP);
    assert_int_equal(noise_read_resp(&peer.rekey, body, size, nothing), 0);
    carrier_deinit(&carrier);
}

static void is_nowhere_in(const struct carrier *carrier, const void *secret, size_t size)
{
    const void *memory = carrier->private;
    assert_null(memmem(memory, malloc_usable_size(carrier->private), secret, size));
}

/* Forward secrecy: who gets the memory of a running carrier can read what is sent with the current keys, and nothing
 * older. So neither the chaining key (from which both keys follow) nor old keys may stay. */
static void old_secrets_are_wiped(void **state)
{
    (void)state;
    struct peer peer;
    struct carrier carrier;
    uint8_t body[WIRE_RECORD_MAX], nothing[1];
    size_t size = 0;
    peer_open_agent(&peer, &carrier, 0);
    is_nowhere_in(&carrier, peer.handshake.ck, NOISE_HASH_SIZE);
    is_nowhere_in(&carrier, peer.handshake.cipher.key, NOISE_KEY_SIZE);
    struct noise_cipher old_tx = peer.tx, old_rx = peer.rx;
    begin_rekey(&peer, &carrier, &peer.keys);
    assert_int_equal(peer_next(&carrier, 0), 0);
    assert_int_equal(peer_open(&peer, &carrier, body, &size), WIRE_REKEY_RESP);
    assert_int_equal(noise_read_resp(&peer.rekey, body, size, nothing), 0);
    is_nowhere_in(&carrier, old_rx.key, NOISE_KEY_SIZE);
    is_nowhere_in(&carrier, peer.rekey.ck, NOISE_HASH_SIZE);
    peer_seal(&peer, &carrier, HEAD(WIRE_REKEY_DONE), NULL, 0);
    assert_int_equal(peer_next(&carrier, 0), 0);
    is_nowhere_in(&carrier, old_tx.key, NOISE_KEY_SIZE);
    is_nowhere_in(&carrier, peer.rekey.ck, NOISE_HASH_SIZE);
    carrier_deinit(&carrier);

    peer_open_client(&peer, &carrier, 0);
    is_nowhere_in(&carrier, peer.handshake.ck, NOISE_HASH_SIZE);
    carrier_deinit(&carrier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_known_records_are_taken),
        cmocka_unit_test(rekeys_that_nobody_began_are_refused),
        cmocka_unit_test(the_agent_rekeys_by_the_book),
        cmocka_unit_test(the_agent_refuses_rekeys_against_the_book),
        cmocka_unit_test(the_client_rekeys_by_the_book),
        cmocka_unit_test(a_resp_with_a_payload_is_refused),
        cmocka_unit_test(an_unanswered_rekey_ends_the_carrier),
        cmocka_unit_test(echo_floods_are_bounded),
        cmocka_unit_test(old_secrets_are_wiped),
    };
    return unit_run(tests);
}
