/* Who is dialled when:
 *
 *   a path is ACCEPTED and answers            nobody
 *   it is silent (path_look: PATH_SUSPECT)    taken off the link, so that what the kernel sends again waits in the
 * queue instead of being lost with it; others are tried; a byte from it ends that and it is attached again none others
 * are tried
 *
 * A try that fails is followed by the next after a back-off; a try that hangs (its SYN went into a black hole) gets
 * company after TUNNEL_RETRY_MS, and each has a deadline of its own. So the first try after an outage is never further
 * away than that. The first to be accepted wins: it is attached, all others are closed, the one before with a CLOSE.
 *
 * Everything that calls the owner back comes from the loop: what must be done after an owner's call is left to the
 * timer, which is then due at once. */
#include "client/tunnel.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <uv.h>

#include "client/path.h"
#include "common/cursor.h"
#include "common/log.h"
#include "common/mem.h"

#define PATHS_MAX (TUNNEL_TRIES_MAX + 2)
#define TICK_DOWN_MS 50
#define TICK_UP_MS 500
#define TICK_CLOSING_MS 10
#define REDRAWS_MAX 8 /* of the key, when its address is taken */
#define DOUBT_EVERY 4 /* failed tries, after the first doubt */
#define BACKOFF_DOUBLINGS 6

_Static_assert(PATHS_MAX <= WIRE_CARRIERS_MAX, "tunnel_info has room for each path, and the agent too");
_Static_assert(TICK_UP_MS < PATH_TICK_MAX_MS, "a look at each path in time");

