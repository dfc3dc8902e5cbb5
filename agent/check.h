/* The exec probe of Kubernetes: is the agent in this pod well? */
#ifndef KTVPN_AGENT_CHECK_H
#define KTVPN_AGENT_CHECK_H

#include "agent/settings.h"

#define CHECK_TIMEOUT_MS 2000

/* Connects to where the settings say that an agent listens, reads its HELLO and verifies it. Blocks for at most
 * CHECK_TIMEOUT_MS for each step. 0, or -errno: -EPROTO when something else is there, -EAGAIN when it does not answer.
 */
KT_MUST_USE int check_agent(const struct settings *settings);

#endif
