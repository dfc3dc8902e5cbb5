/* Where a client's flows may go: everywhere that the pod itself can reach on the network, but not into the pod. */
#ifndef KTVPN_AGENT_POLICY_H
#define KTVPN_AGENT_POLICY_H

#include "netstack/netstack.h"

enum netstack_verdict policy_verdict(const struct netstack_flow *flow);

#endif
