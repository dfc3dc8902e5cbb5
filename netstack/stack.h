/* What the files of this room share: the netstack itself, and the two ways out of it. */
#ifndef KTVPN_NETSTACK_STACK_H
#define KTVPN_NETSTACK_STACK_H

#include <uv.h>

#include "common/packet.h"
#include "netstack/datagram.h"
#include "netstack/endpoint.h"
#include "netstack/flow.h"
#include "netstack/netstack.h"
#include "netstack/reassembly.h"

#define STACK_KEY_SIZE 16
#define STACK_SCRATCH_SIZE (256 * 1024) /* what one read() of a socket may bring */

struct netstack {
    uv_loop_t *loop;
    struct netstack_ops ops;
    void *context;
    void (*on_closed)(void *context);
    uint16_t mtu;
    bool is_blocked; /* output said -ENOBUFS since the last resume */
    bool is_frozen;
    uint8_t handles; /* of the loop, not yet closed */
    uv_timer_t timer;
    uv_idle_t idle; /* runs while the ready list is not empty: the next turn comes without waiting */
    struct endpoint_set endpoints;
    struct flow_table flows;
    struct datagram_table datagrams;
    struct reassembly reassembly;
    uint32_t errors_left; /* ICMP errors that may be sent until the next tick */
    uint8_t hash_key[STACK_KEY_SIZE];
    struct netstack_stats stats;
    uint8_t *scratch;        /* what was just read from a socket */
    uint8_t linear[0x10000]; /* a packet of more parts than output takes */
};

/* One packet to the owner. -ENOBUFS: offer it again later. What the owner refuses for another reason is dropped and
 * counted. */
int stack_output(struct netstack *netstack, const struct carrier_part *parts, int count);
/* The owner's decision about a new flow; `route` is preset. */
enum netstack_verdict stack_route(struct netstack *netstack, const struct netstack_flow *flow,
                                  struct netstack_route *route);
/* Was that the last hop that the packet may make? Then its sender has been told so, or that there is no way to go. */
bool stack_ends_here(struct netstack *netstack, const struct packet *packet, const uint8_t *data,
                     const struct netstack_route *route);

/* Of a flow, by a key that no client knows: nobody can aim at one bucket. */
uint64_t stack_hash(const struct netstack *netstack, const struct netstack_flow *flow);

#endif
