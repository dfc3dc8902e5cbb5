/* All sessions of the agent, and the carriers that have none yet: who may come in, and when it is time to leave.
 *
 * A session is found by its client's key. A second key with the same address is refused, and so is a key that is not on
 * the list, where there is one. */
#ifndef KTVPN_AGENT_GUESTS_H
#define KTVPN_AGENT_GUESTS_H

#include "agent/guest.h"

#define GUESTS_PENDING_MAX 64 /* carriers without a session; one more, and the oldest of them is closed */
#define GUESTS_TICK_MS 500

struct guests;

struct guests_setup {
    const struct noise_keypair *keys;                /* the agent's; copied */
    const uint8_t (*allowed)[WIRE_KEY_SIZE];         /* stays the caller's, for as long as the guests live */
    size_t allowed_count;                            /* 0: every key may come */
    uint64_t idle_first_ms, idle_ms;                 /* as in struct settings */
    struct wire_accept about;                        /* mtu and idle_ms are filled in here */
    struct resolver *resolver;                       /* stays the caller's */
    void (*on_idle)(void *context, const char *why); /* it is time to leave; once */
    void *context;
};

struct guests_stats {
    size_t sessions, carriers, pending; /* carriers: those with a session */
};

KT_MUST_USE int guests_open(struct guests **out, struct uv_loop_s *loop, const struct guests_setup *setup);
/* A connection from the listener. Takes `fd`. */
void guests_take(struct guests *guests, int fd, const struct address *from, uint16_t from_port);
/* CLOSE(LEAVING) to every client; on_closed (may be NULL) when all have gone, at most PEER_LEAVE_MS later; then the
 * memory goes. */
void guests_close(struct guests *guests, void (*on_closed)(void *context), void *context);

void guests_stats(const struct guests *guests, struct guests_stats *stats);
/* What the timer does every GUESTS_TICK_MS; tests give it a time of their own. */
void guests_tick(struct guests *guests, uint64_t now_ms);

#endif
