/* Which addresses are the cluster's: the ranges of its Services and pods, found with whatever rights the user has.
 *
 * Services: ServiceCIDR objects; else the error texts of server-side dry runs, one for each family; else around the
 * Services seen; else around the name server that the agent tells. Pods: spec.podCIDRs of the nodes, and a /24 (IPv6:
 * /64) around each pod IP of the namespace that is in none of them (hostNetwork pods left out); else around the agent's
 * pod. */
#ifndef KTVPN_CLIENT_KUBE_CLUSTER_RANGES_H
#define KTVPN_CLIENT_KUBE_CLUSTER_RANGES_H

#include "client/kube/api.h"
#include "common/cidr.h"

struct cluster_ranges {
    struct cidr_set services, pods;
    bool is_guess;                         /* the Service range is */
    const char *services_from, *pods_from; /* for `status`: "ServiceCIDR", "dry run", "Services seen", "name server";
                                              "nodes", "pods seen", "agent's pod"; "nothing" */
};

#define CLUSTER_RANGES_GUESS_V4 12  /* a guessed Service range never gets wider: kubeadm's default */
#define CLUSTER_RANGES_GUESS_V6 64  /* the API server's own limit */
#define CLUSTER_RANGES_UNSEEN_V4 16 /* the guess where the name server's is the only Service seen */

/* Where the Service range is a guess from Services seen, it grows to hold one more address of a Service (the cluster's
 * name server, which the agent tells). What is known better, is link-local (a node's cache) or too far away changes
 * nothing. 0, -E2BIG. */
KT_MUST_USE int cluster_ranges_learn(struct cluster_ranges *ranges, const struct address *service);
/* Both: what the agent told of itself and the cluster's name servers. */
KT_MUST_USE int cluster_ranges_learn_all(struct cluster_ranges *ranges, const struct address *pod,
                                         const struct address *servers, size_t count);
/* Where no range of pods is known: the one around the agent's pod. 0, -E2BIG. */
KT_MUST_USE int cluster_ranges_learn_pod(struct cluster_ranges *ranges, const struct address *pod);

struct cluster_ranges_search;

/* done() gets `error` NULL and the result, or the error. NULL: no memory. */
KT_MUST_USE struct cluster_ranges_search *cluster_ranges_start(
    struct api *api, const char *name_space,
    void (*done)(void *context, const struct cluster_ranges *ranges, const struct error *error), void *context);
void cluster_ranges_cancel(struct cluster_ranges_search *search);

/* The pure parts, for tests: each adds to `set`; 0, -ENOENT (nothing of the kind in it), -EBADMSG. */
struct cJSON;
KT_MUST_USE int cluster_ranges_of_service_cidrs(struct cidr_set *set, const struct cJSON *list);
KT_MUST_USE int cluster_ranges_of_dry_run(struct cidr_set *set, const char *message);
KT_MUST_USE int cluster_ranges_of_services(struct cidr_set *set, const struct cJSON *list);
KT_MUST_USE int cluster_ranges_of_nodes(struct cidr_set *set, const struct cJSON *list);
KT_MUST_USE int cluster_ranges_of_pods(struct cidr_set *set, const struct cJSON *list);

#endif
