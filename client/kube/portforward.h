/* A port-forward to a pod as a byte stream: WebSocket with v4.channel.k8s.io, one port, over libcurl's CONNECT_ONLY
 * (k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go). facts: no half-close; error text = carrier lost. */
#ifndef KTVPN_CLIENT_KUBE_PORTFORWARD_H
#define KTVPN_CLIENT_KUBE_PORTFORWARD_H

#include <stdint.h>

#include "client/kube/api.h"
#include "netstack/stream.h"

#define PORTFORWARD_ERROR_MAX 4096 /* bytes of the error channel's text that are kept */
#define PORTFORWARD_HEAD_MAX 16384 /* of the answer to the upgrade */

/* Dials; stream->on_open or on_failed follows. 0 or -ENOMEM. on_failed's error has the API server's own words once. */
KT_MUST_USE int portforward_open(struct stream **out, struct api *api, struct uv_loop_s *loop, const char *name_space,
                                 const char *pod, uint16_t port);

#endif
