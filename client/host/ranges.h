/* Which ranges go into the tunnel: the cluster's, plus --also, minus --exclude, split around what must stay outside (the API
 * server, default gateways, the machine's resolvers). Decides only; touches nothing. */
#ifndef KTVPN_CLIENT_HOST_RANGES_H
#define KTVPN_CLIENT_HOST_RANGES_H

#include "client/error.h"
#include "client/host/network.h"
#include "common/cidr.h"

#define RANGES_OUTSIDE_MAX 64

struct ranges_wish {
    const struct cidr_set *services, *pods; /* the cluster's */
    const struct cidr_set *also, *exclude;  /* the user's; may be NULL */
    const struct address *outside;          /* at most RANGES_OUTSIDE_MAX */
    size_t outside_count;
};

/* 0 and the set. -EADDRINUSE: a range overlaps a network that this machine is connected to, or has a route for: both are named, with the
 * option that decides it (--exclude, or --also for a part). -E2BIG. */
KT_MUST_USE int ranges_plan(struct cidr_set *out, const struct ranges_wish *wish, const struct network *network,
                            struct error *error);

#endif
