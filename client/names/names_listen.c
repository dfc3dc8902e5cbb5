/* Handles: the two listeners, a timer for idle connections, one that wakes connections that may ask again, and the
 * connections. Each counts in `handles` until libuv gives it back; the last one frees the struct. A connection is found
 * by its number, so an answer that comes too late finds nothing. */
#include "client/names/names_listen.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/mem.h"

#define PREFIX 2
#define BIND_TRIES 32
#define BACKLOG 32
#define MEMORY_MS 100 /* after a connection for which there was no memory */

struct connection {
    uv_tcp_t tcp;
    struct names_listen *listen;
    struct connection *next;
    uint64_t number, active_ms;
    size_t unanswered, have; /* bytes of `in` */
    bool is_reading;
    uint8_t in[PREFIX + DNS_MESSAGE_MAX];
};

struct reply {
    uv_write_t write;
    uint8_t bytes[]; /* PREFIX, then the message */
};

struct names_listen {
    uv_loop_t *loop;
    uv_udp_t udp;
    uv_tcp_t tcp;
    uv_timer_t idle, wake;
    unsigned handles;
    uint16_t port;
    uint64_t idle_ms, last_number;
    struct connection *connections;
    size_t count, max;
    bool owes_accept; /* had no memory for a connection that libuv holds out */
    names_on_query *on_query;
    void *context;
    uint8_t rx[DNS_MESSAGE_MAX];
};

static void release(struct names_listen *listen)
{
    if (--listen->handles == 0)
        kt_free(listen);
}

static void on_closed(uv_handle_t *handle)
{
    release(handle->data);
}

/* ---- connections */

static void on_connection_closed(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    release(connection->listen);
    kt_free(connection);
}

static void drop(struct connection *connection)
{
    struct names_listen *listen = connection->listen;
    if (uv_is_closing((uv_handle_t *)&connection->tcp))
        return;
    struct connection **link = &listen->connections;
    while (*link != connection)
        link = &(*link)->next;
    *link = connection->next;
    listen->count--;
    uv_close((uv_handle_t *)&connection->tcp, on_connection_closed);
}

static struct connection *find(const struct names_listen *listen, uint64_t number)
{
    for (struct connection *connection = listen->connections; connection; connection = connection->next) {
        if (connection->number == number)
            return connection;
    }
    return NULL;
}

/* Answers that come at once may have cut it off. */
static bool may_ask(const struct connection *connection)
{
    return connection->unanswered < NAMES_LISTEN_UNANSWERED_MAX &&
           !uv_is_closing((const uv_handle_t *)&connection->tcp);
}

static void read_on(struct connection *connection);

/* Hands out the whole messages in `in`, as long as the connection may ask. */
static void take_messages(struct connection *connection)
{
    struct names_listen *listen = connection->listen;
    struct names_asker asker = {.is_tcp = true, .connection = connection->number};
    size_t at = 0;
    while (connection->have - at >= PREFIX && may_ask(connection)) {
        size_t size = (size_t)connection->in[at] << 8 | connection->in[at + 1];
        if (size == 0) {
            drop(connection);
            return;
        }
        if (connection->have - at < PREFIX + size)
            break;
        connection->unanswered++;
        connection->active_ms = uv_now(listen->loop);
        listen->on_query(listen->context, &asker, connection->in + at + PREFIX, size);
        at += PREFIX + size;
    }
    connection->have -= at;
    memmove(connection->in, connection->in + at, connection->have);
    read_on(connection);
}

static void on_alloc(uv_handle_t *handle, size_t suggested KT_UNUSED, uv_buf_t *buffer)
{
    struct connection *connection = handle->data;
    *buffer =
        uv_buf_init((char *)connection->in + connection->have, (unsigned)(sizeof connection->in - connection->have));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer KT_UNUSED)
{
    struct connection *connection = stream->data;
    if (size < 0) {
        drop(connection);
        return;
    }
    connection->have += (size_t)size;
    take_messages(connection);
}

/* `in` is full only when it holds a whole message, so a connection that may ask has room to read into. */
static void read_on(struct connection *connection)
{
    bool wants = may_ask(connection);
    if (uv_is_closing((uv_handle_t *)&connection->tcp) || wants == connection->is_reading)
        return;
    connection->is_reading = wants;
    if (!wants)
        (void)uv_read_stop((uv_stream_t *)&connection->tcp);
    else if (uv_read_start((uv_stream_t *)&connection->tcp, on_alloc, on_read) != 0)
        drop(connection);
}

