/* Buffers. Both are linear and move to the front only when their tail gets short, which for bulk traffic is once in
 * many records. A record is sealed in place in tx and opened in place in rx: a packet is copied once on each side.
 *
 * Rekey. A stream is in order, so "from the next record on" needs no window of old keys:
 *
 *   client                                   agent
 *   REKEY_INIT  (old key)        ->
 *                                <-          REKEY_RESP (old key); sends with the new key from here on
 *   REKEY_DONE  (old key)        ->          receives with the new key from here on
 *   sends with the new key from here on */
#include "common/carrier.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/buffer.h"
#include "common/cursor.h"
#include "common/flight.h"
#include "common/mem.h"

#define PROLOGUE_SIZE (WIRE_HELLO_SIZE + WIRE_INIT_HEAD_SIZE)
#define INIT_SIZE (WIRE_INIT_HEAD_SIZE + WIRE_NOISE_INIT_SIZE)
#define ECHO_SIZE 8
#define ACK_SIZE 8
#define SMALL_BODY 4096 /* a packet up to that passes a carrier that is full of larger ones */
#define PROBE_MS 250    /* at most one probe in this time */
#define REKEY_ROOM 256  /* of WIRE_TX_RESERVE: REKEY_INIT, the largest, has 134 bytes */

_Static_assert(WIRE_NOISE_INIT_SIZE == NOISE_INIT_SIZE && WIRE_NOISE_RESP_SIZE == NOISE_RESP_SIZE &&
                   WIRE_TAG_MAX == NOISE_TAG_MAX,
               "sizes of Noise");
_Static_assert(WIRE_MTU <= WIRE_BODY_MAX, "a packet fits a record");
_Static_assert(WIRE_RX_SIZE >= 2 * (WIRE_SIZE_SIZE + WIRE_RECORD_MAX), "rx holds a record while the next one arrives");

struct carrier_private {
    struct noise_keypair keys;
    uint8_t prologue[PROLOGUE_SIZE];
    struct noise_handshake handshake; /* the first one or a rekey; empty when none is under way */
    uint8_t hash[NOISE_HASH_SIZE];    /* of the last one: the prologue of the next */
    struct noise_cipher tx_cipher, rx_cipher, next_rx_cipher;
    bool is_rekeying, has_next_rx, has_received, echo_is_out;
    uint32_t own_features;
    uint64_t asked_ms; /* HELLO (agent) or INIT (client) was sealed */
    uint64_t started_ms, received_ms, key_ms, echo_ms, echo_token;
    struct flight flight;
    uint64_t opened, told; /* bytes of records; told to the other side */
    struct buffer rx, tx;
    uint8_t rx_data[WIRE_RX_SIZE], tx_data[WIRE_TX_SIZE];
};

static int fail(struct carrier *carrier, int error)
{
    carrier->state = CARRIER_CLOSED;
    return error;
}

static void put_init_head(uint8_t out[WIRE_INIT_HEAD_SIZE], uint32_t features)
{
    struct cursor cursor = cursor_writer(out, WIRE_INIT_HEAD_SIZE);
    cursor_put_u16(&cursor, WIRE_VERSION);
    cursor_put_u32(&cursor, features);
}

int carrier_init(struct carrier *carrier, const struct noise_keypair *keys, const uint8_t *agent, uint32_t features,
                 uint64_t now_ms)
{
    *carrier = (struct carrier){.state = CARRIER_HELLO, .is_client = agent != NULL};
    struct carrier_private *p = kt_calloc(1, sizeof *p);
    if (p == NULL)
        return -ENOMEM;
    carrier->private = p;
    p->keys = *keys;
    p->own_features = noise_has_aegis() ? features : features & ~WIRE_FEATURE_AEGIS256;
    p->started_ms = p->received_ms = p->asked_ms = now_ms;
    p->rx = (struct buffer){.data = p->rx_data, .capacity = sizeof p->rx_data};
    p->tx = (struct buffer){.data = p->tx_data, .capacity = sizeof p->tx_data};
    if (agent != NULL) {
        memcpy(carrier->peer, agent, WIRE_KEY_SIZE);
        return 0;
    }
    struct wire_hello hello = {.version = WIRE_VERSION, .features = p->own_features};
    randombytes_buf(hello.random, sizeof hello.random);
    wire_put_hello(p->prologue, &hello);
    buffer_put(&p->tx, p->prologue, WIRE_HELLO_SIZE);
    return 0;
}

