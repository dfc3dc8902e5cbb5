/* The tunnel has `carriers` slots, and wants one carrier in each. Who is dialled when, for each slot:
 *
 *   a path is ACCEPTED and answers   nobody
 *   it is silent (path_look():       taken off the link, so that what the kernel sends again goes by another, or waits
 *   PATH_SUSPECT)                    in the queue; the agent hears of it (USE) and does the same; others are tried; a
 *                                    byte from it ends that, and it is attached again
 *   it is old                        one is tried; it stays in use until the other has its ACCEPT, and then drains
 *   there is none                    others are tried
 *
 * The first slot that gets a carrier makes the tunnel UP; the others follow, one at a time.
 * A try that fails is followed by the next after a back-off; a try that hangs (its SYN went into a black hole) gets
 * company after REDIAL_RETRY_MS, and each has a deadline of its own. So the first try after an outage is never further
 * away than that. The first of a slot to be accepted wins: it is attached, its rivals are closed, the one before with
 * a CLOSE.
 *
 * Everything that calls the owner back comes from the loop: what must be done after an owner's call is left to the
 * timer, which is then due at once. */
#include "client/tunnel.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <uv.h>

#include "client/paths.h"
#include "common/cursor.h"
#include "common/log.h"
#include "common/mem.h"

#define TICK_DOWN_MS 50
#define TICK_UP_MS 500
#define TICK_CLOSING_MS 10
#define REDRAWS_MAX 8 /* of the key, when its address is taken */
#define ODD_PACKET_LOG_MS 60000
#define DRAIN_MS 10000 /* for the last bytes of an old carrier */

_Static_assert(TICK_UP_MS < PATH_TICK_MAX_MS, "a look at each path in time");

static const struct tunnel_times default_times = {.redial = REDIAL_TIMES,
                                                  .path = PATH_TIMES,
                                                  .look_ms = TICK_UP_MS,
                                                  .down_look_ms = TICK_DOWN_MS,
                                                  .close_ms = TUNNEL_CLOSE_MS,
                                                  .age_ms = WIRE_CARRIER_AGE_MS};

struct tunnel {
    enum tunnel_state state;
    struct uv_loop_s *loop;
    const struct tunnel_ops *ops;
    void *context;
    uv_timer_t timer;
    struct noise_keypair keys;
    bool has_given_keys;
    uint8_t run[WIRE_RUN_SIZE];
    struct session session;
    uint16_t mtu;
    char name[WIRE_NAME_MAX + 1];
    bool has_agent, was_up, is_closing;
    bool is_refusing; /* tunnel_send() said -ENOBUFS: on_room is due */
    uint8_t agent[WIRE_KEY_SIZE];
    struct wire_accept accept;
    struct tunnel_times times;
    struct paths paths;
    struct redial redial;
    uint8_t carriers; /* slots */
    unsigned filled;  /* a bit for each slot that had a carrier */
    uint32_t uses;    /* USE records: their sequence */
    uint32_t reconnects, redraws;
    uint64_t close_by_ms;
    struct log_limit log_limit;
    struct error error; /* of the last failure */
    void (*on_closed)(void *context);
};

static void on_timer(uv_timer_t *timer);

static uint64_t now(const struct tunnel *tunnel)
{
    return uv_now(tunnel->loop);
}

static void soon(struct tunnel *tunnel)
{
    (void)uv_timer_start(&tunnel->timer, on_timer, 0, 0);
}

static enum exit_code code_of(int error)
{
    switch (error) {
    case -EACCES:
    case -EPERM:
        return EXIT_CODE_FORBIDDEN;
    case -ETIMEDOUT:
    case -ECONNREFUSED:
    case -ECONNRESET:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
        return EXIT_CODE_UNREACHABLE;
    default:
        return EXIT_CODE_AGENT;
    }
}

static void set_state(struct tunnel *tunnel, enum tunnel_state state, const struct error *error)
{
    bool is_news = tunnel->state != state || (state == TUNNEL_DIALLING && error != NULL);
    tunnel->state = state;
    if (is_news && !tunnel->is_closing)
        tunnel->ops->on_state(tunnel->context, state, error);
}

