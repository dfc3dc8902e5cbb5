/* The device's own name server and domains in systemd-resolved (client/host/resolved.h): set once the device is there,
 * and again when systemd-resolved was started anew. */
#ifndef KTVPN_CLIENT_RESOLVER_LINK_H
#define KTVPN_CLIENT_RESOLVER_LINK_H

#include "client/host/resolved.h"
#include "common/cidr.h"

struct uv_loop_s;
struct resolver_link;

struct resolver_link_options {
    const char *device;
    struct address server; /* behind the device; answers at port 53 */
    const char *cluster_domain, *name_space;
    const struct cidr_set *ranges; /* their reverse names are the cluster's */
};

/* on_done: how the first setting went, once, on the loop: 0, -EREMOTEIO (resolvectl failed), -EPIPE. Returns 0, -EPERM
 * (not root: systemd-resolved would refuse), -ENOMEM or the loop's error. `resolved` must outlive it. */
KT_MUST_USE int resolver_link_open(struct resolver_link **out, struct uv_loop_s *loop, struct resolved *resolved,
                                   const struct resolver_link_options *options,
                                   void (*on_done)(void *context, int result), void *context);
/* Sets it once more. */
void resolver_link_refresh(struct resolver_link *link);
/* The settings go with the device. Memory goes later, on the loop. NULL is fine. */
void resolver_link_close(struct resolver_link *link);

#endif
