/* The client's name server: on 127.0.0.1, UDP and TCP, at a port of its own. Cluster names are asked through the tunnel
 * (the agent asks the cluster's DNS), everything else of the machine's own servers, by sockets bound to the device that
 * led there before.
 *
 * A query is the cluster's when its name
 *   - is the cluster domain or below it, or ends in ".svc" or "NAMESPACE.pod" (the domain is appended)
 *   - has as its last label the namespace's name, another known namespace's, or a Service's of the namespace (short
 * names: the pod's search list is applied as in a pod of that namespace)
 *   - is a reverse name of an address inside the tunnelled ranges.
 * No other query ever goes to the cluster; what is not known there (NXDOMAIN) for a short name is asked outside. An
 * answer from the cluster with an address of this machine's own in it (names/names_rebind.h) is given without records.
 * Nothing is cached: CoreDNS answers with TTLs of 5 s, and the machine's servers have caches. */
#ifndef KTVPN_CLIENT_NAMES_H
#define KTVPN_CLIENT_NAMES_H

#include "common/address.h"
#include "common/cidr.h"
#include "common/dns.h"

#define NAMES_PENDING_MAX 1024                    /* queries under way; beyond it the oldest gets SERVFAIL */
#define NAMES_PENDING_BYTES_MAX (4 * 1024 * 1024) /* of their messages; the same */
#define NAMES_OUTSIDE_MAX 256                     /* of them with a socket of their own; the same */
#define NAMES_TIMEOUT_MS 5000
#define NAMES_SERVERS_MAX 3
#define NAMES_KNOWN_MAX 8192 /* services and namespaces */
#define NAMES_TCP_MAX 64     /* connections of askers */
#define NAMES_IDLE_MS 10000  /* of such a connection (RFC 7766, 6.2.3) */

struct uv_loop_s;
struct names;

struct names_upstream {
    struct address address;
    char device[16]; /* SO_BINDTODEVICE; empty: none */
    uint16_t port;   /* 0: 53 */
};

struct names_options {
    const char *cluster_domain; /* "cluster.local" */
    const char *name_space;
    const struct names_upstream *upstream; /* the machine's own servers, at most NAMES_SERVERS_MAX; none: what is
                                              not the cluster's is REFUSED, or NXDOMAIN as there */
    size_t upstreams;
    const struct cidr_set *ranges; /* tunnelled; for reverse names; must outlive */
    uint64_t timeout_ms;           /* 0: NAMES_TIMEOUT_MS */
    uint64_t idle_ms;              /* of an asker's TCP connection; 0: NAMES_IDLE_MS */
};

struct names_ops {
    /* A DNS message for the cluster; the answer comes by names_answer(), but not inside this call. Non-zero: not now
     * (SERVFAIL). */
    int (*ask_cluster)(void *context, uint32_t id, const uint8_t *message, size_t size);
};

/* What `options` and `ops` point to is copied, but for the ranges. 0 or -errno. */
KT_MUST_USE int names_open(struct names **out, struct uv_loop_s *loop, const struct names_options *options,
                           const struct names_ops *ops, void *context);
/* The machine's own servers are others now; what is being asked of the old ones is asked anew. */
void names_set_upstream(struct names *names, const struct names_upstream *upstream, size_t upstreams);
void names_close(struct names *names); /* memory goes later, on the loop; NULL is fine */
uint16_t names_port(const struct names *names);
/* An empty message: no server answered. */
void names_answer(struct names *names, uint32_t id, const uint8_t *message, size_t size);

enum names_kind { NAMES_SERVICE, NAMES_NAMESPACE };
/* As the watch tells; twice is once. -E2BIG beyond NAMES_KNOWN_MAX, -EINVAL (no DNS label), -ENOMEM. */
KT_MUST_USE int names_add(struct names *names, enum names_kind kind, const char *name);
void names_remove(struct names *names, enum names_kind kind, const char *name);

struct names_stats {
    uint64_t cluster, outside, failed; /* queries */
};
void names_stats(const struct names *names, struct names_stats *stats);

#endif
