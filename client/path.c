/* Suspicion: every byte out that matters has an answer within a round trip (the carrier's echo if nothing else), so
 * "bytes went out, and since then none came in" is the first sign of a dead path, seconds before the carrier gives up.
 * An idle path is not suspected, since its echo is every WIRE_ECHO_MS; one that only sends is asked for an echo first.
 */
#include "client/path.h"

#include <errno.h>
#include <string.h>
#include <uv.h>

#include "common/cursor.h"
#include "common/mem.h"

#define DNS_ID_SIZE 4
#define FEATURES (WIRE_FEATURE_IPV4 | WIRE_FEATURE_IPV6 | WIRE_FEATURE_AEGIS256)

const char *path_end_text(enum wire_reason reason)
{
    switch (reason) {
    case WIRE_REASON_BYE:
        return "the agent closed the session";
    case WIRE_REASON_CARRIER:
        return "the agent closed the connection";
    case WIRE_REASON_LEAVING:
        return "the agent is leaving";
    case WIRE_REASON_ADDRESS:
        return "another client holds this session's address";
    case WIRE_REASON_FULL:
        return "the agent has no room for another session";
    case WIRE_REASON_KEY:
        return "this client's key is not on the agent's list of allowed keys";
    case WIRE_REASON_VERSION:
        return "the agent speaks another version of ktvpn's protocol: use the same version of both";
    case WIRE_REASON_INVALID:
        return "the agent found what this client sent invalid";
    case WIRE_REASON_TAKEN:
        return "another ktvpn with the same key has come, and the newest has the session: give each a --key of its own";
    }
    return "the agent closed the session for a reason that is not known here";
}

/* A full agent may have our own dead carriers in mind. */
bool path_end_is_final(enum wire_reason reason, bool was_up)
{
    switch (reason) {
    case WIRE_REASON_CARRIER:
    case WIRE_REASON_LEAVING:
        return false;
    case WIRE_REASON_FULL:
        return !was_up;
    case WIRE_REASON_BYE:
    case WIRE_REASON_ADDRESS:
    case WIRE_REASON_KEY:
    case WIRE_REASON_VERSION:
    case WIRE_REASON_INVALID:
    case WIRE_REASON_TAKEN:
        return true;
    }
    return true;
}

/* An agent hangs up on an INIT that it can't decrypt. */
bool path_is_stranger(const struct path *path, int error)
{
    if (path->state != PATH_HANDSHAKE)
        return false;
    return (path->carrier.state == CARRIER_HANDSHAKE && error != -ETIMEDOUT) || error == -EPROTO || error == -EBADMSG ||
           error == -EKEYREJECTED;
}

/* An agent that speaks no IPv6 may be in a pod that has it: what it tells counts only if both sides can. */
static bool has_v6(const struct path *path)
{
    return (path->carrier.features & WIRE_FEATURE_IPV6) != 0;
}

static int send_open(struct path *path)
{
    uint8_t body[sizeof path->open];
    if (!has_v6(path))
        path->open.v6 = (struct address){.family = ADDRESS_NONE};
    int size = wire_put_open(body, sizeof body, &path->open);
    if (size < 0)
        return size;
    struct carrier_part part = {body, (size_t)size};
    path->state = PATH_OPENING;
    return carrier_seal(&path->carrier, WIRE_OPEN, &part, 1);
}

static void on_pump_open(void *context)
{
    struct path *path = context;
    int rc = send_open(path);
    if (rc != 0)
        path->ops->on_failed(path->context, path, rc, "");
}

static int on_accept(struct path *path, const struct carrier_record *record)
{
    struct wire_accept accept;
    int rc = wire_get_accept(&accept, record->body, record->size);
    if (rc != 0)
        return -EPROTO;
    if (!has_v6(path))
        accept.abilities &= ~(uint32_t)(WIRE_CAN_IPV6 | WIRE_CAN_PING_V6);
    path->state = PATH_ACCEPTED;
    path->ops->on_accept(path->context, path, &accept);
    return 0;
}

static int on_end(struct path *path, const struct carrier_record *record)
{
    struct wire_refuse end;
    if (wire_get_refuse(&end, record->body, record->size) != 0)
        return -EPROTO;
    path->ops->on_end(path->context, path, &end);
    return 0;
}

static int on_dns_answer(struct path *path, const struct carrier_record *record)
{
    struct cursor cursor = cursor_reader(record->body, record->size);
    uint32_t id = cursor_u32(&cursor);
    if (!cursor_ok(&cursor))
        return -EPROTO;
    path->ops->on_dns_answer(path->context, id, record->body + DNS_ID_SIZE, record->size - DNS_ID_SIZE);
    return 0;
}

