/* A question (struct query) lives until its answer; it is asked in tries, and each try over UDP or TCP is a struct
 * attempt with a socket and a poll handle of its own. An attempt that is given up is closed and forgotten at once, and
 * its memory goes when libuv is done with the handle; so the next one never waits for it.
 *
 *   ask ─► UDP ──answer──► on_answer
 *           │ ├─cut────► TCP ──answer──► on_answer
 *           │ │           └─error, time─┐
 *           └─error, time, SERVFAIL─────┴─► UDP to the next server ... ─► on_answer(NULL) */
#include "agent/resolver.h"

#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/cursor.h"
#include "common/dns.h"
#include "common/mem.h"
#include "common/resolvconf.h"

#define TCP_HEAD 2 /* RFC 1035, 4.2.2 */

struct attempt {
    uv_poll_t poll;
    int fd;
    bool is_tcp;
    struct resolver *resolver;
    struct query *query; /* NULL when given up */
    size_t sent;         /* TCP: of the head and the message */
    uint8_t head[TCP_HEAD];
    uint8_t *in; /* TCP: the answer, when its size is known */
    size_t in_size, got;
};

struct query {
    struct query *previous, *next;
    struct resolver *resolver;
    uv_timer_t timer;
    struct attempt *attempt;
    struct dns_question question;
    uint16_t id; /* ours */
    int tries;
    resolver_answer *on_answer;
    void *context;
    uint32_t tag;
    size_t size;
    uint8_t message[RESOLVER_QUERY_MAX]; /* with our id */
};

struct resolver {
    uv_loop_t *loop;
    struct address server[RESOLVCONF_SERVERS_MAX];
    size_t servers;
    uint16_t port;
    struct query *first;
    size_t pending;
    size_t open_handles;
    bool is_closing;
    uint8_t in[DNS_MESSAGE_MAX];
};

static void next_try(struct query *query);

static void let_go(struct resolver *resolver)
{
    if (resolver->is_closing && resolver->open_handles == 0)
        kt_free(resolver);
}

static void on_attempt_closed(uv_handle_t *handle)
{
    struct attempt *attempt = KT_CONTAINER_OF((uv_poll_t *)handle, struct attempt, poll);
    struct resolver *resolver = attempt->resolver;
    kt_free(attempt->in);
    kt_free(attempt);
    resolver->open_handles--;
    let_go(resolver);
}

static void give_up_attempt(struct query *query)
{
    struct attempt *attempt = query->attempt;
    if (attempt == NULL)
        return;
    query->attempt = NULL;
    attempt->query = NULL;
    uv_close((uv_handle_t *)&attempt->poll, on_attempt_closed);
    (void)close(attempt->fd);
}

static void on_query_closed(uv_handle_t *handle)
{
    struct query *query = KT_CONTAINER_OF((uv_timer_t *)handle, struct query, timer);
    struct resolver *resolver = query->resolver;
    kt_free(query);
    resolver->open_handles--;
    let_go(resolver);
}

static void unlink_query(struct query *query)
{
    struct resolver *resolver = query->resolver;
    if (query->previous != NULL)
        query->previous->next = query->next;
    else
        resolver->first = query->next;
    if (query->next != NULL)
        query->next->previous = query->previous;
    resolver->pending--;
}

static void drop(struct query *query)
{
    unlink_query(query);
    give_up_attempt(query);
    uv_close((uv_handle_t *)&query->timer, on_query_closed);
}

/* The last thing that happens to a query: the callback may close the resolver. */
static void finish(struct query *query, uint8_t *answer, size_t size)
{
    if (answer != NULL) {
        struct cursor cursor = cursor_writer(answer, size);
        cursor_put_u16(&cursor, query->question.id);
    }
    drop(query); /* frees nothing before the loop's next turn */
    query->on_answer(query->context, query->tag, answer, size);
}

