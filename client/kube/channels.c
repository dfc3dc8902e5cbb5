/* Reading copies little: a head is read together with at most PEEK bytes behind it, and the rest of the payload goes
 * straight into the reader's buffer, across as many calls as it takes. For packets of an interactive flow that is one
 * read and one short copy.
 *
 * Writing builds head, channel and payload in one piece, because they must leave in one TLS record or two, and because
 * what libcurl was given must stay where it is until it is sent. A frame that got stuck makes the next ones shorter:
 * the bytes that wait in a frame are bytes that no sparse flow can overtake.
 *
 * SPDY's frames lie across the messages as they like: a head is gathered byte by byte if it must, the payload of the
 * data stream is read like a message's. The servers know no flow control (WINDOW_UPDATE), and there is one stream of
 * data on this connection, which both ends always read. A reply to a stream may come after its first data: the servers
 * send it from a thread of its own. */
#include "client/kube/channels.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cursor.h"

enum { CHANNEL_DATA = 0, CHANNEL_ERROR = 1, CHANNEL_NONE = 2 };
enum { STREAM_ERROR = 1, STREAM_DATA = 3 }; /* SPDY: a client's are odd */

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

/* A large message comes in two fragments, of which the second is empty (gorilla/websocket): the bytes are one stream.
 */
static int take_spdy_message(struct channels *c, const struct websocket_frame *frame)
{
    if ((frame->opcode == WEBSOCKET_CONTINUATION) != c->is_fragmented)
        return -EPROTO;
    c->is_fragmented = !frame->is_final;
    channels_consume(c, frame->head_size);
    c->left = frame->size;
    return 1;
}