/* --- paths -------------------------------------------------------------------------------------------------------- */

static void drop(struct tunnel *tunnel, struct path *path)
{
    paths_drop(&tunnel->paths, path, now(tunnel));
}

/* All but `kept`, which may be NULL. */
static void drop_others(struct tunnel *tunnel, const struct path *kept)
{
    paths_drop_others(&tunnel->paths, kept, now(tunnel));
}

static bool is_up(const struct tunnel *tunnel)
{
    return link_is_up(&tunnel->session.link);
}

/* What waited in the queue goes into the carriers and from there to the streams, as far as there is room. */
static void move_queue(struct tunnel *tunnel)
{
    size_t before;
    do {
        before = link_queued_bytes(&tunnel->session.link);
        link_flush(&tunnel->session.link);
        paths_flush(&tunnel->paths);
    } while (link_queued_bytes(&tunnel->session.link) < before);
}

static void drain_queue(struct tunnel *tunnel)
{
    move_queue(tunnel);
    if (!tunnel->is_refusing || !link_has_room(&tunnel->session.link))
        return;
    tunnel->is_refusing = false;
    tunnel->ops->on_room(tunnel->context);
}

/* --- ends --------------------------------------------------------------------------------------------------------- */

static void end(struct tunnel *tunnel)
{
    session_end(&tunnel->session);
    drop_others(tunnel, NULL);
    (void)uv_timer_stop(&tunnel->timer);
    set_state(tunnel, TUNNEL_ENDED, &tunnel->error);
}

/* A try failed, whose path is gone. `is_doubt`: there is a reason to think that the agent is not there any more. */
static void try_failed(struct tunnel *tunnel, int error, bool is_doubt)
{
    is_doubt |= redial_failed(&tunnel->redial, error, paths_tries(&tunnel->paths) == 0, now(tunnel)) && !is_up(tunnel);
    soon(tunnel);
    if (tunnel->state == TUNNEL_DIALLING)
        set_state(tunnel, TUNNEL_DIALLING, &tunnel->error);
    if (is_doubt && !tunnel->is_closing && tunnel->state != TUNNEL_ENDED)
        tunnel->ops->on_doubt(tunnel->context, error);
}

/* Nothing answers any more: the first try is now. */
static void stalled(struct tunnel *tunnel)
{
    if (is_up(tunnel) || tunnel->state != TUNNEL_UP)
        return;
    redial_outage(&tunnel->redial, now(tunnel));
    soon(tunnel);
    set_state(tunnel, TUNNEL_STALLED, &tunnel->error);
}

/* The slot is lost after all: what its next carrier's OPEN shall say. */
static void mark_lost(struct tunnel *tunnel, uint8_t slot)
{
    for (size_t i = 0; i < tunnel->paths.count; i++) {
        struct path *path = tunnel->paths.path[i];
        if (path->open.slot != slot || path->state == PATH_DRAINING)
            continue;
        path->is_renewal = false;
        path_set_lost(path, true);
    }
}

/* A carrier less: the first try for another is now. */
static void lost_one(struct tunnel *tunnel, uint8_t slot)
{
    mark_lost(tunnel, slot);
    if (tunnel->state != TUNNEL_UP)
        return;
    if (is_up(tunnel)) {
        redial_anew(&tunnel->redial, now(tunnel));
        paths_tell_use(&tunnel->paths, ++tunnel->uses);
        drain_queue(tunnel);
        soon(tunnel);
    } else {
        stalled(tunnel);
    }
}

static void on_path_failed(void *context, struct path *path, int error, const char *text)
{
    struct tunnel *tunnel = context;
    bool was_accepted = path->state == PATH_ACCEPTED;
    uint8_t slot = path->open.slot;
    if (path->state == PATH_DRAINING) {
        drop(tunnel, path);
        return;
    }
    bool is_doubt = error == -ENOENT || path_is_stranger(path, error);
    (void)error_set(&tunnel->error, code_of(error), error, "%s", text[0] != '\0' ? text : strerror(-error));
    if (error == -EPROTONOSUPPORT) {
        (void)error_set(&tunnel->error, EXIT_CODE_AGENT, error,
                        "the agent speaks another version of ktvpn's protocol: use the same version of both");
        end(tunnel);
        return;
    }
    drop(tunnel, path);
    if (was_accepted)
        lost_one(tunnel, slot);
    else
        try_failed(tunnel, error, is_doubt);
}

