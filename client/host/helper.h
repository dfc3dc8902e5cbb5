/* The privileged helper: a child process that keeps CAP_NET_ADMIN, makes the TUN device and hands over its descriptor, and sets
 * the device's addresses and routes. It parses nothing but the fixed-size requests of its parent, acts on no device but its own,
 * and ends when the parent does. The kernel removes device, addresses and routes with the last descriptor.
 *
 * helper_start() is the first thing that main() does for a command that needs a TUN; after it the parent has no privileges: it
 * becomes the user who called sudo, or drops all capabilities. */
#ifndef KTVPN_CLIENT_HOST_HELPER_H
#define KTVPN_CLIENT_HOST_HELPER_H

#include <stdint.h>

#include "client/error.h"
#include "common/cidr.h"

#define HELPER_DEVICE_MAX 16 /* IFNAMSIZ */

struct helper {
    int fd; /* -1: not running */
    int pid;
};

/* Forks the helper and drops the parent's privileges. Without CAP_NET_ADMIN: -EPERM; `error` says how to get it and names `run`, `forward` and
 * `proxy` as the ways without. */
KT_MUST_USE int helper_start(struct helper *helper, struct error *error);
/* Ends it and reaps it. Fine if it is not running. */
void helper_stop(struct helper *helper);

struct helper_device {
    int fd;                       /* of the TUN: non-blocking, O_CLOEXEC, IFF_VNET_HDR with TUN_F_CSUM; the caller's */
    char name[HELPER_DEVICE_MAX]; /* "ktvpn0", or the first free one */
    unsigned index;
};
/* Makes the device, sets MTU, txqueuelen and addresses (family ADDRESS_NONE: none) and brings it up. A second call is -EBUSY. */
KT_MUST_USE int helper_open_tun(struct helper *helper, struct helper_device *device, uint16_t mtu, const struct address *v4,
                                const struct address *v6, struct error *error);
/* Routes through the device, main table. */
KT_MUST_USE int helper_add_route(struct helper *helper, const struct cidr *to, struct error *error);
KT_MUST_USE int helper_remove_route(struct helper *helper, const struct cidr *to, struct error *error);

#endif