static socklen_t server_of(const struct query *query, struct sockaddr_storage *out)
{
    const struct resolver *resolver = query->resolver;
    const struct address *server = &resolver->server[(size_t)(query->tries - 1) % resolver->servers];
    *out = (struct sockaddr_storage){0};
    if (server->family == ADDRESS_V4) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(resolver->port);
        memcpy(&in->sin_addr, server->bytes, 4);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(resolver->port);
    memcpy(&in6->sin6_addr, server->bytes, 16);
    return sizeof *in6;
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* A socket that is being connected to the query's server, watched. */
static int open_attempt(struct query *query, bool is_tcp)
{
    struct sockaddr_storage server;
    socklen_t size = server_of(query, &server);
    struct attempt *attempt = kt_calloc(1, sizeof *attempt);
    if (attempt == NULL)
        return -ENOMEM;
    attempt->is_tcp = is_tcp;
    attempt->resolver = query->resolver;
    attempt->query = query;
    int rc = 0;
    attempt->fd = socket(server.ss_family, (is_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (attempt->fd < 0 || (connect(attempt->fd, (struct sockaddr *)&server, size) != 0 && errno != EINPROGRESS))
        rc = -errno;
    else if (!is_tcp && send(attempt->fd, query->message, query->size, MSG_NOSIGNAL) < 0)
        rc = -errno;
    if (rc == 0)
        rc = uv_poll_init(query->resolver->loop, &attempt->poll, attempt->fd);
    if (rc != 0) {
        if (attempt->fd >= 0)
            (void)close(attempt->fd);
        kt_free(attempt);
        return rc;
    }
    query->resolver->open_handles++;
    query->attempt = attempt;
    (void)uv_poll_start(&attempt->poll, is_tcp ? UV_WRITABLE : UV_READABLE, on_poll);
    return 0;
}

static void on_timer(uv_timer_t *timer)
{
    next_try(KT_CONTAINER_OF(timer, struct query, timer));
}

/* Starts an attempt; one that fails at once is told by the timer, never inside. */
static void start_attempt(struct query *query, bool is_tcp)
{
    give_up_attempt(query);
    int rc = open_attempt(query, is_tcp);
    (void)uv_timer_start(&query->timer, on_timer, rc == 0 ? RESOLVER_TRY_MS : 0, 0);
}

static void next_try(struct query *query)
{
    if (query->tries == RESOLVER_TRIES) {
        finish(query, NULL, 0);
        return;
    }
    query->tries++;
    start_attempt(query, false);
}

/* A server that cannot answer is not the last word while there is one that has not been asked. */
static bool is_worth_another(const struct query *query, const struct dns_answer *answer)
{
    bool is_failure = answer->rcode == DNS_SERVFAIL || answer->rcode == DNS_REFUSED || answer->rcode == DNS_NOTIMP;
    return is_failure && query->tries < RESOLVER_TRIES && (size_t)query->tries < query->resolver->servers;
}

/* True when the query went on because of this message; false when it is no answer to it. */
static bool take_answer(struct query *query, uint8_t *message, size_t size, bool is_tcp)
{
    struct dns_answer answer;
    if (dns_parse_answer(&answer, message, size) != 0 || answer.id != query->id ||
        answer.type != query->question.type || strcmp(answer.name, query->question.name) != 0)
        return false;
    if (answer.is_truncated && !is_tcp)
        start_attempt(query, true);
    else if (is_worth_another(query, &answer))
        next_try(query);
    else
        finish(query, message, size);
    return true;
}

static void udp_ready(struct attempt *attempt)
{
    struct resolver *resolver = attempt->resolver;
    for (;;) {
        ssize_t n = recv(attempt->fd, resolver->in, sizeof resolver->in, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            next_try(attempt->query); /* refused, unreachable */
        if (n < 0 || take_answer(attempt->query, resolver->in, (size_t)n, false))
            return;
    }
}

/* 0: all is sent; -EAGAIN; another error. */
static int tcp_send(struct attempt *attempt)
{
    const struct query *query = attempt->query;
    uint8_t bytes[TCP_HEAD + RESOLVER_QUERY_MAX];
    struct cursor cursor = cursor_writer(bytes, sizeof bytes);
    cursor_put_u16(&cursor, (uint16_t)query->size);
    cursor_put_bytes(&cursor, query->message, query->size);
    size_t size = TCP_HEAD + query->size;
    while (attempt->sent < size) {
        ssize_t n = send(attempt->fd, bytes + attempt->sent, size - attempt->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        attempt->sent += (size_t)n;
    }
    return 0;
}

/* Reads into `out` until `size` bytes of it are there. 0, -EAGAIN, or another error. */
static int tcp_fill(struct attempt *attempt, uint8_t *out, size_t size)
{
    while (attempt->got < size) {
        ssize_t n = recv(attempt->fd, out + attempt->got, size - attempt->got, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ECONNRESET;
        attempt->got += (size_t)n;
    }
    return 0;
}

static int tcp_receive(struct attempt *attempt)
{
    if (attempt->in == NULL) {
        int rc = tcp_fill(attempt, attempt->head, TCP_HEAD);
        if (rc != 0)
            return rc;
        struct cursor cursor = cursor_reader(attempt->head, TCP_HEAD);
        attempt->in_size = cursor_u16(&cursor);
        if (attempt->in_size < DNS_HEADER_SIZE)
            return -EBADMSG;
        attempt->in = kt_calloc(1, attempt->in_size);
        if (attempt->in == NULL)
            return -ENOMEM;
        attempt->got = 0;
    }
    return tcp_fill(attempt, attempt->in, attempt->in_size);
}

static void tcp_ready(struct attempt *attempt)
{
    size_t size = TCP_HEAD + attempt->query->size;
    int rc = attempt->sent < size ? tcp_send(attempt) : 0;
    if (rc == 0 && attempt->sent == size) {
        (void)uv_poll_start(&attempt->poll, UV_READABLE, on_poll);
        rc = tcp_receive(attempt);
    }
    if (rc == -EAGAIN)
        return;
    if (rc != 0 || !take_answer(attempt->query, attempt->in, attempt->in_size, true))
        next_try(attempt->query);
}

/* A socket with an error is ready too: what is done with it next tells which error. */
static void on_poll(uv_poll_t *poll, int status KT_UNUSED, int events KT_UNUSED)
{
    struct attempt *attempt = KT_CONTAINER_OF(poll, struct attempt, poll);
    if (attempt->is_tcp)
        tcp_ready(attempt);
    else
        udp_ready(attempt);
}

int resolver_open(struct resolver **out, struct uv_loop_s *loop, const struct resolvconf *conf, uint16_t port)
{
    struct resolver *resolver = kt_calloc(1, sizeof *resolver);
    if (resolver == NULL)
        return -ENOMEM;
    resolver->loop = loop;
    resolver->port = port;
    resolver->servers = conf->servers;
    memcpy(resolver->server, conf->server, sizeof resolver->server);
    *out = resolver;
    return 0;
}

void resolver_close(struct resolver *resolver)
{
    if (resolver == NULL || resolver->is_closing)
        return;
    while (resolver->first != NULL)
        drop(resolver->first);
    resolver->is_closing = true;
    let_go(resolver);
}

static void put_id(struct query *query)
{
    query->id = (uint16_t)randombytes_uniform(UINT16_MAX + 1u);
    struct cursor cursor = cursor_writer(query->message, query->size);
    cursor_put_u16(&cursor, query->id);
}

/* The same question of the same asker, who has waited for a while: its answer is on the way. */
static bool is_again(const struct resolver *resolver, const void *context, uint32_t tag)
{
    for (const struct query *query = resolver->first; query != NULL; query = query->next) {
        if (query->context == context && query->tag == tag)
            return true;
    }
    return false;
}

int resolver_ask(struct resolver *resolver, const uint8_t *message, size_t size, resolver_answer *on_answer,
                 void *context, uint32_t tag)
{
    if (size > RESOLVER_QUERY_MAX)
        return -EMSGSIZE;
    if (is_again(resolver, context, tag))
        return -EALREADY;
    if (resolver->pending == RESOLVER_PENDING_MAX)
        return -ENOBUFS;
    struct query *query = kt_calloc(1, sizeof *query);
    if (query == NULL)
        return -ENOMEM;
    int rc = dns_parse_query(&query->question, message, size);
    if (rc == 0)
        rc = uv_timer_init(resolver->loop, &query->timer);
    if (rc != 0) {
        kt_free(query);
        return rc;
    }
    query->resolver = resolver;
    query->on_answer = on_answer;
    query->context = context;
    query->tag = tag;
    query->size = size;
    memcpy(query->message, message, size);
    put_id(query);
    query->next = resolver->first;
    if (query->next != NULL)
        query->next->previous = query;
    resolver->first = query;
    resolver->pending++;
    resolver->open_handles++;
    query->tries = 1;
    start_attempt(query, false);
    return 0;
}

void resolver_forget(struct resolver *resolver, const void *context)
{
    struct query *next;
    for (struct query *query = resolver->first; query != NULL; query = next) {
        next = query->next;
        if (query->context == context)
            drop(query);
    }
}
