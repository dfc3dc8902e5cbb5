/* Two phases on the same fd:
 *
 *   dialling   libcurl says which sockets to watch (SOCKETFUNCTION: several with Happy Eyeballs, the resolver's wake-up
 * pair, the proxy) and when to call it again (TIMERFUNCTION); each gets a uv_poll of its own, kept by libcurl beside
 * its socket connected  libcurl keeps the socket in the multi handle's pool for as long as the easy handle stays in it;
 * one uv_poll of ours watches it
 *
 * A multi handle for each connection: one shared with the API's requests could close this socket when it tidies its
 * pool. */
#include "client/kube/connection.h"

#include <curl/curl.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include "common/mem.h"
#include "netstack/stream.h"

/* Unsent bytes above which the kernel takes no more: what waits, waits where sparse flows can overtake it. */
#define NOTSENT_LOWAT (64 * 1024)
#define TLS_READ_AHEAD (128 * 1024)

enum connection_state { CONNECTION_DIALLING, CONNECTION_OPEN, CONNECTION_FAILED, CONNECTION_CLOSING };

struct dial {
    uv_poll_t poll;
    struct connection *connection;
    curl_socket_t fd;
};

struct connection {
    enum connection_state state;
    CURL *easy;
    CURLM *multi;
    uv_loop_t *loop;
    const struct connection_ops *ops;
    void *context;
    uv_timer_t timer;
    uv_poll_t poll; /* of the connected socket */
    bool has_poll;
    int wanted;       /* STREAM_* that `poll` is started with */
    unsigned dials;   /* watched by libcurl */
    unsigned handles; /* of libuv, not closed yet */
};

static void on_poll(uv_poll_t *poll, int status, int uv_events);
static void on_timer(uv_timer_t *timer);

static void closed_one(struct connection *c)
{
    if (--c->handles > 0)
        return;
    c->ops->on_closed(c->context);
    kt_free(c);
}

static void on_dial_closed(uv_handle_t *handle)
{
    struct dial *dial = KT_CONTAINER_OF((uv_poll_t *)handle, struct dial, poll);
    struct connection *c = dial->connection;
    kt_free(dial);
    closed_one(c);
}

static void on_timer_closed(uv_handle_t *handle)
{
    closed_one(KT_CONTAINER_OF((uv_timer_t *)handle, struct connection, timer));
}

static void on_poll_closed(uv_handle_t *handle)
{
    closed_one(KT_CONTAINER_OF((uv_poll_t *)handle, struct connection, poll));
}

/* None of it is needed; BBR may be missing or forbidden. */
static void tune(int fd)
{
    int on = 1, lowat = NOTSENT_LOWAT;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "bbr", strlen("bbr"));
}

/* 0, or what made the connection useless at once. */
static int adopt(struct connection *c)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    CURLcode code = curl_easy_getinfo(c->easy, CURLINFO_ACTIVESOCKET, &fd);
    if (code != CURLE_OK || fd == CURL_SOCKET_BAD)
        return code != CURLE_OK ? (int)code : CURLE_COULDNT_CONNECT;
    if (uv_poll_init(c->loop, &c->poll, fd) != 0)
        return CURLE_COULDNT_CONNECT;
    c->has_poll = true;
    c->handles++;
    tune(fd);
    return CURLE_OK;
}

static void connected(struct connection *c, int code)
{
    (void)uv_timer_stop(&c->timer);
    if (code == CURLE_OK)
        code = adopt(c);
    c->state = code == CURLE_OK ? CONNECTION_OPEN : CONNECTION_FAILED;
    c->ops->on_connected(c->context, code);
}

/* Lets libcurl go on with its dial after an event; tells how it ended. */
static void drive(struct connection *c, curl_socket_t fd, int events)
{
    int running, left;
    if (c->state != CONNECTION_DIALLING)
        return;
    CURLMcode rc = curl_multi_socket_action(c->multi, fd, events, &running);
    CURLMsg *message = curl_multi_info_read(c->multi, &left);
    if (message != NULL && message->msg == CURLMSG_DONE)
        connected(c, message->data.result);
    else if (rc != CURLM_OK)
        connected(c, CURLE_OUT_OF_MEMORY);
}

