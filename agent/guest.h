/* A guest: one client's session in the agent: its carriers, its netstack, its questions to the name servers.
 *
 * Packets are sent on the newest carrier of each slot, unless the client says that it does not answer; the older ones
 * are still read until they end. Without a carrier everything stands still and is kept for WIRE_SESSION_MS. */
#ifndef KTVPN_AGENT_GUEST_H
#define KTVPN_AGENT_GUEST_H

#include "agent/peer.h"
#include "agent/resolver.h"
#include "common/session.h"

#define GUEST_QUESTIONS_MAX 512 /* DNS questions of one session at a time */

struct guest_private;

struct guest {
    unsigned id;
    struct session session;
    struct peer *peer[WIRE_CARRIERS_MAX]; /* oldest first */
    size_t peers;
    uint16_t mtu;
    uint8_t run[WIRE_RUN_SIZE];
    char name[WIRE_NAME_MAX + 1];
    uint32_t use_sequence;         /* of the client's last USE */
    uint64_t foreign;              /* packets that came with another source than the session's */
    struct guest *previous, *next; /* the owner's list */
    struct guest_private *private;
};

/* A session for `key` with what `open` wishes. 0, -ENOMEM or the loop's error. `resolver` is shared. */
KT_MUST_USE int guest_open(struct guest **out, struct uv_loop_s *loop, unsigned id,
                           const uint8_t key[static WIRE_KEY_SIZE], const struct wire_open *open,
                           struct resolver *resolver);
/* Ends it: every flow is reset. Its peers are the caller's business: guest_part() or peer_close() them before. Memory
 * goes later, on the loop. */
void guest_close(struct guest *guest);

/* An accepted peer, newer than all others, for the slot that `open` names. When there are WIRE_CARRIERS_MAX, the oldest
 * is told to leave. */
void guest_join(struct guest *guest, struct peer *peer, const struct wire_open *open);
void guest_use(struct guest *guest, const struct wire_use *use);
/* Fine if it is none of this guest's. */
void guest_part(struct guest *guest, struct peer *peer);

/* What the client sent; on_batch of its peer is guest_input_done(). */
void guest_input(struct guest *guest, const uint8_t *packet, size_t size);
void guest_input_done(struct guest *guest);
/* `peer` has room again. */
void guest_resume(struct guest *guest, const struct peer *peer);
void guest_ask(struct guest *guest, uint32_t id, const uint8_t *message, size_t size);

#endif
