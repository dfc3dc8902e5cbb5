/* A session: a client's static key, the virtual addresses that follow from it, and its link.
 *
 * States: NEW (no carrier was ever open) -> UP <-> STALLED (no carrier; kept WIRE_SESSION_MS) -> ENDED. */
#ifndef KTVPN_COMMON_SESSION_H
#define KTVPN_COMMON_SESSION_H

#include "common/link.h"

/* The default range of virtual IPv4 addresses: RFC 2544's benchmark range, which nobody routes. */
#define SESSION_RANGE_V4 "198.18.0.0/15"
/* A ULA prefix (RFC 4193) that is ktvpn's. */
#define SESSION_RANGE_V6 "fd6b:7476:706e::/48"

enum session_state { SESSION_NEW, SESSION_UP, SESSION_STALLED, SESSION_ENDED };

struct session {
    enum session_state state;
    uint8_t key[WIRE_KEY_SIZE]; /* public */
    struct address v4, v6;
    uint64_t stalled_since_ms; /* valid while STALLED, and while NEW: since init */
    struct link link;
};

/* The addresses of a key: IPv4 from the host bits of 198.18.0.0/15 (never the first two or the last), IPv6 a /128 of a
 * ULA /48 (RFC 4193) that is ktvpn's. The same key gives the same addresses, on both sides. */
void session_addresses(const uint8_t key[static WIRE_KEY_SIZE], struct address *v4, struct address *v6);

KT_MUST_USE int session_init(struct session *session, const uint8_t key[static WIRE_KEY_SIZE], size_t queue_bytes,
                             uint64_t now_ms);
void session_deinit(struct session *session);

KT_MUST_USE int session_attach(struct session *session, struct carrier *carrier);
void session_detach(struct session *session, struct carrier *carrier, uint64_t now_ms);
/* Ends it for good: nothing can be attached any more. */
void session_end(struct session *session);
/* Ends a session that was NEW or STALLED for WIRE_SESSION_MS. Returns true when it is ENDED. */
bool session_tick(struct session *session, uint64_t now_ms);

/* Is this packet's source (from_client) or destination (else) one of the session's addresses? Bad packets: false. */
bool session_owns(const struct session *session, const uint8_t *packet, size_t size, bool from_client);

#endif
