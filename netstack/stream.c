#include "netstack/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/mem.h"

/* Unsent bytes above which the kernel takes no more: what waits is better kept where sparse flows can overtake it. */
#define NOTSENT_LOWAT (64 * 1024)

enum dial_state { STATE_DIALLING, STATE_OPEN, STATE_FAILED, STATE_CLOSING };

struct tcp_stream {
    struct stream stream;
    enum dial_state state;
    uv_poll_t poll;
    int fd;
    int wanted;        /* STREAM_* that poll is started with; 0: stopped */
    int connect_error; /* what connect() returned at once */
    struct address to; /* for messages */
    uint16_t port;
};

static struct tcp_stream *tcp_of(struct stream *stream)
{
    return KT_CONTAINER_OF(stream, struct tcp_stream, stream);
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* (Re)starts or stops the poll; also after libuv stopped it because of POLLERR. */
static void watch(struct tcp_stream *tcp, int events)
{
    int uv_events = ((events & STREAM_READABLE) ? UV_READABLE : 0) | ((events & STREAM_WRITABLE) ? UV_WRITABLE : 0);
    tcp->wanted = events;
    if (events == 0)
        (void)uv_poll_stop(&tcp->poll);
    else
        (void)uv_poll_start(&tcp->poll, uv_events, on_poll); /* fails only for a handle that is closing */
}

static int socket_error(int fd)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return -errno;
    return -error;
}

static bool is_local(int fd)
{
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    if (getpeername(fd, (struct sockaddr *)&peer, &size) != 0)
        return true;
    struct address address = {0};
    if (peer.ss_family == AF_INET)
        address = address_from_bytes(ADDRESS_V4, (uint8_t *)&((struct sockaddr_in *)&peer)->sin_addr);
    else if (peer.ss_family == AF_INET6)
        address = address_from_bytes(ADDRESS_V6, (uint8_t *)&((struct sockaddr_in6 *)&peer)->sin6_addr);
    else
        return true;
    return address_is_loopback(&address);
}

/* All of it may fail (a test's socket pair is no TCP; BBR may be missing or forbidden) and none of it is needed. */
static void tune(int fd)
{
    int on = 1, lowat = NOTSENT_LOWAT;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
    if (!is_local(fd)) /* a lossy path costs a loss-based congestion control most of its rate */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "bbr", strlen("bbr"));
}

static void fail(struct tcp_stream *tcp, int error)
{
    char peer[ADDRESS_STRLEN], text[STREAM_TEXT_MAX];
    (void)snprintf(text, sizeof text, "%s: %s", address_print_port(&tcp->to, tcp->port, peer), strerror(-error));
    tcp->state = STATE_FAILED;
    watch(tcp, 0);
    if (tcp->stream.on_failed != NULL)
        tcp->stream.on_failed(&tcp->stream, error, text);
}

static void dialled(struct tcp_stream *tcp)
{
    int error = tcp->connect_error != 0 ? tcp->connect_error : socket_error(tcp->fd);
    if (error != 0) {
        fail(tcp, error);
        return;
    }
    tune(tcp->fd);
    tcp->state = STATE_OPEN;
    watch(tcp, 0);
    if (tcp->stream.on_open != NULL)
        tcp->stream.on_open(&tcp->stream);
}

/* A socket with an error is ready for everything: read and write tell which error it is, after the bytes that came
 * before. */
static void ready(struct tcp_stream *tcp, int status, int events)
{
    int told = status < 0 ? tcp->wanted : events & tcp->wanted;
    if (told != 0 && tcp->stream.on_ready != NULL)
        tcp->stream.on_ready(&tcp->stream, told);
    if (status < 0 && tcp->state == STATE_OPEN) /* libuv has stopped the handle */
        watch(tcp, tcp->wanted);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct tcp_stream *tcp = KT_CONTAINER_OF(poll, struct tcp_stream, poll);
    int mapped = ((events & UV_READABLE) ? STREAM_READABLE : 0) | ((events & UV_WRITABLE) ? STREAM_WRITABLE : 0);
    if (tcp->state == STATE_DIALLING)
        dialled(tcp);
    else if (tcp->state == STATE_OPEN)
        ready(tcp, status, mapped);
}

