/* ICMP destination unreachable (RFC 792; its codes RFC 1812 5.2.7.1), as the router nearest to the target would send
 * it. */
#ifndef KTVPN_NETSTACK_ICMP_ERROR_H
#define KTVPN_NETSTACK_ICMP_ERROR_H

#include "common/packet.h"

struct netstack;

enum icmp_code { ICMP_NET = 0, ICMP_HOST = 1, ICMP_PORT = 3, ICMP_PROHIBITED = 13 };

/* What a socket's error (negative errno) says about its target; -1 when it is a fault of this machine and says nothing.
 */
int icmp_error_code(int error);
/* About a packet that came in, of which at least the header is in `data`. Sent from its target; lost when output has no
 * room. */
void icmp_error_send(struct netstack *netstack, const struct packet *packet, const uint8_t *data, int code);

#endif
