/* SPDY/3.1 framing, as much as a port-forward of one port needs: heads of frames out, a bounded parser of heads in
 * (spdy-protocol-draft3-1; moby/spdystream is what the kubelet and the container runtimes run). Knows no socket.
 *
 * Header blocks go out in zlib's format with stored blocks, without the dictionary: the receivers take both, and there
 * is nothing to gain for two short ones. What comes as a header block is not read at all. */
#ifndef KTVPN_CLIENT_KUBE_SPDY_H
#define KTVPN_CLIENT_KUBE_SPDY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

#define SPDY_HEAD_SIZE 8
#define SPDY_WORDS_SIZE 8              /* of a control frame's payload: what is looked at */
#define SPDY_CONTROL_MAX (16 * 1024)   /* payload of a control frame */
#define SPDY_DATA_MAX ((1u << 24) - 1) /* payload of a data frame */
#define SPDY_PING_SIZE (SPDY_HEAD_SIZE + 4)
#define SPDY_SYN_STREAM_MAX 256

enum spdy_type {
    SPDY_DATA = 0, /* not a control frame */
    SPDY_SYN_STREAM = 1,
    SPDY_SYN_REPLY = 2,
    SPDY_RST_STREAM = 3,
    SPDY_SETTINGS = 4,
    SPDY_PING = 6,
    SPDY_GOAWAY = 7,
    SPDY_HEADERS = 8,
    SPDY_WINDOW_UPDATE = 9
};

struct spdy_header {
    const char *name, *value; /* name: lower case */
};

struct spdy_frame {
    enum spdy_type type;
    uint32_t stream; /* of a data frame; control frames have it in their payload */
    bool is_fin;
    size_t size; /* of the payload; it follows the head */
};

/* Opens stream `id`. `is_first`: nothing went out on this connection before (zlib's own head). Returns the size. */
size_t spdy_put_syn_stream(uint8_t out[static SPDY_SYN_STREAM_MAX], uint32_t id, bool is_first,
                           const struct spdy_header *headers, size_t count);
void spdy_put_data_head(uint8_t out[static SPDY_HEAD_SIZE], uint32_t id, bool is_fin, size_t size);
void spdy_put_ping(uint8_t out[static SPDY_PING_SIZE], uint32_t id);

/* 0, or -EPROTO: another version, an unknown type, a control frame that is too large, or too short for its words. */
KT_MUST_USE int spdy_get_head(struct spdy_frame *frame, const uint8_t in[static SPDY_HEAD_SIZE]);

#endif
