/* The life of a query:
 *
 *   asker --> names_listen --> take_query --+--> candidates 1, 2, 3 in the cluster --+--> deliver --> asker
 *                                           |                       |                |
 *                                           |                       | all NXDOMAIN   |
 *                                           +-- no candidates ------+----> outside --+
 *
 * The plan (names_plan) is made once, when the query comes. Queries wait in a list, oldest first, so that the oldest is
 * the one that times out next and the one that goes when there are too many. Each ends in deliver(), exactly once.
 *
 * What goes to the cluster as it was asked is the asker's own message; with a search domain appended it is a message of
 * ours, and the answer is made to fit what was asked. The question in an answer is the asker's, byte for byte: some
 * resolvers check the case of its letters. What dns.h cannot read (an UPDATE, a name of odd bytes) concerns the
 * machine's own servers and is passed on as it is. */
#include "client/names.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "client/names/names_known.h"
#include "client/names/names_listen.h"
#include "client/names/names_outside.h"
#include "client/names/names_plan.h"
#include "client/names/names_rebind.h"
#include "common/log.h"
#include "common/mem.h"

#define CLASS_IN 1
#define CLUSTER_TRIES 3
#define TICKS 50 /* in the time a query may take */

struct query {
    struct names *names;
    struct query *next;
    struct names_asker asker;
    uint64_t started_ms;
    bool is_question; /* `question` and `plan` are valid */
    struct dns_question question;
    struct names_plan plan;
    size_t candidate; /* that is being asked, from 0; plan.candidates: none */
    uint32_t id;      /* of ask_cluster; 0: not asked */
    uint16_t dns_id;  /* of the message that was sent for it */
    bool is_sent;
    uint64_t sent_ms;
    struct names_outside *outside;
    size_t size;
    uint8_t message[];
};

struct names {
    uv_loop_t *loop;
    uv_timer_t timer;
    struct names_ops ops;
    void *context;
    char domain[DNS_NAME_MAX], name_space[NAMES_LABEL_MAX + 1];
    const struct cidr_set *ranges;
    struct names_upstream upstream[NAMES_SERVERS_MAX];
    uint64_t timeout_ms;

    struct names_listen *listen;
    struct names_outside_room room;
    struct names_known services, namespaces;
    struct query *oldest, **end;
    size_t pending, pending_bytes;
    uint32_t last_id;
    bool has_said_local;
    struct names_stats stats;
    uint8_t tx[DNS_MESSAGE_MAX];
};

/* ---- the end of a query */

static void unlink_query(struct query *query)
{
    struct names *names = query->names;
    struct query **link = &names->oldest;
    while (*link != query)
        link = &(*link)->next;
    *link = query->next;
    if (names->end == &query->next)
        names->end = link;
    names->pending--;
    names->pending_bytes -= query->size;
}

static void free_query(struct query *query)
{
    unlink_query(query);
    names_outside_stop(query->outside);
    kt_free(query);
}

/* `message` may be changed; it is in names->tx, or the upstream's own buffer. */
static void deliver(struct query *query, uint8_t *message, size_t size)
{
    struct names *names = query->names;
    if (query->is_question && size >= query->question.end)
        memcpy(message + DNS_HEADER_SIZE, query->message + DNS_HEADER_SIZE, query->question.end - DNS_HEADER_SIZE);
    if (query->is_question && !query->asker.is_tcp)
        size = dns_truncate(message, size, &query->question, query->question.udp_size);
    names_listen_answer(names->listen, &query->asker, message, size);
    free_query(query);
}

/* A header alone, for what has no question that could be repeated. */
static size_t put_bare_error(uint8_t *out, const uint8_t *message, enum dns_rcode rcode)
{
    memset(out, 0, DNS_HEADER_SIZE);
    memcpy(out, message, 2);
    out[2] = (uint8_t)(0x80 | (message[2] & 0x79)); /* QR; opcode and RD as asked */
    out[3] = (uint8_t)rcode;
    return DNS_HEADER_SIZE;
}

static void deliver_error(struct query *query, enum dns_rcode rcode)
{
    struct names *names = query->names;
    int size = query->is_question ? dns_put_error(names->tx, sizeof names->tx, query->message, &query->question, rcode)
                                  : (int)put_bare_error(names->tx, query->message, rcode);
    if (size < 0)
        size = (int)put_bare_error(names->tx, query->message, rcode);
    deliver(query, names->tx, (size_t)size);
}

