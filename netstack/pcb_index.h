/* One netstack's share of lwIP: its interface, its listener, its clock, and its connections in hash buckets.
 *
 * lwIP keeps its state in globals: one list of connections (searched packet by packet), one list of listeners, one
 * clock. Here each netstack has its own, and the connections of each are spread over buckets. pcb_index_enter() puts
 * one bucket's list and this netstack's interface, listener and clock into lwIP's globals; pcb_index_leave() takes the
 * list back. Between the two, and only there, lwIP may be called, and only for connections of that bucket. So a search
 * is short, netstacks do not meet, and lwIP is not patched. Pairs do not nest.
 *
 * Any destination: lwIP accepts a SYN if its listener has the segment's port and any address. The listener's port is
 * set to the segment's own for a SYN that shall be answered, and to 0, which no segment has, for all else. */
#ifndef KTVPN_NETSTACK_PCB_INDEX_H
#define KTVPN_NETSTACK_PCB_INDEX_H

#include "lwip/netif.h"
#include "lwip/tcp.h"

#include "common/packet.h"
#include "netstack/netstack.h"

#define PCB_BUCKETS 2039 /* a prime */
#define PCB_KEY_SIZE 16
#define PCB_TICK_MS 250 /* TCP_SLOW_INTERVAL */

struct pcb_index {
    struct netif netif; /* its `state` is the netstack */
    struct tcp_pcb_listen *listener;
    uint32_t ticks;
    unsigned entered;
    uint8_t isn_key[PCB_KEY_SIZE];
    struct tcp_pcb *head[PCB_BUCKETS];
};

/* `accept` is called when a connection is established, with what `callback_arg` of its pcb says. 0 or -ENOMEM. */
KT_MUST_USE int pcb_index_init(struct pcb_index *index, uint16_t mtu, void *state, netif_output_fn output_v4,
                               netif_output_ip6_fn output_v6, tcp_accept_fn accept);
/* All connections must have ended. */
void pcb_index_deinit(struct pcb_index *index);

void pcb_index_enter(struct pcb_index *index, unsigned bucket);
void pcb_index_leave(struct pcb_index *index);

/* One segment into lwIP, inside enter and leave. `lend` when lwIP will not keep its payload; else `copy`. -ENOMEM: it
 * was lost. */
void pcb_index_lend(struct pcb_index *index, const struct packet *packet, const uint8_t *data);
KT_MUST_USE int pcb_index_copy(struct pcb_index *index, const struct packet *packet, const uint8_t *data);
/* A SYN that shall be answered. The new pcb, whose callback_arg is `arg` and whose SYN-ACK is out; NULL: no memory. */
struct tcp_pcb *pcb_index_accept(struct pcb_index *index, const struct packet *packet, const uint8_t *data, void *arg);

/* Every PCB_TICK_MS: retransmissions, probes, time-outs. Enters and leaves by itself. */
void pcb_index_tick(struct pcb_index *index);

#endif
