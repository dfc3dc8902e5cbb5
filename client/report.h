/* What `ktvpn status` tells of a running ktvpn, as one JSON object. Plain data in, text out. */
#ifndef KTVPN_CLIENT_REPORT_H
#define KTVPN_CLIENT_REPORT_H

#include "client/host/tun.h"
#include "client/names.h"
#include "client/tunnel.h"
#include "common/cidr.h"

#define REPORT_WARNINGS_MAX 8
#define REPORT_SERVERS_MAX 3

struct report {
    const char *name, *state, *context, *cluster,
        *name_space;                                  /* state: "starting", "connected", "stalled", "leaving" */
    const char *pod, *node, *device, *cluster_domain; /* "" or NULL: not known yet */
    const char *services_from, *pods_from;
    const char *since;             /* RFC 3339, UTC; NULL: not connected yet */
    const struct address *v4, *v6; /* of the session; v6 only with has_v6 */
    bool has_v6;                   /* the device has it */
    struct address nameserver[REPORT_SERVERS_MAX];
    size_t nameservers;
    const struct cidr_set *ranges;
    struct tunnel_info tunnel;
    struct names_stats names;
    struct tun_stats tun;
    const char *warning[REPORT_WARNINGS_MAX];
    size_t warnings;
};

/* The caller's, freed with kt_free(). NULL: no memory. */
char *report_json(const struct report *report);

#endif