static void fail(struct query *query)
{
    query->names->stats.failed++;
    deliver_error(query, DNS_SERVFAIL);
}

/* ---- outside */

static void on_outside(void *context, uint8_t *message, size_t size)
{
    if (message)
        deliver(context, message, size);
    else
        fail(context);
}

/* Sockets are not ours alone: the carriers need some too. */
static void make_room(struct names *names)
{
    struct query *query = names->oldest;
    while (query && !query->outside)
        query = query->next;
    if (query && names->room.sockets >= NAMES_OUTSIDE_MAX)
        fail(query);
}

static void ask_outside(struct query *query)
{
    struct names *names = query->names;
    if (names->room.upstreams == 0) { /* who asks us has servers of its own for the rest (systemd-resolved) */
        deliver_error(query, query->plan.candidates > 0 ? DNS_NXDOMAIN : DNS_REFUSED);
        return;
    }
    make_room(names);
    struct names_outside_call call = {.message = query->message,
                                      .size = query->size,
                                      .question_end = query->is_question ? query->question.end : DNS_HEADER_SIZE,
                                      .is_tcp = query->asker.is_tcp,
                                      .context = query,
                                      .done = on_outside};
    names->stats.outside++;
    query->outside = names_outside_start(&names->room, &call, uv_now(names->loop));
    if (!query->outside)
        fail(query);
}

/* ---- the cluster */

/* The message for the candidate, in names->tx. */
static int put_candidate(struct query *query)
{
    struct names *names = query->names;
    const char *candidate = query->plan.candidate[query->candidate];
    int size = (int)query->size;
    if (strcmp(candidate, query->question.name) == 0)
        memcpy(names->tx, query->message, query->size);
    else
        size = dns_rename_query(names->tx, sizeof names->tx, &query->question, candidate, query->message, query->size);
    names->tx[0] = (uint8_t)(query->dns_id >> 8);
    names->tx[1] = (uint8_t)query->dns_id;
    return size;
}

/* A carrier may be lost with the question, or with its answer, and for a moment there may be none at all: flows go on
 * after that, so names have to. Each try has the same ids; the first answer is taken. */
static void send_to_cluster(struct query *query)
{
    struct names *names = query->names;
    int size = put_candidate(query);
    if (size < 0) {
        fail(query);
        return;
    }
    query->sent_ms = uv_now(names->loop);
    query->is_sent = names->ops.ask_cluster(names->context, query->id, names->tx, (size_t)size) == 0;
}

static void ask_cluster(struct query *query)
{
    struct names *names = query->names;
    query->id = ++names->last_id ? names->last_id : ++names->last_id; /* 0 is none */
    randombytes_buf(&query->dns_id, sizeof query->dns_id);
    send_to_cluster(query);
}

static void cluster_tick(struct query *query, uint64_t now)
{
    uint64_t try_ms = query->names->timeout_ms / CLUSTER_TRIES;
    if (query->id != 0 && (!query->is_sent || now - query->sent_ms >= try_ms))
        send_to_cluster(query);
}

/* An answer that leads to this machine itself: the asker gets none of it (names_rebind.h). */
static void deliver_without(struct query *query)
{
    struct names *names = query->names;
    if (!names->has_said_local)
        log_warning("names: the cluster's answer for %s holds an address of this machine's own (loopback or "
                    "link-local): it is left out, as all such answers are",
                    query->question.name);
    names->has_said_local = true;
    deliver_error(query, DNS_NOERROR);
}

/* The answer to the last candidate, made to fit the question. */
static void deliver_from_cluster(struct query *query, const uint8_t *message, size_t size)
{
    struct names *names = query->names;
    bool is_as_asked = strcmp(query->plan.candidate[query->candidate], query->question.name) == 0;
    int rc = (int)size;
    if (dns_has_address(message, size, names_rebind_is_local)) {
        deliver_without(query);
        return;
    }
    if (is_as_asked) {
        memcpy(names->tx, message, size);
        memcpy(names->tx, query->message, 2);
        if (message[2] & 0x02) /* cut in the middle of a record, maybe: the asker comes again by TCP */
            rc = (int)dns_truncate(names->tx, size, &query->question, 0);
    } else {
        rc = dns_rewrite_answer(names->tx, sizeof names->tx, &query->question, message, size);
    }
    if (rc < 0)
        fail(query);
    else
        deliver(query, names->tx, (size_t)rc);
}