void carrier_deinit(struct carrier *carrier)
{
    kt_free_secret(carrier->private, sizeof *carrier->private);
    carrier->private = NULL;
    carrier->state = CARRIER_CLOSED;
}

uint8_t *carrier_rx(struct carrier *carrier, size_t *room)
{
    struct buffer *rx = &carrier->private->rx;
    uint8_t *out = buffer_tail(rx, WIRE_SIZE_SIZE + WIRE_RECORD_MAX);
    if (out == NULL)
        out = rx->data + rx->end;
    *room = rx->capacity - rx->end;
    return out;
}

void carrier_received(struct carrier *carrier, size_t size)
{
    carrier->private->rx.end += size;
    carrier->private->has_received |= size > 0;
    carrier->bytes_in += size;
}

/* Ends the handshake. Only its hash stays: who gets this memory later must not get old keys by it. */
static void split(struct carrier *carrier, struct noise_cipher *first, struct noise_cipher *second)
{
    struct carrier_private *p = carrier->private;
    bool has_aegis = (carrier->features & WIRE_FEATURE_AEGIS256) != 0;
    noise_split(&p->handshake, has_aegis ? NOISE_AEGIS256 : NOISE_CHACHAPOLY, first, second);
    memcpy(p->hash, p->handshake.h, sizeof p->hash);
    noise_handshake_deinit(&p->handshake);
}

static void became_open(struct carrier *carrier, uint64_t now_ms)
{
    struct carrier_private *p = carrier->private;
    if (carrier->is_client)
        split(carrier, &p->tx_cipher, &p->rx_cipher);
    else
        split(carrier, &p->rx_cipher, &p->tx_cipher);
    p->key_ms = p->echo_ms = now_ms;
    flight_init(&p->flight, now_ms - p->asked_ms, now_ms);
    carrier->state = CARRIER_OPEN;
}

static int client_on_hello(struct carrier *carrier, uint64_t now_ms)
{
    struct carrier_private *p = carrier->private;
    const uint8_t *in = buffer_take(&p->rx, WIRE_HELLO_SIZE);
    if (in == NULL)
        return 0;
    struct wire_hello hello;
    int rc = wire_get_hello(&hello, in);
    if (rc != 0)
        return rc;
    carrier->features = hello.features & p->own_features;
    memcpy(p->prologue, in, WIRE_HELLO_SIZE);

    uint8_t init[INIT_SIZE];
    put_init_head(init, carrier->features);
    memcpy(p->prologue + WIRE_HELLO_SIZE, init, WIRE_INIT_HEAD_SIZE);
    noise_initiator_init(&p->handshake, &p->keys, carrier->peer, p->prologue, sizeof p->prologue);
    rc = noise_write_init(&p->handshake, init + WIRE_INIT_HEAD_SIZE, NULL, 0);
    if (rc != 0)
        return rc;
    buffer_put(&p->tx, init, sizeof init);
    p->asked_ms = now_ms;
    carrier->state = CARRIER_HANDSHAKE;
    return 1;
}

static int client_on_resp(struct carrier *carrier, uint64_t now_ms)
{
    struct carrier_private *p = carrier->private;
    const uint8_t *in = buffer_take(&p->rx, WIRE_NOISE_RESP_SIZE);
    if (in == NULL)
        return 0;
    uint8_t nothing[1];
    int rc = noise_read_resp(&p->handshake, in, WIRE_NOISE_RESP_SIZE, nothing);
    if (rc != 0)
        return rc;
    became_open(carrier, now_ms);
    return 1;
}

