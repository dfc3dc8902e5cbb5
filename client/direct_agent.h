/* An agent that is reached by plain TCP (--agent tcp://), without the Kubernetes API: there is nobody to ask what
 * became of it, so what does not work at the start will not work later. */
#ifndef KTVPN_CLIENT_DIRECT_AGENT_H
#define KTVPN_CLIENT_DIRECT_AGENT_H

#include "client/options.h"

/* Why the first tries failed (with `rc`), for the user: fills `error` and returns it. */
const struct error *direct_agent_error(const struct options *options, int rc, struct error *error);

#endif
