#include "agent/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/log.h"
#include "common/mem.h"

#define LOG_PERIOD_MS 60000

struct listener {
    uv_poll_t poll;
    uv_timer_t pause;
    int fd;
    int open_handles;
    bool is_closing;
    struct address address;
    uint16_t port;
    struct log_limit pauses;
    listener_accept *on_accept;
    void *context;
};

union sockaddr_any {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

static socklen_t to_sockaddr(union sockaddr_any *out, const struct address *address, uint16_t port)
{
    memset(out, 0, sizeof *out);
    if (address->family == ADDRESS_V4) {
        out->in.sin_family = AF_INET;
        out->in.sin_port = htons(port);
        memcpy(&out->in.sin_addr, address->bytes, 4);
        return sizeof out->in;
    }
    out->in6.sin6_family = AF_INET6;
    out->in6.sin6_port = htons(port);
    memcpy(&out->in6.sin6_addr, address->bytes, 16);
    return sizeof out->in6;
}

static uint16_t from_sockaddr(const union sockaddr_any *in, struct address *address)
{
    bool is_v4 = in->any.sa_family == AF_INET;
    *address = is_v4 ? address_from_bytes(ADDRESS_V4, (const uint8_t *)&in->in.sin_addr)
                     : address_from_bytes(ADDRESS_V6, (const uint8_t *)&in->in6.sin6_addr);
    return ntohs(is_v4 ? in->in.sin_port : in->in6.sin6_port);
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void listen_again(struct listener *listener)
{
    (void)uv_poll_start(&listener->poll, UV_READABLE, on_poll); /* fails only for a handle that is closing */
}

static void on_pause_over(uv_timer_t *timer)
{
    listen_again(KT_CONTAINER_OF(timer, struct listener, pause));
}

/* The connection stays in the kernel's queue, so the poll would tell of it again and again. */
static void pause_listening(struct listener *listener, int error)
{
    if (log_allowed(&listener->pauses, 1, LOG_PERIOD_MS, uv_now(listener->poll.loop)))
        log_warning("listener %u: accepts no connection for now: %s", listener->port, strerror(error));
    (void)uv_poll_stop(&listener->poll);
    (void)uv_timer_start(&listener->pause, on_pause_over, LISTENER_PAUSE_MS, 0);
}

static bool is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

static void accept_some(struct listener *listener)
{
    for (int i = 0; i < LISTENER_TURN_MAX && !listener->is_closing; i++) {
        union sockaddr_any peer = {0};
        socklen_t size = sizeof peer;
        int fd = accept4(listener->fd, &peer.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (is_shortage(errno))
                pause_listening(listener, errno);
            return; /* nothing more, or a connection that is already gone again: the poll tells of the others */
        }
        struct address from;
        uint16_t port = from_sockaddr(&peer, &from);
        listener->on_accept(listener->context, fd, &from, port);
    }
}

static void on_poll(uv_poll_t *poll, int status KT_UNUSED, int events KT_UNUSED)
{
    accept_some(KT_CONTAINER_OF(poll, struct listener, poll));
}

/* A bound and listening socket, or -errno. */
static int make_socket(const struct address *address, uint16_t port)
{
    union sockaddr_any here;
    socklen_t size = to_sockaddr(&here, address, port);
    int on = 1;
    int fd = socket(here.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    bool is_ok = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0;
    if (is_ok && address->family == ADDRESS_V6)
        is_ok = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0;
    if (is_ok && bind(fd, &here.any, size) == 0 && listen(fd, LISTENER_BACKLOG) == 0)
        return fd;
    int error = errno;
    (void)close(fd);
    return -error;
}

/* The port that the kernel picked. */
static uint16_t bound_port(int fd)
{
    union sockaddr_any here = {0};
    socklen_t size = sizeof here;
    struct address ignored;
    return getsockname(fd, &here.any, &size) == 0 ? from_sockaddr(&here, &ignored) : 0;
}

int listener_open(struct listener **out, struct uv_loop_s *loop, const struct address *address, uint16_t port,
                  listener_accept *on_accept, void *context)
{
    struct listener *listener = kt_calloc(1, sizeof *listener);
    if (listener == NULL)
        return -ENOMEM;
    int rc = make_socket(address, port);
    if (rc < 0)
        goto out;
    listener->fd = rc;
    rc = uv_poll_init(loop, &listener->poll, listener->fd);
    if (rc != 0) {
        (void)close(listener->fd);
        goto out;
    }
    (void)uv_timer_init(loop, &listener->pause); /* cannot fail */
    listener->address = *address;
    listener->port = bound_port(listener->fd);
    listener->on_accept = on_accept;
    listener->context = context;
    listen_again(listener);
    *out = listener;
    return 0;
out:
    kt_free(listener);
    return rc;
}

uint16_t listener_port(const struct listener *listener)
{
    return listener->port;
}

static void closed_one(struct listener *listener)
{
    if (--listener->open_handles == 0)
        kt_free(listener);
}

static void on_poll_closed(uv_handle_t *handle)
{
    closed_one(KT_CONTAINER_OF((uv_poll_t *)handle, struct listener, poll));
}

static void on_pause_closed(uv_handle_t *handle)
{
    closed_one(KT_CONTAINER_OF((uv_timer_t *)handle, struct listener, pause));
}

void listener_close(struct listener *listener)
{
    if (listener == NULL || listener->is_closing)
        return;
    listener->is_closing = true;
    listener->open_handles = 2;
    uv_close((uv_handle_t *)&listener->poll, on_poll_closed);
    uv_close((uv_handle_t *)&listener->pause, on_pause_closed);
    (void)close(listener->fd);
}