static void on_dial_poll(uv_poll_t *poll, int status, int uv_events)
{
    struct dial *dial = KT_CONTAINER_OF(poll, struct dial, poll);
    int events = (uv_events & UV_READABLE ? CURL_CSELECT_IN : 0) | (uv_events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    drive(dial->connection, dial->fd, status < 0 ? CURL_CSELECT_ERR : events);
}

static struct dial *new_dial(struct connection *c, curl_socket_t fd)
{
    if (c->dials == CONNECTION_DIALS_MAX)
        return NULL;
    struct dial *dial = kt_calloc(1, sizeof *dial);
    if (dial == NULL)
        return NULL;
    if (uv_poll_init(c->loop, &dial->poll, fd) != 0 || curl_multi_assign(c->multi, fd, dial) != CURLM_OK) {
        kt_free(dial);
        return NULL;
    }
    dial->connection = c;
    dial->fd = fd;
    c->dials++;
    c->handles++;
    return dial;
}

static void end_dial(struct dial *dial)
{
    dial->connection->dials--;
    uv_close((uv_handle_t *)&dial->poll, on_dial_closed);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context)
{
    (void)easy;
    struct connection *c = context;
    struct dial *dial = socket_context;
    if (c->state == CONNECTION_CLOSING && what != CURL_POLL_REMOVE)
        return 0;
    if (what == CURL_POLL_REMOVE) {
        (void)curl_multi_assign(c->multi, fd, NULL);
        if (dial != NULL)
            end_dial(dial);
        return 0;
    }
    if (dial == NULL && (dial = new_dial(c, fd)) == NULL)
        return -1;
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    return uv_poll_start(&dial->poll, events, on_dial_poll) == 0 ? 0 : -1;
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *context)
{
    (void)multi;
    struct connection *c = context;
    if (c->state == CONNECTION_CLOSING)
        return 0;
    if (timeout_ms < 0)
        (void)uv_timer_stop(&c->timer);
    else
        (void)uv_timer_start(&c->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static void on_timer(uv_timer_t *timer)
{
    drive(KT_CONTAINER_OF(timer, struct connection, timer), CURL_SOCKET_TIMEOUT, 0);
}

/* (Re)starts or stops the poll. */
static void watch(struct connection *c, int events)
{
    int uv_events = (events & STREAM_READABLE ? UV_READABLE : 0) | (events & STREAM_WRITABLE ? UV_WRITABLE : 0);
    c->wanted = events;
    if (events == 0)
        (void)uv_poll_stop(&c->poll);
    else
        (void)uv_poll_start(&c->poll, uv_events, on_poll); /* fails only for a handle that is closing */
}

/* A socket with an error is ready for everything that is wanted: reading and writing find out what it is. */
static void on_poll(uv_poll_t *poll, int status, int uv_events)
{
    struct connection *c = KT_CONTAINER_OF(poll, struct connection, poll);
    int events = (uv_events & UV_READABLE ? STREAM_READABLE : 0) | (uv_events & UV_WRITABLE ? STREAM_WRITABLE : 0);
    c->ops->on_ready(c->context, status < 0 ? c->wanted : events & c->wanted);
    if (status < 0 && c->state == CONNECTION_OPEN) /* libuv has stopped the poll */
        watch(c, c->wanted);
}

/* Without read-ahead OpenSSL reads each TLS record with two calls of read(), the first for its 5 bytes of head. What it
 * holds back then, poll() does not show; but that is so for TLS in any case, and whoever reads does so until -EAGAIN.
 */
static CURLcode on_tls(CURL *easy KT_UNUSED, void *context, void *parameter KT_UNUSED)
{
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, TLS_READ_AHEAD);
    return CURLE_OK;
}

/* QUICK_EXIT: closing must not wait for a name server. */
static bool set_options(struct connection *c)
{
    return curl_easy_setopt(c->easy, CURLOPT_CONNECT_ONLY, 1L) == CURLE_OK &&
           curl_easy_setopt(c->easy, CURLOPT_HTTPPROXYTUNNEL, 1L) == CURLE_OK && /* for http:// servers too */
           curl_easy_setopt(c->easy, CURLOPT_QUICK_EXIT, 1L) == CURLE_OK &&
           curl_easy_setopt(c->easy, CURLOPT_SSL_CTX_FUNCTION, on_tls) == CURLE_OK &&
           curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket) == CURLM_OK &&
           curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c) == CURLM_OK &&
           curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c) == CURLM_OK;
}

int connection_open(struct connection **out, struct uv_loop_s *loop, void *easy, const struct connection_ops *ops,
                    void *context)
{
    struct connection *c = kt_calloc(1, sizeof *c);
    if (c == NULL)
        return -ENOMEM;
    *c = (struct connection){.easy = easy, .loop = loop, .ops = ops, .context = context, .handles = 1};
    c->multi = curl_multi_init();
    if (c->multi == NULL || !set_options(c) || curl_multi_add_handle(c->multi, easy) != CURLM_OK) {
        (void)curl_multi_cleanup(c->multi);
        kt_free(c);
        return -ENOMEM;
    }
    /* Only now, so that what precedes can be undone at once; adding the handle wanted a first call. */
    (void)uv_timer_init(loop, &c->timer); /* cannot fail */
    (void)curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    (void)uv_timer_start(&c->timer, on_timer, 0, 0);
    *out = c;
    return 0;
}

void connection_close(struct connection *c)
{
    if (c->state == CONNECTION_CLOSING)
        return;
    c->state = CONNECTION_CLOSING;
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    if (c->has_poll) /* before libcurl closes its fd */
        uv_close((uv_handle_t *)&c->poll, on_poll_closed);
    (void)curl_multi_remove_handle(c->multi, c->easy);
    curl_easy_cleanup(c->easy);
    (void)curl_multi_cleanup(c->multi);
}

ssize_t connection_read(struct connection *c, void *out, size_t size)
{
    size_t n = 0;
    CURLcode code = curl_easy_recv(c->easy, out, size, &n);
    if (code == CURLE_OK)
        return (ssize_t)n;
    return code == CURLE_AGAIN ? -EAGAIN : -ECONNRESET;
}

ssize_t connection_write(struct connection *c, const void *data, size_t size)
{
    size_t n = 0;
    CURLcode code = curl_easy_send(c->easy, data, size, &n);
    if (code == CURLE_OK && n > 0)
        return (ssize_t)n;
    return code == CURLE_OK || code == CURLE_AGAIN ? -EAGAIN : -EPIPE;
}

void connection_want(struct connection *c, int events)
{
    if (c->state == CONNECTION_OPEN && c->wanted != events)
        watch(c, events);
}
