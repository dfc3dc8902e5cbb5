/* How many bytes of one direction of a carrier may be under way: sealed, and not yet opened by the other side.
 *
 * A carrier's bytes pass buffers that are not ours (kernels, the API server, the kubelet), and each of them is glad to
 * hold megabytes; a request would wait behind them. So the other side counts what it has opened and tells it (ACK), and
 * we let so much be under way as the path carries in a round trip and FLIGHT_QUEUE_MS. Decides only; sends nothing. */
#ifndef KTVPN_COMMON_FLIGHT_H
#define KTVPN_COMMON_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

#define FLIGHT_QUEUE_MS 10 /* that bulk may wait in the path's buffers */
#define FLIGHT_STANDS_MS 200
#define FLIGHT_MIN (128 * 1024) /* bytes: two of the largest packets */
#define FLIGHT_START (512 * 1024)
#define FLIGHT_MAX (4 * 1024 * 1024)
#define FLIGHT_RESERVE (64 * 1024)   /* beyond the limit, for small packets */
#define FLIGHT_ACK_BYTES (32 * 1024) /* the other side tells what it has opened after so many */
#define FLIGHT_BASE_MS 30000         /* a shortest round trip that old is measured again */

struct flight {
    uint64_t sent, acked; /* bytes, since the carrier is open */
    uint32_t limit;
    uint32_t base_ms;   /* the shortest round trip */
    uint64_t based_ms;  /* when it was seen last */
    uint32_t kept;      /* the limit to go back to, while the shortest round trip is measured again; else 0 */
    uint32_t best_ms;   /* the shortest of the rounds in a row that were too long; 0: the last one was not */
    uint64_t stands_ms; /* since when they are */
    bool has_queued;    /* the limit was too high once */
    bool is_limited;    /* somebody wanted to send more in this round */
    /* The round: from when the byte before `mark` was written until it is acknowledged. */
    uint64_t mark, mark_ms; /* mark 0: none */
    uint64_t mark_bytes;    /* that were under way with it */
};

/* `base_ms`: a round trip of the handshake, when nothing queued. */
void flight_init(struct flight *flight, uint64_t base_ms, uint64_t now_ms);

/* May `size` more bytes go, of a large or a small packet? */
bool flight_has_room(const struct flight *flight, bool is_small);
/* No, and they wait: the limit may be too low. */
void flight_refused(struct flight *flight);
void flight_sealed(struct flight *flight, size_t size);
/* What was sealed is about to be written. */
void flight_written(struct flight *flight, uint64_t now_ms);
/* The other side has opened `total` bytes so far: 0, or -EPROTO when that cannot be. */
KT_MUST_USE int flight_acked(struct flight *flight, uint64_t total, uint64_t now_ms);

#endif
