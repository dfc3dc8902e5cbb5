#include "netstack/endpoint.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 256

int endpoint_set_open(struct endpoint_set *set, uv_loop_t *loop, uv_poll_cb on_events)
{
    list_init(&set->ready);
    set->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (set->epoll_fd < 0)
        return -errno;
    int rc = uv_poll_init(loop, &set->poll, set->epoll_fd);
    if (rc != 0) {
        close(set->epoll_fd);
        return rc;
    }
    (void)uv_poll_start(&set->poll, UV_READABLE, on_events); /* fails for a closing handle only */
    return 0;
}

void endpoint_set_stop(struct endpoint_set *set)
{
    (void)uv_poll_stop(&set->poll);
    close(set->epoll_fd);
    set->epoll_fd = -1;
}

static void take_edge(struct endpoint *endpoint, uint32_t events, void (*on_edge)(struct endpoint *))
{
    if (endpoint->fd < 0)
        return;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        endpoint->is_readable = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        endpoint->has_ended = true;
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0)
        endpoint->is_writable = true;
    on_edge(endpoint);
}

void endpoint_set_collect(struct endpoint_set *set, void (*on_edge)(struct endpoint *endpoint))
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int count;
    do {
        count = epoll_wait(set->epoll_fd, events, EVENTS_AT_ONCE, 0);
        for (int i = 0; i < count; i++)
            take_edge(events[i].data.ptr, events[i].events, on_edge);
    } while (count == EVENTS_AT_ONCE);
}

void endpoint_init(struct endpoint *endpoint, enum endpoint_kind kind)
{
    *endpoint = (struct endpoint){.kind = kind, .fd = -1};
    list_init(&endpoint->ready);
}

static socklen_t sockaddr_of(const struct netstack_route *route, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (route->address.family == ADDRESS_V6) {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(route->port);
        memcpy(&v6->sin6_addr, route->address.bytes, sizeof v6->sin6_addr);
        return sizeof *v6;
    }
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    v4->sin_family = AF_INET;
    v4->sin_port = htons(route->port);
    memcpy(&v4->sin_addr, route->address.bytes, sizeof v4->sin_addr);
    return sizeof *v4;
}

static int open_socket(enum endpoint_kind kind, bool is_v6)
{
    static const int type[] = {
        [ENDPOINT_FLOW] = SOCK_STREAM, [ENDPOINT_DATAGRAM] = SOCK_DGRAM, [ENDPOINT_PING] = SOCK_DGRAM};
    int protocol = kind != ENDPOINT_PING ? 0 : is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    return socket(is_v6 ? AF_INET6 : AF_INET, type[kind] | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

static int prepare_and_connect(const struct endpoint *endpoint, const struct netstack_route *route)
{
    const int on = 1;
    struct sockaddr_storage to;
    socklen_t size = sockaddr_of(route, &to);
    if (route->device[0] != '\0' && setsockopt(endpoint->fd, SOL_SOCKET, SO_BINDTODEVICE, route->device,
                                               (socklen_t)strnlen(route->device, sizeof route->device)) != 0)
        return -errno;
    /* Segments go on as they come; whether to wait for more was the first sender's decision. */
    if (endpoint->kind == ENDPOINT_FLOW && setsockopt(endpoint->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        return -errno;
    return connect(endpoint->fd, (struct sockaddr *)&to, size) == 0 ? 0 : -errno;
}

int endpoint_connect(struct endpoint *endpoint, struct endpoint_set *set, const struct netstack_route *route)
{
    endpoint->fd = open_socket(endpoint->kind, route->address.family == ADDRESS_V6);
    if (endpoint->fd < 0)
        return -errno;
    int rc = prepare_and_connect(endpoint, route);
    if (rc != 0 && rc != -EINPROGRESS)
        goto fail;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = endpoint};
    if (epoll_ctl(set->epoll_fd, EPOLL_CTL_ADD, endpoint->fd, &event) != 0) {
        rc = -errno;
        goto fail;
    }
    endpoint->is_writable = rc == 0;
    return rc;
fail:
    endpoint_close(endpoint, false);
    return rc;
}

int endpoint_error(const struct endpoint *endpoint)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(endpoint->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return -errno;
    return -error;
}

void endpoint_close(struct endpoint *endpoint, bool with_reset)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    list_remove(&endpoint->ready);
    if (endpoint->fd < 0)
        return;
    if (with_reset)
        (void)setsockopt(endpoint->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(endpoint->fd); /* and with it the epoll entry: the descriptor has no duplicate */
    endpoint->fd = -1;
    endpoint->is_readable = endpoint->is_writable = false;
}