struct tunnel {
    enum tunnel_state state;
    struct uv_loop_s *loop;
    const struct tunnel_ops *ops;
    void *context;
    uv_timer_t timer;
    struct noise_keypair keys;
    struct session session;
    uint16_t mtu;
    char name[WIRE_NAME_MAX + 1];
    bool has_agent, was_up, is_closing;
    bool is_refusing; /* tunnel_send() said -ENOBUFS: on_room is due */
    uint8_t agent[WIRE_KEY_SIZE];
    struct wire_accept accept;
    struct path *path[PATHS_MAX]; /* in the order of their dials */
    size_t paths;
    uint32_t failures; /* tries in a row */
    uint32_t reconnects, redraws;
    uint64_t next_try_ms, outage_ms, try_ms; /* outage_ms: since when no path answers; try_ms: a try's time */
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

/* From three quarters to five quarters, so that clients that lost the same server do not come back together. */
static uint64_t jitter(uint64_t ms)
{
    return ms * 3 / 4 + randombytes_uniform((uint32_t)(ms / 2 + 1));
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

static bool has_path(const struct tunnel *tunnel, const struct path *path)
{
    for (size_t i = 0; i < tunnel->paths; i++) {
        if (tunnel->path[i] == path)
            return true;
    }
    return false;
}

static void forget(struct tunnel *tunnel, const struct path *path)
{
    size_t i = 0;
    while (i < tunnel->paths && tunnel->path[i] != path)
        i++;
    if (i == tunnel->paths)
        return;
    tunnel->paths--;
    memmove(&tunnel->path[i], &tunnel->path[i + 1], (tunnel->paths - i) * sizeof tunnel->path[0]);
}

static void detach(struct tunnel *tunnel, struct path *path)
{
    if (path->is_attached)
        session_detach(&tunnel->session, &path->carrier, now(tunnel));
    path->is_attached = false;
}

static int attach(struct tunnel *tunnel, struct path *path)
{
    int rc = path->is_attached ? 0 : session_attach(&tunnel->session, &path->carrier);
    path->is_attached = rc == 0;
    return rc;
}

static void drop(struct tunnel *tunnel, struct path *path)
{
    detach(tunnel, path);
    forget(tunnel, path);
    path_close(path);
}

/* All but `kept`, which may be NULL. */
static void drop_others(struct tunnel *tunnel, const struct path *kept)
{
    for (size_t i = tunnel->paths; i-- > 0;) {
        struct path *path = tunnel->path[i];
        if (path == kept)
            continue;
        path_say_close(path, WIRE_REASON_CARRIER);
        drop(tunnel, path);
    }
}

static size_t count_tries(const struct tunnel *tunnel)
{
    size_t tries = 0;
    for (size_t i = 0; i < tunnel->paths; i++)
        tries += tunnel->path[i]->state != PATH_ACCEPTED;
    return tries;
}

static bool is_up(const struct tunnel *tunnel)
{
    return link_is_up(&tunnel->session.link);
}

/* What waited in the queue goes into the carrier and from there to the stream, as far as there is room. */
static void drain_queue(struct tunnel *tunnel, struct path *path)
{
    size_t before;
    do {
        before = link_queued_bytes(&tunnel->session.link);
        link_flush(&tunnel->session.link);
        path_flush(path);
    } while (link_queued_bytes(&tunnel->session.link) < before);
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

static uint64_t backoff(const struct tunnel *tunnel)
{
    uint64_t max_ms = now(tunnel) - tunnel->outage_ms < TUNNEL_SOON_MS ? TUNNEL_BACKOFF_SOON_MS : TUNNEL_BACKOFF_MAX_MS;
    uint64_t ms = (uint64_t)TUNNEL_BACKOFF_MIN_MS << KT_MIN(tunnel->failures - 1, BACKOFF_DOUBLINGS);
    return jitter(KT_MIN(ms, max_ms));
}

static bool is_doubtful(const struct tunnel *tunnel)
{
    return tunnel->failures >= TUNNEL_CHECK_TRIES && (tunnel->failures - TUNNEL_CHECK_TRIES) % DOUBT_EVERY == 0;
}

/* A try failed, whose path is gone. `is_doubt`: there is a reason to think that the agent is not there any more. */
static void try_failed(struct tunnel *tunnel, int error, bool is_doubt)
{
    tunnel->failures++;
    if (error == -ETIMEDOUT)
        tunnel->try_ms = KT_MIN(tunnel->try_ms * 3 / 2, WIRE_HANDSHAKE_MS);
    if (count_tries(tunnel) == 0)
        tunnel->next_try_ms = now(tunnel) + backoff(tunnel);
    soon(tunnel);
    is_doubt |= is_doubtful(tunnel);
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
    tunnel->outage_ms = tunnel->next_try_ms = now(tunnel);
    tunnel->failures = 0;
    tunnel->try_ms = TUNNEL_TRY_MS;
    soon(tunnel);
    set_state(tunnel, TUNNEL_STALLED, &tunnel->error);
}

/* Did the other side prove that it is not the agent whose key we have? It hangs up on an INIT that it can't decrypt. */
static bool is_stranger(const struct path *path, int error)
{
    if (path->state != PATH_HANDSHAKE)
        return false;
    return (path->carrier.state == CARRIER_HANDSHAKE && error != -ETIMEDOUT) || error == -EPROTO || error == -EBADMSG ||
           error == -EKEYREJECTED;
}

static void on_path_failed(void *context, struct path *path, int error, const char *text)
{
    struct tunnel *tunnel = context;
    bool was_accepted = path->state == PATH_ACCEPTED;
    bool is_doubt = error == -ENOENT || is_stranger(path, error);
    (void)error_set(&tunnel->error, code_of(error), error, "%s", text[0] != '\0' ? text : strerror(-error));
    if (error == -EPROTONOSUPPORT) {
        (void)error_set(&tunnel->error, EXIT_CODE_AGENT, error,
                        "the agent speaks another version of ktvpn's protocol: use the same version of both");
        end(tunnel);
        return;
    }
    drop(tunnel, path);
    if (was_accepted)
        stalled(tunnel);
    else
        try_failed(tunnel, error, is_doubt);
}

static int draw_key(struct tunnel *tunnel)
{
    noise_keypair_generate(&tunnel->keys);
    return session_init(&tunnel->session, tunnel->keys.public_key, WIRE_QUEUE_SIZE, now(tunnel));
}

/* Another client holds the address that follows from our key. Before the first ACCEPT nobody knows ours yet. */
static bool redraw(struct tunnel *tunnel)
{
    if (tunnel->was_up || tunnel->redraws++ == REDRAWS_MAX)
        return false;
    drop_others(tunnel, NULL);
    session_deinit(&tunnel->session);
    if (draw_key(tunnel) != 0)
        return false;
    tunnel->next_try_ms = now(tunnel);
    soon(tunnel);
    return true;
}

/* Is it the session's end, or only this carrier's? A full agent may have our own dead carriers in mind. */
static bool is_final(const struct tunnel *tunnel, enum wire_reason reason)
{
    switch (reason) {
    case WIRE_REASON_CARRIER:
    case WIRE_REASON_LEAVING:
        return false;
    case WIRE_REASON_FULL:
        return !tunnel->was_up;
    case WIRE_REASON_BYE:
    case WIRE_REASON_ADDRESS:
    case WIRE_REASON_KEY:
    case WIRE_REASON_VERSION:
    case WIRE_REASON_INVALID:
        return true;
    }
    return true;
}

static void on_path_end(void *context, struct path *path, const struct wire_refuse *end_of)
{
    struct tunnel *tunnel = context;
    enum wire_reason reason = (enum wire_reason)end_of->reason;
    bool was_accepted = path->state == PATH_ACCEPTED, is_leaving = reason == WIRE_REASON_LEAVING;
    const char *text = end_of->text;
    (void)error_set(&tunnel->error, EXIT_CODE_AGENT, -ECONNRESET, "%s%s%s", path_end_text(reason),
                    text[0] != '\0' ? ": " : "", text);
    drop(tunnel, path);
    if (reason == WIRE_REASON_ADDRESS && redraw(tunnel))
        return;
    if (is_final(tunnel, reason)) {
        end(tunnel);
    } else if (was_accepted) {
        stalled(tunnel);
        if (is_leaving && !tunnel->is_closing)
            tunnel->ops->on_doubt(tunnel->context, -ECONNRESET);
    } else {
        try_failed(tunnel, -ECONNREFUSED, is_leaving);
    }
}

/* --- up ----------------------------------------------------------------------------------------------------------- */

/* This path answers: the link uses it alone. */
static void use(struct tunnel *tunnel, struct path *path)
{
    drop_others(tunnel, path);
    if (attach(tunnel, path) != 0)
        return;
    tunnel->failures = 0;
    tunnel->try_ms = TUNNEL_TRY_MS;
    set_state(tunnel, TUNNEL_UP, NULL);
    if (!tunnel->is_closing && has_path(tunnel, path)) /* the owner may have changed its mind in on_state */
        drain_queue(tunnel, path);
}

static void on_path_accept(void *context, struct path *path, const struct wire_accept *accept)
{
    struct tunnel *tunnel = context;
    log_debug("tunnel: carrier accepted after %llu ms", (unsigned long long)(now(tunnel) - path->started_ms));
    tunnel->accept = *accept;
    tunnel->reconnects += tunnel->was_up;
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
    else if (log_allowed(&tunnel->log_limit, 1, TUNNEL_SOON_MS, now(tunnel)))
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
        drain_queue(tunnel, path);
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

static int start_path(struct tunnel *tunnel)
{
    struct wire_open open = {.mtu = tunnel->mtu, .v4 = tunnel->session.v4};
    memcpy(open.name, tunnel->name, sizeof open.name);
    struct path_options options = {.loop = tunnel->loop,
                                   .keys = &tunnel->keys,
                                   .agent = tunnel->agent,
                                   .open = &open,
                                   .ops = &path_ops,
                                   .context = tunnel};
    struct stream *stream = NULL;
    struct path *path = NULL;
    int rc = tunnel->ops->dial(tunnel->context, &stream);
    if (rc == 0)
        rc = path_open(&path, stream, &options, now(tunnel));
    if (rc != 0)
        return rc;
    path->deadline_ms = now(tunnel) + tunnel->try_ms;
    tunnel->path[tunnel->paths++] = path;
    return 0;
}

static void try_now(struct tunnel *tunnel)
{
    tunnel->next_try_ms = now(tunnel) + jitter(TUNNEL_RETRY_MS);
    int rc = start_path(tunnel);
    if (rc == 0)
        return;
    (void)error_set(&tunnel->error, EXIT_CODE_AGENT, rc, "cannot dial the agent: %s", strerror(-rc));
    try_failed(tunnel, rc, false);
}

/* One that is too late, or NULL. */
static struct path *find_late(const struct tunnel *tunnel)
{
    for (size_t i = 0; i < tunnel->paths; i++) {
        if (tunnel->path[i]->state != PATH_ACCEPTED && now(tunnel) >= tunnel->path[i]->deadline_ms)
            return tunnel->path[i];
    }
    return NULL;
}

/* Each path that was accepted: does it answer? */
static void look(struct tunnel *tunnel, struct path *path)
{
    enum path_health health = path_look(path, now(tunnel));
    if (health == PATH_FINE && !path->is_unanswered && !path->is_attached) {
        use(tunnel, path); /* it was only slow */
    } else if (health == PATH_SUSPECT && path->is_attached) {
        detach(tunnel, path);
        (void)error_set(&tunnel->error, EXIT_CODE_UNREACHABLE, -ETIMEDOUT, "the agent does not answer");
        stalled(tunnel);
    }
}

static struct path *find_accepted(const struct tunnel *tunnel)
{
    for (size_t i = 0; i < tunnel->paths; i++) {
        if (tunnel->path[i]->state == PATH_ACCEPTED)
            return tunnel->path[i];
    }
    return NULL;
}

/* The callbacks in it may change anything, so it takes one step after another and looks again. */
static void tick(struct tunnel *tunnel)
{
    struct path *path = find_accepted(tunnel);
    if (path != NULL)
        look(tunnel, path);
    stalled(tunnel); /* by tunnel_set_agent() */
    while (tunnel->state != TUNNEL_ENDED && !tunnel->is_closing && (path = find_late(tunnel)) != NULL) {
        (void)error_set(&tunnel->error, EXIT_CODE_UNREACHABLE, -ETIMEDOUT, "the agent does not answer");
        drop(tunnel, path);
        try_failed(tunnel, -ETIMEDOUT, false);
    }
    if (tunnel->state == TUNNEL_ENDED || tunnel->is_closing || is_up(tunnel) || !tunnel->has_agent)
        return;
    if (tunnel->state == TUNNEL_IDLE)
        set_state(tunnel, TUNNEL_DIALLING, NULL);
    if (now(tunnel) >= tunnel->next_try_ms && count_tries(tunnel) < TUNNEL_TRIES_MAX)
        try_now(tunnel);
}

static void on_tunnel_timer_closed(uv_handle_t *handle)
{
    struct tunnel *tunnel = KT_CONTAINER_OF((uv_timer_t *)handle, struct tunnel, timer);
    tunnel->on_closed(tunnel->context);
    session_deinit(&tunnel->session);
    kt_free_secret(tunnel, sizeof *tunnel);
}

static bool is_flushed(const struct tunnel *tunnel)
{
    for (size_t i = 0; i < tunnel->paths; i++) {
        if (!path_is_flushed(tunnel->path[i]))
            return false;
    }
    return true;
}

static void close_if_flushed(struct tunnel *tunnel)
{
    if (!is_flushed(tunnel) && now(tunnel) < tunnel->close_by_ms)
        return;
    while (tunnel->paths > 0)
        drop(tunnel, tunnel->path[0]);
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
    uint64_t next_ms = tunnel->is_closing ? TICK_CLOSING_MS : is_up(tunnel) ? TICK_UP_MS : TICK_DOWN_MS;
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
    tunnel->try_ms = TUNNEL_TRY_MS;
    (void)log_escape(tunnel->name, sizeof tunnel->name, options->name, strlen(options->name));
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
        tunnel->outage_ms = now(tunnel);
    memcpy(tunnel->agent, key, WIRE_KEY_SIZE);
    tunnel->has_agent = true;
    tunnel->failures = 0;
    tunnel->next_try_ms = now(tunnel);
    soon(tunnel);
}

void tunnel_close(struct tunnel *tunnel, void (*on_closed)(void *context))
{
    if (tunnel->is_closing)
        return;
    tunnel->is_closing = true;
    tunnel->on_closed = on_closed;
    tunnel->close_by_ms = now(tunnel) + TUNNEL_CLOSE_MS;
    for (size_t i = tunnel->paths; i-- > 0;) {
        if (tunnel->path[i]->state == PATH_ACCEPTED)
            path_say_close(tunnel->path[i], WIRE_REASON_BYE);
        else
            drop(tunnel, tunnel->path[i]);
    }
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
    for (size_t i = 0; i < tunnel->paths; i++) {
        if (tunnel->path[i]->is_attached)
            path_flush(tunnel->path[i]);
    }
}

int tunnel_ask_dns(struct tunnel *tunnel, uint32_t id, const uint8_t *message, size_t size)
{
    uint8_t head[sizeof id];
    struct cursor cursor = cursor_writer(head, sizeof head);
    cursor_put_u32(&cursor, id);
    const struct carrier_part parts[] = {{head, sizeof head}, {message, size}};
    if (!is_up(tunnel))
        return -ENOTCONN;
    int rc = carrier_seal(tunnel->session.link.carrier[0], WIRE_DNS_QUERY, parts, KT_ARRAY_LEN(parts));
    tunnel_flush(tunnel);
    return rc;
}

void tunnel_info(const struct tunnel *tunnel, struct tunnel_info *info)
{
    *info = (struct tunnel_info){.state = tunnel->state,
                                 .reconnects = tunnel->reconnects,
                                 .queued_bytes = link_queued_bytes(&tunnel->session.link)};
    for (size_t i = 0; i < tunnel->paths; i++) {
        const struct path *path = tunnel->path[i];
        if (path->state != PATH_ACCEPTED)
            continue;
        info->carrier[info->carriers++] =
            (struct tunnel_carrier_info){.age_ms = now(tunnel) - path->started_ms,
                                         .rtt_us = path->carrier.rtt_us,
                                         .bytes_in = path->carrier.bytes_in,
                                         .bytes_out = path->carrier.bytes_out,
                                         .silent_ms = carrier_silent_ms(&path->carrier, now(tunnel))};
    }
}