/* After a callback that may have closed it, the path is not touched again; the pump looks at its own state. */
static int on_record(void *context, const struct carrier_record *record)
{
    struct path *path = context;
    bool is_open = path->state == PATH_ACCEPTED || path->state == PATH_DRAINING;
    if (record->type == WIRE_PACKET && is_open) {
        path->ops->on_packet(path->context, record->body, record->size);
        return 0;
    }
    if (record->type == WIRE_ACCEPT && path->state == PATH_OPENING)
        return on_accept(path, record);
    if (record->type == WIRE_REFUSE || record->type == WIRE_CLOSE)
        return on_end(path, record);
    if (record->type == WIRE_DNS_ANSWER && is_open)
        return on_dns_answer(path, record);
    return -EPROTO;
}

static void on_batch(void *context)
{
    struct path *path = context;
    path->ops->on_batch(path->context);
}

static void on_room(void *context)
{
    struct path *path = context;
    path->ops->on_room(path->context, path);
}

static void on_dead(void *context, int error, const char *text)
{
    struct path *path = context;
    path->ops->on_failed(path->context, path, error, text);
}

static const struct pump_ops pump_ops = {
    .on_record = on_record, .on_batch = on_batch, .on_open = on_pump_open, .on_room = on_room, .on_dead = on_dead};

static int start_handshake(struct path *path)
{
    int rc = carrier_init(&path->carrier, path->keys, path->agent, FEATURES, uv_now(path->loop));
    if (rc != 0)
        return rc;
    path->state = PATH_HANDSHAKE;
    path->carrier.slot = path->open.slot;
    return pump_open(&path->pump, path->loop, path->stream, &path->carrier, &pump_ops, path);
}

static void on_stream_open(struct stream *stream)
{
    struct path *path = stream->context;
    int rc = start_handshake(path);
    if (rc != 0)
        path->ops->on_failed(path->context, path, rc, strerror(-rc));
}

static void on_stream_failed(struct stream *stream, int error, const char *text)
{
    on_dead(stream->context, error, text);
}

int path_open(struct path **out, struct stream *stream, const struct path_options *options, uint64_t now_ms)
{
    struct path *path = kt_calloc(1, sizeof *path);
    stream->on_closed = NULL;
    if (path == NULL) {
        stream_close(stream);
        return -ENOMEM;
    }
    *path = (struct path){.started_ms = now_ms,
                          .looked_ms = now_ms,
                          .stream = stream,
                          .keys = options->keys,
                          .open = *options->open,
                          .ops = options->ops,
                          .context = options->context,
                          .loop = options->loop,
                          .times = *options->times};
    memcpy(path->agent, options->agent, WIRE_KEY_SIZE);
    stream->context = path;
    stream->on_open = on_stream_open;
    stream->on_failed = on_stream_failed;
    *out = path;
    return 0;
}

void path_close(struct path *path)
{
    if (path->pump != NULL)
        pump_close(path->pump); /* the stream too */
    else
        stream_close(path->stream);
    if (path->state != PATH_DIALLING)
        carrier_deinit(&path->carrier);
    kt_free(path);
}

void path_flush(struct path *path)
{
    if (path->pump != NULL)
        pump_flush(path->pump);
}

void path_set_lost(struct path *path, bool is_lost)
{
    path->open.is_lost = is_lost;
}

void path_drain(struct path *path, uint64_t deadline_ms)
{
    path_say_close(path, WIRE_REASON_CARRIER);
    path->state = PATH_DRAINING;
    path->deadline_ms = deadline_ms;
}

void path_say_close(struct path *path, enum wire_reason reason)
{
    struct wire_close close = {.reason = (uint8_t)reason};
    uint8_t body[sizeof close];
    int size = wire_put_refuse(body, sizeof body, &close);
    if (path->state != PATH_ACCEPTED || size < 0)
        return;
    struct carrier_part part = {body, (size_t)size};
    if (carrier_seal(&path->carrier, WIRE_CLOSE, &part, 1) == 0)
        path_flush(path);
}

bool path_is_flushed(const struct path *path)
{
    size_t size;
    return path->state != PATH_ACCEPTED || carrier_tx(&path->carrier, &size) == NULL;
}

enum path_health path_look(struct path *path, uint64_t now_ms)
{
    struct carrier *carrier = &path->carrier;
    uint64_t gap_ms = now_ms - path->looked_ms;
    path->looked_ms = now_ms;
    if (carrier->bytes_in != path->seen_in) {
        path->seen_in = carrier->bytes_in;
        path->seen_out = carrier->bytes_out;
        path->is_unanswered = false;
        return PATH_FINE;
    }
    if (!path->is_unanswered) {
        path->is_unanswered = carrier->bytes_out != path->seen_out;
        path->is_probed = false;
        path->unanswered_ms = now_ms;
        return PATH_FINE;
    }
    if (gap_ms > path->times.tick_max_ms)
        path->unanswered_ms += gap_ms;
    uint64_t silent_ms = now_ms - path->unanswered_ms, rtts_ms = PATH_ANSWER_RTTS * carrier->rtt_us / 1000;
    if (silent_ms >= path->times.probe_ms + rtts_ms && !path->is_probed) {
        path->is_probed = true;
        carrier_probe(carrier, now_ms);
        path_flush(path);
    }
    return silent_ms >= path->times.answer_ms + rtts_ms ? PATH_SUSPECT : PATH_FINE;
}