static int draw_key(struct tunnel *tunnel)
{
    if (!tunnel->has_given_keys)
        noise_keypair_generate(&tunnel->keys);
    return session_init(&tunnel->session, tunnel->keys.public_key, WIRE_QUEUE_SIZE, now(tunnel));
}

/* Another client holds the address that follows from our key. Before the first ACCEPT nobody knows ours yet. */
static bool redraw(struct tunnel *tunnel)
{
    if (tunnel->has_given_keys || tunnel->was_up || tunnel->redraws++ == REDRAWS_MAX)
        return false;
    drop_others(tunnel, NULL);
    session_deinit(&tunnel->session);
    if (draw_key(tunnel) != 0)
        return false;
    redial_at_once(&tunnel->redial, now(tunnel));
    soon(tunnel);
    return true;
}

static void on_path_end(void *context, struct path *path, const struct wire_refuse *end_of)
{
    struct tunnel *tunnel = context;
    enum wire_reason reason = (enum wire_reason)end_of->reason;
    bool was_accepted = path->state == PATH_ACCEPTED, is_leaving = reason == WIRE_REASON_LEAVING;
    uint8_t slot = path->open.slot;
    const char *text = end_of->text;
    if (path->state == PATH_DRAINING) {
        drop(tunnel, path);
        return;
    }
    (void)error_set(&tunnel->error, EXIT_CODE_AGENT, -ECONNRESET, "%s%s%s", path_end_text(reason),
                    text[0] != '\0' ? ": " : "", text);
    drop(tunnel, path);
    if (reason == WIRE_REASON_ADDRESS && redraw(tunnel))
        return;
    if (path_end_is_final(reason, tunnel->was_up)) {
        end(tunnel);
    } else if (was_accepted) {
        lost_one(tunnel, slot);
        if (is_leaving && !tunnel->is_closing)
            tunnel->ops->on_doubt(tunnel->context, -ECONNRESET);
    } else {
        try_failed(tunnel, -ECONNREFUSED, is_leaving);
    }
}

/* --- up ----------------------------------------------------------------------------------------------------------- */

/* This path answers: its slot is its own. */
static void use(struct tunnel *tunnel, struct path *path)
{
    paths_win(&tunnel->paths, path, now(tunnel) + DRAIN_MS, now(tunnel));
    if (paths_attach(&tunnel->paths, path) != 0)
        return;
    paths_tell_use(&tunnel->paths, ++tunnel->uses);
    redial_succeeded(&tunnel->redial);
    redial_at_once(&tunnel->redial, now(tunnel)); /* for the next slot */
    soon(tunnel);
    set_state(tunnel, TUNNEL_UP, NULL);
    if (!tunnel->is_closing && paths_have(&tunnel->paths, path)) /* the owner may have changed its mind in on_state */
        drain_queue(tunnel);
}

static void on_path_accept(void *context, struct path *path, const struct wire_accept *accept)
{
    struct tunnel *tunnel = context;
    log_debug("tunnel: carrier of slot %u accepted after %llu ms", path->open.slot,
              (unsigned long long)(now(tunnel) - path->started_ms));
    tunnel->accept = *accept;
    tunnel->reconnects += (tunnel->filled & 1u << path->open.slot) != 0 && !path->is_renewal;
    tunnel->filled |= 1u << path->open.slot;
    tunnel->was_up = true;
    use(tunnel, path);
}

static void on_path_packet(void *context, uint8_t *packet, size_t size)
{
    struct tunnel *tunnel = context;
    if (tunnel->is_closing)
        return;
    if (session_owns(&tunnel->session, packet, size, false))
        tunnel->ops->on_packet(tunnel->context, packet, size);
    else if (log_allowed(&tunnel->log_limit, 1, ODD_PACKET_LOG_MS, now(tunnel)))
        log_warning("tunnel: the agent sends packets that are not for this session");
}

