/* The objects that make an agent run in a cluster: a Job, and without an image of ours a ConfigMap with the binary.
 *
 * Pure: no request is made here. */
#ifndef KTVPN_CLIENT_KUBE_AGENT_MANIFEST_H
#define KTVPN_CLIENT_KUBE_AGENT_MANIFEST_H

#include "client/agent_binary.h"
#include "client/kube/image_pick.h"

struct cJSON;

struct agent_manifest {
    const char *name;              /* of Job and ConfigMap, and the value of AGENT_MANIFEST_LABEL on the pod */
    const char *owner;             /* "user@host"; NULL: nobody's name */
    const char *image;             /* an image of the agent; NULL: the binary from the ConfigMap in `pick` */
    const struct image_pick *pick; /* with no `image` */
    const struct placement *placement;
};

#define AGENT_MANIFEST_LABEL "app.kubernetes.io/instance"

/* The caller frees the result with cJSON_Delete(). NULL: no memory. */
KT_MUST_USE struct cJSON *agent_manifest_job(const struct agent_manifest *manifest);
/* The pod that such a Job makes, for a dry run. */
KT_MUST_USE struct cJSON *agent_manifest_pod(const struct cJSON *job);
/* Owned by the Job, so that it goes when the Job goes. */
KT_MUST_USE struct cJSON *agent_manifest_config_map(const char *name, const char *job_uid,
                                                    const struct agent_binary *binary);

#endif
