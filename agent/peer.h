/* A peer: one client's carrier in the agent, with the pump that moves its bytes, and the order in which its records may
 * come.
 *
 *   HANDSHAKE --on_key--> OPENING --on_request--> (owner: peer_accept) ACCEPTED --on_bye, on_gone-->
 *   in any of them: peer_leave() --> LEAVING --on_gone, when the client closed or PEER_LEAVE_MS are over
 *
 * A peer that is not ACCEPTED after WIRE_HANDSHAKE_MS is gone. After on_gone, or at any time, the owner calls
 * peer_close(). */
#ifndef KTVPN_AGENT_PEER_H
#define KTVPN_AGENT_PEER_H

#include "common/carrier.h"
#include "common/wire.h"

#define PEER_LEAVE_MS 1000
#define PEER_DRAIN_MS 10000

enum peer_state { PEER_HANDSHAKE, PEER_OPENING, PEER_ACCEPTED, PEER_LEAVING, PEER_CLOSED };

struct uv_loop_s;
struct peer;
struct peer_private;

struct peer_ops {
    void (*on_key)(void *context, struct peer *peer); /* carrier.peer is who it is */
    void (*on_request)(void *context, struct peer *peer, const struct wire_open *open);
    /* The packet is valid during the call; on_batch comes after the packets of one turn. */
    void (*on_packet)(void *context, struct peer *peer, const uint8_t *packet, size_t size);
    void (*on_batch)(void *context, struct peer *peer);
    void (*on_room)(void *context, struct peer *peer);
    void (*on_question)(void *context, struct peer *peer, uint32_t id, const uint8_t *message, size_t size);
    void (*on_use)(void *context, struct peer *peer, const struct wire_use *use);
    /* The client's CLOSE; on_gone follows. With WIRE_REASON_CARRIER what was sealed for it still goes out, and a CLOSE
     * after it, in at most PEER_DRAIN_MS. */
    void (*on_bye)(void *context, struct peer *peer, enum wire_reason reason);
    void (*on_gone)(void *context, struct peer *peer, int error);
};

struct peer {
    unsigned id;
    enum peer_state state;
    struct carrier carrier;
    uint64_t since_ms;
    struct address from;
    uint16_t from_port;
    void *session;                /* the owner's, of an ACCEPTED peer */
    struct peer *previous, *next; /* the owner's list */
    struct peer_private *private;
};

struct peer_setup {
    unsigned id;
    const struct noise_keypair *keys;
    struct address from;
    uint16_t from_port;
    const struct peer_ops *ops;
    void *context;
};

/* Takes `fd`, connected and non-blocking, also when it fails: -ENOMEM or the loop's error. */
KT_MUST_USE int peer_open(struct peer **out, struct uv_loop_s *loop, int fd, const struct peer_setup *setup);
/* Ends at once, without a word. No callback comes after it; memory goes later, on the loop. */
void peer_close(struct peer *peer);

void peer_accept(struct peer *peer, const struct wire_accept *accept);
/* REFUSE to a peer that is not ACCEPTED, else CLOSE; nothing that comes from it counts any more. */
void peer_leave(struct peer *peer, enum wire_reason reason, const char *text);
/* An answer to on_question; `message` NULL: no server answered. It is lost when the carrier has no room. */
void peer_answer(struct peer *peer, uint32_t id, const uint8_t *message, size_t size);
/* Writes what was sealed on peer->carrier. */
void peer_flush(struct peer *peer);

#endif
