#include "common/link.h"

#include <errno.h>
#include <string.h>

#include "common/cursor.h"
#include "common/packet.h"

int link_init(struct link *link, size_t queue_bytes, uint64_t now_ms)
{
    *link = (struct link){.down_since_ms = now_ms};
    if (queue_bytes == 0)
        return 0;
    link->queue = fair_queue_new(queue_bytes);
    return link->queue == NULL ? -ENOMEM : 0;
}

void link_deinit(struct link *link)
{
    fair_queue_free(link->queue);
    link->queue = NULL;
    link->carriers = 0;
}

int link_attach(struct link *link, struct carrier *carrier)
{
    if (link->carriers == WIRE_CARRIERS_MAX)
        return -ENOSPC;
    link->carrier[link->carriers++] = carrier;
    return 0;
}

void link_detach(struct link *link, struct carrier *carrier, uint64_t now_ms)
{
    for (size_t i = 0; i < link->carriers; i++) {
        if (link->carrier[i] != carrier)
            continue;
        link->carriers--;
        memmove(&link->carrier[i], &link->carrier[i + 1], (link->carriers - i) * sizeof link->carrier[0]);
        if (link->carriers == 0)
            link->down_since_ms = now_ms;
        return;
    }
}

bool link_is_up(const struct link *link)
{
    return link->carriers > 0;
}

/* Of a flow and a slot. The highest of a flow wins (rendezvous hashing), so when a carrier comes or goes only those
 * flows move that win or lose it. */
static uint32_t weight(uint32_t hash, uint8_t slot)
{
    hash ^= (slot + 1u) * 0x9e3779b9u;
    hash = (hash ^ hash >> 16) * 0x7feb352du;
    hash = (hash ^ hash >> 15) * 0x846ca68bu;
    return hash ^ hash >> 16;
}

struct carrier *link_pick_hash(const struct link *link, uint32_t hash)
{
    struct carrier *best = link->carriers == 0 ? NULL : link->carrier[0];
    hash %= FAIR_QUEUE_BUCKETS; /* what shares a bucket shares a carrier */
    for (size_t i = 1; i < link->carriers; i++) {
        if (weight(hash, link->carrier[i]->slot) > weight(hash, best->slot))
            best = link->carrier[i];
    }
    return best;
}

struct carrier *link_pick(const struct link *link, const uint8_t *packet, size_t size)
{
    if (link->carriers <= 1)
        return link->carriers == 0 ? NULL : link->carrier[0];
    return link_pick_hash(link, packet_flow_hash(packet, size));
}

struct carrier *link_least_loaded(const struct link *link)
{
    struct carrier *best = NULL;
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < link->carriers; i++) {
        size_t size;
        (void)carrier_tx(link->carrier[i], &size);
        if (size >= least)
            continue;
        least = size;
        best = link->carrier[i];
    }
    return best;
}

/* A flow is known by a packet's first bytes, and they may lie in several parts. */
static uint32_t hash_of(const struct carrier_part *parts, int count)
{
    if (parts[0].size >= PACKET_FLOW_BYTES)
        return packet_flow_hash(parts[0].data, parts[0].size);
    uint8_t head[PACKET_FLOW_BYTES];
    struct cursor out = cursor_writer(head, sizeof head);
    for (int i = 0; i < count; i++)
        cursor_put_bytes(&out, parts[i].data, KT_MIN(parts[i].size, cursor_left(&out)));
    return packet_flow_hash(head, out.at);
}

static size_t total(const struct carrier_part *parts, int count)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].size;
    return size;
}

static int enqueue(struct link *link, uint32_t hash, const struct carrier_part *parts, int count)
{
    if (link->queue == NULL || fair_queue_put(link->queue, hash % FAIR_QUEUE_BUCKETS, parts, count) != 0)
        return -ENOBUFS;
    link->packets_queued++;
    return 0;
}

int link_send(struct link *link, const struct carrier_part *parts, int count)
{
    size_t size = total(parts, count);
    if (size > WIRE_MTU || size < WIRE_PACKET_MIN || parts[0].size < WIRE_PACKET_MIN)
        return -EMSGSIZE;
    bool needs_hash =
        link->carriers > 1 || (link->queue != NULL && (link->carriers == 0 || fair_queue_bytes(link->queue) > 0));
    uint32_t hash = needs_hash ? hash_of(parts, count) : 0;
    bool is_behind = link->queue != NULL && fair_queue_has(link->queue, hash % FAIR_QUEUE_BUCKETS);
    struct carrier *carrier = is_behind ? NULL : link_pick_hash(link, hash);
    if (carrier == NULL || carrier_seal(carrier, WIRE_PACKET, parts, count) != 0)
        return enqueue(link, needs_hash ? hash : hash_of(parts, count), parts, count);
    link->packets_sent++;
    return 0;
}

void link_flush(struct link *link)
{
    struct fair_packet packet;
    if (link->queue == NULL || link->carriers == 0)
        return;
    fair_queue_rewind(link->queue);
    while (fair_queue_next(link->queue, &packet)) {
        struct carrier *carrier = link_pick_hash(link, packet.bucket);
        if (carrier_seal(carrier, WIRE_PACKET, packet.part, packet.count) != 0) {
            fair_queue_skip(link->queue);
            continue;
        }
        fair_queue_sent(link->queue);
        link->packets_sent++;
    }
}

bool link_has_room(const struct link *link)
{
    if (link->queue != NULL)
        return fair_queue_has_room(link->queue, 2);
    for (size_t i = 0; i < link->carriers; i++) {
        if (!carrier_has_room(link->carrier[i]))
            return false;
    }
    return link->carriers > 0;
}

size_t link_queued_bytes(const struct link *link)
{
    return link->queue == NULL ? 0 : fair_queue_bytes(link->queue);
}
