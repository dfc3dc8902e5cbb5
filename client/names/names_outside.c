/* A try is one socket. It is an object of its own, because libuv gives its handle back only after a turn of the loop,
 * when the question may have gone on to the next server or may be over: then its owner is NULL.
 *
 *   UDP, answer                             done
 *   UDP, SERVFAIL, REFUSED or NOTIMP        the next server, if there is one that was not asked yet
 *   UDP, truncated, the asker came by TCP   TCP to the same server
 *   TCP, answer                             done
 *   error, or no answer in time             the next try, at the next server */
#include "client/names/names_outside.h"

#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include "common/mem.h"

#define DNS_PORT 53
#define PREFIX 2 /* length of a message over TCP */

struct
try {
    struct names_outside *owner; /* NULL: closing */
    bool is_tcp;
    union {
        uv_handle_t handle;
        uv_udp_t udp;
        uv_tcp_t tcp;
    };
    uv_connect_t connect;
    uv_write_t write;
    uint8_t prefix[PREFIX];
    uint8_t *in;          /* of an answer over TCP */
    size_t in_size, have; /* `have` counts the prefix too */
    size_t size;
    uint8_t out[]; /* PREFIX, then the message */
};

struct names_outside {
    struct names_outside_room *room;
    void *context;
    void (*done)(void *context, uint8_t *message, size_t size);
    struct try *try;
    size_t tries; /* begun */
    uint64_t since_ms;
    bool is_tcp, is_over;
    size_t question_end, size;
    uint8_t message[];
};

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte + 'a' - 'A' : byte;
}

bool names_outside_fits(const uint8_t *query, size_t question_end, const uint8_t *answer, size_t size)
{
    bool has_question = question_end > DNS_HEADER_SIZE;
    if (size < question_end || size < DNS_HEADER_SIZE || memcmp(query, answer, 2) != 0 || !(answer[2] & 0x80) ||
        ((query[2] ^ answer[2]) & 0x78) != 0) /* id, QR, opcode */
        return false;
    if (!has_question)
        return true;
    if (answer[4] != 0 || answer[5] != 1 || memcmp(query + question_end - 4, answer + question_end - 4, 4) != 0)
        return false; /* QDCOUNT; type and class, which have no case */
    for (size_t i = DNS_HEADER_SIZE; i < question_end - 4; i++) {
        if (lower(query[i]) != lower(answer[i]))
            return false;
    }
    return true;
}

/* ---- tries */

static void on_try_closed(uv_handle_t *handle)
{
    struct try *try = handle->data;
    kt_free(try->in);
    kt_free(try);
}

static void close_try(struct try *try)
{
    if (!try)
        return;
    try->owner->room->sockets--;
    try->owner = NULL;
    uv_close(&try->handle, on_try_closed);
}

static void end_try(struct names_outside *outside)
{
    close_try(outside->try);
    outside->try = NULL;
}

static void finish(struct names_outside *outside, uint8_t *message, size_t size)
{
    outside->is_over = true;
    if (message)
        memcpy(message, outside->message, 2);
    outside->done(outside->context, message, size);
}

static const struct names_upstream *server_of(const struct names_outside *outside)
{
    const struct names_outside_room *room = outside->room;
    return &room->upstream[(outside->tries - 1) % room->upstreams];
}

static void to_sockaddr(struct sockaddr_storage *out, const struct names_upstream *server)
{
    uint16_t port = htons(server->port ? server->port : DNS_PORT);
    *out = (struct sockaddr_storage){0};
    if (server->address.family == ADDRESS_V4) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)out;
        v4->sin_family = AF_INET;
        v4->sin_port = port;
        memcpy(&v4->sin_addr, server->address.bytes, 4);
    } else {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = port;
        memcpy(&v6->sin6_addr, server->address.bytes, 16);
    }
}

