/* The agent's binary that the client carries, for clusters without our image: one for each architecture. */
#ifndef KTVPN_CLIENT_AGENT_BINARY_H
#define KTVPN_CLIENT_AGENT_BINARY_H

#include <stddef.h>
#include <stdint.h>

struct agent_binary {
    const char *arch; /* as in the node's label kubernetes.io/arch */
    const uint8_t *data;
    size_t size;
};

/* NULL: this build carries no agent for that architecture. */
const struct agent_binary *agent_binary_find(const char *arch);
/* The architecture to assume when nobody tells it: that of this build's first agent. */
const char *agent_binary_first_arch(void);

#endif
