/* Packets that wait for a carrier, in fair order: a flow that has little to send goes first, the others share by bytes
 * (RFC 8290, 4.2, without its CoDel: nothing is dropped here). Within a flow the order stays.
 *
 * Flows are told apart by the bucket that the caller picks. One allocation, at the start: packets lie in blocks of it.
 *
 *   one pass:  fair_queue_rewind(q);
 *              while (fair_queue_next(q, &packet)) sent ? fair_queue_sent(q) : fair_queue_skip(q);   its carrier is
 * full
 */
#ifndef KTVPN_COMMON_FAIR_QUEUE_H
#define KTVPN_COMMON_FAIR_QUEUE_H

#include "common/carrier.h"

#define FAIR_QUEUE_BUCKETS 1024
#define FAIR_QUEUE_QUANTUM 8192 /* bytes of one flow before the next one's turn; a flow that stays below is sparse */
#define FAIR_QUEUE_BLOCK 1024
#define FAIR_QUEUE_PARTS ((WIRE_MTU + 4 + FAIR_QUEUE_BLOCK - 1) / FAIR_QUEUE_BLOCK)

struct fair_queue;

struct fair_packet {
    unsigned bucket;
    size_t size;
    int count;
    struct carrier_part part[FAIR_QUEUE_PARTS]; /* valid until the next call */
};

/* Room for about `bytes`; NULL: no memory. */
struct fair_queue *fair_queue_new(size_t bytes);
void fair_queue_free(struct fair_queue *queue);

/* -ENOBUFS: full; nothing was taken. A packet has at most WIRE_MTU bytes. */
KT_MUST_USE int fair_queue_put(struct fair_queue *queue, unsigned bucket, const struct carrier_part *parts, int count);
bool fair_queue_has(const struct fair_queue *queue, unsigned bucket);
size_t fair_queue_bytes(const struct fair_queue *queue); /* of the packets */
/* Would `packets` more of WIRE_MTU fit? */
bool fair_queue_has_room(const struct fair_queue *queue, size_t packets);

void fair_queue_rewind(struct fair_queue *queue);
/* False: this pass is over. */
bool fair_queue_next(struct fair_queue *queue, struct fair_packet *packet);
/* The packet of the last next() is gone; its flow may go on. */
void fair_queue_sent(struct fair_queue *queue);
/* It stays, and its flow waits for the next pass. */
void fair_queue_skip(struct fair_queue *queue);

#endif