static void on_path_batch(void *context)
{
    struct tunnel *tunnel = context;
    if (tunnel->ops->on_batch != NULL && !tunnel->is_closing)
        tunnel->ops->on_batch(tunnel->context);
}

static void on_path_room(void *context, struct path *path)
{
    struct tunnel *tunnel = context;
    if (path->is_attached && !tunnel->is_closing)
        drain_queue(tunnel);
}

static void on_path_dns_answer(void *context, uint32_t id, const uint8_t *message, size_t size)
{
    struct tunnel *tunnel = context;
    if (!tunnel->is_closing)
        tunnel->ops->on_dns_answer(tunnel->context, id, message, size);
}

static const struct path_ops path_ops = {.on_accept = on_path_accept,
                                         .on_end = on_path_end,
                                         .on_packet = on_path_packet,
                                         .on_batch = on_path_batch,
                                         .on_room = on_path_room,
                                         .on_dns_answer = on_path_dns_answer,
                                         .on_failed = on_path_failed};

/* --- time --------------------------------------------------------------------------------------------------------- */

static int start_path(struct tunnel *tunnel, uint8_t slot, uint64_t deadline_ms)
{
    struct wire_open open = {.mtu = tunnel->mtu, .v4 = tunnel->session.v4, .v6 = tunnel->session.v6, .slot = slot};
    memcpy(open.name, tunnel->name, sizeof open.name);
    memcpy(open.run, tunnel->run, sizeof open.run);
    struct path_options options = {.loop = tunnel->loop,
                                   .keys = &tunnel->keys,
                                   .agent = tunnel->agent,
                                   .open = &open,
                                   .times = &tunnel->times.path,
                                   .ops = &path_ops,
                                   .context = tunnel};
    struct stream *stream = NULL;
    struct path *path = NULL;
    int rc = tunnel->ops->dial(tunnel->context, &stream);
    if (rc == 0)
        rc = path_open(&path, stream, &options, now(tunnel));
    if (rc != 0)
        return rc;
    path->deadline_ms = deadline_ms;
    path->is_renewal = paths_find_used(&tunnel->paths, slot) != NULL;
    path_set_lost(path, !path->is_renewal);
    paths_add(&tunnel->paths, path);
    return 0;
}

static void try_now(struct tunnel *tunnel, uint8_t slot)
{
    int rc = start_path(tunnel, slot, redial_begin_try(&tunnel->redial, now(tunnel)));
    if (rc == 0)
        return;
    (void)error_set(&tunnel->error, EXIT_CODE_AGENT, rc, "cannot dial the agent: %s", strerror(-rc));
    try_failed(tunnel, rc, false);
}

/* The first slot whose carrier is missing or old; `carriers` when there is none. */
static uint8_t find_slot(const struct tunnel *tunnel)
{
    uint8_t old = tunnel->carriers;
    for (uint8_t slot = tunnel->carriers; slot-- > 0;) {
        const struct path *path = paths_find_used(&tunnel->paths, slot);
        if (path != NULL && now(tunnel) - path->started_ms >= tunnel->times.age_ms)
            old = slot;
    }
    for (uint8_t slot = 0; slot < tunnel->carriers; slot++) {
        if (paths_find_used(&tunnel->paths, slot) == NULL)
            return slot;
    }
    return old;
}

/* Each path that was accepted: does it answer? */
static void look(struct tunnel *tunnel, struct path *path)
{
    enum path_health health = path_look(path, now(tunnel));
    uint8_t slot = path->open.slot;
    if (health == PATH_FINE && !path->is_unanswered && !path->is_attached) {
        use(tunnel, path); /* it was only slow */
    } else if (health == PATH_SUSPECT && path->is_attached) {
        paths_detach(&tunnel->paths, path, now(tunnel));
        (void)error_set(&tunnel->error, EXIT_CODE_UNREACHABLE, -ETIMEDOUT, "the agent does not answer");
        lost_one(tunnel, slot);
    }
}

static bool is_over(const struct tunnel *tunnel)
{
    return tunnel->state == TUNNEL_ENDED || tunnel->is_closing;
}

