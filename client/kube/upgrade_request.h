/* The request that asks for an HTTP/1.1 connection to become a WebSocket (RFC 6455, 4.1). Its header lines come from
 * libcurl's list, so that login and impersonation are written in one place (api.c). Knows no socket. */
#ifndef KTVPN_CLIENT_KUBE_UPGRADE_REQUEST_H
#define KTVPN_CLIENT_KUBE_UPGRADE_REQUEST_H

#include "client/kube/websocket.h"
#include "common/compiler.h"

struct upgrade_request {
    const char *protocol;         /* the sub-protocols that are offered, separated by commas; the owner's */
    char key[WEBSOCKET_KEY_SIZE]; /* Sec-WebSocket-Key */
    char *headers;                /* more lines, each ended by CRLF; may hold a token */
    char *host;                   /* NULL: the URL's */
};

/* Draws the key. 0 or -ENOMEM; deinit in both cases. */
KT_MUST_USE int upgrade_request_init(struct upgrade_request *request, const char *protocol);
/* Safe on a zeroed struct, and twice. */
void upgrade_request_deinit(struct upgrade_request *request);

/* One line of libcurl's, "Name: value", which is copied. "Name;" is sent empty, and "Name:" left out, as it does. 0,
 * -ENOMEM, or -EINVAL: there is a line break in it. */
KT_MUST_USE int upgrade_request_add_header(struct upgrade_request *request, const char *line);

/* The text for this URL ("https://user@host:port/path?query"); freed by the caller with kt_free_secret(). NULL: no
 * memory. */
KT_MUST_USE char *upgrade_request_text(const struct upgrade_request *request, const char *url);

#endif
