/* Reading copies little: a head is read together with at most PEEK bytes behind it, and the rest of the payload goes
 * straight into the reader's buffer, across as many calls as it takes. For packets of an interactive flow that is one
 * read and one short copy.
 *
 * Writing builds head, channel and payload in one piece, because they must leave in one TLS record or two, and because
 * what libcurl was given must stay where it is until it is sent. A frame that got stuck makes the next ones shorter:
 * the bytes that wait in a frame are bytes that no sparse flow can overtake. */
#include "client/kube/channels.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/cursor.h"

enum { CHANNEL_DATA = 0, CHANNEL_ERROR = 1 };

#define PEEK 512          /* bytes that are read in search of a head */
#define FRAMES_A_TURN 256 /* a server that sends nothing but pings must not keep the loop */
#define PORT_MESSAGE 3    /* channel, port */
#define CLOSE_NORMAL 1000

_Static_assert(PEEK >= WEBSOCKET_HEAD_MAX + WEBSOCKET_CONTROL_MAX, "a control frame is looked at as a whole");
_Static_assert(CHANNELS_FRAME_MIN <= CHANNELS_FRAME_MAX, "out holds the largest frame");

void channels_init(struct channels *c, const struct channels_io *io, uint16_t port)
{
    c->io = *io;
    c->port = port;
    c->frame_max = CHANNELS_FRAME_MAX;
}

static size_t received(const struct channels *c)
{
    return c->in_end - c->in_start;
}

const uint8_t *channels_received(const struct channels *c, size_t *size)
{
    *size = received(c);
    return c->in + c->in_start;
}

void channels_consume(struct channels *c, size_t size)
{
    assert(size <= received(c));
    c->in_start += size;
}

ssize_t channels_receive(struct channels *c)
{
    if (sizeof c->in - c->in_end < PEEK && c->in_start > 0) {
        memmove(c->in, c->in + c->in_start, received(c));
        c->in_end -= c->in_start;
        c->in_start = 0;
    }
    size_t room = KT_MIN(sizeof c->in - c->in_end, PEEK);
    if (room == 0)
        return -EMSGSIZE;
    ssize_t n = c->io.read(c->io.context, c->in + c->in_end, room);
    if (n > 0)
        c->in_end += (size_t)n;
    return n;
}

static int receive(struct channels *c)
{
    if (received(c) == 0)
        c->in_start = c->in_end = 0;
    ssize_t n = channels_receive(c);
    return n == 0 ? -ECONNRESET : (int)KT_MIN(n, 0);
}

/* 1: the frame is done with; 0: more bytes are needed. */
static int take_control(struct channels *c, const struct websocket_frame *frame)
{
    if (received(c) < frame->head_size + frame->size)
        return 0;
    if (frame->opcode == WEBSOCKET_CLOSE)
        return -ECONNRESET;
    if (frame->opcode == WEBSOCKET_PING) { /* RFC 6455, 5.5.3: only the latest needs its pong */
        memcpy(c->pong, c->in + c->in_start + frame->head_size, frame->size);
        c->pong_size = frame->size;
        c->has_pong = true;
    }
    channels_consume(c, frame->head_size + frame->size);
    return 1;
}

static int take_port(struct channels *c, const struct websocket_frame *frame, uint8_t channel)
{
    if (frame->size != PORT_MESSAGE)
        return -EPROTO;
    if (received(c) < frame->head_size + PORT_MESSAGE)
        return 0;
    const uint8_t *port = c->in + c->in_start + frame->head_size + 1;
    if ((port[0] | port[1] << 8) != c->port)
        return -EPROTO;
    c->has_port[channel] = true;
    channels_consume(c, frame->head_size + PORT_MESSAGE);
    return 1;
}

/* An empty message says nothing, not even a channel. */
static int take_message(struct channels *c, const struct websocket_frame *frame)
{
    if (frame->size > 0 && received(c) <= frame->head_size)
        return 0;
    uint8_t channel = frame->size == 0 ? CHANNEL_DATA : c->in[c->in_start + frame->head_size];
    if (channel > CHANNEL_ERROR)
        return -EPROTO;
    if (frame->size > 0 && !c->has_port[channel])
        return take_port(c, frame, channel);
    if (frame->size > 0 && !c->has_port[!channel])
        return -EPROTO;
    channels_consume(c, frame->head_size + (frame->size > 0));
    c->channel = channel;
    c->left = frame->size - (frame->size > 0);
    return 1;
}

/* 1: a frame, or its head and channel, was taken; 0: more bytes are needed. */
static int take_frame(struct channels *c)
{
    struct websocket_frame frame;
    int rc = websocket_get_head(&frame, c->in + c->in_start, received(c));
    if (rc != 1)
        return rc;
    switch (frame.opcode) {
    case WEBSOCKET_BINARY:
        return take_message(c, &frame);
    case WEBSOCKET_CLOSE:
    case WEBSOCKET_PING:
    case WEBSOCKET_PONG:
        return take_control(c, &frame);
    case WEBSOCKET_TEXT:
    case WEBSOCKET_CONTINUATION:
        return -EPROTO;
    }
    return -EPROTO;
}