/* An empty message says nothing, not even a channel. */
static int take_message(struct channels *c, const struct websocket_frame *frame)
{
    if (frame->opcode == WEBSOCKET_CONTINUATION || !frame->is_final)
        return -EPROTO;
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
    case WEBSOCKET_CONTINUATION:
        return c->protocol == CHANNELS_SPDY ? take_spdy_message(c, &frame) : take_message(c, &frame);
    case WEBSOCKET_CLOSE:
    case WEBSOCKET_PING:
    case WEBSOCKET_PONG:
        return take_control(c, &frame);
    case WEBSOCKET_TEXT:
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

/* What follows of the channel's payload in this message. */
static size_t payload_left(const struct channels *c)
{
    return c->protocol == CHANNELS_SPDY ? KT_MIN(c->left, c->frame_left) : c->left;
}

static void took(struct channels *c, size_t size)
{
    c->left -= size;
    if (c->protocol == CHANNELS_SPDY)
        c->frame_left -= size;
}

static int take_text(struct channels *c)
{
    if (received(c) == 0)
        return receive(c);
    size_t size = KT_MIN(payload_left(c), received(c)), kept = KT_MIN(size, sizeof c->text - c->text_size);
    memcpy(c->text + c->text_size, c->in + c->in_start, kept);
    c->text_size += kept;
    channels_consume(c, size);
    took(c, size);
    bool is_whole = c->protocol == CHANNELS_SPDY ? c->frame_left == 0 : c->left == 0;
    return is_whole || c->text_size == sizeof c->text ? -EREMOTEIO : 0;
}

static int skip(struct channels *c)
{
    if (received(c) == 0)
        return receive(c);
    size_t size = KT_MIN(payload_left(c), received(c));
    channels_consume(c, size);
    took(c, size);
    return 0;
}

/* 1: `head` has `size` bytes; 0: more are needed, from the next message maybe. */
static int gather(struct channels *c, size_t size)
{
    size_t n = KT_MIN(KT_MIN(size - c->head_size, c->left), received(c));
    memcpy(c->head + c->head_size, c->in + c->in_start, n);
    channels_consume(c, n);
    c->head_size += n;
    c->left -= n;
    if (c->head_size == size)
        return 1;
    return c->left == 0 ? 0 : receive(c);
}

static int on_data_frame(struct channels *c, const struct spdy_frame *frame)
{
    if (frame->stream != STREAM_DATA && frame->stream != STREAM_ERROR)
        return -EPROTO;
    bool is_data = frame->stream == STREAM_DATA;
    c->channel = is_data ? CHANNEL_DATA : CHANNEL_ERROR;
    c->is_last = is_data && frame->is_fin;
    if (is_data || frame->size > 0)
        c->has_port[CHANNEL_DATA] = c->has_port[CHANNEL_ERROR] = true;
    return 0;
}

static int on_control_frame(struct channels *c, const struct spdy_frame *frame)
{
    struct cursor cursor = cursor_reader(c->head + SPDY_HEAD_SIZE, c->head_size - SPDY_HEAD_SIZE);
    uint32_t word = cursor_u32(&cursor);
    c->channel = CHANNEL_NONE;
    switch (frame->type) {
    case SPDY_SYN_REPLY:
        if (word != STREAM_DATA && word != STREAM_ERROR)
            return -EPROTO;
        c->has_port[word == STREAM_DATA ? CHANNEL_DATA : CHANNEL_ERROR] = true;
        return 0;
    case SPDY_PING:
        c->has_ping = word % 2 == 0; /* an odd one would answer ours, and we send none */
        c->ping = word;
        return 0;
    case SPDY_RST_STREAM:
        return -ECONNRESET;
    case SPDY_SYN_STREAM:
        return -EPROTO;
    case SPDY_DATA:
    case SPDY_SETTINGS:
    case SPDY_GOAWAY:
    case SPDY_HEADERS:
    case SPDY_WINDOW_UPDATE:
        return 0;
    }
    return -EPROTO;
}

/* Takes a SPDY frame's head, and the first words of a control frame; 0: taken, or more bytes are needed. */
static int take_spdy_frame(struct channels *c)
{
    struct spdy_frame frame;
    int rc = c->head_size < SPDY_HEAD_SIZE ? gather(c, SPDY_HEAD_SIZE) : 1;
    if (rc != 1)
        return rc;
    rc = spdy_get_head(&frame, c->head);
    if (rc != 0)
        return rc;
    size_t words = frame.type == SPDY_DATA ? 0 : KT_MIN(frame.size, SPDY_WORDS_SIZE);
    rc = gather(c, SPDY_HEAD_SIZE + words);
    if (rc != 1)
        return rc;
    rc = frame.type == SPDY_DATA ? on_data_frame(c, &frame) : on_control_frame(c, &frame);
    c->frame_left = frame.size - words;
    c->head_size = 0;
    return rc;
}

/* Everything but payload of the data channel. 1: that is next; 0: something else was taken, or has come. */
static int advance(struct channels *c)
{
    bool is_spdy = c->protocol == CHANNELS_SPDY;
    if (is_spdy && c->is_last && c->frame_left == 0)
        return -ECONNRESET;
    if (c->left == 0)
        return step(c);
    if (is_spdy && c->frame_left == 0)
        return take_spdy_frame(c);
    if (c->channel == CHANNEL_ERROR)
        return take_text(c);
    return c->channel == CHANNEL_NONE ? skip(c) : 1;
}

static ssize_t take_data(struct channels *c, uint8_t *out, size_t size)
{
    size_t want = KT_MIN(payload_left(c), size), there = KT_MIN(want, received(c));
    ssize_t n = (ssize_t)there;
    if (there > 0) {
        memcpy(out, c->in + c->in_start, there);
        channels_consume(c, there);
    } else {
        n = c->io.read(c->io.context, out, want);
    }
    if (n > 0)
        took(c, (size_t)n);
    return n == 0 ? -ECONNRESET : n;
}

int channels_get_ports(struct channels *c)
{
    for (int i = 0; i < FRAMES_A_TURN && c->error == 0; i++) {
        if (c->has_port[CHANNEL_DATA] && c->has_port[CHANNEL_ERROR])
            return 1;
        int rc = advance(c);
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
        rc = advance(c);
        if (rc == 0) {
            frames++;
        } else if (rc == 1) {
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
    if (c->has_ping) {
        uint8_t ping[SPDY_PING_SIZE];
        c->has_ping = false;
        spdy_put_ping(ping, c->ping);
        put_head(c, WEBSOCKET_BINARY, sizeof ping);
        put(c, ping, sizeof ping);
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

static size_t put_stream(uint8_t *out, uint32_t id, const char *type, uint16_t port)
{
    char text[sizeof "65535"];
    (void)snprintf(text, sizeof text, "%u", (unsigned)port);
    const struct spdy_header headers[] = {{"streamtype", type}, {"port", text}, {"requestid", "0"}};
    return spdy_put_syn_stream(out, id, id == STREAM_ERROR, headers, KT_ARRAY_LEN(headers));
}

/* Both streams, and the end of what we say on the one for errors. */
int channels_start(struct channels *c, enum channels_protocol protocol)
{
    uint8_t frames[2 * SPDY_SYN_STREAM_MAX + SPDY_HEAD_SIZE], head[WEBSOCKET_HEAD_MAX];
    c->protocol = protocol;
    if (protocol == CHANNELS_V4)
        return 0;
    size_t size = put_stream(frames, STREAM_ERROR, "error", c->port);
    spdy_put_data_head(frames + size, STREAM_ERROR, true, 0);
    size += SPDY_HEAD_SIZE;
    size += put_stream(frames + size, STREAM_DATA, "data", c->port);
    int rc = channels_put_raw(c, head, websocket_put_head(head, WEBSOCKET_BINARY, size));
    return rc != 0 ? rc : channels_put_raw(c, frames, size);
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

static void put_data_head(struct channels *c, size_t size)
{
    uint8_t head[SPDY_HEAD_SIZE] = {CHANNEL_DATA};
    size_t head_size = c->protocol == CHANNELS_SPDY ? SPDY_HEAD_SIZE : 1;
    if (c->protocol == CHANNELS_SPDY)
        spdy_put_data_head(head, STREAM_DATA, false, size);
    put_head(c, WEBSOCKET_BINARY, head_size + size);
    put(c, head, head_size);
}

ssize_t channels_write(struct channels *c, const void *data, size_t size)
{
    int rc = channels_flush(c);
    if (rc != 0)
        return rc;
    size = KT_MIN(size, c->frame_max);
    put_data_head(c, size);
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
    return c->out_start < c->out_end || c->has_pong || c->has_ping || c->has_close;
}

void channels_end(struct channels *c)
{
    c->has_close = true;
}
