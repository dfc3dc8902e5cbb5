/* What `up` needs of the Kubernetes API, as one sequence:
 *
 *   CHECKING   namespace, rights and ranges at once     -> on_checked
 *   CHECKED    nothing was changed in the cluster so far; cluster_launch() goes on
 *   LAUNCHING  the agent's Job                          -> on_agent
 *   RUNNING    watches names; after cluster_doubt() the pod is looked for and, when it is gone, LAUNCHING again
 *   FAILED     on_failed came; only cluster_close() may follow. An agent that was there once is started anew for ever
 * instead. */
#ifndef KTVPN_CLIENT_CLUSTER_H
#define KTVPN_CLIENT_CLUSTER_H

#include "client/kube/api.h"
#include "client/kube/cluster_ranges.h"
#include "client/kube/launcher.h"
#include "client/names.h"

#define CLUSTER_RELAUNCH_MIN_MS 1000
#define CLUSTER_RELAUNCH_MAX_MS 30000

struct cluster;
struct stream;

struct cluster_ops {
    void (*on_checked)(void *context, const struct cluster_ranges *ranges);
    void (*on_step)(void *context, const char *text);
    void (*on_agent)(void *context, const struct launcher_agent *agent);
    void (*on_failed)(void *context, const struct error *error);
    /* A Service of the namespace, or a namespace, that is there (or not any more). */
    void (*on_name)(void *context, enum names_kind kind, const char *name, bool is_there);
    /* The Services that there are have been told, or cannot be had: once, after cluster_watch_names(). */
    void (*on_names_known)(void *context);
};

/* Texts must outlive the cluster. */
struct cluster_options {
    const struct kubeconfig *config;
    const char *name_space;
    const char *image; /* --agent-image, or NULL */
    const char *owner; /* "user@host" */
};

/* Starts CHECKING. 0 or -errno with `error` (then *out may be set all the same, and is to be closed); -EINVAL: no name
 * of a namespace. */
KT_MUST_USE int cluster_open(struct cluster **out, struct uv_loop_s *loop, const struct cluster_options *options,
                             const struct cluster_ops *ops, void *context, struct error *error);
void cluster_launch(struct cluster *cluster);
/* on_name comes from now on, for what is there first. -ENOMEM: it does not, nor does on_names_known. */
KT_MUST_USE int cluster_watch_names(struct cluster *cluster);
void cluster_doubt(struct cluster *cluster);
/* A port-forward to the agent's pod. -ENOTCONN: there is no agent now. */
KT_MUST_USE int cluster_dial(struct cluster *cluster, struct stream **out);
/* Deletes what was made, then on_closed. NULL: on_closed is not called. */
void cluster_close(struct cluster *cluster, void (*on_closed)(void *context));

struct api *cluster_api(struct cluster *cluster);

#endif
