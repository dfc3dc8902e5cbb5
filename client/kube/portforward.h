/* A port-forward to a pod as a byte stream: WebSocket, one port, over libcurl's CONNECT_ONLY; the sub-protocols are
 * those of channels.h.
 *
 * There is no half-close: a Close frame, the end of the connection and text on the error channel all mean that the
 * stream is lost. They come by on_failed, after the last byte was read; read and write themselves return no error but
 * -EAGAIN. */
#ifndef KTVPN_CLIENT_KUBE_PORTFORWARD_H
#define KTVPN_CLIENT_KUBE_PORTFORWARD_H

#include <stdint.h>

#include "client/kube/api.h"
#include "client/kube/channels.h"
#include "netstack/stream.h"

#define PORTFORWARD_ERROR_MAX CHANNELS_TEXT_MAX /* bytes of the error channel's text that are kept */
#define PORTFORWARD_HEAD_MAX CHANNELS_IN_SIZE   /* of the answer to the upgrade */
#define PORTFORWARD_OPEN_MS 10000               /* to both ports' messages */
#define PORTFORWARD_BODY_MS 2000                /* for the text of a refusal */
#define PORTFORWARD_CLOSE_MS 1000               /* from our Close frame to the server's end of the connection */

/* Dials; stream->on_open or on_failed follows: on_failed's text has the API server's own words, escaped; -ENOENT: the
 * pod is gone. 0, -ENOMEM, or -EINVAL (a name or a header that cannot be sent). `api` must live until on_open,
 * on_failed or on_closed. */
KT_MUST_USE int portforward_open(struct stream **out, struct api *api, struct uv_loop_s *loop, const char *name_space,
                                 const char *pod, uint16_t port);

#endif
