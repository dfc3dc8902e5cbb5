/* A bucket that gets its first packet joins the list of new ones, which is served before the list of old ones. Each
 * turn of a bucket spends its deficit; when that is gone it gets another quantum and goes to the end of the old ones. A
 * new bucket that runs empty goes there, too, once: else a flow that sends a packet at a time would always be new, and
 * could starve the others (RFC 8290, 4.2).
 *
 * Memory is blocks of FAIR_QUEUE_BLOCK bytes; `next` links them. A packet is a chain of blocks that begins with its
 * size, and the last block of a packet links to the first of the bucket's next packet:
 *
 *   bucket.first ─► [size|data] ─► [data] ─► [size|data] ─► ...    bucket.last: the last block */
#include "common/fair_queue.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/mem.h"

#define NONE UINT16_MAX
#define HEAD sizeof(uint32_t)

_Static_assert(WIRE_QUEUE_SIZE / FAIR_QUEUE_BLOCK < NONE && FAIR_QUEUE_BUCKETS < NONE, "16 bits number them");

enum list { LIST_NONE, LIST_NEW, LIST_OLD, LISTS };

struct bucket {
    int32_t deficit;
    uint16_t first, last;    /* blocks; NONE: empty */
    uint16_t before, behind; /* in its list */
    uint8_t list;            /* enum list */
};

struct fair_queue {
    struct bucket bucket[FAIR_QUEUE_BUCKETS];
    uint16_t head[LISTS], tail[LISTS]; /* of buckets */
    uint16_t cursor;                   /* the bucket whose turn it is in this pass */
    bool has_skipped;                  /* in this pass: there was no room for one */
    uint16_t free;                     /* blocks */
    uint32_t blocks, free_blocks;
    size_t bytes;
    uint16_t *next; /* of each block */
    uint8_t data[];
};

/* ---- blocks ---- */

static uint32_t blocks_of(size_t size)
{
    return (uint32_t)((HEAD + size + FAIR_QUEUE_BLOCK - 1) / FAIR_QUEUE_BLOCK);
}

static uint8_t *block(const struct fair_queue *queue, uint16_t at)
{
    return (uint8_t *)queue->data + (size_t)at * FAIR_QUEUE_BLOCK;
}

struct fair_queue *fair_queue_new(size_t bytes)
{
    size_t blocks = KT_MIN(KT_MAX(bytes / FAIR_QUEUE_BLOCK, 1), NONE - 1);
    struct fair_queue *queue = kt_calloc(1, sizeof *queue + blocks * FAIR_QUEUE_BLOCK + blocks * sizeof queue->next[0]);
    if (queue == NULL)
        return NULL;
    queue->next = (uint16_t *)(void *)(queue->data + blocks * FAIR_QUEUE_BLOCK);
    queue->blocks = queue->free_blocks = (uint32_t)blocks;
    for (size_t i = 0; i < blocks; i++)
        queue->next[i] = (uint16_t)(i + 1);
    queue->next[blocks - 1] = NONE;
    for (size_t i = 0; i < FAIR_QUEUE_BUCKETS; i++)
        queue->bucket[i].first = NONE;
    for (size_t i = 0; i < LISTS; i++)
        queue->head[i] = queue->tail[i] = NONE;
    queue->cursor = NONE;
    return queue;
}

void fair_queue_free(struct fair_queue *queue)
{
    kt_free(queue);
}

static uint16_t take_block(struct fair_queue *queue)
{
    uint16_t at = queue->free;
    queue->free = queue->next[at];
    queue->free_blocks--;
    queue->next[at] = NONE;
    return at;
}

/* ---- lists of buckets ---- */

static void leave_list(struct fair_queue *queue, uint16_t at)
{
    struct bucket *bucket = &queue->bucket[at];
    if (bucket->before != NONE)
        queue->bucket[bucket->before].behind = bucket->behind;
    else
        queue->head[bucket->list] = bucket->behind;
    if (bucket->behind != NONE)
        queue->bucket[bucket->behind].before = bucket->before;
    else
        queue->tail[bucket->list] = bucket->before;
    bucket->list = LIST_NONE;
}

static void join_list(struct fair_queue *queue, uint16_t at, enum list list)
{
    struct bucket *bucket = &queue->bucket[at];
    bucket->list = (uint8_t)list;
    bucket->behind = NONE;
    bucket->before = queue->tail[list];
    if (bucket->before != NONE)
        queue->bucket[bucket->before].behind = at;
    else
        queue->head[list] = at;
    queue->tail[list] = at;
}

/* The one behind it in this pass. */
static uint16_t behind(const struct fair_queue *queue, uint16_t at)
{
    const struct bucket *bucket = &queue->bucket[at];
    if (bucket->behind == NONE && bucket->list == LIST_NEW)
        return queue->head[LIST_OLD];
    return bucket->behind;
}