static void drop_idle(struct names_listen *listen)
{
    uint64_t now = uv_now(listen->loop);
    for (struct connection *connection = listen->connections, *next; connection; connection = next) {
        next = connection->next;
        if (connection->unanswered == 0 && now - connection->active_ms >= listen->idle_ms)
            drop(connection);
    }
}

static void on_idle_timer(uv_timer_t *timer)
{
    drop_idle(timer->data);
}

/* For a new one. */
static void make_room(struct names_listen *listen)
{
    struct connection *oldest = NULL;
    for (struct connection *connection = listen->connections; connection; connection = connection->next) {
        if (connection->unanswered == 0 && (!oldest || connection->active_ms <= oldest->active_ms))
            oldest = connection;
    }
    if (oldest)
        drop(oldest);
}

static void on_wake(uv_timer_t *timer);

/* libuv holds the listener until it is accepted, so it is accepted in any case, and closed when there is no place. */
static void accept_one(struct names_listen *listen)
{
    if (listen->count >= listen->max)
        make_room(listen);
    struct connection *connection = kt_calloc(1, sizeof *connection);
    listen->owes_accept = connection == NULL;
    if (!connection) {
        (void)uv_timer_start(&listen->wake, on_wake, MEMORY_MS, 0);
        return;
    }
    connection->listen = listen;
    connection->number = ++listen->last_number;
    connection->active_ms = uv_now(listen->loop);
    (void)uv_tcp_init(listen->loop, &connection->tcp);
    connection->tcp.data = connection;
    listen->handles++;
    connection->next = listen->connections;
    listen->connections = connection;
    listen->count++;
    if (uv_accept((uv_stream_t *)&listen->tcp, (uv_stream_t *)&connection->tcp) != 0 || listen->count > listen->max)
        drop(connection);
    else
        read_on(connection);
}

static void wake_all(struct names_listen *listen)
{
    for (struct connection *connection = listen->connections, *next; connection; connection = next) {
        next = connection->next;
        if (!connection->is_reading)
            take_messages(connection);
    }
    if (listen->owes_accept)
        accept_one(listen);
}

static void on_wake(uv_timer_t *timer)
{
    wake_all(timer->data);
}

static void on_connection(uv_stream_t *stream, int status)
{
    if (status == 0)
        accept_one(stream->data);
}

/* ---- UDP */

static void on_udp_alloc(uv_handle_t *handle, size_t suggested KT_UNUSED, uv_buf_t *buffer)
{
    struct names_listen *listen = handle->data;
    *buffer = uv_buf_init((char *)listen->rx, sizeof listen->rx);
}

static void on_udp(uv_udp_t *udp, ssize_t size, const uv_buf_t *buffer KT_UNUSED, const struct sockaddr *from,
                   unsigned flags)
{
    struct names_listen *listen = udp->data;
    struct names_asker asker = {.is_tcp = false};
    if (size <= 0 || !from || from->sa_family != AF_INET || (flags & UV_UDP_PARTIAL))
        return;
    memcpy(&asker.from, from, sizeof asker.from);
    listen->on_query(listen->context, &asker, listen->rx, (size_t)size);
}

/* ---- answers */

static void on_written(uv_write_t *write, int status)
{
    struct reply *reply = write->data;
    if (status != 0)
        drop((struct connection *)write->handle->data);
    kt_free(reply);
}

static int send_reply(struct connection *connection, const uint8_t *message, size_t size)
{
    struct reply *reply = kt_calloc(1, sizeof *reply + PREFIX + size);
    if (!reply)
        return -ENOMEM;
    reply->write.data = reply;
    reply->bytes[0] = (uint8_t)(size >> 8);
    reply->bytes[1] = (uint8_t)size;
    memcpy(reply->bytes + PREFIX, message, size);
    uv_buf_t buffer = uv_buf_init((char *)reply->bytes, (unsigned)(PREFIX + size));
    int rc = uv_write(&reply->write, (uv_stream_t *)&connection->tcp, &buffer, 1, on_written);
    if (rc != 0)
        kt_free(reply);
    return rc;
}