/* The handle with its socket, bound to the device. On error there is nothing to close. */
static int open_socket(struct try *try, uv_loop_t *loop, const struct names_upstream *server)
{
    unsigned family = server->address.family == ADDRESS_V4 ? AF_INET : AF_INET6;
    int rc = try->is_tcp ? uv_tcp_init_ex(loop, &try->tcp, family) : uv_udp_init_ex(loop, &try->udp, family);
    if (rc != 0)
        return rc;
    try->handle.data = try;
    size_t size = strnlen(server->device, sizeof server->device);
    if (size == 0)
        return 0;
    uv_os_fd_t fd;
    rc = uv_fileno(&try->handle, &fd);
    return rc == 0 && setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, server->device, (socklen_t)size) != 0 ? -errno : rc;
}

static int send_udp(struct try *try, const struct sockaddr *to);
static int send_tcp(struct try *try, const struct sockaddr *to);

static struct try *new_try(struct names_outside *outside, bool is_tcp)
{
    struct try *try = kt_calloc(1, sizeof *try + PREFIX + outside->size);
    if (!try)
        return NULL;
    try->owner = outside;
    try->is_tcp = is_tcp;
    try->size = PREFIX + outside->size;
    try->out[0] = (uint8_t)(outside->size >> 8);
    try->out[1] = (uint8_t)outside->size;
    memcpy(try->out + PREFIX, outside->message, outside->size);
    randombytes_buf(try->out + PREFIX, 2);
    return try;
}

static int start_try(struct names_outside *outside, bool is_tcp)
{
    struct sockaddr_storage to;
    const struct names_upstream *server = server_of(outside);
    struct try *try = new_try(outside, is_tcp);
    if (!try)
        return -ENOMEM;
    int rc = open_socket(try, outside->room->loop, server);
    if (rc != 0 && try->handle.data == NULL) { /* no handle yet */
        kt_free(try);
        return rc;
    }
    outside->try = try;
    outside->room->sockets++;
    to_sockaddr(&to, server);
    if (rc == 0)
        rc = is_tcp ? send_tcp(try, (struct sockaddr *)&to) : send_udp(try, (struct sockaddr *)&to);
    if (rc != 0)
        end_try(outside);
    return rc;
}

/* Without a try afterwards all are used up; the next tick finishes. */
static void next_try(struct names_outside *outside)
{
    size_t max = KT_MAX(outside->room->upstreams, NAMES_OUTSIDE_TRIES);
    end_try(outside);
    outside->since_ms = uv_now(outside->room->loop);
    while (!outside->try && outside->room->upstreams > 0 && outside->tries < max) {
        outside->tries++;
        (void)start_try(outside, false);
    }
}

static bool is_refusal(const uint8_t *message)
{
    int rcode = message[3] & 0x0f;
    return rcode == DNS_SERVFAIL || rcode == DNS_REFUSED || rcode == DNS_NOTIMP;
}

static void answered(struct try *try, uint8_t *message, size_t size)
{
    struct names_outside *outside = try->owner;
    bool is_truncated = message[2] & 0x02;
    if (!try->is_tcp && is_truncated && outside->is_tcp) {
        end_try(outside);
        outside->since_ms = uv_now(outside->room->loop);
        if (start_try(outside, true) != 0)
            next_try(outside);
    } else if (is_refusal(message) && outside->tries < outside->room->upstreams) {
        next_try(outside);
    } else {
        finish(outside, message, size);
    }
}

/* ---- UDP */

static void on_rx_alloc(uv_handle_t *handle, size_t suggested KT_UNUSED, uv_buf_t *buffer)
{
    const struct try *try = handle->data;
    *buffer = uv_buf_init((char *)try->owner->room->rx, sizeof try->owner->room->rx);
}

static void on_udp(uv_udp_t *udp, ssize_t size, const uv_buf_t *buffer, const struct sockaddr *from,
                   unsigned flags KT_UNUSED)
{
    struct try *try = udp->data;
    uint8_t *message = (uint8_t *)buffer->base;
    if (size < 0)
        next_try(try->owner); /* the server's host said that nobody listens */
    else if (from && names_outside_fits(try->out + PREFIX, try->owner->question_end, message, (size_t)size))
        answered(try, message, (size_t)size);
}

