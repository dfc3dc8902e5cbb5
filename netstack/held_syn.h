/* A SYN that waits for the answer of our own connect(): kept as it came, then given to lwIP, or answered with what
 * connect() said. Never a forged handshake. */
#ifndef KTVPN_NETSTACK_HELD_SYN_H
#define KTVPN_NETSTACK_HELD_SYN_H

#include "common/packet.h"
#include "netstack/pcb_index.h"

struct netstack;
struct held_syn;

/* Keeps the headers (data in a SYN is left out: the client sends it again). NULL: no memory. */
KT_MUST_USE struct held_syn *held_syn_new(const struct packet *packet, const uint8_t *data);
void held_syn_free(struct held_syn *syn);

/* Inside pcb_index_enter() and leave: a pcb with callback_arg `flow`, which has sent its SYN-ACK; NULL: no memory. */
struct tcp_pcb *held_syn_accept(const struct held_syn *syn, struct pcb_index *index, void *flow);
/* connect() failed with `error` (negative errno): RST when the far side refused, ICMP unreachable when it cannot be
 * reached, nothing when the fault is ours (the client asks again). Inside enter and leave. */
void held_syn_refuse(const struct held_syn *syn, struct netstack *netstack, struct pcb_index *index, int error);

#endif
