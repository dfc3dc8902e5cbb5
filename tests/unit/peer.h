/* The other side of a carrier, made by hand of noise.h: it can say what a real carrier never would. For unit tests and
 * fuzz targets; errors of the carrier under test are returned, those of the peer itself are assert()ed. */
#ifndef KTVPN_TESTS_PEER_H
#define KTVPN_TESTS_PEER_H

#include <assert.h>
#include <string.h>

#include "common/carrier.h"
#include "common/cursor.h"

struct peer {
    struct noise_keypair keys;
    struct noise_handshake handshake, rekey;
    struct noise_cipher tx, rx;
    uint8_t prologue[WIRE_HELLO_SIZE + WIRE_INIT_HEAD_SIZE];
};

/* As much of the bytes as the carrier has room for. */
static inline size_t peer_give(struct carrier *carrier, const void *data, size_t size)
{
    size_t room;
    uint8_t *rx = carrier_rx(carrier, &room);
    size = KT_MIN(size, room);
    if (size > 0)
        memcpy(rx, data, size);
    carrier_received(carrier, size);
    return size;
}

/* false: there are fewer bytes. */
static inline bool peer_take(struct carrier *carrier, void *out, size_t size)
{
    size_t there = 0;
    const uint8_t *tx = carrier_tx(carrier, &there);
    if (there < size)
        return false;
    if (size > 0)
        memcpy(out, tx, size);
    carrier_sent(carrier, size);
    return true;
}

static inline int peer_next(struct carrier *carrier, uint64_t now_ms)
{
    struct carrier_record record;
    return carrier_next(carrier, now_ms, &record);
}

/* Makes `carrier` a client that is OPEN, and the peer its agent. */
static inline void peer_open_client(struct peer *peer, struct carrier *carrier, uint64_t now_ms)
{
    struct noise_keypair client;
    uint8_t init[WIRE_INIT_HEAD_SIZE + WIRE_NOISE_INIT_SIZE], resp[WIRE_NOISE_RESP_SIZE], nothing[1];
    noise_keypair_generate(&peer->keys);
    noise_keypair_generate(&client);
    int rc = carrier_init(carrier, &client, peer->keys.public_key, WIRE_FEATURE_IPV4, now_ms);
    assert(rc == 0);
    struct wire_hello hello = {.version = WIRE_VERSION, .features = WIRE_FEATURE_IPV4, .random = {7}};
    wire_put_hello(peer->prologue, &hello);
    (void)peer_give(carrier, peer->prologue, WIRE_HELLO_SIZE);
    rc = peer_next(carrier, now_ms);
    assert(rc == 0 && carrier->state == CARRIER_HANDSHAKE);
    bool is_there = peer_take(carrier, init, sizeof init);
    assert(is_there);
    memcpy(peer->prologue + WIRE_HELLO_SIZE, init, WIRE_INIT_HEAD_SIZE);
    noise_responder_init(&peer->handshake, &peer->keys, peer->prologue, sizeof peer->prologue);
    rc = noise_read_init(&peer->handshake, init + WIRE_INIT_HEAD_SIZE, WIRE_NOISE_INIT_SIZE, nothing);
    assert(rc == 0);
    rc = noise_write_resp(&peer->handshake, resp, NULL, 0);
    assert(rc == 0);
    noise_split(&peer->handshake, NOISE_CHACHAPOLY, &peer->rx, &peer->tx);
    (void)peer_give(carrier, resp, sizeof resp);
    rc = peer_next(carrier, now_ms);
    assert(rc == 0 && carrier->state == CARRIER_OPEN);
    (void)rc;
    (void)is_there;
}

/* Makes `carrier` an agent that is OPEN, and the peer its client. */
static inline void peer_open_agent(struct peer *peer, struct carrier *carrier, uint64_t now_ms)
{
    struct noise_keypair agent;
    uint8_t init[WIRE_INIT_HEAD_SIZE + WIRE_NOISE_INIT_SIZE] = {0, WIRE_VERSION, 0, 0, 0, WIRE_FEATURE_IPV4};
    uint8_t resp[WIRE_NOISE_RESP_SIZE], nothing[1];
    noise_keypair_generate(&peer->keys);
    noise_keypair_generate(&agent);
    int rc = carrier_init(carrier, &agent, NULL, WIRE_FEATURE_IPV4, now_ms);
    assert(rc == 0);
    bool is_there = peer_take(carrier, peer->prologue, WIRE_HELLO_SIZE);
    assert(is_there);
    memcpy(peer->prologue + WIRE_HELLO_SIZE, init, WIRE_INIT_HEAD_SIZE);
    noise_initiator_init(&peer->handshake, &peer->keys, agent.public_key, peer->prologue, sizeof peer->prologue);
    rc = noise_write_init(&peer->handshake, init + WIRE_INIT_HEAD_SIZE, NULL, 0);
    assert(rc == 0);
    (void)peer_give(carrier, init, sizeof init);
    rc = peer_next(carrier, now_ms);
    assert(rc == 0 && carrier->state == CARRIER_OPEN);
    is_there = peer_take(carrier, resp, sizeof resp);
    assert(is_there);
    rc = noise_read_resp(&peer->handshake, resp, sizeof resp, nothing);
    assert(rc == 0);
    noise_split(&peer->handshake, NOISE_CHACHAPOLY, &peer->tx, &peer->rx);
    (void)rc;
    (void)is_there;
}

/* Gives one record with any head and body, sealed as it should be. */
static inline void peer_seal(struct peer *peer, struct carrier *carrier, uint32_t head, const void *body, size_t size)
{
    static uint8_t record[WIRE_SIZE_SIZE + WIRE_RECORD_MAX];
    struct cursor cursor = cursor_writer(record, sizeof record);
    cursor_put_u16(&cursor, (uint16_t)(WIRE_HEAD_SIZE + size + noise_tag_size(&peer->tx)));
    cursor_put_u32(&cursor, head);
    cursor_put_bytes(&cursor, body, size);
    noise_seal(&peer->tx, record + WIRE_SIZE_SIZE, record + WIRE_SIZE_SIZE, WIRE_HEAD_SIZE + size);
    size_t given = peer_give(carrier, record, cursor.at + noise_tag_size(&peer->tx));
    assert(cursor_ok(&cursor) && given == cursor.at + noise_tag_size(&peer->tx));
    (void)given;
}

/* The type of the carrier's next record, whose body goes to `body`; -1 when there is none, -EBADMSG when it does not
 * open. */
static inline int peer_open(struct peer *peer, struct carrier *carrier, uint8_t *body, size_t *size)
{
    static uint8_t record[WIRE_RECORD_MAX];
    size_t there = 0;
    const uint8_t *tx = carrier_tx(carrier, &there);
    if (there < WIRE_SIZE_SIZE)
        return -1;
    size_t sealed = (size_t)tx[0] << 8 | tx[1];
    if (there < WIRE_SIZE_SIZE + sealed)
        return -1;
    int rc = noise_open(&peer->rx, record, tx + WIRE_SIZE_SIZE, sealed);
    carrier_sent(carrier, WIRE_SIZE_SIZE + sealed);
    if (rc != 0)
        return rc;
    *size = sealed - noise_tag_size(&peer->rx) - WIRE_HEAD_SIZE;
    memcpy(body, record + WIRE_HEAD_SIZE, *size);
    return record[0];
}

#endif