static void end_late_ones(struct tunnel *tunnel)
{
    struct path *path;
    while (!is_over(tunnel) && (path = paths_find_late(&tunnel->paths, now(tunnel))) != NULL) {
        bool was_try = path->state != PATH_DRAINING;
        drop(tunnel, path);
        if (!was_try)
            continue;
        (void)error_set(&tunnel->error, EXIT_CODE_UNREACHABLE, -ETIMEDOUT, "the agent does not answer");
        try_failed(tunnel, -ETIMEDOUT, false);
    }
}

/* The callbacks in it may change anything, so it takes one step after another and looks again; a path that is skipped
 * because another one went is looked at next time. */
static void tick(struct tunnel *tunnel)
{
    for (size_t i = 0; i < tunnel->paths.count && !is_over(tunnel); i++) {
        if (tunnel->paths.path[i]->state == PATH_ACCEPTED)
            look(tunnel, tunnel->paths.path[i]);
    }
    stalled(tunnel); /* by tunnel_set_agent() */
    end_late_ones(tunnel);
    if (is_over(tunnel) || !tunnel->has_agent)
        return;
    uint8_t slot = find_slot(tunnel);
    if (slot == tunnel->carriers)
        return;
    if (tunnel->state == TUNNEL_IDLE)
        set_state(tunnel, TUNNEL_DIALLING, NULL);
    if (!is_over(tunnel) && redial_is_due(&tunnel->redial, now(tunnel)) && paths_can_try(&tunnel->paths))
        try_now(tunnel, slot);
}

static void on_tunnel_timer_closed(uv_handle_t *handle)
{
    struct tunnel *tunnel = KT_CONTAINER_OF((uv_timer_t *)handle, struct tunnel, timer);
    tunnel->on_closed(tunnel->context);
    session_deinit(&tunnel->session);
    kt_free_secret(tunnel, sizeof *tunnel);
}

static void close_if_flushed(struct tunnel *tunnel)
{
    if (!paths_are_flushed(&tunnel->paths) && now(tunnel) < tunnel->close_by_ms)
        return;
    while (tunnel->paths.count > 0)
        drop(tunnel, tunnel->paths.path[0]);
    uv_close((uv_handle_t *)&tunnel->timer, on_tunnel_timer_closed);
}

static void on_timer(uv_timer_t *timer)
{
    struct tunnel *tunnel = KT_CONTAINER_OF(timer, struct tunnel, timer);
    if (!tunnel->is_closing)
        tick(tunnel);
    else
        close_if_flushed(tunnel);
    if (uv_is_closing((uv_handle_t *)timer) || tunnel->state == TUNNEL_ENDED || uv_is_active((uv_handle_t *)timer))
        return;
    bool is_quiet = is_up(tunnel) && paths_tries(&tunnel->paths) == 0;
    uint64_t look_ms = is_quiet ? tunnel->times.look_ms : tunnel->times.down_look_ms;
    uint64_t next_ms = tunnel->is_closing ? TICK_CLOSING_MS : look_ms;
    (void)uv_timer_start(timer, on_timer, next_ms, 0);
}

/* --- the owner's calls -------------------------------------------------------------------------------------------- */

int tunnel_open(struct tunnel **out, struct uv_loop_s *loop, const struct tunnel_options *options,
                const struct tunnel_ops *ops, void *context)
{
    struct tunnel *tunnel = kt_calloc(1, sizeof *tunnel);
    if (tunnel == NULL)
        return -ENOMEM;
    tunnel->loop = loop;
    tunnel->ops = ops;
    tunnel->context = context;
    tunnel->mtu = options->mtu;
    tunnel->carriers = options->carriers == 0 ? TUNNEL_CARRIERS : KT_MIN(options->carriers, WIRE_SLOTS_MAX);
    tunnel->times = options->times != NULL ? *options->times : default_times;
    tunnel->paths.session = &tunnel->session;
    redial_init(&tunnel->redial, &tunnel->times.redial);
    (void)log_escape(tunnel->name, sizeof tunnel->name, options->name, strlen(options->name));
    randombytes_buf(tunnel->run, sizeof tunnel->run);
    tunnel->has_given_keys = options->keys != NULL;
    if (tunnel->has_given_keys)
        tunnel->keys = *options->keys;
    if (draw_key(tunnel) != 0) {
        kt_free_secret(tunnel, sizeof *tunnel);
        return -ENOMEM;
    }
    (void)uv_timer_init(loop, &tunnel->timer); /* cannot fail */
    *out = tunnel;
    return 0;
}