/* 0: a frame was taken, or bytes that may complete it have come. */
static int step(struct channels *c)
{
    int rc = take_frame(c);
    if (rc == 0)
        rc = receive(c);
    return KT_MIN(rc, 0);
}

static int take_text(struct channels *c)
{
    if (received(c) == 0)
        return receive(c);
    size_t size = KT_MIN(c->left, received(c)), kept = KT_MIN(size, sizeof c->text - c->text_size);
    memcpy(c->text + c->text_size, c->in + c->in_start, kept);
    c->text_size += kept;
    channels_consume(c, size);
    c->left -= size;
    return c->left == 0 || c->text_size == sizeof c->text ? -EREMOTEIO : 0;
}

static ssize_t take_data(struct channels *c, uint8_t *out, size_t size)
{
    size_t want = KT_MIN(c->left, size), there = KT_MIN(want, received(c));
    ssize_t n = (ssize_t)there;
    if (there > 0) {
        memcpy(out, c->in + c->in_start, there);
        channels_consume(c, there);
    } else {
        n = c->io.read(c->io.context, out, want);
    }
    if (n > 0)
        c->left -= (size_t)n;
    return n == 0 ? -ECONNRESET : n;
}

int channels_get_ports(struct channels *c)
{
    for (int i = 0; i < FRAMES_A_TURN && c->error == 0; i++) {
        if (c->has_port[CHANNEL_DATA] && c->has_port[CHANNEL_ERROR])
            return 1;
        int rc = step(c);
        c->is_dry = rc == -EAGAIN;
        if (c->is_dry)
            return 0;
        c->error = rc;
    }
    return c->error;
}

ssize_t channels_read(struct channels *c, void *out, size_t size)
{
    size_t done = 0;
    int rc = c->error;
    c->is_dry = false;
    for (int frames = 0; done < size && rc == 0 && frames < FRAMES_A_TURN;) {
        if (c->left == 0) {
            rc = step(c);
            frames++;
        } else if (c->channel == CHANNEL_ERROR) {
            rc = take_text(c);
        } else {
            ssize_t n = take_data(c, (uint8_t *)out + done, size - done);
            rc = (int)KT_MIN(n, 0);
            done += (size_t)KT_MAX(n, 0);
        }
    }
    c->is_dry = rc == -EAGAIN;
    if (rc != 0 && rc != -EAGAIN)
        c->error = rc;
    if (done > 0)
        return (ssize_t)done;
    return rc != 0 ? rc : -EAGAIN;
}

static void put(struct channels *c, const void *data, size_t size)
{
    memcpy(c->out + c->out_end, data, size);
    c->out_end += size;
}

static void put_head(struct channels *c, enum websocket_opcode opcode, size_t size)
{
    if (c->out_start == c->out_end)
        c->out_start = c->out_end = 0;
    c->out_end += websocket_put_head(c->out + c->out_end, opcode, size);
}

/* One control frame that waits; false: none does. */
static bool put_control(struct channels *c)
{
    if (c->has_pong) {
        c->has_pong = false;
        put_head(c, WEBSOCKET_PONG, c->pong_size);
        put(c, c->pong, c->pong_size);
        return true;
    }
    if (!c->has_close)
        return false;
    uint8_t code[2];
    struct cursor cursor = cursor_writer(code, sizeof code);
    cursor_put_u16(&cursor, CLOSE_NORMAL);
    c->has_close = false;
    put_head(c, WEBSOCKET_CLOSE, sizeof code);
    put(c, code, sizeof code);
    return true;
}

int channels_put_raw(struct channels *c, const void *data, size_t size)
{
    if (size > sizeof c->out - c->out_end)
        return -EMSGSIZE;
    put(c, data, size);
    return 0;
}

int channels_flush(struct channels *c)
{
    do {
        while (c->out_start < c->out_end) {
            ssize_t n = c->io.write(c->io.context, c->out + c->out_start, c->out_end - c->out_start);
            if (n <= 0)
                return n == 0 ? -EPIPE : (int)n;
            c->out_start += (size_t)n;
        }
    } while (put_control(c));
    return 0;
}

ssize_t channels_write(struct channels *c, const void *data, size_t size)
{
    static const uint8_t channel[] = {CHANNEL_DATA};
    int rc = channels_flush(c);
    if (rc != 0)
        return rc;
    size = KT_MIN(size, c->frame_max);
    put_head(c, WEBSOCKET_BINARY, sizeof channel + size);
    put(c, channel, sizeof channel);
    put(c, data, size);
    rc = channels_flush(c);
    if (rc == -EAGAIN)
        c->frame_max = CHANNELS_FRAME_MIN;
    else if (size == c->frame_max)
        c->frame_max = KT_MIN(2 * c->frame_max, CHANNELS_FRAME_MAX);
    return rc == 0 || rc == -EAGAIN ? (ssize_t)size : rc;
}

bool channels_has_output(const struct channels *c)
{
    return c->out_start < c->out_end || c->has_pong || c->has_close;
}

void channels_end(struct channels *c)
{
    c->has_close = true;
}