static int agent_on_init(struct carrier *carrier, uint64_t now_ms)
{
    struct carrier_private *p = carrier->private;
    const uint8_t *in = buffer_take(&p->rx, INIT_SIZE);
    if (in == NULL)
        return 0;
    struct cursor cursor = cursor_reader(in, INIT_SIZE);
    if (cursor_u16(&cursor) != WIRE_VERSION)
        return -EPROTONOSUPPORT;
    carrier->features = cursor_u32(&cursor) & p->own_features;
    memcpy(p->prologue + WIRE_HELLO_SIZE, in, WIRE_INIT_HEAD_SIZE);
    noise_responder_init(&p->handshake, &p->keys, p->prologue, sizeof p->prologue);

    uint8_t nothing[1], resp[WIRE_NOISE_RESP_SIZE];
    int rc = noise_read_init(&p->handshake, in + WIRE_INIT_HEAD_SIZE, WIRE_NOISE_INIT_SIZE, nothing);
    if (rc == 0)
        rc = noise_write_resp(&p->handshake, resp, NULL, 0);
    if (rc != 0)
        return rc == -EBADMSG ? -EKEYREJECTED : rc;
    buffer_put(&p->tx, resp, sizeof resp);
    memcpy(carrier->peer, p->handshake.rs, WIRE_KEY_SIZE);
    became_open(carrier, now_ms);
    return 1;
}

/* What must stay free in tx: a rekey always finds room, and echoes almost always. */
static size_t reserve_of(enum wire_type type)
{
    bool is_rekey = type == WIRE_REKEY_INIT || type == WIRE_REKEY_RESP || type == WIRE_REKEY_DONE;
    bool is_echo = type == WIRE_ECHO_REQUEST || type == WIRE_ECHO_REPLY || type == WIRE_ACK;
    return is_rekey ? 0 : is_echo ? REKEY_ROOM : WIRE_TX_RESERVE;
}

/* Appends one record; 0 or -ENOBUFS when tx cannot hold it. */
static int append(struct carrier *carrier, enum wire_type type, const struct carrier_part *parts, int count,
                  size_t body)
{
    struct carrier_private *p = carrier->private;
    size_t plain = WIRE_HEAD_SIZE + body, sealed = plain + noise_tag_size(&p->tx_cipher);
    uint8_t *out = buffer_tail(&p->tx, WIRE_SIZE_SIZE + sealed + reserve_of(type));
    if (out == NULL)
        return -ENOBUFS;
    struct cursor cursor = cursor_writer(out, WIRE_SIZE_SIZE + sealed);
    cursor_put_u16(&cursor, (uint16_t)sealed);
    cursor_put_u32(&cursor, (uint32_t)type << 24);
    for (int i = 0; i < count; i++)
        cursor_put_bytes(&cursor, parts[i].data, parts[i].size);
    noise_seal(&p->tx_cipher, out + WIRE_SIZE_SIZE, out + WIRE_SIZE_SIZE, plain);
    p->tx.end += WIRE_SIZE_SIZE + sealed;
    flight_sealed(&p->flight, WIRE_SIZE_SIZE + sealed);
    carrier->records_out++;
    return 0;
}

static int append_one(struct carrier *carrier, enum wire_type type, const void *body, size_t size)
{
    struct carrier_part part = {body, size};
    return append(carrier, type, &part, 1, size);
}

static bool has_room(const struct carrier *carrier, bool is_small)
{
    const struct carrier_private *p = carrier->private;
    size_t most = WIRE_TX_LOW + (is_small ? WIRE_RECORD_MAX + WIRE_TX_SMALL - SMALL_BODY : 0);
    return carrier->state == CARRIER_OPEN && buffer_size(&p->tx) < most && flight_has_room(&p->flight, is_small);
}

