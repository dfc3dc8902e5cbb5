/* Asks after the pod of an agent that was there: does it still run, and what became of it?
 *
 * The owner's memory. Makes nothing in the cluster. */
#ifndef KTVPN_CLIENT_KUBE_POD_CHECK_H
#define KTVPN_CLIENT_KUBE_POD_CHECK_H

#include "client/kube/agent_status.h"
#include "client/kube/api.h"

struct pod_check_answer {
    bool is_running;  /* also when the API does not answer: then `why` says so */
    bool has_crashed; /* its container ended by itself: not deleted, not evicted from outside */
    unsigned
        starts; /* of the container, so that another one (with another key) in the same pod is noticed; 0: unknown */
    const char *why;
};

typedef void pod_check_done(void *context, const struct pod_check_answer *answer);

struct pod_check {
    struct api *api;
    void *context;
    pod_check_done *done;
    struct api_request *request;
    char pod[254];
};

/* A second call takes the place of one under way. Without memory no answer comes: whoever doubts asks again. */
void pod_check_start(struct pod_check *check, struct api *api, const char *name_space, const char *pod,
                     pod_check_done *done, void *context);
/* No answer comes any more. Fine when none is under way. */
void pod_check_cancel(struct pod_check *check);

#endif
