/* libcurl's multi handle in libuv's loop: watches its sockets and its clock, and calls it when there is something to
 * do. Knows no request; whoever adds easy handles reads what ended in on_activity. */
#ifndef KTVPN_CLIENT_KUBE_MULTI_H
#define KTVPN_CLIENT_KUBE_MULTI_H

#include <stdbool.h>

#include "common/compiler.h"

struct uv_loop_s;
struct multi;

struct multi_ops {
    /* libcurl has been at work; is_broken: it is of no further use (no memory). From the loop, outside of libcurl. */
    void (*on_activity)(void *context, bool is_broken);
    /* After multi_close(), on the loop: all memory is gone. */
    void (*on_closed)(void *context);
};

/* 0 or -ENOMEM. */
KT_MUST_USE int multi_open(struct multi **out, struct uv_loop_s *loop, const struct multi_ops *ops, void *context);
/* The easy handles must have been removed. Ends in on_closed. */
void multi_close(struct multi *multi);
/* The CURLM. */
void *multi_handle(const struct multi *multi);

#endif