int carrier_seal(struct carrier *carrier, enum wire_type type, const struct carrier_part *parts, int count)
{
    if (carrier->state != CARRIER_OPEN)
        return -ENOTCONN;
    size_t body = 0;
    for (int i = 0; i < count; i++)
        body += parts[i].size;
    if (body > WIRE_BODY_MAX)
        return -EMSGSIZE;
    if (type == WIRE_PACKET && !has_room(carrier, body <= SMALL_BODY)) {
        flight_refused(&carrier->private->flight);
        return -ENOBUFS;
    }
    return append(carrier, type, parts, count, body);
}

bool carrier_has_room(const struct carrier *carrier)
{
    return has_room(carrier, false);
}

const uint8_t *carrier_tx(const struct carrier *carrier, size_t *size)
{
    const struct buffer *tx = &carrier->private->tx;
    *size = buffer_size(tx);
    return *size == 0 ? NULL : tx->data + tx->start;
}

void carrier_flushing(struct carrier *carrier, uint64_t now_ms)
{
    flight_written(&carrier->private->flight, now_ms);
}

void carrier_sent(struct carrier *carrier, size_t size)
{
    carrier->private->tx.start += size;
    carrier->bytes_out += size;
}

static int on_echo_reply(struct carrier *carrier, const struct carrier_record *record, uint64_t now_ms)
{
    struct carrier_private *p = carrier->private;
    struct cursor cursor = cursor_reader(record->body, record->size);
    uint64_t token = cursor_u64(&cursor);
    if (!cursor_done(&cursor))
        return -EPROTO;
    if (!p->echo_is_out || token != p->echo_token)
        return 0;
    p->echo_is_out = false;
    uint64_t sample_us = KT_MAX((now_ms - p->echo_ms) * 1000, 1);
    carrier->rtt_us = carrier->rtt_us == 0 ? sample_us : (7 * carrier->rtt_us + sample_us) / 8;
    return 0;
}

static int on_ack(struct carrier *carrier, const struct carrier_record *record, uint64_t now_ms)
{
    struct cursor cursor = cursor_reader(record->body, record->size);
    uint64_t total = cursor_u64(&cursor);
    return cursor_done(&cursor) ? flight_acked(&carrier->private->flight, total, now_ms) : -EPROTO;
}

/* Tells the other side what was opened. */
static void send_ack(struct carrier *carrier)
{
    struct carrier_private *p = carrier->private;
    uint8_t body[ACK_SIZE];
    struct cursor cursor = cursor_writer(body, sizeof body);
    cursor_put_u64(&cursor, p->opened);
    if (append_one(carrier, WIRE_ACK, body, sizeof body) == 0)
        p->told = p->opened;
}

static int start_rekey(struct carrier *carrier)
{
    struct carrier_private *p = carrier->private;
    uint8_t init[WIRE_NOISE_INIT_SIZE];
    noise_initiator_init(&p->handshake, &p->keys, carrier->peer, p->hash, sizeof p->hash);
    int rc = noise_write_init(&p->handshake, init, NULL, 0);
    if (rc == 0)
        rc = append_one(carrier, WIRE_REKEY_INIT, init, sizeof init);
    p->is_rekeying = rc == 0;
    return rc;
}

static int agent_on_rekey(struct carrier *carrier, const struct carrier_record *record)
{
    struct carrier_private *p = carrier->private;
    if (carrier->is_client || p->has_next_rx || record->size != WIRE_NOISE_INIT_SIZE)
        return -EPROTO;
    uint8_t nothing[1], resp[WIRE_NOISE_RESP_SIZE];
    noise_responder_init(&p->handshake, &p->keys, p->hash, sizeof p->hash);
    int rc = noise_read_init(&p->handshake, record->body, record->size, nothing);
    if (rc == 0 && sodium_memcmp(p->handshake.rs, carrier->peer, WIRE_KEY_SIZE) != 0)
        rc = -EPROTO;
    if (rc == 0)
        rc = noise_write_resp(&p->handshake, resp, NULL, 0);
    if (rc == 0)
        rc = append_one(carrier, WIRE_REKEY_RESP, resp, sizeof resp);
    if (rc != 0)
        return rc;
    split(carrier, &p->next_rx_cipher, &p->tx_cipher);
    p->has_next_rx = true;
    return 0;
}

