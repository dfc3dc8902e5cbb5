/* What the agent's pod is doing, read from its object in the API; and the agent's first log line, which holds its key.
 *
 * Pure. Text in a result comes from the network and is already escaped. */
#ifndef KTVPN_CLIENT_KUBE_AGENT_STATUS_H
#define KTVPN_CLIENT_KUBE_AGENT_STATUS_H

#include <stdbool.h>
#include <stddef.h>

#include "client/error.h"
#include "common/address.h"
#include "common/wire.h"

#define AGENT_STATUS_REASON_MAX 600
#define AGENT_CONTAINER "agent"

enum agent_state {
    AGENT_PENDING,  /* on no node yet */
    AGENT_STARTING, /* on a node; its container does not run yet */
    AGENT_RUNNING,
    AGENT_ENDED,   /* the container or the whole pod; it does not come back */
    AGENT_LEAVING, /* somebody deletes the pod */
};

struct agent_status {
    enum agent_state state;
    bool is_troubled; /* PENDING, STARTING: it goes on only if something changes; `reason` says what is wrong */
    bool is_ready;    /* RUNNING: and its probe says so */
    bool has_crashed; /* ENDED: its container ended by itself, or for want of memory */
    unsigned starts;  /* of the container: each start is another agent, with another key */
    char pod[254], node[254];
    struct address address;               /* of the pod; ADDRESS_NONE: not yet */
    char reason[AGENT_STATUS_REASON_MAX]; /* the API's own words; may be empty */
};

struct cJSON;

/* From a Pod. -EBADMSG when it is none, or its name is no name. */
KT_MUST_USE int agent_status_read(struct agent_status *out, const struct cJSON *pod);

/* The newest of an EventList, when it is a Warning: "FailedCreate: pods ... is forbidden: exceeded quota ...". -ENOENT
 * when there is none, or what came after it is good news. */
KT_MUST_USE int agent_status_warning(char out[static AGENT_STATUS_REASON_MAX], const struct cJSON *list);

/* "ktvpn-agent VERSION key BASE64": the first line of every agent. -EBADMSG (another program, or garbage),
 * -EPROTONOSUPPORT (an agent of a version that does not fit this client); `error` is filled. Only major and minor
 * version count. */
KT_MUST_USE int agent_status_key(uint8_t key[static WIRE_KEY_SIZE], const char *line, size_t size, struct error *error);

#endif
