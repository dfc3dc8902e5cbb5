/* What netstack and resolver put out goes to the sending peer's carrier at once, and from there to its socket once for
 * each turn of the loop: in a prepare handle, which runs after all callbacks of a turn, just before the loop sleeps.
 * Only when the carrier is full it is written out in the middle of a turn. */
#include "agent/guest.h"

#include <errno.h>
#include <string.h>
#include <uv.h>

#include "agent/policy.h"
#include "common/log.h"
#include "common/mem.h"
#include "netstack/netstack.h"

#define LOG_PERIOD_MS 60000
#define HANDLES 2 /* prepare and netstack */

/* The visible part is the first member, so that a pointer to one is a pointer to the other. */
struct guest_private {
    struct guest guest;
    struct netstack *netstack;
    struct resolver *resolver;
    size_t questions;
    uv_prepare_t flush;
    struct log_limit foreign_lines;
    int open_handles;
};

static uint64_t now(const struct guest *guest)
{
    return uv_now(guest->private->flush.loop);
}

/* The peer that packets are sent on; NULL while stalled. */
static struct peer *sender(const struct guest *guest)
{
    return guest->peers == 0 ? NULL : guest->peer[guest->peers - 1];
}

static void on_flush(uv_prepare_t *prepare)
{
    struct guest_private *p = KT_CONTAINER_OF(prepare, struct guest_private, flush);
    struct peer *peer = sender(&p->guest);
    (void)uv_prepare_stop(prepare);
    if (peer != NULL)
        peer_flush(peer);
}

static int on_output(void *context, const struct carrier_part *parts, int count)
{
    struct guest *guest = context;
    struct peer *peer = sender(guest);
    int rc = link_send(&guest->session.link, parts, count);
    if (rc == -ENOBUFS && peer != NULL) {
        peer_flush(peer);
        rc = link_send(&guest->session.link, parts, count);
    }
    if (rc == 0)
        (void)uv_prepare_start(&guest->private->flush, on_flush);
    return rc;
}

static enum netstack_verdict on_route(void *context KT_UNUSED, const struct netstack_flow *flow,
                                      struct netstack_route *route KT_UNUSED)
{
    return policy_verdict(flow);
}

static const struct netstack_ops netstack_ops = {.output = on_output, .route = on_route};

static int init(struct guest_private *p, uv_loop_t *loop, const uint8_t *key, uint16_t mtu)
{
    int rc = session_init(&p->guest.session, key, 0, uv_now(loop));
    if (rc != 0)
        return rc;
    rc = netstack_open(&p->netstack, loop, mtu, &netstack_ops, &p->guest);
    if (rc != 0)
        session_deinit(&p->guest.session);
    return rc;
}

int guest_open(struct guest **out, struct uv_loop_s *loop, unsigned id, const uint8_t key[static WIRE_KEY_SIZE],
               const struct wire_open *open, struct resolver *resolver)
{
    struct guest_private *p = kt_calloc(1, sizeof *p);
    if (p == NULL)
        return -ENOMEM;
    int rc = init(p, loop, key, open->mtu);
    if (rc != 0) {
        kt_free(p);
        return rc;
    }
    struct guest *guest = &p->guest;
    guest->private = p;
    guest->id = id;
    guest->mtu = open->mtu;
    memcpy(guest->name, open->name, sizeof guest->name);
    p->resolver = resolver;
    p->open_handles = HANDLES;
    (void)uv_prepare_init(loop, &p->flush); /* cannot fail */
    char text[ADDRESS_STRLEN];
    log_info("session %u: created for %s, %s", id, guest->name, address_print(&guest->session.v4, text));
    *out = guest;
    return 0;
}

static void closed_one(struct guest_private *p)
{
    if (--p->open_handles > 0)
        return;
    log_info("session %u: destroyed", p->guest.id);
    session_deinit(&p->guest.session);
    kt_free(p);
}

static void on_flush_closed(uv_handle_t *handle)
{
    closed_one(KT_CONTAINER_OF((uv_prepare_t *)handle, struct guest_private, flush));
}

static void on_netstack_closed(void *context)
{
    closed_one(((struct guest *)context)->private);
}

