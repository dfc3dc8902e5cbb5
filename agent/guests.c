#include "agent/guests.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "common/log.h"
#include "common/mem.h"

#define LOG_PERIOD_MS 60000
#define LOG_BURST 10

struct guests {
    struct guests_setup setup;
    struct noise_keypair keys;
    uv_timer_t timer;
    struct guest *first_guest;
    struct peer *first_peer; /* all, newest first */
    struct guests_stats stats;
    unsigned next_guest, next_peer;
    bool had_guest, is_idle, is_closing;
    uint64_t quiet_since_ms; /* valid while no carrier has a session */
    struct log_limit refused_lines;
    void (*on_closed)(void *context);
    void *closed_context;
};

static uint64_t now(const struct guests *guests)
{
    return uv_now(guests->timer.loop);
}

/* ---- lists ---- */

static void add_peer(struct guests *guests, struct peer *peer)
{
    peer->previous = NULL;
    peer->next = guests->first_peer;
    if (peer->next != NULL)
        peer->next->previous = peer;
    guests->first_peer = peer;
    guests->stats.pending++;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct guests *guests = KT_CONTAINER_OF((uv_timer_t *)handle, struct guests, timer);
    void (*on_closed)(void *) = guests->on_closed;
    void *context = guests->closed_context;
    kt_free_secret(guests, sizeof *guests);
    if (on_closed != NULL)
        on_closed(context);
}

/* It has no session any more, or never had one. */
static void let_peer_go(struct guests *guests, struct peer *peer)
{
    if (peer->previous != NULL)
        peer->previous->next = peer->next;
    else
        guests->first_peer = peer->next;
    if (peer->next != NULL)
        peer->next->previous = peer->previous;
    guests->stats.pending--;
    peer_close(peer);
    if (guests->is_closing && guests->first_peer == NULL)
        uv_close((uv_handle_t *)&guests->timer, on_timer_closed);
}

static void part(struct guests *guests, struct peer *peer)
{
    if (peer->session == NULL)
        return;
    guest_part(peer->session, peer);
    guests->stats.carriers--;
    guests->stats.pending++;
    if (guests->stats.carriers == 0)
        guests->quiet_since_ms = now(guests);
}

static void add_guest(struct guests *guests, struct guest *guest)
{
    guest->previous = NULL;
    guest->next = guests->first_guest;
    if (guest->next != NULL)
        guest->next->previous = guest;
    guests->first_guest = guest;
    guests->stats.sessions++;
    guests->had_guest = true;
}

static void let_guest_go(struct guests *guests, struct guest *guest)
{
    if (guest->previous != NULL)
        guest->previous->next = guest->next;
    else
        guests->first_guest = guest->next;
    if (guest->next != NULL)
        guest->next->previous = guest->previous;
    guests->stats.sessions--;
    guest_close(guest);
}

/* Ends a session; its carriers hear why. */
static void end_guest(struct guests *guests, struct guest *guest, enum wire_reason reason, const char *text)
{
    while (guest->peers > 0) {
        struct peer *peer = guest->peer[guest->peers - 1];
        part(guests, peer);
        peer_leave(peer, reason, text);
    }
    let_guest_go(guests, guest);
}

/* ---- who may come in ---- */

/* Whoever is refused may come back at once and for ever: the log has an end. */
static void refuse(struct guests *guests, struct peer *peer, enum wire_reason reason, const char *text)
{
    char from[ADDRESS_STRLEN];
    if (log_allowed(&guests->refused_lines, LOG_BURST, LOG_PERIOD_MS, now(guests)))
        log_warning("carrier %u: refused, from %s: %s", peer->id,
                    address_print_port(&peer->from, peer->from_port, from), text);
    peer_leave(peer, reason, text);
}

static bool is_allowed(const struct guests *guests, const uint8_t key[static WIRE_KEY_SIZE])
{
    bool found = guests->setup.allowed_count == 0;
    for (size_t i = 0; i < guests->setup.allowed_count; i++)
        found |= sodium_memcmp(guests->setup.allowed[i], key, WIRE_KEY_SIZE) == 0;
    return found;
}

static void on_key(void *context, struct peer *peer)
{
    struct guests *guests = context;
    if (guests->is_closing)
        refuse(guests, peer, WIRE_REASON_LEAVING, "the agent was told to stop");
    else if (!is_allowed(guests, peer->carrier.peer))
        refuse(guests, peer, WIRE_REASON_KEY, "this key is not on the agent's list of allowed ones");
}

static bool is_wish_valid(const struct wire_open *open, const struct address *v4, const struct address *v6)
{
    return (open->v4.family == ADDRESS_NONE || address_equal(&open->v4, v4)) &&
           (open->v6.family == ADDRESS_NONE || address_equal(&open->v6, v6));
}

