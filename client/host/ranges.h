/* Which ranges go into the tunnel: the cluster's, plus --also, minus --exclude, split around what must stay outside
 * (the API server, default gateways, the machine's resolvers). Decides only; touches nothing.
 *
 * The result is checked against the machine's routes, because a route into the tunnel would win over, or lose against,
 * one that is there:
 *
 *   the route ...                            a cluster's range   named by --also
 *   is a default route, or a half of one     fine                fine
 *   lies inside the range, or equals it      refused             refused
 *   holds the range, directly connected      refused             fine: the user named this part of the network
 *   holds the range, by a gateway            fine                fine: ours is more specific
 *   is another ktvpn's                       refused             refused
 *
 * A cluster's range inside one of --also counts as named.
 *
 * So --exclude RANGE gives up the part in question, and --also RANGE takes part of a network into the tunnel. Loopback,
 * link-local and multicast ranges never go into it. */
#ifndef KTVPN_CLIENT_HOST_RANGES_H
#define KTVPN_CLIENT_HOST_RANGES_H

#include "client/error.h"
#include "client/host/network.h"
#include "common/cidr.h"

#define RANGES_OUTSIDE_MAX 64

struct ranges_wish {
    const char *name;                       /* of this ktvpn, for texts */
    const struct cidr_set *services, *pods; /* the cluster's */
    const struct cidr_set *also, *exclude;  /* the user's; may be NULL */
    const struct address *outside;          /* at most RANGES_OUTSIDE_MAX */
    size_t outside_count;
    /* The name of the other ktvpn whose device this is; "": not known. NULL: nobody knows. */
    void (*name_of)(char out[static NETWORK_ALIAS_MAX], const char *device);
};

/* 0 and the set. -EADDRINUSE: refused as above: both ranges, the device (of another ktvpn too) and the option that
 * decides it are named. -E2BIG: more ranges than CIDR_SET_MAX, or more than RANGES_OUTSIDE_MAX addresses outside. On an
 * error *out is undefined. */
KT_MUST_USE int ranges_plan(struct cidr_set *out, const struct ranges_wish *wish, const struct network *network,
                            struct error *error);

#endif