void tunnel_set_agent(struct tunnel *tunnel, const uint8_t key[static WIRE_KEY_SIZE])
{
    if (tunnel->state == TUNNEL_ENDED || tunnel->is_closing)
        return;
    bool is_other = tunnel->has_agent && memcmp(tunnel->agent, key, WIRE_KEY_SIZE) != 0;
    if (is_other) {
        drop_others(tunnel, NULL);
        (void)error_set(&tunnel->error, EXIT_CODE_AGENT, -ECONNRESET, "there is a new agent");
    }
    if (!tunnel->has_agent || is_other)
        redial_outage(&tunnel->redial, now(tunnel));
    else
        redial_anew(&tunnel->redial, now(tunnel));
    memcpy(tunnel->agent, key, WIRE_KEY_SIZE);
    tunnel->has_agent = true;
    soon(tunnel);
}

void tunnel_close(struct tunnel *tunnel, void (*on_closed)(void *context))
{
    if (tunnel->is_closing)
        return;
    tunnel->is_closing = true;
    tunnel->on_closed = on_closed;
    tunnel->close_by_ms = now(tunnel) + tunnel->times.close_ms;
    paths_say_bye(&tunnel->paths, now(tunnel));
    soon(tunnel);
}

const struct address *tunnel_v4(const struct tunnel *tunnel)
{
    return &tunnel->session.v4;
}

const struct address *tunnel_v6(const struct tunnel *tunnel)
{
    return &tunnel->session.v6;
}

const struct wire_accept *tunnel_accept(const struct tunnel *tunnel)
{
    return tunnel->was_up ? &tunnel->accept : NULL;
}

int tunnel_send(struct tunnel *tunnel, const struct carrier_part *parts, int count)
{
    int rc = link_send(&tunnel->session.link, parts, count);
    if (rc == -ENOBUFS)
        tunnel->is_refusing = true;
    return rc;
}

void tunnel_flush(struct tunnel *tunnel)
{
    move_queue(tunnel);
}

int tunnel_ask_dns(struct tunnel *tunnel, uint32_t id, const uint8_t *message, size_t size)
{
    uint8_t head[sizeof id];
    struct cursor cursor = cursor_writer(head, sizeof head);
    cursor_put_u32(&cursor, id);
    const struct carrier_part parts[] = {{head, sizeof head}, {message, size}};
    struct carrier *carrier = link_least_loaded(&tunnel->session.link);
    if (carrier == NULL)
        return -ENOTCONN;
    int rc = carrier_seal(carrier, WIRE_DNS_QUERY, parts, KT_ARRAY_LEN(parts));
    tunnel_flush(tunnel);
    return rc;
}

void tunnel_info(const struct tunnel *tunnel, struct tunnel_info *info)
{
    *info = (struct tunnel_info){.state = tunnel->state,
                                 .reconnects = tunnel->reconnects,
                                 .queued_bytes = link_queued_bytes(&tunnel->session.link)};
    for (size_t i = 0; i < tunnel->paths.count; i++) {
        const struct path *path = tunnel->paths.path[i];
        if (path->state != PATH_ACCEPTED)
            continue;
        info->carrier[info->carriers++] =
            (struct tunnel_carrier_info){.slot = path->open.slot,
                                         .is_used = path->is_attached,
                                         .age_ms = now(tunnel) - path->started_ms,
                                         .rtt_us = path->carrier.rtt_us,
                                         .bytes_in = path->carrier.bytes_in,
                                         .bytes_out = path->carrier.bytes_out,
                                         .silent_ms = carrier_silent_ms(&path->carrier, now(tunnel))};
    }
}
