/* One turn of the loop:
 *
 *   READABLE ─► stream_read ─► carrier_received ─► carrier_next ─► on_record ... ─► on_batch ─► write
 *   WRITABLE ─► write ─► on_room
 *
 * A stream may hold bytes that no poll shows (TLS), so reading goes on until -EAGAIN, and a turn that was cut short, a
 * pause that ends and the start itself ask for a turn of their own. That, and everything else that must not happen
 * inside the owner's call (an error that a write met, room that a write made), is done by the timer, which is then due
 * at once: a handle less than a timer and an idle handle would be.
 *
 * The owner may call pump_close() in any callback, and may deinit the carrier right after: each callback is followed by
 * a look at `state` before anything of the owner's is touched again. */
#include "netstack/pump.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <uv.h>

#include "common/mem.h"

enum pump_state { PUMP_RUNNING, PUMP_DEAD, PUMP_CLOSING };

struct pump {
    enum pump_state state;
    uv_timer_t timer;
    struct stream *stream;
    struct carrier *carrier;
    const struct pump_ops *ops;
    void *context;
    bool is_open; /* on_open was told */
    bool is_paused;
    bool is_blocked; /* the stream took nothing more: wait for WRITABLE */
    bool is_full;    /* the carrier had no room: the owner waits for on_room */
    bool has_more;   /* the stream may hold bytes that nobody will tell of */
    int error;       /* met where no callback may run; told by the timer */
    int open_handles;
};

static void on_timer(uv_timer_t *timer);

static bool is_running(const struct pump *pump)
{
    return pump->state == PUMP_RUNNING;
}

static uint64_t now(const struct pump *pump)
{
    return uv_now(pump->timer.loop);
}

static void soon(struct pump *pump)
{
    (void)uv_timer_start(&pump->timer, on_timer, 0, PUMP_TICK_MS);
}

static void want(struct pump *pump)
{
    stream_want(pump->stream, (pump->is_paused ? 0 : STREAM_READABLE) | (pump->is_blocked ? STREAM_WRITABLE : 0));
}

static const char *text_of(int error)
{
    switch (error) {
    case -EPROTO:
        return "the other end broke the protocol";
    case -EPROTONOSUPPORT:
        return "the other end speaks another version of the protocol";
    case -EBADMSG:
        return "a record does not decrypt";
    case -EKEYREJECTED:
        return "the client was given another agent's key";
    case -ECONNRESET:
    case -EPIPE:
        return "the other end closed the connection";
    case -ETIMEDOUT:
        return "the other end does not answer";
    default:
        return strerror(-error);
    }
}

static void die(struct pump *pump, int error, const char *text)
{
    if (!is_running(pump))
        return;
    pump->state = PUMP_DEAD;
    stream_want(pump->stream, 0);
    (void)uv_timer_stop(&pump->timer);
    pump->ops->on_dead(pump->context, error, text != NULL ? text : text_of(error));
}

/* Writes until all is out or the stream is full. Never calls back. */
static void write_out(struct pump *pump)
{
    if (pump->carrier->state == CARRIER_OPEN && !carrier_has_room(pump->carrier))
        pump->is_full = true;
    size_t size;
    const uint8_t *data;
    carrier_flushing(pump->carrier, now(pump));
    while (!pump->is_blocked && pump->error == 0 && (data = carrier_tx(pump->carrier, &size)) != NULL) {
        ssize_t n = stream_write(pump->stream, data, size);
        if (n > 0)
            carrier_sent(pump->carrier, (size_t)n);
        else if (n == -EAGAIN)
            pump->is_blocked = true;
        else
            pump->error = n == 0 ? -EPIPE : (int)n;
    }
    want(pump);
}

static bool has_news(const struct pump *pump)
{
    return pump->error != 0 || pump->has_more || (pump->is_full && carrier_has_room(pump->carrier));
}

/* The end of every turn: writes, tells what came of it. */
static void finish(struct pump *pump)
{
    if (!is_running(pump))
        return;
    write_out(pump);
    if (pump->error == 0 && pump->is_full && carrier_has_room(pump->carrier)) {
        pump->is_full = false;
        if (pump->ops->on_room != NULL)
            pump->ops->on_room(pump->context);
    }
    if (is_running(pump) && has_news(pump))
        soon(pump);
}

static void became_open(struct pump *pump)
{
    if (pump->is_open || pump->carrier->state != CARRIER_OPEN)
        return;
    pump->is_open = true;
    if (pump->ops->on_open != NULL)
        pump->ops->on_open(pump->context);
}

