#include "agent/peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "common/cursor.h"
#include "common/log.h"
#include "common/mem.h"
#include "netstack/pump.h"
#include "netstack/stream.h"

#define FEATURES (WIRE_FEATURE_IPV4 | WIRE_FEATURE_IPV6 | WIRE_FEATURE_AEGIS256)
#define ACCEPT_MAX 4096 /* more than the longest one has */
#define DNS_HEAD 4      /* the id in front of the message */

/* The visible part is the first member, so that a pointer to one is a pointer to the other. */
struct peer_private {
    struct peer peer;
    uv_timer_t timer;
    struct pump *pump;
    const struct peer_ops *ops;
    void *context;
    bool was_accepted; /* only those are news for the log: strangers and health probes come and go */
};

static uint64_t now(const struct peer *peer)
{
    return uv_now(peer->private->timer.loop);
}

static void gone(struct peer *peer, int error, const char *text)
{
    char line[192];
    (void)snprintf(line, sizeof line, "carrier %u: ended after %llu ms: %s", peer->id,
                   (unsigned long long)(now(peer) - peer->since_ms), text);
    if (peer->private->was_accepted)
        log_info("%s", line);
    else
        log_debug("%s", line);
    (void)uv_timer_stop(&peer->private->timer);
    peer->private->ops->on_gone(peer->private->context, peer, error);
}

static void on_timer(uv_timer_t *timer)
{
    struct peer *peer = &KT_CONTAINER_OF(timer, struct peer_private, timer)->peer;
    gone(peer, -ETIMEDOUT, peer->state == PEER_LEAVING ? "it was told to leave" : "it did not open a session in time");
}

static int on_dns_query(struct peer *peer, const struct carrier_record *record)
{
    struct cursor cursor = cursor_reader(record->body, record->size);
    uint32_t id = cursor_u32(&cursor);
    size_t size = cursor_left(&cursor);
    const uint8_t *message = cursor_bytes(&cursor, size);
    if (!cursor_ok(&cursor))
        return -EPROTO;
    peer->private->ops->on_question(peer->private->context, peer, id, message, size);
    return 0;
}

static void leave(struct peer *peer, enum wire_reason reason, const char *text, uint64_t within_ms);

static int on_close_record(struct peer *peer, const struct carrier_record *record)
{
    struct wire_close close;
    if (wire_get_refuse(&close, record->body, record->size) != 0)
        return -EPROTO;
    if (close.reason == WIRE_REASON_CARRIER) {
        peer->private->ops->on_bye(peer->private->context, peer, WIRE_REASON_CARRIER);
        leave(peer, WIRE_REASON_CARRIER, "", PEER_DRAIN_MS);
        return 0;
    }
    peer->state = PEER_LEAVING; /* its owner may have ended the session when the batch does */
    peer->private->ops->on_bye(peer->private->context, peer, (enum wire_reason)close.reason);
    return -ECONNRESET; /* nothing may follow */
}

static int on_use_record(struct peer *peer, const struct carrier_record *record)
{
    struct wire_use use;
    if (wire_get_use(&use, record->body, record->size) != 0)
        return -EPROTO;
    peer->private->ops->on_use(peer->private->context, peer, &use);
    return 0;
}

static int accepted_record(struct peer *peer, const struct carrier_record *record)
{
    switch (record->type) {
    case WIRE_PACKET:
        peer->private->ops->on_packet(peer->private->context, peer, record->body, record->size);
        return 0;
    case WIRE_DNS_QUERY:
        return on_dns_query(peer, record);
    case WIRE_CLOSE:
        return on_close_record(peer, record);
    case WIRE_USE:
        return on_use_record(peer, record);
    case WIRE_ECHO_REQUEST: /* the carrier's own */
    case WIRE_ECHO_REPLY:
    case WIRE_ACK:
    case WIRE_REKEY_INIT:
    case WIRE_REKEY_RESP:
    case WIRE_REKEY_DONE:
    case WIRE_OPEN:   /* once only */
    case WIRE_ACCEPT: /* the agent's */
    case WIRE_REFUSE:
    case WIRE_DNS_ANSWER:
        break;
    }
    return -EPROTO;
}

static int opening_record(struct peer *peer, const struct carrier_record *record)
{
    struct wire_open open;
    if (record->type != WIRE_OPEN)
        return record->type == WIRE_CLOSE ? -ECONNRESET : -EPROTO;
    if (wire_get_open(&open, record->body, record->size) != 0)
        peer_leave(peer, WIRE_REASON_INVALID, "what the client wishes makes no sense");
    else
        peer->private->ops->on_request(peer->private->context, peer, &open);
    return 0;
}

static int on_record(void *context, const struct carrier_record *record)
{
    struct peer *peer = context;
    switch (peer->state) {
    case PEER_HANDSHAKE:
        return -EPROTO;
    case PEER_OPENING:
        return opening_record(peer, record);
    case PEER_ACCEPTED:
        return accepted_record(peer, record);
    case PEER_LEAVING:
    case PEER_CLOSED:
        return 0;
    }
    return -EPROTO;
}

static void on_batch(void *context)
{
    struct peer *peer = context;
    if (peer->state == PEER_ACCEPTED)
        peer->private->ops->on_batch(peer->private->context, peer);
}

static void on_open(void *context)
{
    struct peer *peer = context;
    peer->state = PEER_OPENING;
    log_debug("carrier %u: handshake done in %llu ms", peer->id, (unsigned long long)(now(peer) - peer->since_ms));
    peer->private->ops->on_key(peer->private->context, peer);
}

