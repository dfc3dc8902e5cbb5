/* ICMP errors for the client, as the router nearest to the target, or the one that told us, would send them: RFC 792
 * with the codes of RFC 1812 5.2.7.1, and RFC 4443.
 *
 * An error is never sent about an error: only TCP, UDP and echo requests come this far. No more than
 * ICMP_ERRORS_PER_TICK of them go out in a tick of the netstack. */
#ifndef KTVPN_NETSTACK_ICMP_ERROR_H
#define KTVPN_NETSTACK_ICMP_ERROR_H

#include "common/packet.h"

#define ICMP_ERRORS_PER_TICK 1000

struct netstack;

enum icmp_code { ICMP_NET, ICMP_HOST, ICMP_PORT, ICMP_PROHIBITED, ICMP_TOO_BIG, ICMP_HOPS };

struct icmp_error {
    enum icmp_code code;
    uint32_t mtu;        /* ICMP_TOO_BIG: what fits */
    struct address from; /* ADDRESS_NONE, or of another family than the packet: its target */
};

/* What a socket's error (negative errno) says about its target, as an enum icmp_code; -1 when it is a fault of this
 * machine and says nothing. */
int icmp_error_code(int error);
/* About a packet that came in, of which at least the header is in `data`, and `packet->size` bytes at most are looked
 * at. Lost when output has no room. */
void icmp_error_send(struct netstack *netstack, const struct packet *packet, const uint8_t *data,
                     const struct icmp_error *error);

#endif
