/* A listening TCP socket: hands over each connection that comes, and never spins when there are no descriptors left. */
#ifndef KTVPN_AGENT_LISTENER_H
#define KTVPN_AGENT_LISTENER_H

#include <stdint.h>

#include "common/address.h"

#define LISTENER_BACKLOG 128
#define LISTENER_TURN_MAX 32  /* connections taken in one turn of the loop */
#define LISTENER_PAUSE_MS 200 /* not listening after the kernel had no descriptor or memory for a connection */

struct uv_loop_s;
struct listener;

/* `fd` is connected and non-blocking, and the callee's from here on. */
typedef void listener_accept(void *context, int fd, const struct address *from, uint16_t from_port);

/* Port 0: the kernel picks one. 0, -ENOMEM, or the error of socket(), bind(), listen() or the loop. */
KT_MUST_USE int listener_open(struct listener **out, struct uv_loop_s *loop, const struct address *address,
                              uint16_t port, listener_accept *on_accept, void *context);
uint16_t listener_port(const struct listener *listener);
/* No callback comes after it; memory goes later, on the loop. NULL is fine. */
void listener_close(struct listener *listener);

#endif
