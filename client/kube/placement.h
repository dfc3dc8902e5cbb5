/* Where and how the user wants the agent's pod to run, beyond what ktvpn chooses: from flags into the Job.
 *
 * Values are checked when they are added, with the rules and the words of Kubernetes
 * (k8s.io/apimachinery/pkg/util/validation), so that a bad one is refused before anything is made. */
#ifndef KTVPN_CLIENT_KUBE_PLACEMENT_H
#define KTVPN_CLIENT_KUBE_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/compiler.h"

#define PLACEMENT_MAX 16        /* of each kind */
#define PLACEMENT_TEXT_MAX 1024 /* bytes of one flag's value */

enum placement_kind {
    PLACEMENT_NODE_SELECTOR, /* K=V */
    PLACEMENT_TOLERATION,    /* K[=V][:EFFECT] */
    PLACEMENT_PULL_SECRET,   /* NAME */
    PLACEMENT_REQUESTS,      /* cpu=100m,memory=64Mi */
    PLACEMENT_LIMITS,
    PLACEMENT_LABEL,      /* K=V */
    PLACEMENT_ANNOTATION, /* K=V */
    PLACEMENT_KINDS
};

/* The texts are the caller's. */
struct placement {
    const char *text[PLACEMENT_KINDS][PLACEMENT_MAX];
    size_t count[PLACEMENT_KINDS];
};

/* NULL: added; else why not, in Kubernetes' words. */
KT_MUST_USE const char *placement_add(struct placement *placement, enum placement_kind kind, const char *text);

/* Writes it into a Job. -ENOMEM. */
struct cJSON;
KT_MUST_USE int placement_apply(const struct placement *placement, struct cJSON *job);

/* May the pod go to this Node: does it have the labels, and are its taints tolerated? */
bool placement_fits(const struct placement *placement, const struct cJSON *node);

#endif