/* Hands over every whole record; the number of them, or an error of the carrier or the owner. */
static int take_records(struct pump *pump)
{
    struct carrier_record record;
    int taken = 0;
    for (;;) {
        int rc = carrier_next(pump->carrier, now(pump), &record);
        if (rc < 0)
            return rc;
        became_open(pump);
        if (rc == 0 || !is_running(pump))
            return taken;
        taken++;
        rc = pump->ops->on_record(pump->context, &record);
        if (!is_running(pump))
            return taken;
        if (rc != 0)
            return rc;
    }
}

/* Bytes read; -EAGAIN: dry; another error: dead. */
static ssize_t read_once(struct pump *pump)
{
    size_t room;
    uint8_t *in = carrier_rx(pump->carrier, &room);
    ssize_t n = stream_read(pump->stream, in, room);
    if (n == 0)
        return -ECONNRESET;
    if (n > 0)
        carrier_received(pump->carrier, (size_t)n);
    return n;
}

static void read_turn(struct pump *pump)
{
    size_t total = 0;
    int taken = 0;
    ssize_t n = 0;
    pump->has_more = false;
    while (is_running(pump) && !pump->is_paused && total < PUMP_READ_MAX && (n = read_once(pump)) > 0) {
        total += (size_t)n;
        int rc = take_records(pump);
        taken |= rc != 0;
        if (rc < 0) {
            n = rc;
            break;
        }
    }
    if (!is_running(pump))
        return;
    if (taken && pump->ops->on_batch != NULL)
        pump->ops->on_batch(pump->context);
    if (!is_running(pump))
        return;
    if (n < 0 && n != -EAGAIN) {
        write_out(pump); /* the last words, a REFUSE perhaps */
        die(pump, (int)n, NULL);
    } else if (n > 0) {
        pump->has_more = !pump->is_paused;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct pump *pump = KT_CONTAINER_OF(timer, struct pump, timer);
    if (pump->has_more || pump->error != 0) /* an error of writing: the reason may be waiting to be read */
        read_turn(pump);
    if (!is_running(pump))
        return;
    int rc = pump->error != 0 ? pump->error : carrier_tick(pump->carrier, now(pump));
    if (rc != 0)
        die(pump, rc, NULL);
    else
        finish(pump);
}

static void on_ready(struct stream *stream, int events)
{
    struct pump *pump = stream->context;
    if (events & STREAM_WRITABLE)
        pump->is_blocked = false;
    if (events & STREAM_READABLE)
        read_turn(pump);
    finish(pump);
}

static void on_failed(struct stream *stream, int error, const char *text)
{
    die(stream->context, error, text);
}

int pump_open(struct pump **out, struct uv_loop_s *loop, struct stream *stream, struct carrier *carrier,
              const struct pump_ops *ops, void *context)
{
    struct pump *pump = kt_calloc(1, sizeof *pump);
    if (pump == NULL)
        return -ENOMEM;
    int rc = uv_timer_init(loop, &pump->timer);
    if (rc != 0) {
        kt_free(pump);
        return rc;
    }
    pump->stream = stream;
    pump->carrier = carrier;
    pump->ops = ops;
    pump->context = context;
    stream->context = pump;
    stream->on_open = NULL;
    stream->on_ready = on_ready;
    stream->on_failed = on_failed;
    stream->on_closed = NULL;
    pump->has_more = true;
    stream_want(stream, STREAM_READABLE);
    soon(pump);
    *out = pump;
    return 0;
}

void pump_flush(struct pump *pump)
{
    if (!is_running(pump))
        return;
    write_out(pump);
    if (has_news(pump))
        soon(pump);
}

void pump_pause(struct pump *pump, bool is_paused)
{
    if (!is_running(pump) || pump->is_paused == is_paused)
        return;
    pump->is_paused = is_paused;
    want(pump);
    if (is_paused)
        return;
    pump->has_more = true;
    soon(pump);
}

static void closed_one(struct pump *pump)
{
    if (--pump->open_handles == 0)
        kt_free(pump);
}

static void on_timer_closed(uv_handle_t *handle)
{
    closed_one(KT_CONTAINER_OF((uv_timer_t *)handle, struct pump, timer));
}

static void on_stream_closed(struct stream *stream)
{
    closed_one(stream->context);
}

void pump_close(struct pump *pump)
{
    if (pump->state == PUMP_CLOSING)
        return;
    pump->state = PUMP_CLOSING;
    pump->open_handles = 2;
    pump->stream->on_closed = on_stream_closed;
    uv_close((uv_handle_t *)&pump->timer, on_timer_closed);
    stream_close(pump->stream);
}
