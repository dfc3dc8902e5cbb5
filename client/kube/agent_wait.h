/* Waits for the pod of an agent's Job: until its container runs and its log has told the key, or until it is known why
 * not.
 *
 * Belongs to a launcher. Makes and deletes nothing in the cluster. */
#ifndef KTVPN_CLIENT_KUBE_AGENT_WAIT_H
#define KTVPN_CLIENT_KUBE_AGENT_WAIT_H

#include "client/kube/agent_status.h"
#include "client/kube/api.h"

#define AGENT_WAIT_READY_MS 60000  /* in all; then the reason so far is the error */
#define AGENT_WAIT_KEY_MS 10000    /* the container runs, and its log is silent: it is no agent */
#define AGENT_WAIT_TROUBLE_MS 4000 /* what the pod complains about may pass for this long; then it is the error */
#define AGENT_WAIT_NO_POD_MS 10000 /* the Job's controller makes no pod */

struct agent_wait;

struct agent_wait_ops {
    void (*on_step)(void *context, const char *text);
    /* One of these two, once. The owner stops the wait in it or later. `has_crashed`: the agent ended by itself. */
    void (*on_ready)(void *context, const struct agent_status *pod, const uint8_t key[static WIRE_KEY_SIZE]);
    void (*on_failed)(void *context, const struct error *error, bool has_crashed);
};

/* `name_space` and `job` (also the value of AGENT_MANIFEST_LABEL on its pod) must outlive the wait. NULL: no memory. */
KT_MUST_USE struct agent_wait *agent_wait_start(struct api *api, struct uv_loop_s *loop, const char *name_space,
                                                const char *job, const struct agent_wait_ops *ops, void *context);
/* No callback comes any more; the memory goes later, on the loop. NULL is fine. */
void agent_wait_stop(struct agent_wait *wait);

#endif
