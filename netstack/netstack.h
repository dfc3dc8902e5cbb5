/* IP packets on one side, ordinary sockets on the other: the same code for both ends of the tunnel.
 *
 * The owner gives packets to netstack_input() and gets packets by ops->output. For each new flow ops->route says where
 * its socket goes. TCP is lwIP's, but only once the socket's own connect() succeeded: a SYN is held until then, and
 * answered with RST or ICMP unreachable when it fails. UDP flows and ICMP echo are re-originated from connected UDP and
 * ping sockets.
 *
 * One netstack belongs to one session; several can live in one process (lwIP's globals are swapped when one is
 * entered). One thread, one loop. Never blocks, never drops TCP: what finds no room at ops->output stays in lwIP. */
#ifndef KTVPN_NETSTACK_NETSTACK_H
#define KTVPN_NETSTACK_NETSTACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/address.h"
#include "common/carrier.h"
#include "common/compiler.h"

#define NETSTACK_FLOWS_MAX \
    16384                     /* TCP; beyond it the longest idle half-closed flow ends first, then SYNs are dropped */
#define NETSTACK_UDP_MAX 4096 /* beyond it the longest idle UDP flow is replaced */
#define NETSTACK_PING_MAX 256
#define NETSTACK_UDP_IDLE_MS 60000
#define NETSTACK_PING_IDLE_MS 10000
#define NETSTACK_DEVICE_MAX 16 /* IFNAMSIZ */

struct uv_loop_s;
struct netstack;

enum netstack_protocol { NETSTACK_ICMP = 1, NETSTACK_TCP = 6, NETSTACK_UDP = 17, NETSTACK_ICMPV6 = 58 };

/* Who talks to whom, as the packets say it: `source` is behind the packets, `target` behind the sockets. */
struct netstack_flow {
    enum netstack_protocol protocol;
    struct address source, target;
    uint16_t source_port, target_port; /* ICMP echo: both are the identifier */
};

enum netstack_verdict {
    NETSTACK_DIAL,   /* open a socket to `route` */
    NETSTACK_REFUSE, /* RST, or ICMP port unreachable */
    NETSTACK_DROP,
};

/* Preset to the flow's own target; change what shall differ. */
struct netstack_route {
    struct address address;
    uint16_t port;
    char device[NETSTACK_DEVICE_MAX]; /* SO_BINDTODEVICE; empty: none */
};

struct netstack_ops {
    /* One packet for the other side; the parts are valid during the call. -ENOBUFS: no room now; it is offered again
     * after netstack_resume(). */
    int (*output)(void *context, const struct carrier_part *parts, int count);
    enum netstack_verdict (*route)(void *context, const struct netstack_flow *flow, struct netstack_route *route);
};

/* Why a packet was dropped. */
enum netstack_drop {
    NETSTACK_DROP_MALFORMED,
    NETSTACK_DROP_UNSPECIFIED, /* 0.0.0.0/8, ::, IPv4 in IPv6 (RFC 4291 2.5.5) */
    NETSTACK_DROP_LOOPBACK,
    NETSTACK_DROP_LINK_LOCAL, /* IPv6; what IPv4's are good for is the owner's to say */
    NETSTACK_DROP_MULTICAST,
    NETSTACK_DROP_BROADCAST,
    NETSTACK_DROP_FRAGMENT, /* of TCP, or one that spoils its datagram */
    NETSTACK_DROP_PROTOCOL, /* neither TCP, UDP nor an echo */
    NETSTACK_DROP_OTHER,    /* refused by the owner, over a cap, no memory, a full socket */
    NETSTACK_DROPS
};
const char *netstack_drop_name(enum netstack_drop drop);

struct netstack_stats {
    uint32_t tcp_flows, udp_flows, ping_flows;
    uint64_t packets_in, packets_out, packets_dropped; /* dropped: in either direction */
    uint64_t drops[NETSTACK_DROPS];                    /* of those that came in */
    uint64_t tcp_opened, tcp_refused;
};

/* 0, -ENOMEM, or the error of the loop. `mtu` is the largest packet for output. */
KT_MUST_USE int netstack_open(struct netstack **out, struct uv_loop_s *loop, uint16_t mtu,
                              const struct netstack_ops *ops, void *context);
/* Ends every flow (sockets are reset); `on_closed` (may be NULL) runs later on the loop, when all memory is gone. */
void netstack_close(struct netstack *netstack, void (*on_closed)(void *context));

/* One IPv4 or IPv6 packet. Anything malformed is counted and dropped. */
void netstack_input(struct netstack *netstack, const uint8_t *packet, size_t size);
/* Call once after a batch of inputs: acknowledgements go out here. */
void netstack_input_done(struct netstack *netstack);

/* ops->output has room again. */
void netstack_resume(struct netstack *netstack);
/* No carrier: timers stand still, sockets are not read. thaw: every flow with unacknowledged data sends it at once. */
void netstack_freeze(struct netstack *netstack);
void netstack_thaw(struct netstack *netstack);
/* As thaw, for the flows whose carrier was lost while others go on. */
void netstack_resend(struct netstack *netstack, bool (*is_lost)(void *context, const struct netstack_flow *flow),
                     void *context);

void netstack_stats(const struct netstack *netstack, struct netstack_stats *stats);

/* Can this process open ping sockets of the family? */
bool netstack_can_ping(enum address_family family);

#endif
