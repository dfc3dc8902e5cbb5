#include "client/redial.h"

#include <errno.h>
#include <sodium.h>

#include "common/compiler.h"

#define DOUBT_EVERY 4 /* failed tries, after the first doubt */
#define BACKOFF_DOUBLINGS 6

/* From three quarters to five quarters, so that clients that lost the same server do not come back together. */
static uint64_t jitter(uint64_t ms)
{
    return ms * 3 / 4 + randombytes_uniform((uint32_t)(ms / 2 + 1));
}

void redial_init(struct redial *redial, const struct redial_times *times)
{
    *redial = (struct redial){.times = *times, .try_ms = times->try_ms};
}

void redial_at_once(struct redial *redial, uint64_t now_ms)
{
    redial->next_ms = now_ms;
}

void redial_anew(struct redial *redial, uint64_t now_ms)
{
    redial->failures = 0;
    redial_at_once(redial, now_ms);
}

void redial_outage(struct redial *redial, uint64_t now_ms)
{
    redial->outage_ms = now_ms;
    redial_anew(redial, now_ms);
}

bool redial_is_due(const struct redial *redial, uint64_t now_ms)
{
    return now_ms >= redial->next_ms;
}

uint64_t redial_begin_try(struct redial *redial, uint64_t now_ms)
{
    redial->next_ms = now_ms + jitter(redial->times.retry_ms);
    return now_ms + redial->try_ms;
}

static uint64_t backoff(const struct redial *redial, uint64_t now_ms)
{
    const struct redial_times *times = &redial->times;
    bool is_soon = now_ms - redial->outage_ms < times->soon_ms;
    uint64_t max_ms = is_soon ? times->backoff_soon_ms : times->backoff_max_ms;
    uint64_t ms = (uint64_t)times->backoff_min_ms << KT_MIN(redial->failures - 1, BACKOFF_DOUBLINGS);
    return jitter(KT_MIN(ms, max_ms));
}

bool redial_failed(struct redial *redial, int error, bool is_last, uint64_t now_ms)
{
    redial->failures++;
    if (error == -ETIMEDOUT)
        redial->try_ms = KT_MIN(redial->try_ms * 3 / 2, redial->times.try_max_ms);
    if (is_last)
        redial->next_ms = now_ms + backoff(redial, now_ms);
    return redial->failures >= REDIAL_CHECK_TRIES && (redial->failures - REDIAL_CHECK_TRIES) % DOUBT_EVERY == 0;
}

void redial_succeeded(struct redial *redial)
{
    redial->failures = 0;
    redial->try_ms = redial->times.try_ms;
}
