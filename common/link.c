#include "common/link.h"

#include <errno.h>
#include <string.h>

#include "common/cursor.h"
#include "common/mem.h"
#include "common/packet.h"

/* A ring of [size u32][packet], in order. An entry is never split: one that does not fit behind the last entry starts
 * at 0 again, and a size of 0 marks the gap. */
struct link_queue {
    size_t capacity, head, tail, used; /* used counts the gap too */
    uint8_t data[];
};

#define ENTRY_HEAD sizeof(uint32_t)

static void put_size(struct link_queue *queue, size_t at, uint32_t size)
{
    memcpy(queue->data + at, &size, ENTRY_HEAD);
}

static uint32_t get_size(const struct link_queue *queue, size_t at)
{
    uint32_t size;
    memcpy(&size, queue->data + at, ENTRY_HEAD);
    return size;
}

/* Entries are multiples of the head's size, so that there is always room for a gap's mark. */
static size_t entry_size(size_t packet)
{
    return ENTRY_HEAD + (packet + ENTRY_HEAD - 1) / ENTRY_HEAD * ENTRY_HEAD;
}

static uint8_t *queue_push(struct link_queue *queue, size_t size)
{
    size_t entry = entry_size(size), gap = queue->capacity - queue->tail;
    bool wraps = entry > gap;
    if (queue->used + entry + (wraps ? gap : 0) > queue->capacity)
        return NULL;
    if (wraps) {
        if (gap > 0)
            put_size(queue, queue->tail, 0);
        queue->used += gap;
        queue->tail = 0;
    }
    put_size(queue, queue->tail, (uint32_t)size);
    uint8_t *out = queue->data + queue->tail + ENTRY_HEAD;
    queue->tail += entry;
    queue->used += entry;
    return out;
}

/* The first packet, or NULL. */
static const uint8_t *queue_peek(struct link_queue *queue, size_t *size)
{
    if (queue->used > 0 && (queue->head == queue->capacity || get_size(queue, queue->head) == 0)) {
        queue->used -= queue->capacity - queue->head;
        queue->head = 0;
    }
    if (queue->used == 0)
        return NULL;
    *size = get_size(queue, queue->head);
    return queue->data + queue->head + ENTRY_HEAD;
}

static void queue_pop(struct link_queue *queue)
{
    size_t entry = entry_size(get_size(queue, queue->head));
    queue->head += entry;
    queue->used -= entry;
    if (queue->used == 0)
        queue->head = queue->tail = 0;
}

int link_init(struct link *link, size_t queue_bytes, uint64_t now_ms)
{
    *link = (struct link){.down_since_ms = now_ms};
    if (queue_bytes == 0)
        return 0;
    size_t capacity = queue_bytes / ENTRY_HEAD * ENTRY_HEAD;
    link->queue = kt_calloc(1, sizeof *link->queue + capacity);
    if (link->queue == NULL)
        return -ENOMEM;
    link->queue->capacity = capacity;
    return 0;
}

void link_deinit(struct link *link)
{
    kt_free(link->queue);
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
static struct carrier *pick(const struct link *link, const struct carrier_part *parts, int count)
{
    if (link->carriers <= 1 || parts[0].size >= PACKET_FLOW_BYTES)
        return link_pick(link, parts[0].data, parts[0].size);
    uint8_t head[PACKET_FLOW_BYTES];
    struct cursor out = cursor_writer(head, sizeof head);
    for (int i = 0; i < count; i++)
        cursor_put_bytes(&out, parts[i].data, KT_MIN(parts[i].size, cursor_left(&out)));
    return link_pick(link, head, out.at);
}

static size_t total(const struct carrier_part *parts, int count)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].size;
    return size;
}

static int enqueue(struct link *link, const struct carrier_part *parts, int count, size_t size)
{
    uint8_t *out = link->queue == NULL ? NULL : queue_push(link->queue, size);
    if (out == NULL)
        return -ENOBUFS;
    struct cursor cursor = cursor_writer(out, size);
    for (int i = 0; i < count; i++)
        cursor_put_bytes(&cursor, parts[i].data, parts[i].size);
    link->packets_queued++;
    return 0;
}

int link_send(struct link *link, const struct carrier_part *parts, int count)
{
    size_t size = total(parts, count);
    if (size > WIRE_MTU || size < WIRE_PACKET_MIN || parts[0].size < WIRE_PACKET_MIN)
        return -EMSGSIZE;
    if (link_queued_bytes(link) > 0) /* behind the others */
        return enqueue(link, parts, count, size);
    struct carrier *carrier = pick(link, parts, count);
    if (carrier == NULL || carrier_seal(carrier, WIRE_PACKET, parts, count) != 0)
        return enqueue(link, parts, count, size);
    link->packets_sent++;
    return 0;
}

void link_flush(struct link *link)
{
    if (link->queue == NULL)
        return;
    struct carrier_part part;
    while ((part.data = queue_peek(link->queue, &part.size)) != NULL) {
        struct carrier *carrier = link_pick(link, part.data, part.size);
        if (carrier == NULL || carrier_seal(carrier, WIRE_PACKET, &part, 1) != 0)
            return;
        queue_pop(link->queue);
        link->packets_sent++;
    }
}

bool link_has_room(const struct link *link)
{
    if (link->queue != NULL)
        return link->queue->capacity - link->queue->used >= 2 * entry_size(WIRE_MTU);
    for (size_t i = 0; i < link->carriers; i++) {
        if (!carrier_has_room(link->carrier[i]))
            return false;
    }
    return link->carriers > 0;
}

size_t link_queued_bytes(const struct link *link)
{
    return link->queue == NULL ? 0 : link->queue->used;
}
