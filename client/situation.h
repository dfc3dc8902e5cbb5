/* How a running ktvpn stands, gathered from its parts: what `ktvpn status` shows. */
#ifndef KTVPN_CLIENT_SITUATION_H
#define KTVPN_CLIENT_SITUATION_H

#include "client/cluster.h"
#include "client/identity.h"
#include "client/machine.h"
#include "client/tunnel.h"

#define SITUATION_TIME_MAX 32

struct situation {
    const struct identity *who;
    const struct launcher_agent *agent;
    const struct cluster_ranges *found;
    const struct machine *machine;
    struct tunnel *tunnel; /* NULL: none any more */
    const char *since;
    bool is_ready, is_leaving;
};

/* The time now, as the Kubernetes API writes times. */
void situation_print_now(char out[static SITUATION_TIME_MAX]);
/* The caller frees it. NULL: no memory. */
char *situation_json(const struct situation *situation);

#endif
