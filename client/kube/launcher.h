/* Gets an agent to talk to: starts one as a Job with no image of ours (or with --agent-image), waits until it is ready,
 * and reads its public key from its log.
 *
 * The Job owns everything else that is made (the ConfigMap with the binary), so that deleting it, or its TTL, removes
 * all. launcher_close() deletes the Job. When the pod is gone, launcher_restart() starts a new one. */
#ifndef KTVPN_CLIENT_KUBE_LAUNCHER_H
#define KTVPN_CLIENT_KUBE_LAUNCHER_H

#include <stdint.h>

#include "client/kube/access.h"
#include "client/kube/api.h"
#include "client/kube/pod_check.h"
#include "common/address.h"
#include "common/wire.h"

#define LAUNCHER_PORT 4789     /* of the agent on 127.0.0.1 and ::1 in its pod */
#define LAUNCHER_CLOSE_MS 3000 /* how long launcher_close() waits for the API */

struct launcher_options {
    const char *name_space;
    const char *image;                 /* --agent-image; NULL: none, the binary goes into a ConfigMap */
    const char *owner;                 /* "user@host", for a label's or annotation's reader */
    const struct placement *placement; /* its texts must outlive the launcher; NULL: as ktvpn chooses */
};

struct launcher_agent {
    char name_space[64], pod[254], node[254];
    bool is_installed; /* an administrator's, not our Job's */
    uint16_t port;
    uint8_t key[WIRE_KEY_SIZE];
    struct address pod_address;
};

struct launcher_ops {
    void (*on_step)(void *context, const char *text); /* "agent pod ktvpn-x1-abcde scheduled on node1" */
    void (*on_ready)(void *context, const struct launcher_agent *agent);
    /* What was made is being deleted. `has_crashed`: the agent came, and ended by itself. */
    void (*on_failed)(void *context, const struct error *error, bool has_crashed);
};

struct uv_loop_s;
struct launcher;

/* The rights that `ktvpn up` needs in the namespace, to be copied for access_start(). */
const struct access_need *launcher_needs(size_t *count);

/* Begins on the loop's next turn. What `options` points to is copied. 0, -ENOMEM, -EINVAL (no name of a namespace). */
KT_MUST_USE int launcher_open(struct launcher **out, struct api *api, struct uv_loop_s *loop,
                              const struct launcher_options *options, const struct launcher_ops *ops, void *context);
/* The pod is gone or its agent lost the session: delete the Job, start anew. on_ready or on_failed follows. */
void launcher_restart(struct launcher *launcher);
/* Asks whether the pod still runs. Only after on_ready; a second call takes the place of one under way. */
void launcher_check(struct launcher *launcher, pod_check_done *on_answer);
/* Deletes the Job and what it owns, waits for the answer (at most LAUNCHER_CLOSE_MS), then on_closed (may be NULL). */
void launcher_close(struct launcher *launcher, void (*on_closed)(void *context));

#endif
