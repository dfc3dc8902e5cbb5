/* What `up` needs of the Kubernetes API, as one sequence:
 *
 *   CHECKING   namespace, rights, ranges and an installed agent at once     -> on_checked
 *   CHECKED    nothing was changed in the cluster so far; cluster_launch() goes on
 *   LAUNCHING  the installed agent, or a Job of our own                     -> on_agent
 *   RUNNING    watches names; after cluster_doubt() the pod is looked for and, when it is gone, LAUNCHING again
 *   FAILED     on_failed came; only cluster_close() may follow. An agent that was there once is started anew, or
 * another pod of it looked for, for ever instead; but not when it crashes CLUSTER_CRASHES times in a row
 *
 * With an installed agent, the rights to make one are not needed. When it has gone for good, and it was not asked for
 * by name, a Job of our own takes its place, if the user may make one. */
#ifndef KTVPN_CLIENT_CLUSTER_H
#define KTVPN_CLIENT_CLUSTER_H

#include "client/kube/api.h"
#include "client/kube/cluster_ranges.h"
#include "client/kube/installed.h"
#include "client/kube/launcher.h"
#include "client/names.h"

#define CLUSTER_RELAUNCH_MIN_MS 1000
#define CLUSTER_RELAUNCH_MAX_MS 30000
#define CLUSTER_CRASHES 3 /* of the agent within CLUSTER_CRASHES_MS: it is given up */
#define CLUSTER_CRASHES_MS 60000
#define CLUSTER_INSTALLED_TRIES 4 /* to find another pod of an installed agent; then a Job of our own */

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
    const char *image;                    /* --agent-image, or NULL */
    const char *owner;                    /* "user@host" */
    const char *agent_place, *agent_name; /* --agent [NAMESPACE/]NAME: as in struct installed_options */
    const struct placement *placement;    /* of a Job of ours; NULL: as ktvpn chooses */
    bool is_own_job;                      /* no installed agent is looked for */
};

/* As the command line says. */
struct options;
struct identity;
struct cluster_options cluster_options_of(const struct options *options, const struct identity *who);

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

/* Is there, or may there be, a Job of ours? */
bool cluster_has_job(const struct cluster *cluster);
struct api *cluster_api(struct cluster *cluster);

#endif
