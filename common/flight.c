/* The limit. In a round, so many bytes are under way and come through in `round_ms`: so the path's rate is bytes /
 * round_ms (Little's law), and what it carries in the shortest round trip and the time that may be spent in queues is
 *
 *   limit * (base_ms + FLIGHT_QUEUE_MS) / round_ms
 *
 * which is more than the limit while queues are short, and less when they are long: a rule that finds its point from
 * both sides (its family is FAST TCP, Wei et al. 2006). Until there was a queue for the first time the limit doubles. A
 * round in which nobody had to wait tells nothing about the path, so it does not raise the limit.
 *
 * A round can be long by chance (a busy CPU, radio), and a limit that believed each of them would starve bulk. As CoDel
 * does (RFC 8289), only a queue that stands counts: rounds that are all too long for FLIGHT_STANDS_MS, and of these the
 * shortest.
 *
 * The shortest round trip is only seen when queues are empty, and bulk that goes on for long keeps them filled: after
 * FLIGHT_BASE_MS without one as short the limit goes to the minimum for a round, and what that takes is the new base.
 *
 * Rejected: a limit by time alone (needs the rate), CoDel on our own queue (the queue that hurts is not ours), TCP_INFO
 * of our socket (it ends at the API server, or at the pod's own kubelet). */
#include "common/flight.h"

#include <errno.h>

static uint64_t under_way(const struct flight *flight)
{
    return flight->sent - flight->acked;
}

bool flight_has_room(const struct flight *flight, bool is_small)
{
    return under_way(flight) < flight->limit + (is_small ? FLIGHT_RESERVE : 0u);
}

void flight_refused(struct flight *flight)
{
    flight->is_limited = true;
}

void flight_sealed(struct flight *flight, size_t size)
{
    flight->sent += size;
}

void flight_written(struct flight *flight, uint64_t now_ms)
{
    if (flight->mark != 0 || under_way(flight) < 2 * FLIGHT_ACK_BYTES)
        return;
    flight->mark = flight->sent - FLIGHT_ACK_BYTES; /* what is behind it may wait for its ACK */
    flight->mark_ms = now_ms;
    flight->mark_bytes = under_way(flight) - FLIGHT_ACK_BYTES;
}

/* A new shortest round trip? */
static void measure_base(struct flight *flight, uint32_t round_ms, uint64_t now_ms)
{
    bool is_measured = flight->kept != 0 && flight->mark_bytes <= FLIGHT_MIN + FLIGHT_RESERVE;
    if (round_ms <= flight->base_ms || is_measured) {
        flight->base_ms = round_ms;
        flight->based_ms = now_ms;
        if (flight->kept != 0)
            flight->limit = flight->kept;
        flight->kept = 0;
    } else if (flight->kept == 0 && now_ms - flight->based_ms >= FLIGHT_BASE_MS) {
        flight->kept = flight->limit;
        flight->limit = FLIGHT_MIN;
    }
}

/* So much more as an empty path, or what is left of FLIGHT_QUEUE_MS, has room for. */
static uint64_t grown(const struct flight *flight, uint32_t round_ms)
{
    uint64_t limit = flight->limit, target_ms = flight->base_ms + FLIGHT_QUEUE_MS;
    if (!flight->has_queued)
        return 2 * limit;
    bool is_empty = round_ms <= flight->base_ms + FLIGHT_QUEUE_MS / 2; /* then by an eighth at least: on a long path */
    return KT_MIN(KT_MAX(limit * target_ms / round_ms, is_empty ? limit * 9 / 8 : limit), 2 * limit);
}

static void adapt(struct flight *flight, uint32_t round_ms, uint64_t now_ms)
{
    uint64_t target_ms = flight->base_ms + FLIGHT_QUEUE_MS, limit = flight->limit;
    bool is_ours = flight->mark_bytes * 2 >= limit; /* else it is not us who fill the queue */
    if (round_ms <= target_ms) {
        flight->best_ms = 0;
        if (flight->is_limited)
            limit = grown(flight, round_ms);
    } else if (is_ours) {
        if (flight->best_ms == 0)
            flight->stands_ms = flight->mark_ms;
        flight->best_ms = flight->best_ms == 0 ? round_ms : KT_MIN(flight->best_ms, round_ms);
        if (now_ms - flight->stands_ms >= FLIGHT_STANDS_MS || !flight->has_queued) {
            limit = KT_MAX(limit * target_ms / flight->best_ms, limit / 2);
            flight->best_ms = 0;
        }
        flight->has_queued = true;
    }
    flight->limit = (uint32_t)KT_MAX(KT_MIN(limit, (uint64_t)FLIGHT_MAX), (uint64_t)FLIGHT_MIN);
}

static uint32_t whole_ms(uint64_t ms)
{
    return (uint32_t)KT_MIN(KT_MAX(ms, 1), UINT32_MAX);
}

void flight_init(struct flight *flight, uint64_t base_ms, uint64_t now_ms)
{
    *flight = (struct flight){.limit = FLIGHT_START, .base_ms = whole_ms(base_ms), .based_ms = now_ms};
}

static void end_round(struct flight *flight, uint64_t now_ms)
{
    uint32_t round_ms = whole_ms(now_ms - flight->mark_ms);
    measure_base(flight, round_ms, now_ms);
    if (flight->kept == 0)
        adapt(flight, round_ms, now_ms);
    flight->mark = 0;
    flight->is_limited = false;
}

int flight_acked(struct flight *flight, uint64_t total, uint64_t now_ms)
{
    if (total > flight->sent || total < flight->acked)
        return -EPROTO;
    flight->acked = total;
    if (flight->mark != 0 && total >= flight->mark)
        end_round(flight, now_ms);
    return 0;
}
