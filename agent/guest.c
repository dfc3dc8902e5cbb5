/* What netstack and resolver put out goes to a peer's carrier at once, and from there to its socket once for
 * each turn of the loop: in a prepare handle, which runs after all callbacks of a turn, just before the loop sleeps.
 * Only when the carrier is full it is written out in the middle of a turn. */
#include "agent/guest.h"

#include <errno.h>
#include <string.h>
#include <uv.h>

#include "agent/policy.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/packet.h"
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

static struct peer *peer_of(struct carrier *carrier)
{
    return KT_CONTAINER_OF(carrier, struct peer, carrier);
}

static void flush_all(const struct guest *guest)
{
    const struct link *link = &guest->session.link;
    for (size_t i = 0; i < link->carriers; i++)
        peer_flush(peer_of(link->carrier[i]));
}

static void on_flush(uv_prepare_t *prepare)
{
    struct guest_private *p = KT_CONTAINER_OF(prepare, struct guest_private, flush);
    (void)uv_prepare_stop(prepare);
    flush_all(&p->guest);
}

static int on_output(void *context, const struct carrier_part *parts, int count)
{
    struct guest *guest = context;
    int rc = link_send(&guest->session.link, parts, count);
    if (rc == -ENOBUFS && link_is_up(&guest->session.link)) {
        flush_all(guest);
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

static void log_drops(const struct guest *guest, const struct netstack_stats *stats)
{
    for (int drop = 0; drop < NETSTACK_DROPS; drop++) {
        if (stats->drops[drop] > 0)
            log_info("session %u: dropped packets, %s: %llu", guest->id, netstack_drop_name((enum netstack_drop)drop),
                     (unsigned long long)stats->drops[drop]);
    }
}

void guest_close(struct guest *guest)
{
    struct guest_private *p = guest->private;
    struct netstack_stats stats;
    netstack_stats(p->netstack, &stats);
    log_info("session %u: ends: %llu packets in, %llu out, %llu connections, %llu packets with a foreign source",
             guest->id, (unsigned long long)stats.packets_in, (unsigned long long)stats.packets_out,
             (unsigned long long)stats.tcp_opened, (unsigned long long)guest->foreign);
    log_drops(guest, &stats);
    session_end(&guest->session);
    resolver_forget(p->resolver, guest);
    netstack_close(p->netstack, on_netstack_closed);
    uv_close((uv_handle_t *)&p->flush, on_flush_closed);
}

/* Flows whose packets were sent on `lost` before the link changed. */
struct loss {
    struct link before;
    const struct carrier *lost;
};

static bool was_on_lost(void *context, const struct netstack_flow *flow)
{
    const struct loss *loss = context;
    struct packet packet = {.protocol = (uint8_t)flow->protocol,
                            .source = flow->target,
                            .target = flow->source,
                            .source_port = flow->target_port,
                            .target_port = flow->source_port};
    return link_pick_hash(&loss->before, packet_hash(&packet)) == loss->lost;
}

/* The newest peer of the slot is the one that may be used. */
static struct peer *find_newest(const struct guest *guest, unsigned slot)
{
    for (size_t i = guest->peers; i-- > 0;) {
        if (guest->peer[i]->carrier.slot == slot)
            return guest->peer[i];
    }
    return NULL;
}

static bool is_used(const struct guest *guest, const struct peer *peer)
{
    const struct link *link = &guest->session.link;
    for (size_t i = 0; peer != NULL && i < link->carriers; i++) {
        if (link->carrier[i] == &peer->carrier)
            return true;
    }
    return false;
}

/* True: all stood still before, and goes on now. */
static bool attach(struct guest *guest, struct peer *peer)
{
    bool was_up = link_is_up(&guest->session.link);
    if (session_attach(&guest->session, &peer->carrier) != 0) /* ended: nothing joins an ended session */
        return false;
    if (was_up)
        return false;
    netstack_thaw(guest->private->netstack);
    return true;
}

/* Not used any more. `is_lost`: what it has under way is sent again by the others, now and not after a time-out; at
 * worst it arrives twice. Without another one all stands still. */
static void detach(struct guest *guest, struct peer *peer, bool is_lost)
{
    struct loss loss = {guest->session.link, &peer->carrier};
    session_detach(&guest->session, &peer->carrier, now(guest));
    if (!link_is_up(&guest->session.link))
        netstack_freeze(guest->private->netstack);
    else if (is_lost)
        netstack_resend(guest->private->netstack, was_on_lost, &loss);
}

static void evict_oldest(struct guest *guest)
{
    struct peer *oldest = guest->peer[0];
    guest_part(guest, oldest);
    peer_leave(oldest, WIRE_REASON_CARRIER, "a newer carrier takes its place");
}

void guest_join(struct guest *guest, struct peer *peer, const struct wire_open *open)
{
    if (guest->peers == WIRE_CARRIERS_MAX)
        evict_oldest(guest);
    struct peer *old = find_newest(guest, open->slot);
    bool has_old = is_used(guest, old);
    peer->carrier.slot = open->slot;
    guest->peer[guest->peers++] = peer;
    peer->session = guest;
    log_info("session %u: carrier %u joins in slot %u, %zu in all", guest->id, peer->id, open->slot, guest->peers);
    (void)attach(guest, peer);
    if (has_old)
        detach(guest, old, open->is_lost);
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
    if (peer->session != guest)
        return;
    bool was_used = is_used(guest, peer);
    remove_peer(guest, peer);
    peer->session = NULL;
    if (!was_used)
        return;
    detach(guest, peer, true);
    if (link_is_up(&guest->session.link))
        return;
    if (guest->peers == 0)
        log_info("session %u: stalled", guest->id);
    else /* better one in doubt than none */
        (void)attach(guest, guest->peer[guest->peers - 1]);
}

void guest_use(struct guest *guest, const struct wire_use *use)
{
    if ((int32_t)(use->sequence - guest->use_sequence) <= 0)
        return; /* overtaken */
    guest->use_sequence = use->sequence;
    struct peer *newest[WIRE_SLOTS_MAX];
    unsigned known = 0;
    for (unsigned slot = 0; slot < WIRE_SLOTS_MAX; slot++) {
        newest[slot] = find_newest(guest, slot);
        known |= newest[slot] != NULL ? 1u << slot : 0;
    }
    if ((known & use->slots) == 0)
        return;
    for (unsigned slot = 0; slot < WIRE_SLOTS_MAX; slot++) {
        if ((known & use->slots & 1u << slot) != 0 && !is_used(guest, newest[slot]))
            (void)attach(guest, newest[slot]);
    }
    for (unsigned slot = 0; slot < WIRE_SLOTS_MAX; slot++) {
        if ((use->slots & 1u << slot) == 0 && is_used(guest, newest[slot]))
            detach(guest, newest[slot], true);
    }
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
    if (is_used(guest, peer))
        netstack_resume(guest->private->netstack);
}

static void answer_question(struct guest *guest, uint32_t id, const uint8_t *answer, size_t size)
{
    struct carrier *carrier = link_least_loaded(&guest->session.link);
    if (carrier != NULL)
        peer_answer(peer_of(carrier), id, answer, size);
}

static void on_answer(void *context, uint32_t id, const uint8_t *answer, size_t size)
{
    struct guest *guest = context;
    guest->private->questions--;
    answer_question(guest, id, answer, size);
}

void guest_ask(struct guest *guest, uint32_t id, const uint8_t *message, size_t size)
{
    struct guest_private *p = guest->private;
    int rc = -ENOBUFS;
    if (p->questions < GUEST_QUESTIONS_MAX)
        rc = resolver_ask(p->resolver, message, size, on_answer, guest, id);
    if (rc == 0)
        p->questions++;
    else if (rc != -EALREADY)
        answer_question(guest, id, NULL, 0);
}
