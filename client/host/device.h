/* The TUN device itself: made, set up and routed to, by the helper alone (CAP_NET_ADMIN). */
#ifndef KTVPN_CLIENT_HOST_DEVICE_H
#define KTVPN_CLIENT_HOST_DEVICE_H

#include "client/host/rtnl.h"
#include "common/cidr.h"

#define DEVICE_NAME_MAX 16 /* IFNAMSIZ */
#define DEVICE_PREFIX "ktvpn"
#define DEVICE_FILE "/dev/net/tun"

/* Packets that wait in the device while the client does not read, because the link is full. The kernel drops above it,
 * and takes each packet out of its socket's accounting, so nothing else holds a sender back. 4096: room for the first
 * packet of thousands of flows at once (the default of 500 loses SYNs then, a second each), and at most 256 MB if a
 * local sender floods with the largest ones. */
#define DEVICE_QUEUE 4096

/* Opens DEVICE_FILE: the descriptor (close-on-exec, non-blocking) or -errno. */
KT_MUST_USE int device_open_file(void);
/* Makes the device, down and without addresses, named "ktvpn" and the first free number. It is gone with the last copy
 * of `fd`. */
KT_MUST_USE int device_create(int fd, char name[static DEVICE_NAME_MAX], unsigned *index);
/* MTU and queue; no link-local address, so that the kernel sends no router solicitations into the tunnel. Then up. */
KT_MUST_USE int device_bring_up(struct rtnl *rtnl, unsigned index, uint16_t mtu);
/* What `ip link` shows beside the device: whose it is. Empty: none. */
KT_MUST_USE int device_set_alias(struct rtnl *rtnl, unsigned index, const char *alias);
/* A /32 or /128. */
KT_MUST_USE int device_add_address(struct rtnl *rtnl, unsigned index, const struct address *address);
/* Main table. `source` becomes the preferred source address. -EEXIST: the same range has a route already; -ESRCH:
 * (removing) it has none. */
KT_MUST_USE int device_add_route(struct rtnl *rtnl, unsigned index, const struct cidr *to,
                                 const struct address *source);
KT_MUST_USE int device_remove_route(struct rtnl *rtnl, unsigned index, const struct cidr *to);

#endif
