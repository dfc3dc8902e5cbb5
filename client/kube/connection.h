/* One connected socket to the API server, dialled by libcurl (TLS, proxy, time-outs as the easy handle says) with
 * CONNECT_ONLY, on the loop.
 *
 * libcurl dials by its multi interface, so nothing blocks but a name server's answer that the resolver's thread waits
 * for. After that the bytes go straight through curl_easy_recv() and curl_easy_send(). Reads nothing into the bytes. */
#ifndef KTVPN_CLIENT_KUBE_CONNECTION_H
#define KTVPN_CLIENT_KUBE_CONNECTION_H

#include <stddef.h>
#include <sys/types.h>

#include "common/compiler.h"

#define CONNECTION_DIALS_MAX 8 /* sockets that libcurl may watch at once while it dials */

struct uv_loop_s;
struct connection;

struct connection_ops {
    /* Once: 0, or the CURLcode that ended the dial. */
    void (*on_connected)(void *context, int curl_code);
    /* STREAM_READABLE, STREAM_WRITABLE (netstack/stream.h): those that connection_want() asked for. */
    void (*on_ready)(void *context, int events);
    /* After connection_close(), on the loop: all memory is gone. */
    void (*on_closed)(void *context);
};

/* Dials. The easy handle is the connection's from now on. 0, -ENOMEM, or the loop's error; then the handle is still the
 * caller's. */
KT_MUST_USE int connection_open(struct connection **out, struct uv_loop_s *loop, void *easy,
                                const struct connection_ops *ops, void *context);
/* Ends in on_closed. Closes the socket at once. */
void connection_close(struct connection *connection);

/* As in struct stream_ops. TLS may hold bytes that poll() does not show: read until -EAGAIN. A write that got -EAGAIN
 * must be repeated with the same bytes at the same place before anything else is written (SSL_write(3)). */
ssize_t connection_read(struct connection *connection, void *out, size_t size);
ssize_t connection_write(struct connection *connection, const void *data, size_t size);
void connection_want(struct connection *connection, int events);

#endif
