/* Where a name is asked: pure. The rules are in client/names.h.
 *
 * In the cluster the candidates are asked in their order until an answer is not NXDOMAIN, as a pod's resolver does with
 * its search list (k8s.io/kubernetes/pkg/kubelet/network/dns: NS.svc.DOMAIN, svc.DOMAIN, DOMAIN; ndots:5). */
#ifndef KTVPN_CLIENT_NAMES_PLAN_H
#define KTVPN_CLIENT_NAMES_PLAN_H

#include "client/names/names_known.h"
#include "common/cidr.h"
#include "common/dns.h"

#define NAMES_PLAN_MAX 3
#define NAMES_NDOTS 5

struct names_scope {
    const char *domain, *name_space; /* lower case */
    const struct cidr_set *ranges;
    const struct names_known *services, *namespaces;
};

struct names_plan {
    char candidate[NAMES_PLAN_MAX][DNS_NAME_MAX]; /* absolute, no last dot */
    size_t candidates;                            /* 0: the name is not the cluster's */
    bool then_outside;                            /* when each candidate is NXDOMAIN, or there is none */
};

/* `name` as in struct dns_question. */
void names_plan_make(struct names_plan *plan, const struct names_scope *scope, const char *name);

/* The address of "4.3.2.1.in-addr.arpa" or of a whole name below ip6.arpa (RFC 1035, 3.5; RFC 3596, 2.5). -EINVAL. */
KT_MUST_USE int names_plan_reverse(struct address *out, const char *name);

#endif
