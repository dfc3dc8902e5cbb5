/*   on_curl_socket()  libcurl wants a socket watched      -> a struct multi_socket with its uv_poll_t
 *   on_curl_timer()   libcurl wants to be called later    -> the one uv_timer_t
 *   on_poll, on_timer curl_multi_socket_action(), then on_activity */
#include "client/kube/multi.h"

#include <curl/curl.h>
#include <errno.h>
#include <sys/queue.h>
#include <uv.h>

#include "common/mem.h"

struct multi_socket {
    LIST_ENTRY(multi_socket) entry;
    uv_poll_t poll;
    struct multi *multi;
    curl_socket_t fd;
    int wanted; /* UV_* */
};

struct multi {
    CURLM *handle;
    uv_loop_t *loop;
    uv_timer_t timer;
    LIST_HEAD(, multi_socket) sockets;
    const struct multi_ops *ops;
    void *context;
    unsigned handles; /* of libuv, not closed yet */
    bool is_closing;
};

static void on_timer(uv_timer_t *timer);
static void on_poll(uv_poll_t *poll, int status, int uv_events);

static void act(struct multi *multi, curl_socket_t fd, int events)
{
    int running;
    if (multi->is_closing)
        return;
    CURLMcode code = curl_multi_socket_action(multi->handle, fd, events, &running);
    multi->ops->on_activity(multi->context, code != CURLM_OK);
}

static void on_timer(uv_timer_t *timer)
{
    act(KT_CONTAINER_OF(timer, struct multi, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void watch_socket(struct multi_socket *s, int uv_events)
{
    s->wanted = uv_events;
    (void)uv_poll_start(&s->poll, uv_events, on_poll); /* fails only for a handle that is closing */
}

/* An error is ready for all that is wanted, not CURL_CSELECT_ERR: before it there may be bytes (a TLS alert says why),
 * and libcurl finds the error by itself. */
static void on_poll(uv_poll_t *poll, int status, int uv_events)
{
    struct multi_socket *s = KT_CONTAINER_OF(poll, struct multi_socket, poll);
    if (status < 0)
        uv_events = s->wanted;
    int events = (uv_events & UV_READABLE ? CURL_CSELECT_IN : 0) | (uv_events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    act(s->multi, s->fd, events);
    if (status < 0 && !uv_is_closing((uv_handle_t *)poll)) /* libuv has stopped it */
        watch_socket(s, s->wanted);
}

static int on_curl_timer(CURLM *handle, long delay_ms, void *context)
{
    (void)handle;
    struct multi *multi = context;
    if (delay_ms < 0)
        (void)uv_timer_stop(&multi->timer);
    else
        (void)uv_timer_start(&multi->timer, on_timer, (uint64_t)delay_ms, 0);
    return 0;
}

static void closed_one(struct multi *multi)
{
    if (--multi->handles > 0)
        return;
    multi->ops->on_closed(multi->context);
    kt_free(multi);
}

static void on_socket_closed(uv_handle_t *handle)
{
    struct multi_socket *s = KT_CONTAINER_OF((uv_poll_t *)handle, struct multi_socket, poll);
    struct multi *multi = s->multi;
    kt_free(s);
    closed_one(multi);
}

static void on_timer_closed(uv_handle_t *handle)
{
    closed_one(KT_CONTAINER_OF((uv_timer_t *)handle, struct multi, timer));
}

static void close_socket(struct multi_socket *s)
{
    LIST_REMOVE(s, entry);
    uv_close((uv_handle_t *)&s->poll, on_socket_closed);
}

static struct multi_socket *new_socket(struct multi *multi, curl_socket_t fd)
{
    struct multi_socket *s = kt_calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->multi = multi;
    s->fd = fd;
    if (uv_poll_init(multi->loop, &s->poll, fd) != 0) {
        kt_free(s);
        return NULL;
    }
    multi->handles++;
    LIST_INSERT_HEAD(&multi->sockets, s, entry);
    (void)curl_multi_assign(multi->handle, fd, s); /* fails for an fd that libcurl does not know only */
    return s;
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context)
{
    (void)easy;
    struct multi_socket *s = socket_context;
    if (what == CURL_POLL_REMOVE) {
        if (s != NULL)
            close_socket(s);
        return 0;
    }
    if (s == NULL && (s = new_socket(context, fd)) == NULL)
        return -1;
    watch_socket(s, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0));
    return 0;
}

static bool set_options(struct multi *multi)
{
    return curl_multi_setopt(multi->handle, CURLMOPT_SOCKETFUNCTION, on_curl_socket) == CURLM_OK &&
           curl_multi_setopt(multi->handle, CURLMOPT_SOCKETDATA, multi) == CURLM_OK &&
           curl_multi_setopt(multi->handle, CURLMOPT_TIMERFUNCTION, on_curl_timer) == CURLM_OK &&
           curl_multi_setopt(multi->handle, CURLMOPT_TIMERDATA, multi) == CURLM_OK;
}

int multi_open(struct multi **out, struct uv_loop_s *loop, const struct multi_ops *ops, void *context)
{
    struct multi *multi = kt_calloc(1, sizeof *multi);
    if (multi == NULL)
        return -ENOMEM;
    multi->loop = loop;
    multi->ops = ops;
    multi->context = context;
    multi->handles = 1;
    multi->handle = curl_multi_init();
    if (multi->handle == NULL || !set_options(multi)) {
        (void)curl_multi_cleanup(multi->handle);
        kt_free(multi);
        return -ENOMEM;
    }
    (void)uv_timer_init(loop, &multi->timer); /* cannot fail */
    *out = multi;
    return 0;
}

void multi_close(struct multi *multi)
{
    multi->is_closing = true;
    /* Before libcurl closes their fds; what it would tell from here on is of no use. */
    (void)curl_multi_setopt(multi->handle, CURLMOPT_SOCKETFUNCTION, NULL);
    (void)curl_multi_setopt(multi->handle, CURLMOPT_TIMERFUNCTION, NULL);
    while (!LIST_EMPTY(&multi->sockets))
        close_socket(LIST_FIRST(&multi->sockets));
    (void)curl_multi_cleanup(multi->handle);
    uv_close((uv_handle_t *)&multi->timer, on_timer_closed);
}

void *multi_handle(const struct multi *multi)
{
    return multi->handle;
}
