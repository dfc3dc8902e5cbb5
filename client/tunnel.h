/* The client's side of a session: dials carriers, shakes hands, opens the session, keeps it alive, dials anew when one
 * is lost.
 *
 *   IDLE -> DIALLING -> UP <-> STALLED -> ENDED
 *
 * UP: a carrier had its ACCEPT and answers; the others that were asked for follow. STALLED: none does; packets wait in
 * the link's queue. A carrier that does not answer for about 2 s is taken off the link, and others are dialled while it
 * may still recover; the first to answer wins. An old one is replaced, too. While none answers, a new try starts every
 * second or two, for as long as the tunnel lives. */
#ifndef KTVPN_CLIENT_TUNNEL_H
#define KTVPN_CLIENT_TUNNEL_H

#include "client/error.h"
#include "client/path.h"
#include "client/redial.h"
#include "common/session.h"
#include "netstack/stream.h"

enum tunnel_state { TUNNEL_IDLE, TUNNEL_DIALLING, TUNNEL_UP, TUNNEL_STALLED, TUNNEL_ENDED };

struct tunnel;

struct tunnel_ops {
    /* Start one stream to the agent: 0 and *out, or -errno (counts as a failed try). */
    int (*dial)(void *context, struct stream **out);
    /* `error` (may be NULL): why the last try or carrier failed. ENDED: the agent refused or closed the session for
     * good. */
    void (*on_state)(void *context, enum tunnel_state state, const struct error *error);
    /* Every try of REDIAL_CHECK_TRIES in a row failed, or the pod is gone, or it is another agent than the one whose
     * key we have: is the pod still there? Comes again while that lasts. */
    void (*on_doubt)(void *context, int error);
    void (*on_packet)(void *context, uint8_t *packet, size_t size);
    void (*on_batch)(void *context); /* after the packets of one turn; may be NULL */
    void (*on_room)(void *context);  /* tunnel_send() takes packets again */
    void (*on_dns_answer)(void *context, uint32_t id, const uint8_t *message, size_t size);
};

#define TUNNEL_CLOSE_MS 1000
#define TUNNEL_CARRIERS 2 /* at once, if not said otherwise */

/* All its times, so that a test need not wait for them. */
struct tunnel_times {
    struct redial_times redial;
    struct path_times path;
    uint32_t look_ms, down_look_ms; /* between two looks at the paths: while one answers, and while none does */
    uint32_t close_ms;
    uint32_t age_ms; /* a carrier this old is replaced */
};

struct tunnel_options {
    uint16_t mtu;
    const char *name;                 /* "user@host" */
    uint8_t carriers;                 /* at once, at most WIRE_SLOTS_MAX; 0: TUNNEL_CARRIERS */
    const struct noise_keypair *keys; /* copied; NULL: drawn, and drawn again when the address is taken */
    const struct tunnel_times *times; /* NULL: as in the headers */
};

struct tunnel_carrier_info {
    uint8_t slot;
    bool is_used; /* it answers */
    uint64_t age_ms, rtt_us, bytes_in, bytes_out, silent_ms;
};
struct tunnel_info {
    enum tunnel_state state;
    uint32_t reconnects;
    size_t carriers;
    size_t queued_bytes;
    struct tunnel_carrier_info carrier[WIRE_CARRIERS_MAX];
};

/* Draws the session's key, unless it is given. 0 or -ENOMEM. */
KT_MUST_USE int tunnel_open(struct tunnel **out, struct uv_loop_s *loop, const struct tunnel_options *options,
                            const struct tunnel_ops *ops, void *context);
/* The agent to shake hands with: the first call starts dialling; a later one (new pod, new key) drops the old carriers
 * and dials at once. */
void tunnel_set_agent(struct tunnel *tunnel, const uint8_t key[static WIRE_KEY_SIZE]);
/* CLOSE(BYE) on every carrier, at most TUNNEL_CLOSE_MS to get it out, then on_closed. */
void tunnel_close(struct tunnel *tunnel, void (*on_closed)(void *context));

const struct address *tunnel_v4(const struct tunnel *tunnel);
const struct address *tunnel_v6(const struct tunnel *tunnel);
/* What the agent told in ACCEPT; NULL before the first. */
const struct wire_accept *tunnel_accept(const struct tunnel *tunnel);

/* 0: taken. -ENOBUFS: stop reading the TUN until on_room. -EMSGSIZE. */
KT_MUST_USE int tunnel_send(struct tunnel *tunnel, const struct carrier_part *parts, int count);
/* Call once after a batch of sends. */
void tunnel_flush(struct tunnel *tunnel);
/* 0, -ENOTCONN, -ENOBUFS. */
KT_MUST_USE int tunnel_ask_dns(struct tunnel *tunnel, uint32_t id, const uint8_t *message, size_t size);

void tunnel_info(const struct tunnel *tunnel, struct tunnel_info *info);

#endif
