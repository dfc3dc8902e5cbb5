/* UDP flows and ICMP echo: each flow has a connected UDP or ping socket, from the first packet until it was silent for
 * long enough.
 *
 * An echo is answered only by what the ping socket received. A UDP flow's answers come from the address that was asked,
 * because the socket is connected to it. What the network says about a datagram (port unreachable, time exceeded, too
 * big, ...) the socket is told with IP_RECVERR, by whom and about what; the client is told the same.
 *
 * This is the first hop behind the client: a datagram that may make no further hop is answered with "time exceeded"
 * from this machine's own address, any other goes on with one hop less. So traceroute sees the way as it is. What the
 * client sends is never queued: a full socket loses it, as a full link would. What the sockets receive is not lost
 * here: a datagram that output had no room for is kept, and no other socket is read until it is out.
 *
 * Flows are found by hash, and each class is a list in the order of last use: the first one is what expires or makes
 * room. */
#ifndef KTVPN_NETSTACK_DATAGRAM_H
#define KTVPN_NETSTACK_DATAGRAM_H

#include "netstack/endpoint.h"
#include "netstack/message.h"

#define DATAGRAM_BUCKETS 1021
#define DATAGRAM_DNS_IDLE_MS 10000 /* port 53: one question, one answer */

enum datagram_class_name { DATAGRAM_UDP, DATAGRAM_DNS, DATAGRAM_PING, DATAGRAM_CLASSES };

struct netstack;

struct datagram {
    struct endpoint endpoint;
    struct netstack *netstack;
    struct datagram *next; /* in its bucket */
    struct netstack_flow flow;
    struct address to; /* where the owner's route made it go: stands for the flow's target */
    enum datagram_class_name class;
    unsigned bucket;
    uint8_t hops, service; /* what the socket was told; 0: nothing yet */
    uint64_t used_ms;
    struct list age;     /* in its class, or among the dead */
    struct list waiting; /* it has something to read, but may not now */
};

struct datagram_class {
    struct list age;
    uint32_t count;
};

struct datagram_table {
    struct datagram *bucket[DATAGRAM_BUCKETS];
    struct datagram_class class[DATAGRAM_CLASSES];
    struct list waiting, dead;
    uint32_t fragment_id;
    /* A received one that output did not take whole. */
    struct netstack_flow flow;
    size_t size, sent; /* of head and body; size 0: there is none */
    uint8_t head[MESSAGE_HEAD_MAX];
    size_t head_size;
    uint8_t body[0x10000];
};

void datagram_table_init(struct netstack *netstack);
void datagram_table_deinit(struct netstack *netstack);

/* -EBADMSG: malformed. Another negative errno: dropped. */
KT_MUST_USE int datagram_input(struct netstack *netstack, const struct packet *packet, const uint8_t *data);
void datagram_on_edge(struct datagram *datagram);
/* Reads one. False: it need not be called again before the next edge or resume. */
bool datagram_pull(struct datagram *datagram);

void datagram_resume(struct netstack *netstack);
void datagram_tick(struct netstack *netstack);
void datagram_reap(struct netstack *netstack);

#endif