static int client_on_rekey(struct carrier *carrier, const struct carrier_record *record, uint64_t now_ms)
{
    struct carrier_private *p = carrier->private;
    uint8_t nothing[1];
    if (!p->is_rekeying || record->size != WIRE_NOISE_RESP_SIZE ||
        noise_read_resp(&p->handshake, record->body, record->size, nothing) != 0)
        return -EPROTO;
    int rc = append_one(carrier, WIRE_REKEY_DONE, NULL, 0);
    if (rc != 0)
        return rc;
    split(carrier, &p->tx_cipher, &p->rx_cipher);
    p->is_rekeying = false;
    p->key_ms = now_ms;
    return 0;
}

static int agent_on_rekeyed(struct carrier *carrier, const struct carrier_record *record, uint64_t now_ms)
{
    struct carrier_private *p = carrier->private;
    if (!p->has_next_rx || record->size != 0)
        return -EPROTO;
    p->rx_cipher = p->next_rx_cipher;
    noise_cipher_deinit(&p->next_rx_cipher);
    p->has_next_rx = false;
    p->key_ms = now_ms;
    return 0;
}

/* 1: the record is for the owner; 0: it was ours. */
static int handle(struct carrier *carrier, const struct carrier_record *record, uint64_t now_ms)
{
    switch (record->type) {
    case WIRE_ECHO_REQUEST:
        if (record->size != ECHO_SIZE)
            return -EPROTO;
        (void)append_one(carrier, WIRE_ECHO_REPLY, record->body, record->size); /* no room only in a flood of them */
        return 0;
    case WIRE_ECHO_REPLY:
        return on_echo_reply(carrier, record, now_ms);
    case WIRE_ACK:
        return on_ack(carrier, record, now_ms);
    case WIRE_REKEY_INIT:
        return agent_on_rekey(carrier, record);
    case WIRE_REKEY_RESP:
        return client_on_rekey(carrier, record, now_ms);
    case WIRE_REKEY_DONE:
        return agent_on_rekeyed(carrier, record, now_ms);
    case WIRE_PACKET:
    case WIRE_OPEN:
    case WIRE_ACCEPT:
    case WIRE_REFUSE:
    case WIRE_CLOSE:
    case WIRE_DNS_QUERY:
    case WIRE_DNS_ANSWER:
    case WIRE_USE:
        return 1;
    }
    return -EPROTO;
}

/* 1: a record was opened; 0: it is not complete yet. */
static int open_record(struct carrier *carrier, struct carrier_record *record)
{
    struct carrier_private *p = carrier->private;
    struct cursor cursor = cursor_reader(p->rx.data + p->rx.start, buffer_size(&p->rx));
    size_t sealed = cursor_u16(&cursor);
    if (!cursor_ok(&cursor))
        return 0;
    size_t overhead = WIRE_HEAD_SIZE + noise_tag_size(&p->rx_cipher);
    if (sealed < overhead)
        return -EPROTO;
    uint8_t *in = buffer_take(&p->rx, WIRE_SIZE_SIZE + sealed);
    if (in == NULL)
        return 0;
    uint8_t *plain = in + WIRE_SIZE_SIZE;
    int rc = noise_open(&p->rx_cipher, plain, plain, sealed);
    if (rc != 0)
        return rc;
    cursor = cursor_reader(plain, WIRE_HEAD_SIZE);
    uint32_t head = cursor_u32(&cursor);
    if ((head & 0xffffff) != 0)
        return -EPROTO;
    *record = (struct carrier_record){
        .type = (enum wire_type)(head >> 24), .body = plain + WIRE_HEAD_SIZE, .size = sealed - overhead};
    carrier->records_in++;
    p->opened += WIRE_SIZE_SIZE + sealed;
    return 1;
}

