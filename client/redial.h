/* When a tunnel tries to reach its agent again, how long a try may take, and when it is time to doubt that the agent is
 * still there. Decides only: dials nothing, and `now` is the caller's. */
#ifndef KTVPN_CLIENT_REDIAL_H
#define KTVPN_CLIENT_REDIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"

#define REDIAL_CHECK_TRIES 2 /* that failed in a row: the first doubt */
#define REDIAL_BACKOFF_MIN_MS 100
#define REDIAL_BACKOFF_MAX_MS 5000
#define REDIAL_BACKOFF_SOON_MS 1000 /* ... instead, in an outage's first REDIAL_SOON_MS */
#define REDIAL_SOON_MS 60000
#define REDIAL_RETRY_MS 1500                /* a try that hangs gets company */
#define REDIAL_TRY_MS 3000                  /* a try ends, at first ... */
#define REDIAL_TRY_MAX_MS WIRE_HANDSHAKE_MS /* ... and after many that were too late */

struct redial_times {
    uint32_t backoff_min_ms, backoff_max_ms, backoff_soon_ms, soon_ms, retry_ms, try_ms, try_max_ms;
};
#define REDIAL_TIMES                                                                                       \
    {                                                                                                      \
        .backoff_min_ms = REDIAL_BACKOFF_MIN_MS, .backoff_max_ms = REDIAL_BACKOFF_MAX_MS,                  \
        .backoff_soon_ms = REDIAL_BACKOFF_SOON_MS, .soon_ms = REDIAL_SOON_MS, .retry_ms = REDIAL_RETRY_MS, \
        .try_ms = REDIAL_TRY_MS, .try_max_ms = REDIAL_TRY_MAX_MS                                           \
    }

struct redial {
    struct redial_times times;
    uint32_t failures;           /* tries in a row */
    uint64_t next_ms, outage_ms; /* the next try; since when no path answers */
    uint64_t try_ms;             /* what a try may take now */
};

void redial_init(struct redial *redial, const struct redial_times *times);

/* Nothing answers any more, or there is another agent: the first try is now. */
void redial_outage(struct redial *redial, uint64_t now_ms);
/* As redial_outage(), but the outage is the same one. */
void redial_anew(struct redial *redial, uint64_t now_ms);
/* The next try is now; the failures stay. */
void redial_at_once(struct redial *redial, uint64_t now_ms);
bool redial_is_due(const struct redial *redial, uint64_t now_ms);

/* A try begins: when it must have succeeded. The next one is due while it may still hang. */
uint64_t redial_begin_try(struct redial *redial, uint64_t now_ms);
/* It failed; `is_last`: no other is under way. True: the agent may be gone, have a look. True again every few tries. */
bool redial_failed(struct redial *redial, int error, bool is_last, uint64_t now_ms);
void redial_succeeded(struct redial *redial);

#endif