/* The session of the key, or the one that holds one of its addresses. */
static struct guest *find(const struct guests *guests, const uint8_t *key, const struct address *v4,
                          const struct address *v6)
{
    struct guest *holder = NULL;
    for (struct guest *guest = guests->first_guest; guest != NULL; guest = guest->next) {
        if (sodium_memcmp(guest->session.key, key, WIRE_KEY_SIZE) == 0)
            return guest;
        if (address_equal(&guest->session.v4, v4) || address_equal(&guest->session.v6, v6))
            holder = guest;
    }
    return holder;
}

static struct guest *admit_new(struct guests *guests, struct peer *peer, const struct wire_open *open)
{
    struct guest *guest = NULL;
    if (guests->stats.sessions == WIRE_SESSIONS_MAX) {
        refuse(guests, peer, WIRE_REASON_FULL, "the agent has as many sessions as it can hold");
        return NULL;
    }
    int rc =
        guest_open(&guest, guests->timer.loop, guests->next_guest, peer->carrier.peer, open, guests->setup.resolver);
    if (rc != 0) {
        log_error("session %u: not created: %s", guests->next_guest, strerror(-rc));
        refuse(guests, peer, WIRE_REASON_FULL, "the agent has no memory for another session");
        return NULL;
    }
    guests->next_guest++;
    memcpy(guest->run, open->run, sizeof guest->run);
    add_guest(guests, guest);
    return guest;
}

/* Two clients with one key file would take each other's packets for ever: the newest has proved that it has the key
 * and is the one that somebody waits for, so the older hears why and stops. */
static struct guest *take_over(struct guests *guests, struct guest *guest, struct peer *peer,
                               const struct wire_open *open)
{
    log_warning("session %u: another client came with its key", guest->id);
    end_guest(guests, guest, WIRE_REASON_TAKEN, open->name);
    return admit_new(guests, peer, open);
}

/* The session for the peer; NULL when it was refused. */
static struct guest *admit(struct guests *guests, struct peer *peer, const struct wire_open *open)
{
    struct address v4, v6;
    session_addresses(peer->carrier.peer, &v4, &v6);
    struct guest *guest = find(guests, peer->carrier.peer, &v4, &v6);
    if (!is_wish_valid(open, &v4, &v6))
        refuse(guests, peer, WIRE_REASON_INVALID, "these addresses do not follow from the client's key");
    else if (guest == NULL)
        return admit_new(guests, peer, open);
    else if (sodium_memcmp(guest->session.key, peer->carrier.peer, WIRE_KEY_SIZE) != 0)
        refuse(guests, peer, WIRE_REASON_ADDRESS, "another client holds this address");
    else if (memcmp(guest->run, open->run, sizeof guest->run) != 0)
        return take_over(guests, guest, peer, open);
    else if (guest->mtu != open->mtu)
        refuse(guests, peer, WIRE_REASON_INVALID, "a session cannot change its MTU");
    else
        return guest;
    return NULL;
}

static void on_request(void *context, struct peer *peer, const struct wire_open *open)
{
    struct guests *guests = context;
    struct guest *guest = admit(guests, peer, open);
    if (guest == NULL)
        return;
    struct wire_accept accept = guests->setup.about;
    accept.mtu = WIRE_MTU;
    accept.idle_ms = (uint32_t)KT_MIN(guests->setup.idle_ms, UINT32_MAX);
    peer_accept(peer, &accept);
    if (peer->state != PEER_ACCEPTED)
        return;
    size_t others = guest->peers;
    guest_join(guest, peer, open);
    guests->stats.carriers += guest->peers - others; /* 0 when an older one had to make room */
    guests->stats.pending -= guest->peers - others;
}

/* ---- what comes from a peer ---- */

static void on_packet(void *context KT_UNUSED, struct peer *peer, const uint8_t *packet, size_t size)
{
    guest_input(peer->session, packet, size);
}

static void on_batch(void *context KT_UNUSED, struct peer *peer)
{
    guest_input_done(peer->session);
}

static void on_room(void *context KT_UNUSED, struct peer *peer)
{
    guest_resume(peer->session, peer);
}

static void on_question(void *context KT_UNUSED, struct peer *peer, uint32_t id, const uint8_t *message, size_t size)
{
    guest_ask(peer->session, id, message, size);
}

static void on_use(void *context KT_UNUSED, struct peer *peer, const struct wire_use *use)
{
    guest_use(peer->session, use);
}

static void on_bye(void *context, struct peer *peer, enum wire_reason reason)
{
    struct guests *guests = context;
    struct guest *guest = peer->session;
    guest_input_done(guest); /* its last batch */
    part(guests, peer);
    if (reason == WIRE_REASON_BYE)
        end_guest(guests, guest, WIRE_REASON_BYE, "the client left");
}