/* One step: 1 a record for the owner is in `record`, 2 something moved, 0 more bytes are needed. */
static int step(struct carrier *carrier, uint64_t now_ms, struct carrier_record *record)
{
    int rc = 0;
    switch (carrier->state) {
    case CARRIER_HELLO:
        rc = carrier->is_client ? client_on_hello(carrier, now_ms) : agent_on_init(carrier, now_ms);
        return rc == 1 ? 2 : rc;
    case CARRIER_HANDSHAKE:
        rc = client_on_resp(carrier, now_ms);
        return rc == 1 ? 2 : rc;
    case CARRIER_OPEN:
        rc = open_record(carrier, record);
        if (rc != 1)
            return rc;
        rc = handle(carrier, record, now_ms);
        return rc == 0 ? 2 : rc;
    case CARRIER_CLOSED:
        return -EPROTO;
    }
    return -EPROTO;
}

int carrier_next(struct carrier *carrier, uint64_t now_ms, struct carrier_record *record)
{
    struct carrier_private *p = carrier->private;
    if (p->has_received) {
        p->received_ms = now_ms;
        p->has_received = false;
    }
    int rc = 2;
    while (rc == 2)
        rc = step(carrier, now_ms, record);
    if (rc == 0 && carrier->state == CARRIER_OPEN && p->opened - p->told >= FLIGHT_ACK_BYTES)
        send_ack(carrier);
    return rc < 0 ? fail(carrier, rc) : rc;
}

static void send_echo(struct carrier *carrier, uint64_t now_ms)
{
    struct carrier_private *p = carrier->private;
    uint8_t body[ECHO_SIZE];
    struct cursor cursor = cursor_writer(body, sizeof body);
    cursor_put_u64(&cursor, ++p->echo_token);
    p->echo_ms = now_ms;
    p->echo_is_out = append_one(carrier, WIRE_ECHO_REQUEST, body, sizeof body) == 0;
}

/* The stream is in order: while one echo is out a second one tells nothing and hides the first one's answer. But the
 * agent has to hear from us. */
static bool is_time_for_echo(const struct carrier *carrier, uint64_t pause_ms, uint64_t now_ms)
{
    const struct carrier_private *p = carrier->private;
    return now_ms - p->echo_ms >= (p->echo_is_out ? 2 * WIRE_ECHO_MS : pause_ms);
}

void carrier_probe(struct carrier *carrier, uint64_t now_ms)
{
    if (carrier->state == CARRIER_OPEN && is_time_for_echo(carrier, PROBE_MS, now_ms))
        send_echo(carrier, now_ms);
}

uint64_t carrier_silent_ms(const struct carrier *carrier, uint64_t now_ms)
{
    return now_ms - carrier->private->received_ms;
}

static bool is_dead(const struct carrier *carrier, uint64_t now_ms)
{
    const struct carrier_private *p = carrier->private;
    uint64_t dead_ms = KT_MAX(WIRE_DEAD_MS, WIRE_DEAD_RTTS * carrier->rtt_us / 1000);
    return carrier_silent_ms(carrier, now_ms) > dead_ms || now_ms - p->key_ms > WIRE_REJECT_MS;
}

int carrier_tick(struct carrier *carrier, uint64_t now_ms)
{
    struct carrier_private *p = carrier->private;
    if (carrier->state == CARRIER_CLOSED)
        return -ETIMEDOUT;
    if (carrier->state != CARRIER_OPEN)
        return now_ms - p->started_ms > WIRE_HANDSHAKE_MS ? fail(carrier, -ETIMEDOUT) : 0;
    if (is_dead(carrier, now_ms))
        return fail(carrier, -ETIMEDOUT);
    if (!carrier->is_client)
        return 0;
    if (is_time_for_echo(carrier, WIRE_ECHO_MS, now_ms))
        send_echo(carrier, now_ms);
    bool is_old =
        now_ms - p->key_ms >= WIRE_REKEY_MS || KT_MAX(p->tx_cipher.counter, p->rx_cipher.counter) >= WIRE_REKEY_RECORDS;
    if (is_old && !p->is_rekeying)
        (void)start_rekey(carrier);
    return 0;
}
