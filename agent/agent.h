/* The whole agent: its key, its listeners, its sessions, and when it ends. */
#ifndef KTVPN_AGENT_AGENT_H
#define KTVPN_AGENT_AGENT_H

#include "agent/settings.h"
#include "common/noise.h"

struct uv_loop_s;
struct agent;

/* Draws a key pair, reads the pod's resolv.conf and listens. 0, or -errno after a line in the log. `settings` must live
 * as long as the agent. */
KT_MUST_USE int agent_open(struct agent **out, struct uv_loop_s *loop, const struct settings *settings);
/* Says goodbye to all clients and closes everything; the loop runs dry and the memory is gone then. Also done by itself
 * on SIGTERM, SIGINT and SIGHUP, and when no client needs the agent: `settings` says when. */
void agent_close(struct agent *agent);

const uint8_t *agent_key(const struct agent *agent); /* public, WIRE_KEY_SIZE bytes */
/* Of the settings' listener `i`; 0 when it could not be opened. */
uint16_t agent_port(const struct agent *agent, size_t i);

#endif