static void on_room(void *context)
{
    struct peer *peer = context;
    if (peer->state == PEER_ACCEPTED)
        peer->private->ops->on_room(peer->private->context, peer);
}

static void on_dead(void *context, int error, const char *text)
{
    gone(context, error, text);
}

static const struct pump_ops pump_ops = {
    .on_record = on_record, .on_batch = on_batch, .on_open = on_open, .on_room = on_room, .on_dead = on_dead};

/* The pump on the stream of the fd, which is closed when it fails. */
static int open_pump(struct peer_private *p, uv_loop_t *loop, int fd)
{
    struct stream *stream = NULL;
    int rc = stream_from_fd(&stream, loop, fd);
    if (rc != 0) {
        (void)close(fd);
        return rc;
    }
    rc = pump_open(&p->pump, loop, stream, &p->peer.carrier, &pump_ops, &p->peer);
    if (rc != 0)
        stream_close(stream);
    return rc;
}

static int init(struct peer_private *p, uv_loop_t *loop, int fd, const struct peer_setup *setup)
{
    int rc = carrier_init(&p->peer.carrier, setup->keys, NULL, FEATURES, uv_now(loop));
    if (rc != 0) {
        (void)close(fd);
        return rc;
    }
    rc = open_pump(p, loop, fd);
    if (rc != 0)
        carrier_deinit(&p->peer.carrier);
    return rc;
}

int peer_open(struct peer **out, struct uv_loop_s *loop, int fd, const struct peer_setup *setup)
{
    struct peer_private *p = kt_calloc(1, sizeof *p);
    if (p == NULL) {
        (void)close(fd);
        return -ENOMEM;
    }
    int rc = init(p, loop, fd, setup);
    if (rc != 0) {
        kt_free(p);
        return rc;
    }
    struct peer *peer = &p->peer;
    p->ops = setup->ops;
    p->context = setup->context;
    peer->private = p;
    peer->id = setup->id;
    peer->from = setup->from;
    peer->from_port = setup->from_port;
    peer->since_ms = uv_now(loop);
    (void)uv_timer_init(loop, &p->timer); /* these two cannot fail */
    (void)uv_timer_start(&p->timer, on_timer, WIRE_HANDSHAKE_MS, 0);
    char text[ADDRESS_STRLEN];
    log_debug("carrier %u: created, from %s", peer->id, address_print_port(&peer->from, peer->from_port, text));
    *out = peer;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    kt_free(KT_CONTAINER_OF((uv_timer_t *)handle, struct peer_private, timer));
}

void peer_close(struct peer *peer)
{
    if (peer->state == PEER_CLOSED)
        return;
    peer->state = PEER_CLOSED;
    log_debug("carrier %u: destroyed", peer->id);
    pump_close(peer->private->pump);
    carrier_deinit(&peer->carrier);
    uv_close((uv_handle_t *)&peer->private->timer, on_timer_closed);
}

void peer_accept(struct peer *peer, const struct wire_accept *accept)
{
    uint8_t body[ACCEPT_MAX];
    int size = wire_put_accept(body, sizeof body, accept);
    struct carrier_part part = {body, size < 0 ? 0 : (size_t)size};
    if (size < 0 || carrier_seal(&peer->carrier, WIRE_ACCEPT, &part, 1) != 0) {
        peer_leave(peer, WIRE_REASON_INVALID, "the agent could not say what it offers");
        return;
    }
    peer->state = PEER_ACCEPTED;
    peer->private->was_accepted = true;
    (void)uv_timer_stop(&peer->private->timer);
    peer_flush(peer);
}

static void leave(struct peer *peer, enum wire_reason reason, const char *text, uint64_t within_ms)
{
    if (peer->state == PEER_LEAVING || peer->state == PEER_CLOSED)
        return;
    uint8_t body[2 * WIRE_TEXT_MAX];
    struct wire_refuse refuse = {.reason = (uint8_t)reason};
    (void)snprintf(refuse.text, sizeof refuse.text, "%s", text);
    int size = wire_put_refuse(body, sizeof body, &refuse);
    struct carrier_part part = {body, size < 0 ? 0 : (size_t)size};
    enum wire_type type = peer->state == PEER_ACCEPTED ? WIRE_CLOSE : WIRE_REFUSE;
    peer->state = PEER_LEAVING;
    log_debug("carrier %u: told to leave: %s", peer->id, text);
    if (size > 0 && carrier_seal(&peer->carrier, type, &part, 1) == 0) /* else: it leaves without a word */
        peer_flush(peer);
    (void)uv_timer_start(&peer->private->timer, on_timer, within_ms, 0);
}

void peer_leave(struct peer *peer, enum wire_reason reason, const char *text)
{
    leave(peer, reason, text, PEER_LEAVE_MS);
}

void peer_answer(struct peer *peer, uint32_t id, const uint8_t *message, size_t size)
{
    uint8_t head[DNS_HEAD];
    struct cursor cursor = cursor_writer(head, sizeof head);
    cursor_put_u32(&cursor, id);
    if (size > WIRE_BODY_MAX - sizeof head)
        size = 0;
    struct carrier_part parts[2] = {{head, sizeof head}, {message, size}};
    if (carrier_seal(&peer->carrier, WIRE_DNS_ANSWER, parts, size > 0 ? 2 : 1) == 0)
        peer_flush(peer);
}

void peer_flush(struct peer *peer)
{
    pump_flush(peer->private->pump);
}