static void cluster_answered(struct query *query, const uint8_t *message, size_t size)
{
    struct dns_answer answer;
    const char *asked = query->plan.candidate[query->candidate];
    query->id = 0;
    if (size == 0 || size > DNS_MESSAGE_MAX || dns_parse_answer(&answer, message, size) != 0 ||
        answer.id != query->dns_id || answer.type != query->question.type || strcmp(answer.name, asked) != 0) {
        fail(query);
        return;
    }
    bool is_last = query->candidate + 1 == query->plan.candidates;
    if (answer.rcode != DNS_NXDOMAIN || (is_last && !query->plan.then_outside)) {
        deliver_from_cluster(query, message, size);
        return;
    }
    query->candidate++;
    if (is_last)
        ask_outside(query);
    else
        ask_cluster(query);
}

void names_answer(struct names *names, uint32_t id, const uint8_t *message, size_t size)
{
    for (struct query *query = id != 0 ? names->oldest : NULL; query; query = query->next) {
        if (query->id != id)
            continue;
        cluster_answered(query, message, size);
        return;
    }
}

/* ---- the beginning of a query */

static void begin(struct query *query)
{
    struct names *names = query->names;
    const struct names_scope scope = {names->domain, names->name_space, names->ranges, &names->services,
                                      &names->namespaces};
    if (query->is_question && query->question.klass == CLASS_IN)
        names_plan_make(&query->plan, &scope, query->question.name);
    if (query->plan.candidates == 0) {
        ask_outside(query);
    } else if (query->question.edns_version != 0) { /* the search list's answer would be ours (RFC 6891, 6.1.3) */
        deliver_error(query, DNS_BADVERS);
    } else {
        names->stats.cluster++;
        ask_cluster(query);
    }
}

static struct query *add_query(struct names *names, const struct names_asker *asker, const uint8_t *message,
                               size_t size)
{
    struct query *query = kt_calloc(1, sizeof *query + size);
    if (!query)
        return NULL;
    while (names->oldest &&
           (names->pending >= NAMES_PENDING_MAX || names->pending_bytes + size > NAMES_PENDING_BYTES_MAX))
        fail(names->oldest);
    query->names = names;
    query->asker = *asker;
    query->started_ms = uv_now(names->loop);
    query->size = size;
    memcpy(query->message, message, size);
    *names->end = query;
    names->end = &query->next;
    names->pending++;
    names->pending_bytes += size;
    return query;
}

/* The same datagram once more, while the first is being asked: its answer will do for both. */
static bool is_again(const struct names *names, const struct names_asker *asker, const uint8_t *message, size_t size)
{
    for (const struct query *query = asker->is_tcp ? NULL : names->oldest; query; query = query->next) {
        if (!query->asker.is_tcp && query->size == size && query->asker.from.sin_port == asker->from.sin_port &&
            query->asker.from.sin_addr.s_addr == asker->from.sin_addr.s_addr &&
            memcmp(query->message, message, size) == 0)
            return true;
    }
    return false;
}

/* An answer sent to us (a loop of answers between two servers begins like this), or no DNS at all. */
static bool is_noise(const uint8_t *message, size_t size)
{
    return size < DNS_HEADER_SIZE || (message[2] & 0x80);
}

static void answer_bare(struct names *names, const struct names_asker *asker, const uint8_t *message,
                        enum dns_rcode rcode)
{
    uint8_t bare[DNS_HEADER_SIZE];
    names->stats.failed++;
    names_listen_answer(names->listen, asker, bare, put_bare_error(bare, message, rcode));
}

static void take_query(struct names *names, const struct names_asker *asker, const uint8_t *message, size_t size)
{
    static const uint8_t nothing[DNS_HEADER_SIZE];
    if (is_noise(message, size)) {
        if (asker->is_tcp) /* there it counts as a question */
            answer_bare(names, asker, nothing, DNS_FORMERR);
        return;
    }
    if (is_again(names, asker, message, size))
        return;
    struct query *query = add_query(names, asker, message, size);
    if (!query) {
        answer_bare(names, asker, message, DNS_SERVFAIL);
        return;
    }
    bool is_standard = (message[2] & 0x78) == 0; /* opcode QUERY */
    query->is_question = is_standard && dns_parse_query(&query->question, query->message, size) == 0;
    begin(query);
}

static void on_query(void *context, const struct names_asker *asker, const uint8_t *message, size_t size)
{
    take_query(context, asker, message, size);
}

/* ---- time */

