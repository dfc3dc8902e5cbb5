/* A carrier: one reliable byte stream to the other side, with its own Noise handshake, records, rekey and liveness.
 *
 * A state machine without a loop, a socket or a clock: the owner moves bytes between it and a stream, and gives it
 * `now`.
 *
 *   reading:  p = carrier_rx(c, &room); n = read(fd, p, room); carrier_received(c, n);
 *             while ((r = carrier_next(c, now, &record)) == 1) use(record);      r < 0: close the stream
 *   writing:  carrier_seal(c, type, parts...); p = carrier_tx(c, &size); n = write(fd, p, size); carrier_sent(c, n);
 *   time:     carrier_tick(c, now) at least every second;                        < 0: close the stream
 *
 * States (client | agent):
 *   HELLO      waits for HELLO            |  HELLO is in tx; waits for INIT
 *   HANDSHAKE  INIT is in tx; waits for RESP | -
 *   OPEN       records flow
 *   CLOSED     an error was returned; only carrier_deinit() may follow
 *
 * ECHO and REKEY records are answered inside; the owner never sees them. WIRE_FEATURE_AEGIS256 is a wish: it is left
 * out where this CPU has no AES. */
#ifndef KTVPN_COMMON_CARRIER_H
#define KTVPN_COMMON_CARRIER_H

#include "common/noise.h"
#include "common/wire.h"

enum carrier_state { CARRIER_HELLO, CARRIER_HANDSHAKE, CARRIER_OPEN, CARRIER_CLOSED };

struct carrier_part {
    const void *data;
    size_t size;
};

struct carrier_record {
    enum wire_type type;
    uint8_t *body; /* inside the carrier's receive buffer: valid until the next carrier_next() or carrier_rx() */
    size_t size;
};

struct carrier {
    enum carrier_state state;
    bool is_client;
    uint8_t peer[WIRE_KEY_SIZE]; /* the other side's static key; valid when OPEN (client: from the start) */
    uint32_t features;           /* agreed ones, valid when OPEN */
    uint8_t slot;                /* the owner's: which of the session's slots it serves */
    uint64_t rtt_us;             /* smoothed, client only; 0 until the first echo came back */
    uint64_t records_in, records_out, bytes_in, bytes_out;
    struct carrier_private *private; /* keys and buffers */
};

/* `keys` is copied. Client: `agent` is the agent's public key. Agent: `agent` is NULL and HELLO is put into tx.
 * Returns -ENOMEM and leaves nothing behind. `now` is in ms, of any monotonic clock. */
KT_MUST_USE int carrier_init(struct carrier *carrier, const struct noise_keypair *keys, const uint8_t *agent,
                             uint32_t features, uint64_t now_ms);
/* Wipes keys. Safe on a zeroed struct, and twice. */
void carrier_deinit(struct carrier *carrier);

/* Room for received bytes. It is never 0 after carrier_next() returned 0. */
uint8_t *carrier_rx(struct carrier *carrier, size_t *room);
void carrier_received(struct carrier *carrier, size_t size);

/* 1: a record; 0: more bytes are needed; -EPROTO, -EPROTONOSUPPORT, -EBADMSG, -EKEYREJECTED (the agent: this INIT does
 * not decrypt, so the client was given another agent's key): the carrier is CLOSED. */
KT_MUST_USE int carrier_next(struct carrier *carrier, uint64_t now_ms, struct carrier_record *record);

/* Seals one record of up to `count` parts. -ENOTCONN before OPEN; -EMSGSIZE above WIRE_BODY_MAX; -ENOBUFS when tx is
 * above WIRE_TX_LOW or too much is under way (PACKET; a small one has a reserve), or tx is full (others): nothing was
 * taken. */
KT_MUST_USE int carrier_seal(struct carrier *carrier, enum wire_type type, const struct carrier_part *parts, int count);
/* Would carrier_seal() of a packet of any size fit? */
bool carrier_has_room(const struct carrier *carrier);

/* What waits to be written; NULL and 0 when nothing does. */
const uint8_t *carrier_tx(const struct carrier *carrier, size_t *size);
void carrier_sent(struct carrier *carrier, size_t size);
/* What was sealed is about to be written: how long it takes to the other side is measured from here. */
void carrier_flushing(struct carrier *carrier, uint64_t now_ms);

/* Sends the echo and starts the rekey when their time has come (client). -ETIMEDOUT: handshake too slow, peer silent,
 * or key too old: the carrier is CLOSED. */
KT_MUST_USE int carrier_tick(struct carrier *carrier, uint64_t now_ms);
/* Client: asks for an echo now (after a suspicion), instead of at its time. */
void carrier_probe(struct carrier *carrier, uint64_t now_ms);
/* ms since the last byte arrived: a growing one is the first sign of a dead carrier. */
uint64_t carrier_silent_ms(const struct carrier *carrier, uint64_t now_ms);

#endif