static int send_udp(struct try *try, const struct sockaddr *to)
{
    uv_buf_t buffer = uv_buf_init((char *)try->out + PREFIX, (unsigned)(try->size - PREFIX));
    int rc = uv_udp_connect(&try->udp, to);
    if (rc == 0)
        rc = uv_udp_try_send(&try->udp, &buffer, 1, NULL);
    return rc < 0 ? rc : uv_udp_recv_start(&try->udp, on_rx_alloc, on_udp);
}

/* ---- TCP */

/* Straight into the prefix, then into the message. */
static void on_tcp_alloc(uv_handle_t *handle, size_t suggested KT_UNUSED, uv_buf_t *buffer)
{
    struct try *try = handle->data;
    if (try->have < PREFIX)
        *buffer = uv_buf_init((char *)try->prefix + try->have, (unsigned)(PREFIX - try->have));
    else
        *buffer = uv_buf_init((char *)try->in + (try->have - PREFIX), (unsigned)(try->in_size - (try->have - PREFIX)));
}

static int take_prefix(struct try *try)
{
    try->in_size = (size_t)try->prefix[0] << 8 | try->prefix[1];
    try->in = try->in_size > 0 ? kt_calloc(1, try->in_size) : NULL;
    return try->in ? 0 : -EBADMSG;
}

static void on_tcp(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer KT_UNUSED)
{
    struct try *try = stream->data;
    struct names_outside *outside = try->owner;
    if (size > 0)
        try->have += (size_t)size;
    if (size < 0 || (size > 0 && try->have == PREFIX && take_prefix(try) != 0)) {
        next_try(outside);
        return;
    }
    if (try->have < PREFIX || try->have < PREFIX + try->in_size)
        return;
    if (names_outside_fits(try->out + PREFIX, outside->question_end, try->in, try->in_size))
        answered(try, try->in, try->in_size);
    else
        next_try(outside);
}

static void on_written(uv_write_t *write, int status)
{
    struct try *try = write->data;
    if (status != 0 && try->owner)
        next_try(try->owner);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct try *try = connect->data;
    if (!try->owner)
        return;
    uv_buf_t buffer = uv_buf_init((char *)try->out, (unsigned)try->size);
    try->write.data = try;
    if (status == 0)
        status = uv_write(&try->write, (uv_stream_t *)&try->tcp, &buffer, 1, on_written);
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&try->tcp, on_tcp_alloc, on_tcp);
    if (status != 0)
        next_try(try->owner);
}

static int send_tcp(struct try *try, const struct sockaddr *to)
{
    try->connect.data = try;
    return uv_tcp_connect(&try->connect, &try->tcp, to, on_connected);
}

/* ---- life */

struct names_outside *names_outside_start(struct names_outside_room *room, const struct names_outside_call *call,
                                          uint64_t now_ms)
{
    struct names_outside *outside = kt_calloc(1, sizeof *outside + call->size);
    if (!outside)
        return NULL;
    outside->room = room;
    outside->context = call->context;
    outside->done = call->done;
    outside->is_tcp = call->is_tcp;
    outside->question_end = call->question_end;
    outside->size = call->size;
    memcpy(outside->message, call->message, call->size);
    next_try(outside);
    outside->since_ms = now_ms;
    return outside;
}

void names_outside_tick(struct names_outside *outside, uint64_t now_ms)
{
    if (outside->is_over)
        return;
    if (outside->try && now_ms - outside->since_ms >= outside->room->try_ms)
        next_try(outside);
    if (!outside->try)
        finish(outside, NULL, 0);
}

void names_outside_stop(struct names_outside *outside)
{
    if (!outside)
        return;
    end_try(outside);
    kt_free(outside);
}