/* A query may end in its tick, and its end ends no other one. */
static void tick(struct names *names, uint64_t now)
{
    for (struct query *query = names->oldest, *next; query; query = next) {
        next = query->next;
        if (now - query->started_ms >= names->timeout_ms)
            fail(query);
        else if (query->outside)
            names_outside_tick(query->outside, now);
        else
            cluster_tick(query, now);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct names *names = timer->data;
    tick(names, uv_now(names->loop));
}

/* ---- life */

static void copy_upstream(struct names *names, const struct names_upstream *upstream, size_t upstreams)
{
    names->room.upstreams = KT_MIN(upstreams, NAMES_SERVERS_MAX);
    if (names->room.upstreams > 0)
        memcpy(names->upstream, upstream, names->room.upstreams * sizeof *upstream);
}

/* A query that starts anew may end at once; it ends no other one, as its own socket has just been given back. */
void names_set_upstream(struct names *names, const struct names_upstream *upstream, size_t upstreams)
{
    copy_upstream(names, upstream, upstreams);
    for (struct query *query = names->oldest, *next; query; query = next) {
        next = query->next;
        if (!query->outside)
            continue;
        names_outside_stop(query->outside);
        query->outside = NULL;
        ask_outside(query);
    }
}

static int set_options(struct names *names, const struct names_options *options)
{
    size_t domain = strlen(options->cluster_domain), name_space = strlen(options->name_space);
    if (domain == 0 || domain >= sizeof names->domain || name_space == 0 || name_space >= sizeof names->name_space ||
        options->upstreams > NAMES_SERVERS_MAX)
        return -EINVAL;
    memcpy(names->domain, options->cluster_domain, domain + 1);
    memcpy(names->name_space, options->name_space, name_space + 1);
    copy_upstream(names, options->upstream, options->upstreams);
    names->ranges = options->ranges;
    names->timeout_ms = options->timeout_ms ? options->timeout_ms : NAMES_TIMEOUT_MS;
    names->room.upstream = names->upstream;
    names->room.try_ms = names->timeout_ms / NAMES_OUTSIDE_TRIES;
    return 0;
}

int names_open(struct names **out, struct uv_loop_s *loop, const struct names_options *options,
               const struct names_ops *ops, void *context)
{
    *out = NULL;
    struct names *names = kt_calloc(1, sizeof *names);
    if (!names)
        return -ENOMEM;
    names->loop = names->room.loop = loop;
    names->ops = *ops;
    names->context = context;
    names->end = &names->oldest;
    int rc = set_options(names, options);
    if (rc == 0)
        rc = names_listen_open(&names->listen, loop, NAMES_TCP_MAX, options->idle_ms ? options->idle_ms : NAMES_IDLE_MS,
                               on_query, names);
    if (rc != 0) {
        kt_free(names);
        return rc;
    }
    (void)uv_timer_init(loop, &names->timer);
    names->timer.data = names;
    uint64_t tick_ms = names->timeout_ms / TICKS + 1;
    (void)uv_timer_start(&names->timer, on_timer, tick_ms, tick_ms);
    log_debug("names: listening on 127.0.0.1:%u", names_port(names));
    *out = names;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    kt_free(handle->data);
}

/* The tries that still close know nothing of us. */
void names_close(struct names *names)
{
    if (!names)
        return;
    log_debug("names: closed; %llu queries to the cluster, %llu outside, %llu failed",
              (unsigned long long)names->stats.cluster, (unsigned long long)names->stats.outside,
              (unsigned long long)names->stats.failed);
    while (names->oldest)
        free_query(names->oldest);
    names_listen_close(names->listen);
    names_known_deinit(&names->services);
    names_known_deinit(&names->namespaces);
    uv_close((uv_handle_t *)&names->timer, on_timer_closed);
}

uint16_t names_port(const struct names *names)
{
    return names_listen_port(names->listen);
}

static struct names_known *known_of(struct names *names, enum names_kind kind)
{
    return kind == NAMES_SERVICE ? &names->services : &names->namespaces;
}

int names_add(struct names *names, enum names_kind kind, const char *name)
{
    size_t others = (kind == NAMES_SERVICE ? &names->namespaces : &names->services)->count;
    return names_known_add(known_of(names, kind), name, NAMES_KNOWN_MAX - others);
}

void names_remove(struct names *names, enum names_kind kind, const char *name)
{
    names_known_remove(known_of(names, kind), name);
}

void names_stats(const struct names *names, struct names_stats *stats)
{
    *stats = names->stats;
}
