#include "netstack/endpoint.h"

#include <errno.h>
#include <time.h>
#include <linux/errqueue.h>
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

/* No way out of here over IPv6: with IPv6 turned off the kernel says so in its own words. */
static int error_of_connect(int error, bool is_v6)
{
    return is_v6 && (error == EADDRNOTAVAIL || error == EAFNOSUPPORT) ? -ENETUNREACH : -error;
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
    if (endpoint->kind != ENDPOINT_FLOW && setsockopt(endpoint->fd, endpoint->is_v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                                                      endpoint->is_v6 ? IPV6_RECVERR : IP_RECVERR, &on, sizeof on) != 0)
        return -errno;
    return connect(endpoint->fd, (struct sockaddr *)&to, size) == 0 ? 0 : error_of_connect(errno, endpoint->is_v6);
}

int endpoint_connect(struct endpoint *endpoint, struct endpoint_set *set, const struct netstack_route *route)
{
    endpoint->is_v6 = route->address.family == ADDRESS_V6;
    endpoint->fd = open_socket(endpoint->kind, endpoint->is_v6);
    if (endpoint->fd < 0)
        return error_of_connect(errno, endpoint->is_v6);
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

static int set_number(const struct endpoint *endpoint, int name_v4, int name_v6, int value)
{
    int rc = endpoint->is_v6 ? setsockopt(endpoint->fd, IPPROTO_IPV6, name_v6, &value, sizeof value)
                             : setsockopt(endpoint->fd, IPPROTO_IP, name_v4, &value, sizeof value);
    return rc == 0 ? 0 : -errno;
}

int endpoint_set_hops(const struct endpoint *endpoint, uint8_t hops)
{
    return set_number(endpoint, IP_TTL, IPV6_UNICAST_HOPS, hops);
}

int endpoint_set_service(const struct endpoint *endpoint, uint8_t service)
{
    return set_number(endpoint, IP_TOS, IPV6_TCLASS, service);
}

static struct address address_of(const struct sockaddr *from)
{
    const void *v4 = &((const struct sockaddr_in *)(const void *)from)->sin_addr;
    const void *v6 = &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr;
    if (from->sa_family == AF_INET)
        return address_from_bytes(ADDRESS_V4, v4);
    if (from->sa_family == AF_INET6)
        return address_from_bytes(ADDRESS_V6, v6);
    return (struct address){.family = ADDRESS_NONE};
}

/* ICMP time exceeded, in transit: RFC 792 type 11, RFC 4443 type 3. */
static bool is_hops_error(const struct sock_extended_err *error)
{
    return (error->ee_origin == SO_EE_ORIGIN_ICMP && error->ee_type == 11) ||
           (error->ee_origin == SO_EE_ORIGIN_ICMP6 && error->ee_type == 3);
}

static void read_report(struct endpoint_report *report, const struct sock_extended_err *error)
{
    report->error = is_hops_error(error) ? -ETIME : -(int)error->ee_errno;
    report->mtu = error->ee_errno == EMSGSIZE ? error->ee_info : 0;
    if (error->ee_origin != SO_EE_ORIGIN_LOCAL)
        report->from = address_of(SO_EE_OFFENDER(error));
}

int endpoint_take_report(const struct endpoint *endpoint, struct endpoint_report *report)
{
    union {
        struct cmsghdr align;
        char bytes[512];
    } control;
    *report = (struct endpoint_report){.error = -EIO};
    struct iovec iov = {report->quote, sizeof report->quote};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t got = recvmsg(endpoint->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT);
    if (got < 0)
        return -errno;
    report->quote_size = KT_MIN((size_t)got, sizeof report->quote);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        bool is_error = (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
                        (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR);
        if (is_error)
            read_report(report, (const struct sock_extended_err *)(const void *)CMSG_DATA(c));
    }
    return 0;
}

int endpoint_local_address(const struct netstack_route *route, struct address *local)
{
    struct endpoint endpoint;
    struct sockaddr_storage here = {0};
    socklen_t size = sizeof here;
    endpoint_init(&endpoint, ENDPOINT_DATAGRAM);
    endpoint.is_v6 = route->address.family == ADDRESS_V6;
    endpoint.fd = open_socket(ENDPOINT_DATAGRAM, endpoint.is_v6);
    if (endpoint.fd < 0)
        return error_of_connect(errno, endpoint.is_v6);
    int rc = prepare_and_connect(&endpoint, route);
    if (rc == 0 && getsockname(endpoint.fd, (struct sockaddr *)&here, &size) != 0)
        rc = -errno;
    *local = address_of((const struct sockaddr *)&here);
    endpoint_close(&endpoint, false);
    return rc;
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
