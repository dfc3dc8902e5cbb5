/* systemd-resolved is told which names to ask over ktvpn's device: by `resolvectl`, which comes with it, so that no
 * D-Bus library is needed. It takes settings of a device only from root, so a process of its own stays root, but
 * without any capability, and does nothing else:
 *
 *   main() ── resolved_start() ── fork ── uid 0, no capability, no_new_privs, no other descriptor, empty environment
 *                                          │ SOCK_SEQPACKET: requests down, results up
 *                                          └─ resolvectl dns | domain | default-route DEVICE ...
 *
 * The settings are the device's: they go with it, also when we are killed, and systemd-resolved keeps them over a
 * restart of its own. */
#ifndef KTVPN_CLIENT_HOST_RESOLVED_H
#define KTVPN_CLIENT_HOST_RESOLVED_H

#include <stdbool.h>

#include "client/host/resolved_request.h"
#include "common/resolvconf.h"

struct resolved {
    int fd;
    int pid; /* 0: not running */
};

/* Does systemd-resolved serve the machine: does /etc/resolv.conf name its stub (127.0.0.53, 127.0.0.54), and does it
 * run? */
bool resolved_is_asked(const struct resolvconf *conf);

/* While we are root, before privileges are dropped. Nothing runs where there is no systemd-resolved, or no root: then
 * resolved_set() is -EPERM. 0, or the error of forking. */
KT_MUST_USE int resolved_start(struct resolved *resolved);
void resolved_stop(struct resolved *resolved);

/* Never waits. The result is there when `fd` is readable. -EPERM: not running; -EPIPE. */
KT_MUST_USE int resolved_set(struct resolved *resolved, const struct resolved_request *request);
/* 0: set. -EAGAIN: not yet; -EREMOTEIO: resolvectl failed; -EPIPE, ... */
KT_MUST_USE int resolved_result(struct resolved *resolved);

#endif
