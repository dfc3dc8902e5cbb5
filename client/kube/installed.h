/* An agent that an administrator installed (deploy/installed-agent.sh): finds a Ready pod of it by its labels and reads
 * its public key from its log. With it a developer needs no right to make anything.
 *
 * Makes nothing in the cluster; leaves nothing there. */
#ifndef KTVPN_CLIENT_KUBE_INSTALLED_H
#define KTVPN_CLIENT_KUBE_INSTALLED_H

#include "client/kube/launcher.h"

#define INSTALLED_NAMESPACE "ktvpn" /* where it is looked for when it is not in the user's namespace */
#define INSTALLED_PODS_MAX 16       /* of an answer that are tried */
#define INSTALLED_NAME_MAX 64       /* of a namespace or an agent, with NUL */

struct installed_options {
    const char *name_space; /* the user's */
    const char *place;      /* only in this namespace; NULL or "": in the user's, then in INSTALLED_NAMESPACE */
    const char *name;       /* the one of this name (label app.kubernetes.io/instance); NULL or "": any */
};

struct installed_ops {
    void (*on_ready)(void *context, const struct launcher_agent *agent);
    /* None can be used now. `why` NULL: there is simply none, and nobody asked for it by name. */
    void (*on_none)(void *context, const struct error *why);
};

struct installed;

/* Starts to look; one of the callbacks follows. What `options` points to is copied. 0, -ENOMEM, -EINVAL (no name of a
 * namespace, or of an agent). */
KT_MUST_USE int installed_open(struct installed **out, struct api *api, const struct installed_options *options,
                               const struct installed_ops *ops, void *context);
/* Looks again; the pod of before is only taken when there is no other. 0: one of the callbacks follows; -ENOMEM. */
KT_MUST_USE int installed_restart(struct installed *installed);
/* Asks whether the pod still runs the agent whose key we have. Only after on_ready. */
void installed_check(struct installed *installed, pod_check_done *on_answer);
/* No callback comes any more; the memory is gone. NULL is fine. */
void installed_close(struct installed *installed);

/* Pure, for tests: which pods of a PodList may be tried, best first; `seed` spreads the clients over the pods. Those of
 * the newest pod template come first, because a rolling update is about to delete the others; `last`, a pod's name (may
 * be empty), is the last of all. Returns how many. */
struct cJSON;
size_t installed_choose(struct agent_status out[static INSTALLED_PODS_MAX], const struct cJSON *list, uint32_t seed,
                        const char *last);

#endif
