/* One rtnetlink socket: a request, and its answer or acknowledgement, by libmnl. Blocking; the kernel answers at once.
 */
#ifndef KTVPN_CLIENT_HOST_RTNL_H
#define KTVPN_CLIENT_HOST_RTNL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

#define RTNL_MESSAGE_MAX 512

struct nlmsghdr;
struct mnl_socket;

struct rtnl {
    struct mnl_socket *socket;
    uint32_t sequence;
};

struct rtnl_message {
    _Alignas(8) char bytes[RTNL_MESSAGE_MAX];
    bool is_full; /* something did not fit: rtnl_call() will refuse it */
};

/* 0 or the error of socket(). Close it even if the kernel refused every request. */
KT_MUST_USE int rtnl_open(struct rtnl *rtnl);
void rtnl_close(struct rtnl *rtnl);

/* Starts a request of `type` (RTM_...) with NLM_F_... flags; returns its zeroed family header of `size` bytes, in the
 * message. */
void *rtnl_begin(struct rtnl_message *message, uint16_t type, uint16_t flags, size_t size);
void rtnl_put(struct rtnl_message *message, uint16_t attribute, const void *data, size_t size);
void rtnl_put_u32(struct rtnl_message *message, uint16_t attribute, uint32_t value);
/* A nested attribute: its place for rtnl_nest_end(). */
void *rtnl_nest(struct rtnl_message *message, uint16_t attribute);
void rtnl_nest_end(struct rtnl_message *message, void *nest);

/* Sends it and calls `on_answer` (may be NULL) for each message of the answer. 0, the kernel's -errno, -EMSGSIZE, or
 * -EINTR: the table changed while it was dumped; then the rest of the answer waits in the socket, so close it. */
KT_MUST_USE int rtnl_call(struct rtnl *rtnl, struct rtnl_message *message,
                          void (*on_answer)(void *context, const struct nlmsghdr *answer), void *context);

#endif
