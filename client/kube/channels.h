/* A port-forward's two channels on top of WebSocket framing, as one byte stream each way: data (both ways) and error
 * (from the server, one text, then the port is dead). By one of two sub-protocols:
 *
 *   SPDY/3.1+portforward.k8s.io   the messages are one byte stream of SPDY frames, each channel is a SPDY stream
 *       (k8s.io/apimachinery/pkg/util/httpstream/spdy, k8s.io/kubelet/pkg/cri/streaming/portforward/httpstream.go);
 *       from Kubernetes 1.30 on the API server unpacks it, so that the container runtime sees no WebSocket
 *   v4.channel.k8s.io             a message's first byte is its channel; the first message on each is the port, 2 bytes
 *       little-endian; the server takes a frame for a message, so each write is one whole frame (.../websocket.go)
 *
 * Knows no socket: it reads and writes by two functions. They, and those here that say so, return bytes, 0 for the end
 * (reading only), -EAGAIN for "not now", or another negative errno. */
#ifndef KTVPN_CLIENT_KUBE_CHANNELS_H
#define KTVPN_CLIENT_KUBE_CHANNELS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/kube/spdy.h"
#include "client/kube/websocket.h"

#define CHANNELS_SPDY_NAME "SPDY/3.1+portforward.k8s.io"
#define CHANNELS_V4_NAME "v4.channel.k8s.io"
#define CHANNELS_OFFER CHANNELS_SPDY_NAME ", " CHANNELS_V4_NAME /* the better one first */
#define CHANNELS_IN_SIZE (16 * 1024)
#define CHANNELS_TEXT_MAX 4096 /* of the error channel's text */
/* Bytes of a frame; MIN on a slow connection, since what is in it can't be overtaken any more. Measured against
 * containerd 1.6, whose WebSocket reader takes a whole core for 0.7 Gbit/s up: the size (32 to 512 KiB) makes no
 * difference that can be told from noise. */
#define CHANNELS_FRAME_MIN (32 * 1024)
#define CHANNELS_FRAME_MAX (128 * 1024)

enum channels_protocol { CHANNELS_V4, CHANNELS_SPDY };

struct channels_io {
    ssize_t (*read)(void *context, void *out, size_t size);
    /* After -EAGAIN the same bytes at the same place come again. */
    ssize_t (*write)(void *context, const void *data, size_t size);
    void *context;
};

struct channels {
    struct channels_io io;
    enum channels_protocol protocol;
    uint16_t port;
    bool has_port[2]; /* the channel is open */
    int error;        /* what reading ended with, for good */
    bool is_dry;      /* the last read saw all that there was */
    bool has_pong, has_close;
    bool is_fragmented; /* SPDY: the message goes on in a further frame */
    uint8_t channel;    /* of the message or SPDY frame that is being read */
    size_t left;        /* unread bytes of the message */
    size_t frame_left;  /* ... of the SPDY frame, in this and the next messages */
    bool is_last;       /* the server ends the data stream with this SPDY frame */
    bool has_ping;
    uint32_t ping;    /* SPDY's, to be sent back */
    size_t head_size; /* bytes that are in `head` */
    uint8_t head[SPDY_HEAD_SIZE + SPDY_WORDS_SIZE];
    size_t frame_max; /* now */
    size_t text_size, pong_size;
    size_t in_start, in_end, out_start, out_end;
    char text[CHANNELS_TEXT_MAX];
    uint8_t pong[WEBSOCKET_CONTROL_MAX];
    uint8_t in[CHANNELS_IN_SIZE];
    uint8_t out[WEBSOCKET_HEAD_MAX + SPDY_HEAD_SIZE + CHANNELS_FRAME_MAX];
};

/* `channels` is zeroed memory. */
void channels_init(struct channels *channels, const struct channels_io *io, uint16_t port);

/* The HTTP that precedes the frames uses the same buffers: bytes received so far, those of them that are done with, and
 * more of them (returns as io.read, -EMSGSIZE when the buffer is full). */
const uint8_t *channels_received(const struct channels *channels, size_t *size);
void channels_consume(struct channels *channels, size_t size);
KT_MUST_USE ssize_t channels_receive(struct channels *channels);
/* Puts raw bytes behind what waits to be written: 0 or -EMSGSIZE. */
KT_MUST_USE int channels_put_raw(struct channels *channels, const void *data, size_t size);

/* After the HTTP: puts what opens the channels behind what waits to be written. 0 or -EMSGSIZE. */
KT_MUST_USE int channels_start(struct channels *channels, enum channels_protocol protocol);
/* 1: both channels are open; 0: not yet; or as channels_read(). */
KT_MUST_USE int channels_get_ports(struct channels *channels);

/* > 0: bytes of the data channel; -EAGAIN; -EREMOTEIO: the error channel spoke, see text; -ECONNRESET: Close frame or
 * end of the connection; -EPROTO. Never 0. An error comes only after all bytes that preceded it, and then for ever. */
KT_MUST_USE ssize_t channels_read(struct channels *channels, void *out, size_t size);
/* Bytes taken, all of them into one frame; -EAGAIN: an earlier frame is not out yet. */
KT_MUST_USE ssize_t channels_write(struct channels *channels, const void *data, size_t size);
/* Writes what waits, pongs too. 0: nothing waits any more; -EAGAIN or another error. */
KT_MUST_USE int channels_flush(struct channels *channels);
bool channels_has_output(const struct channels *channels);
/* Puts a Close frame (1000) behind what waits; nothing may be written after it. */
void channels_end(struct channels *channels);

#endif
