/* What a UDP datagram or an ICMP echo looks like as a packet, and as what its socket sends and receives.
 *
 *   UDP (RFC 768): the socket sees the payload.
 *   ICMP echo (RFC 792, RFC 4443): a ping socket sees the whole ICMP message, but puts an identifier of its own into
 * it. */
#ifndef KTVPN_NETSTACK_MESSAGE_H
#define KTVPN_NETSTACK_MESSAGE_H

#include "common/packet.h"
#include "netstack/netstack.h"

#define MESSAGE_HEAD_MAX 8

struct message {
    struct netstack_flow flow;
    const uint8_t *body; /* for the socket; inside of the packet */
    size_t size;
};

/* -EBADMSG: malformed, a fragment, or no echo request. */
KT_MUST_USE int message_parse(struct message *message, const struct packet *packet, const uint8_t *data);

/* The other way: what goes in front of `body`, which came from the flow's socket, after the IP header; its size is
 * returned. For an echo the body itself is made right. -EBADMSG: not an answer for the client. */
KT_MUST_USE int message_finish(uint8_t head[static MESSAGE_HEAD_MAX], const struct netstack_flow *flow, uint8_t *body,
                               size_t size);
/* Completes a UDP header's checksum, which is valid where nobody completes it later: in fragments of IPv6, where there
 * must be one (RFC 8200 8.1). */
void message_sum(uint8_t head[static MESSAGE_HEAD_MAX], const struct netstack_flow *flow, const uint8_t *body,
                 size_t size);

#endif