static void on_gone(void *context, struct peer *peer, int error)
{
    struct guests *guests = context;
    if (error == -EKEYREJECTED && log_allowed(&guests->refused_lines, LOG_BURST, LOG_PERIOD_MS, now(guests)))
        log_warning("carrier %u: its client looks for an agent with another key", peer->id);
    part(guests, peer);
    let_peer_go(guests, peer);
}

static const struct peer_ops peer_ops = {.on_key = on_key,
                                         .on_request = on_request,
                                         .on_packet = on_packet,
                                         .on_batch = on_batch,
                                         .on_room = on_room,
                                         .on_question = on_question,
                                         .on_use = on_use,
                                         .on_bye = on_bye,
                                         .on_gone = on_gone};

/* Whoever connects and says nothing must not keep others out. */
static void close_oldest_pending(struct guests *guests)
{
    struct peer *oldest = NULL;
    for (struct peer *peer = guests->first_peer; peer != NULL; peer = peer->next) {
        if (peer->session == NULL)
            oldest = peer;
    }
    if (oldest != NULL)
        let_peer_go(guests, oldest);
}

void guests_take(struct guests *guests, int fd, const struct address *from, uint16_t from_port)
{
    struct peer_setup setup = {.id = guests->next_peer,
                               .keys = &guests->keys,
                               .from = *from,
                               .from_port = from_port,
                               .ops = &peer_ops,
                               .context = guests};
    struct peer *peer = NULL;
    if (guests->is_closing) {
        (void)close(fd);
        return;
    }
    if (guests->stats.pending >= GUESTS_PENDING_MAX)
        close_oldest_pending(guests);
    int rc = peer_open(&peer, guests->timer.loop, fd, &setup);
    if (rc != 0) {
        if (log_allowed(&guests->refused_lines, LOG_BURST, LOG_PERIOD_MS, now(guests)))
            log_error("carrier %u: not created: %s", guests->next_peer, strerror(-rc));
        return;
    }
    guests->next_peer++;
    add_peer(guests, peer);
}

/* ---- time ---- */

static void end_stalled(struct guests *guests, uint64_t now_ms)
{
    struct guest *next;
    for (struct guest *guest = guests->first_guest; guest != NULL; guest = next) {
        next = guest->next;
        if (session_tick(&guest->session, now_ms))
            end_guest(guests, guest, WIRE_REASON_BYE, "the session was without a carrier for too long");
    }
}

static void look_for_idleness(struct guests *guests, uint64_t now_ms)
{
    uint64_t limit_ms = guests->had_guest ? guests->setup.idle_ms : guests->setup.idle_first_ms;
    if (guests->is_idle || guests->is_closing || guests->stats.carriers > 0 || limit_ms == 0)
        return;
    if (now_ms - guests->quiet_since_ms < limit_ms)
        return;
    guests->is_idle = true;
    guests->setup.on_idle(guests->setup.context,
                          guests->had_guest ? "no client was connected for too long" : "no client came");
}

void guests_tick(struct guests *guests, uint64_t now_ms)
{
    end_stalled(guests, now_ms);
    look_for_idleness(guests, now_ms);
}

static void on_timer(uv_timer_t *timer)
{
    struct guests *guests = KT_CONTAINER_OF(timer, struct guests, timer);
    guests_tick(guests, now(guests));
}

/* ---- life ---- */

int guests_open(struct guests **out, struct uv_loop_s *loop, const struct guests_setup *setup)
{
    struct guests *guests = kt_calloc(1, sizeof *guests);
    if (guests == NULL)
        return -ENOMEM;
    guests->setup = *setup;
    guests->keys = *setup->keys;
    guests->next_guest = guests->next_peer = 1;
    guests->quiet_since_ms = uv_now(loop);
    (void)uv_timer_init(loop, &guests->timer); /* these two cannot fail */
    (void)uv_timer_start(&guests->timer, on_timer, GUESTS_TICK_MS, GUESTS_TICK_MS);
    *out = guests;
    return 0;
}

static void say_goodbye_to_pending(struct guests *guests)
{
    struct peer *next;
    for (struct peer *peer = guests->first_peer; peer != NULL; peer = next) {
        next = peer->next;
        if (peer->state == PEER_HANDSHAKE)
            let_peer_go(guests, peer);
        else
            peer_leave(peer, WIRE_REASON_LEAVING, "the agent was told to stop");
    }
}

void guests_close(struct guests *guests, void (*on_closed)(void *context), void *context)
{
    guests->on_closed = on_closed;
    guests->closed_context = context;
    (void)uv_timer_stop(&guests->timer);
    while (guests->first_guest != NULL)
        end_guest(guests, guests->first_guest, WIRE_REASON_LEAVING, "the agent was told to stop");
    say_goodbye_to_pending(guests);
    guests->is_closing = true;
    if (guests->first_peer == NULL)
        uv_close((uv_handle_t *)&guests->timer, on_timer_closed);
}

void guests_stats(const struct guests *guests, struct guests_stats *stats)
{
    *stats = guests->stats;
}
