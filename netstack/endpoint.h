/* An ordinary, non-blocking, connected socket of one flow, and the set that watches all sockets of a netstack.
 *
 * The set is one epoll instance, edge-triggered, watched by one uv_poll: a socket costs one epoll_ctl() in its life,
 * and an edge is only a flag here. So back-pressure and freezing mean "do not look at the flag", not two system calls
 * per change. A flow that stopped before its socket said EAGAIN keeps its flag and is the set's `ready` list until it
 * has read on. */
#ifndef KTVPN_NETSTACK_ENDPOINT_H
#define KTVPN_NETSTACK_ENDPOINT_H

#include <stdbool.h>
#include <uv.h>

#include "netstack/list.h"
#include "netstack/netstack.h"

enum endpoint_kind { ENDPOINT_FLOW, ENDPOINT_DATAGRAM, ENDPOINT_PING };

struct endpoint {
    struct list ready; /* in the set's list: something may be read */
    enum endpoint_kind kind;
    int fd;           /* -1 when closed */
    bool is_readable; /* no EAGAIN since the last edge */
    bool is_writable;
    bool has_ended; /* the far side closed or broke it: read on until the end or the error comes */
    bool is_v6;
};

/* An error that a datagram or ping socket was told by ICMP. */
#define ENDPOINT_QUOTE_SIZE 8
struct endpoint_report {
    int error;                          /* negative errno; -ETIME: its hops were used up (ICMP time exceeded) */
    uint32_t mtu;                       /* of -EMSGSIZE */
    struct address from;                /* who said so; ADDRESS_NONE: not known */
    uint8_t quote[ENDPOINT_QUOTE_SIZE]; /* what was sent: behind the UDP header, or from the ICMP header on */
    size_t quote_size;
};

struct endpoint_set {
    uv_poll_t poll; /* uv_close() it after endpoint_set_stop() */
    int epoll_fd;
    struct list ready;
};

/* 0, or a negative errno; then nothing is left behind. `on_events` is called by the loop; it calls
 * endpoint_set_collect(). */
KT_MUST_USE int endpoint_set_open(struct endpoint_set *set, uv_loop_t *loop, uv_poll_cb on_events);
void endpoint_set_stop(struct endpoint_set *set);
/* Takes all edges and calls `on_edge` for each endpoint; its memory must stay valid until the return, even if it is
 * closed. */
void endpoint_set_collect(struct endpoint_set *set, void (*on_edge)(struct endpoint *endpoint));

void endpoint_init(struct endpoint *endpoint, enum endpoint_kind kind);
/* A socket connected to `route`: 0; -EINPROGRESS (TCP: it becomes writable, then ask endpoint_error()); another
 * negative errno: nothing is open. */
KT_MUST_USE int endpoint_connect(struct endpoint *endpoint, struct endpoint_set *set,
                                 const struct netstack_route *route);
/* Hops (TTL) and service (TOS, traffic class) of what a datagram or ping socket sends from now on. */
KT_MUST_USE int endpoint_set_hops(const struct endpoint *endpoint, uint8_t hops);
KT_MUST_USE int endpoint_set_service(const struct endpoint *endpoint, uint8_t service);
/* The oldest report that waits. -EAGAIN: none. */
KT_MUST_USE int endpoint_take_report(const struct endpoint *endpoint, struct endpoint_report *report);
/* The address that this machine would send from; nothing is sent. A negative errno: there is no way to `route`. */
KT_MUST_USE int endpoint_local_address(const struct netstack_route *route, struct address *local);

/* The socket's pending error as a negative errno, or 0. */
KT_MUST_USE int endpoint_error(const struct endpoint *endpoint);
/* With a reset (TCP) or in order. Fine when closed. */
void endpoint_close(struct endpoint *endpoint, bool with_reset);

#endif
