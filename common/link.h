/* A link: the carriers of one session, and the packets that wait for them.
 *
 * A packet goes to the carrier that its flow's hash picks, so that a flow stays in order. What finds no room waits in a
 * bounded queue, which is fair to flows and skips those whose carrier is full; when the queue is full the caller is
 * told, stops reading its source, and goes on when link_has_room(). Carriers come and go; the queue stays. The link
 * never opens, closes or frees a carrier. */
#ifndef KTVPN_COMMON_LINK_H
#define KTVPN_COMMON_LINK_H

#include "common/carrier.h"
#include "common/fair_queue.h"

struct link {
    struct carrier *carrier[WIRE_CARRIERS_MAX];
    size_t carriers;
    uint64_t down_since_ms; /* valid while carriers == 0 */
    uint64_t packets_queued, packets_sent;
    struct fair_queue *queue; /* NULL when made with queue_bytes 0 */
};

/* queue_bytes 0: no queue; what finds no room is refused at once (the agent: lwIP keeps its segments itself). */
KT_MUST_USE int link_init(struct link *link, size_t queue_bytes, uint64_t now_ms);
void link_deinit(struct link *link);

/* By its slot, which is its own while it is attached. -ENOSPC when there are WIRE_CARRIERS_MAX already. */
KT_MUST_USE int link_attach(struct link *link, struct carrier *carrier);
/* Fine if it is not attached. */
void link_detach(struct link *link, struct carrier *carrier, uint64_t now_ms);
bool link_is_up(const struct link *link);

/* 0: sealed or queued. -ENOBUFS: no room, nothing taken. -EMSGSIZE: not a packet that fits WIRE_MTU. */
KT_MUST_USE int link_send(struct link *link, const struct carrier_part *parts, int count);
/* Seals queued packets as far as carriers have room; call when a carrier has sent bytes and after attach. */
void link_flush(struct link *link);
bool link_has_room(const struct link *link);
size_t link_queued_bytes(const struct link *link);

/* Which carrier a packet's flow uses; NULL when the link is down. Packets that are no valid IP share one. */
struct carrier *link_pick(const struct link *link, const uint8_t *packet, size_t size);
struct carrier *link_pick_hash(const struct link *link, uint32_t hash); /* packet_hash() */
/* The one with the fewest bytes to write, for what belongs to no flow; NULL when the link is down. */
struct carrier *link_least_loaded(const struct link *link);

#endif