static ssize_t tcp_read(struct stream *stream, void *out, size_t size)
{
    ssize_t n;
    do
        n = recv(tcp_of(stream)->fd, out, size, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static ssize_t tcp_write(struct stream *stream, const void *data, size_t size)
{
    ssize_t n;
    do
        n = send(tcp_of(stream)->fd, data, size, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static void tcp_want(struct stream *stream, int events)
{
    struct tcp_stream *tcp = tcp_of(stream);
    if (tcp->state == STATE_OPEN && tcp->wanted != events)
        watch(tcp, events);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct tcp_stream *tcp = KT_CONTAINER_OF((uv_poll_t *)handle, struct tcp_stream, poll);
    if (tcp->stream.on_closed != NULL)
        tcp->stream.on_closed(&tcp->stream);
    kt_free(tcp);
}

static void tcp_close(struct stream *stream)
{
    struct tcp_stream *tcp = tcp_of(stream);
    if (tcp->state == STATE_CLOSING)
        return;
    tcp->state = STATE_CLOSING;
    uv_close((uv_handle_t *)&tcp->poll,
             on_poll_closed); /* also takes the fd out of epoll, so that it can be closed now */
    (void)close(tcp->fd);
    tcp->fd = -1;
}

static const struct stream_ops tcp_ops = {.read = tcp_read, .write = tcp_write, .want = tcp_want, .close = tcp_close};

/* On error the fd is still the caller's. */
static int make(struct tcp_stream **out, uv_loop_t *loop, int fd, enum dial_state state)
{
    struct tcp_stream *tcp = kt_calloc(1, sizeof *tcp);
    if (tcp == NULL)
        return -ENOMEM;
    int rc = uv_poll_init(loop, &tcp->poll, fd);
    if (rc != 0) {
        kt_free(tcp);
        return rc;
    }
    tcp->stream.ops = &tcp_ops;
    tcp->state = state;
    tcp->fd = fd;
    *out = tcp;
    return 0;
}

static socklen_t to_sockaddr(struct sockaddr_storage *out, const struct address *to, uint16_t port)
{
    *out = (struct sockaddr_storage){0};
    if (to->family == ADDRESS_V4) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        memcpy(&in->sin_addr, to->bytes, 4);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    memcpy(&in6->sin6_addr, to->bytes, 16);
    return sizeof *in6;
}

static bool is_bound(int fd, const char *device)
{
    return device == NULL || *device == '\0' ||
           setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)) == 0;
}

int stream_dial_tcp(struct stream **out, struct uv_loop_s *loop, const struct address *to, uint16_t port)
{
    return stream_dial_tcp_by(out, loop, to, port, NULL);
}

int stream_dial_tcp_by(struct stream **out, struct uv_loop_s *loop, const struct address *to, uint16_t port,
                       const char *device)
{
    if (to->family == ADDRESS_NONE)
        return -EAFNOSUPPORT;
    struct sockaddr_storage peer;
    socklen_t size = to_sockaddr(&peer, to, port);
    int fd = socket(peer.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct tcp_stream *tcp = NULL;
    int rc = make(&tcp, loop, fd, STATE_DIALLING);
    if (rc != 0) {
        (void)close(fd);
        return rc;
    }
    tcp->to = *to;
    tcp->port = port;
    /* Whatever comes of it at once is told later, by the same way: a socket that failed is ready too. */
    if (!is_bound(fd, device) || (connect(fd, (struct sockaddr *)&peer, size) != 0 && errno != EINPROGRESS))
        tcp->connect_error = -errno;
    watch(tcp, STREAM_WRITABLE);
    *out = &tcp->stream;
    return 0;
}

int stream_from_fd(struct stream **out, struct uv_loop_s *loop, int fd)
{
    struct tcp_stream *tcp = NULL;
    int rc = make(&tcp, loop, fd, STATE_OPEN);
    if (rc != 0)
        return rc;
    tune(fd);
    *out = &tcp->stream;
    return 0;
}
