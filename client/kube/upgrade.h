/* The answer to an upgrade of an HTTP/1.1 connection to a WebSocket: a bounded parser of it, and whether it fits the
 * request (RFC 6455, 4; RFC 9112). Knows no socket; the caller bounds the bytes that it offers. */
#ifndef KTVPN_CLIENT_KUBE_UPGRADE_H
#define KTVPN_CLIENT_KUBE_UPGRADE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/compiler.h"

#define UPGRADE_VALUE_MAX 63 /* bytes of a header's value that are kept; no longer one can be right */

struct upgrade_request;

struct upgrade_answer {
    int status;
    size_t head_size;   /* the body, or the WebSocket's first bytes, follow it */
    bool is_websocket;  /* Upgrade: websocket */
    bool is_connection; /* Connection: Upgrade */
    bool has_extensions;
    bool is_chunked, has_length;
    size_t length; /* of the body, when has_length */
    char accept[UPGRADE_VALUE_MAX + 1], protocol[UPGRADE_VALUE_MAX + 1];
};
/* 1: the head is complete, and starts at `data`; 0: more bytes are needed; -EPROTO: this is no HTTP/1.x answer, or it
 * contradicts itself. */
KT_MUST_USE int upgrade_get_answer(struct upgrade_answer *answer, const char *data, size_t size);

/* Is a 101 the answer to this request, with one of the offered sub-protocols? 0, or -EPROTO and *why names what is
 * wrong with it. */
KT_MUST_USE int upgrade_verify(const struct upgrade_answer *answer, const struct upgrade_request *request,
                               const char **why);

/* The body of another answer, of which `*size` bytes are there. true: it is complete, and *size is its size; a chunked
 * one has been unwrapped in place then. false: more bytes are needed; the end of the connection ends it too. A wrong
 * chunk ends it. */
KT_MUST_USE bool upgrade_get_body(const struct upgrade_answer *answer, char *data, size_t *size);

#endif