void guest_close(struct guest *guest)
{
    struct guest_private *p = guest->private;
    struct netstack_stats stats;
    netstack_stats(p->netstack, &stats);
    log_info("session %u: ends: %llu packets in, %llu out, %llu connections, %llu packets with a foreign source",
             guest->id, (unsigned long long)stats.packets_in, (unsigned long long)stats.packets_out,
             (unsigned long long)stats.tcp_opened, (unsigned long long)guest->foreign);
    session_end(&guest->session);
    resolver_forget(p->resolver, guest);
    netstack_close(p->netstack, on_netstack_closed);
    uv_close((uv_handle_t *)&p->flush, on_flush_closed);
}

static void evict_oldest(struct guest *guest)
{
    struct peer *oldest = guest->peer[0];
    guest_part(guest, oldest);
    peer_leave(oldest, WIRE_REASON_CARRIER, "a newer carrier takes its place");
}

/* What the old sender had in its socket may be lost, if it is dead: freezing and thawing makes every flow send again
 * what was not acknowledged, instead of after a time-out that has grown since. At worst it arrives twice. */
void guest_join(struct guest *guest, struct peer *peer)
{
    if (guest->peers == WIRE_CARRIERS_MAX)
        evict_oldest(guest);
    struct peer *old = sender(guest);
    if (old != NULL) {
        session_detach(&guest->session, &old->carrier, now(guest));
        netstack_freeze(guest->private->netstack);
    }
    if (session_attach(&guest->session, &peer->carrier) != 0)
        return; /* ended: nothing joins an ended session */
    guest->peer[guest->peers++] = peer;
    peer->session = guest;
    log_info("session %u: carrier %u joins, %zu in all", guest->id, peer->id, guest->peers);
    netstack_thaw(guest->private->netstack);
}

static void remove_peer(struct guest *guest, const struct peer *peer)
{
    size_t kept = 0;
    for (size_t i = 0; i < guest->peers; i++) {
        if (guest->peer[i] != peer)
            guest->peer[kept++] = guest->peer[i];
    }
    guest->peers = kept;
}

void guest_part(struct guest *guest, struct peer *peer)
{
    bool was_sender = sender(guest) == peer;
    if (peer->session != guest)
        return;
    remove_peer(guest, peer);
    peer->session = NULL;
    if (!was_sender)
        return;
    session_detach(&guest->session, &peer->carrier, now(guest));
    netstack_freeze(guest->private->netstack);
    struct peer *next = sender(guest);
    if (next != NULL && session_attach(&guest->session, &next->carrier) == 0)
        netstack_thaw(guest->private->netstack);
    else
        log_info("session %u: stalled", guest->id);
}

void guest_input(struct guest *guest, const uint8_t *packet, size_t size)
{
    if (session_owns(&guest->session, packet, size, true)) {
        netstack_input(guest->private->netstack, packet, size);
        return;
    }
    guest->foreign++;
    if (log_allowed(&guest->private->foreign_lines, 1, LOG_PERIOD_MS, now(guest)))
        log_warning("session %u: dropped %llu packets so far that had a foreign source", guest->id,
                    (unsigned long long)guest->foreign);
}

void guest_input_done(struct guest *guest)
{
    netstack_input_done(guest->private->netstack);
}

void guest_resume(struct guest *guest, const struct peer *peer)
{
    if (peer == sender(guest))
        netstack_resume(guest->private->netstack);
}

static void on_answer(void *context, uint32_t id, const uint8_t *answer, size_t size)
{
    struct guest *guest = context;
    guest->private->questions--;
    if (sender(guest) != NULL)
        peer_answer(sender(guest), id, answer, size);
}

void guest_ask(struct guest *guest, uint32_t id, const uint8_t *message, size_t size)
{
    struct guest_private *p = guest->private;
    int rc = -ENOBUFS;
    if (p->questions < GUEST_QUESTIONS_MAX)
        rc = resolver_ask(p->resolver, message, size, on_answer, guest, id);
    if (rc == 0)
        p->questions++;
    else if (sender(guest) != NULL)
        peer_answer(sender(guest), id, NULL, 0);
}