/* The messages that wait in `in` are handed out on the loop's next turn: no question comes out of an answer's call. */
static void answer_tcp(struct connection *connection, const uint8_t *message, size_t size)
{
    connection->unanswered--;
    connection->active_ms = uv_now(connection->listen->loop);
    if (send_reply(connection, message, size) != 0 ||
        uv_stream_get_write_queue_size((uv_stream_t *)&connection->tcp) > NAMES_LISTEN_UNSENT_MAX)
        drop(connection);
    else if (!connection->is_reading)
        (void)uv_timer_start(&connection->listen->wake, on_wake, 0, 0);
}

void names_listen_answer(struct names_listen *listen, const struct names_asker *asker, const uint8_t *message,
                         size_t size)
{
    struct connection *connection = asker->is_tcp ? find(listen, asker->connection) : NULL;
    if (connection)
        answer_tcp(connection, message, size);
    if (asker->is_tcp)
        return;
    uv_buf_t buffer = uv_buf_init((char *)message, (unsigned)size);
    (void)uv_udp_try_send(&listen->udp, &buffer, 1, (const struct sockaddr *)&asker->from);
}

/* ---- life */

/* Two sockets at one port of the kernel's choice. */
static int bind_pair(int *udp, int *tcp, uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    *udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool done = *udp >= 0 && *tcp >= 0 && bind(*udp, (struct sockaddr *)&at, sizeof at) == 0 &&
                getsockname(*udp, (struct sockaddr *)&at, &size) == 0 &&
                bind(*tcp, (struct sockaddr *)&at, sizeof at) == 0;
    int rc = done ? 0 : -errno;
    *port = ntohs(at.sin_port);
    if (done)
        return 0;
    if (*udp >= 0)
        (void)close(*udp);
    if (*tcp >= 0)
        (void)close(*tcp);
    return rc;
}

static int start(struct names_listen *listen, int udp, int tcp)
{
    int rc = uv_udp_open(&listen->udp, udp);
    if (rc != 0) {
        (void)close(udp);
        (void)close(tcp);
        return rc;
    }
    rc = uv_tcp_open(&listen->tcp, tcp);
    if (rc != 0) {
        (void)close(tcp);
        return rc;
    }
    rc = uv_udp_recv_start(&listen->udp, on_udp_alloc, on_udp);
    return rc != 0 ? rc : uv_listen((uv_stream_t *)&listen->tcp, BACKLOG, on_connection);
}

static void init_handles(struct names_listen *listen)
{
    (void)uv_udp_init(listen->loop, &listen->udp);
    (void)uv_tcp_init(listen->loop, &listen->tcp);
    (void)uv_timer_init(listen->loop, &listen->idle);
    (void)uv_timer_init(listen->loop, &listen->wake);
    listen->udp.data = listen->tcp.data = listen->idle.data = listen->wake.data = listen;
    listen->handles = 4;
}

int names_listen_open(struct names_listen **out, struct uv_loop_s *loop, size_t connections_max, uint64_t idle_ms,
                      names_on_query *on_query, void *context)
{
    int udp = -1, tcp = -1, rc = -EADDRINUSE;
    *out = NULL;
    struct names_listen *listen = kt_calloc(1, sizeof *listen);
    if (!listen)
        return -ENOMEM;
    for (int i = 0; i < BIND_TRIES && rc == -EADDRINUSE; i++)
        rc = bind_pair(&udp, &tcp, &listen->port);
    if (rc != 0) {
        kt_free(listen);
        return rc;
    }
    listen->loop = loop;
    listen->max = connections_max;
    listen->idle_ms = idle_ms;
    listen->on_query = on_query;
    listen->context = context;
    init_handles(listen);
    rc = start(listen, udp, tcp);
    if (rc != 0) {
        names_listen_close(listen);
        return rc;
    }
    (void)uv_timer_start(&listen->idle, on_idle_timer, idle_ms / 4, idle_ms / 4 + 1);
    *out = listen;
    return 0;
}

void names_listen_close(struct names_listen *listen)
{
    if (!listen)
        return;
    while (listen->connections)
        drop(listen->connections);
    uv_close((uv_handle_t *)&listen->udp, on_closed);
    uv_close((uv_handle_t *)&listen->tcp, on_closed);
    uv_close((uv_handle_t *)&listen->idle, on_closed);
    uv_close((uv_handle_t *)&listen->wake, on_closed);
}

uint16_t names_listen_port(const struct names_listen *listen)
{
    return listen->port;
}
