/* The privileged helper: a child process that keeps CAP_NET_ADMIN, makes the TUN device and hands over its descriptor,
 * and sets the device's addresses and routes. It parses nothing but the fixed-size requests of its parent, acts on no
 * device but its own, and ends when the parent does. The kernel removes device, addresses and routes with the last
 * descriptor.
 *
 *   main() ── helper_start() ── fork ── helper: the user's id, CAP_NET_ADMIN, no_new_privs, no other descriptor
 *                    │                     │ SOCK_SEQPACKET: requests down, answers and the TUN descriptor up
 *                    └─ parent: the user's id, no capability
 *
 * helper_start() is the first thing that main() does for a command that needs a TUN (before threads, libuv, libcurl);
 * after it the parent has no privileges. Under sudo both become the user who called it (SUDO_UID, SUDO_GID), and the
 * parent's HOME, USER and LOGNAME are that user's, so that their ~/.kube/config is found. With file capabilities
 * (cap_net_admin+ep) the user stays. Root without sudo stays root, but without capabilities: files that root does not
 * own are subject to their modes. */
#ifndef KTVPN_CLIENT_HOST_HELPER_H
#define KTVPN_CLIENT_HOST_HELPER_H

#include <stdbool.h>
#include <stdint.h>

#include "client/error.h"
#include "client/host/resolved.h"
#include "common/cidr.h"

#define HELPER_DEVICE_MAX 16 /* IFNAMSIZ */

struct helper {
    int fd; /* -1: not running */
    int pid;
    struct resolved resolved; /* root's other child, where systemd-resolved needs one */
};

/* Forks the helper, makes the device (without addresses, and down) and drops the parent's privileges. On an error
 * nothing is left; the parent may have lost its privileges, and should exit. -EPERM without CAP_NET_ADMIN, -ENOENT,
 * -EACCES, -ENODEV of /dev/net/tun, ...: `error` says what to do. */
KT_MUST_USE int helper_start(struct helper *helper, struct error *error);
/* Ends it and reaps it. Fine if it is not running. */
void helper_stop(struct helper *helper);

struct helper_device {
    int fd;                       /* of the TUN: non-blocking, O_CLOEXEC, IFF_VNET_HDR with TUN_F_CSUM; the caller's */
    char name[HELPER_DEVICE_MAX]; /* "ktvpn0", or the first free one */
    unsigned index;
    bool has_v6; /* false: `v6` was none, or IPv6 is switched off on this machine; then its routes are -EAFNOSUPPORT */
};
struct helper_tun {
    uint16_t mtu;
    struct address v4, v6; /* family ADDRESS_NONE: none */
    const char *alias;     /* whose device it is, for other programs' eyes: a ktvpn's name */
};
/* Sets MTU, txqueuelen, alias and addresses, brings the device up and takes it over. A second call is -EBUSY. -EPIPE:
 * the helper is gone, as for all below. */
KT_MUST_USE int helper_open_tun(struct helper *helper, struct helper_device *device, const struct helper_tun *tun,
                                struct error *error);
/* Somebody has set the device down, and with that its routes and its IPv6 address are gone: up again, with the address.
 * The routes are the caller's to add. */
KT_MUST_USE int helper_restore_tun(struct helper *helper, struct error *error);
/* Routes through the device, main table, with the device's address of the family as the preferred source. -EEXIST: the
 * same range has a route already. Removing what is not there is -ESRCH. */
KT_MUST_USE int helper_add_route(struct helper *helper, const struct cidr *to, struct error *error);
KT_MUST_USE int helper_remove_route(struct helper *helper, const struct cidr *to, struct error *error);

#endif
