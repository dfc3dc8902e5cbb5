/* What the agent tells each client about the pod that it runs in: the fields of ACCEPT that are the same for all. */
#ifndef KTVPN_AGENT_ABOUT_H
#define KTVPN_AGENT_ABOUT_H

#include "common/resolvconf.h"
#include "common/wire.h"

/* Fills servers, searches, pod, abilities; leaves mtu and idle_ms 0. What cannot be found out stays empty. */
void about_fill(struct wire_accept *accept, const struct resolvconf *conf);

#endif