/* Its turn is over. The cursor goes on; when it was at the end, to what has just come there. */
static void move_to_old(struct fair_queue *queue, uint16_t at)
{
    queue->cursor = behind(queue, at);
    leave_list(queue, at);
    join_list(queue, at, LIST_OLD);
    if (queue->cursor == NONE)
        queue->cursor = at;
}

/* ---- packets ---- */

/* Where the next byte of a packet goes; there are blocks enough. */
struct writer {
    uint16_t at;
    size_t used; /* of that block */
};

static void put_part(struct fair_queue *queue, struct writer *writer, const struct carrier_part *part)
{
    const uint8_t *data = part->data;
    for (size_t done = 0; done < part->size;) {
        if (writer->used == FAIR_QUEUE_BLOCK) {
            uint16_t more = take_block(queue);
            queue->next[writer->at] = more;
            *writer = (struct writer){.at = more};
        }
        size_t size = KT_MIN(part->size - done, FAIR_QUEUE_BLOCK - writer->used);
        memcpy(block(queue, writer->at) + writer->used, data + done, size);
        writer->used += size;
        done += size;
    }
}

int fair_queue_put(struct fair_queue *queue, unsigned number, const struct carrier_part *parts, int count)
{
    struct bucket *bucket = &queue->bucket[number];
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].size;
    assert(size <= WIRE_MTU);
    if (blocks_of(size) > queue->free_blocks)
        return -ENOBUFS;
    uint16_t first = take_block(queue);
    struct writer writer = {.at = first, .used = HEAD};
    uint32_t head = (uint32_t)size;
    memcpy(block(queue, first), &head, HEAD);
    for (int i = 0; i < count; i++)
        put_part(queue, &writer, &parts[i]);
    if (bucket->first == NONE)
        bucket->first = first;
    else
        queue->next[bucket->last] = first;
    bucket->last = writer.at;
    queue->bytes += size;
    if (bucket->list == LIST_NONE) {
        bucket->deficit = FAIR_QUEUE_QUANTUM;
        join_list(queue, (uint16_t)number, LIST_NEW);
    }
    return 0;
}

bool fair_queue_has(const struct fair_queue *queue, unsigned bucket)
{
    return queue->bucket[bucket].first != NONE;
}

size_t fair_queue_bytes(const struct fair_queue *queue)
{
    return queue->bytes;
}

bool fair_queue_has_room(const struct fair_queue *queue, size_t packets)
{
    return queue->free_blocks >= packets * blocks_of(WIRE_MTU);
}

void fair_queue_rewind(struct fair_queue *queue)
{
    queue->has_skipped = false;
    queue->cursor = queue->head[LIST_NEW] != NONE ? queue->head[LIST_NEW] : queue->head[LIST_OLD];
}

static size_t size_of_first(const struct fair_queue *queue, const struct bucket *bucket)
{
    uint32_t size;
    memcpy(&size, block(queue, bucket->first), HEAD);
    return size;
}

static void show(const struct fair_queue *queue, uint16_t number, struct fair_packet *packet)
{
    const struct bucket *bucket = &queue->bucket[number];
    size_t left = size_of_first(queue, bucket), skip = HEAD;
    packet->bucket = number;
    packet->size = left;
    packet->count = 0;
    for (uint16_t at = bucket->first; left > 0; at = queue->next[at]) {
        size_t part = KT_MIN(left, FAIR_QUEUE_BLOCK - skip);
        packet->part[packet->count++] = (struct carrier_part){block(queue, at) + skip, part};
        left -= part;
        skip = 0;
    }
}

bool fair_queue_next(struct fair_queue *queue, struct fair_packet *packet)
{
    while (queue->cursor != NONE) {
        uint16_t at = queue->cursor;
        struct bucket *bucket = &queue->bucket[at];
        if (bucket->first == NONE) { /* it ran empty as a new one, and nothing came since */
            queue->cursor = behind(queue, at);
            if (!queue->has_skipped)
                leave_list(queue, at);
        } else if (bucket->deficit <= 0) {
            bucket->deficit += FAIR_QUEUE_QUANTUM;
            move_to_old(queue, at);
        } else {
            show(queue, at, packet);
            return true;
        }
    }
    return false;
}

void fair_queue_sent(struct fair_queue *queue)
{
    struct bucket *bucket = &queue->bucket[queue->cursor];
    size_t size = size_of_first(queue, bucket);
    uint32_t blocks = blocks_of(size);
    uint16_t first = bucket->first, last = first;
    for (uint32_t i = 1; i < blocks; i++)
        last = queue->next[last];
    bucket->first = last == bucket->last ? NONE : queue->next[last];
    queue->next[last] = queue->free;
    queue->free = first;
    queue->free_blocks += blocks;
    queue->bytes -= size;
    bucket->deficit -= (int32_t)size;
    if (bucket->first == NONE && bucket->list == LIST_NEW)
        move_to_old(queue, queue->cursor);
}

void fair_queue_skip(struct fair_queue *queue)
{
    queue->has_skipped = true;
    queue->cursor = behind(queue, queue->cursor);
}
