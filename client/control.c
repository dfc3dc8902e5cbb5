#include "client/control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "common/mem.h"

/* A connection: READING its line -> ANSWERING (status) or WAITING (down: kept open until ktvpn has left) -> closed. */
enum peer_state { PEER_READING, PEER_ANSWERING, PEER_WAITING };

struct peer {
    uv_pipe_t pipe;
    uv_write_t write;
    struct control *control;
    enum peer_state state;
    char line[CONTROL_LINE_MAX];
    size_t size;
    char *answer;
};

struct control {
    uv_pipe_t pipe;
    struct control_ops ops;
    void *context;
    struct peer *peer[CONTROL_PEERS_MAX];
};

static void on_peer_closed(uv_handle_t *handle)
{
    struct peer *peer = handle->data;
    kt_free(peer->answer);
    kt_free(peer);
}

static void close_peer(struct peer *peer)
{
    if (uv_is_closing((uv_handle_t *)&peer->pipe))
        return;
    for (size_t i = 0; i < CONTROL_PEERS_MAX; i++) {
        if (peer->control->peer[i] == peer)
            peer->control->peer[i] = NULL;
    }
    uv_close((uv_handle_t *)&peer->pipe, on_peer_closed);
}

static void on_written(uv_write_t *write, int status KT_UNUSED)
{
    close_peer(write->data);
}

static void answer_status(struct peer *peer)
{
    peer->answer = peer->control->ops.on_status(peer->control->context);
    if (peer->answer == NULL) {
        close_peer(peer);
        return;
    }
    peer->state = PEER_ANSWERING;
    peer->write.data = peer;
    uv_buf_t buffer = uv_buf_init(peer->answer, (unsigned)strlen(peer->answer));
    if (uv_write(&peer->write, (uv_stream_t *)&peer->pipe, &buffer, 1, on_written) != 0)
        close_peer(peer);
}

static void on_line(struct peer *peer)
{
    if (strcmp(peer->line, "status") == 0) {
        answer_status(peer);
    } else if (strcmp(peer->line, "down") == 0) {
        peer->state = PEER_WAITING;
        peer->control->ops.on_down(peer->control->context);
    } else {
        close_peer(peer);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested KT_UNUSED, uv_buf_t *buffer)
{
    struct peer *peer = handle->data;
    *buffer = uv_buf_init(peer->line + peer->size, (unsigned)(sizeof peer->line - peer->size));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer KT_UNUSED)
{
    struct peer *peer = stream->data;
    if (size < 0) {
        close_peer(peer);
        return;
    }
    peer->size += (size_t)size;
    char *end = memchr(peer->line, '\n', peer->size);
    if (peer->state == PEER_READING && end != NULL) {
        *end = '\0';
        on_line(peer);
    } else if (peer->size == sizeof peer->line) {
        close_peer(peer);
    }
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct control *control = stream->data;
    size_t slot = 0;
    while (slot < CONTROL_PEERS_MAX && control->peer[slot] != NULL)
        slot++;
    struct peer *peer = status != 0 ? NULL : kt_calloc(1, sizeof *peer);
    if (peer == NULL)
        return;
    peer->control = control;
    peer->pipe.data = peer;
    if (uv_pipe_init(stream->loop, &peer->pipe, 0) != 0) {
        kt_free(peer);
        return;
    }
    if (slot < CONTROL_PEERS_MAX)
        control->peer[slot] = peer;
    if (uv_accept(stream, (uv_stream_t *)&peer->pipe) != 0 || slot == CONTROL_PEERS_MAX ||
        uv_read_start((uv_stream_t *)&peer->pipe, on_alloc, on_read) != 0)
        close_peer(peer);
}

static void on_control_closed(uv_handle_t *handle)
{
    kt_free(handle->data);
}

int control_open(struct control **out, struct uv_loop_s *loop, const char *path, const struct control_ops *ops,
                 void *context)
{
    struct control *control = kt_calloc(1, sizeof *control);
    if (control == NULL)
        return -ENOMEM;
    *control = (struct control){.ops = *ops, .context = context};
    control->pipe.data = control;
    int rc = uv_pipe_init(loop, &control->pipe, 0);
    if (rc != 0) {
        kt_free(control);
        return rc;
    }
    mode_t mask = umask(0177);
    rc = uv_pipe_bind(&control->pipe, path);
    (void)umask(mask);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&control->pipe, CONTROL_PEERS_MAX, on_connection);
    if (rc != 0) {
        uv_close((uv_handle_t *)&control->pipe, on_control_closed);
        return rc;
    }
    *out = control;
    return 0;
}

void control_close(struct control *control)
{
    if (control == NULL)
        return;
    for (size_t i = 0; i < CONTROL_PEERS_MAX; i++) {
        if (control->peer[i] != NULL)
            close_peer(control->peer[i]);
    }
    uv_close((uv_handle_t *)&control->pipe, on_control_closed);
}

/* connect() waits while the other side has no room for one more, which is for ever when it hangs. */
static int limit_wait(int fd, int timeout_ms)
{
    struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000L};
    return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) != 0 ? -errno : 0;
}

static int connect_error(int error)
{
    switch (error) {
    case ENOENT:
        return -ECONNREFUSED;
    case EAGAIN:
        return -ETIMEDOUT;
    default:
        return -error;
    }
}

static int connect_to(const char *path, int timeout_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int rc = limit_wait(fd, timeout_ms);
    if (rc == 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        rc = connect_error(errno);
    if (rc == 0)
        return fd;
    (void)close(fd);
    return rc;
}

static int64_t monotonic_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Reads up to EOF into `out`, or -ETIMEDOUT at `deadline_ms`. */
static int read_all(int fd, char *out, size_t max, int64_t deadline_ms)
{
    size_t at = 0;
    for (;;) {
        struct pollfd item = {.fd = fd, .events = POLLIN};
        int64_t left_ms = deadline_ms - monotonic_ms();
        int ready = left_ms > 0 ? poll(&item, 1, (int)left_ms) : 0;
        if (ready == 0)
            return -ETIMEDOUT;
        if (ready < 0 && errno == EINTR)
            continue;
        ssize_t size = read(fd, out + at, max - at);
        if (size < 0 && errno != EINTR)
            return errno == ECONNRESET ? 0 : -errno;
        if (size == 0)
            return 0;
        at += size > 0 ? (size_t)size : 0;
        if (at == max)
            return -EMSGSIZE;
    }
}

int control_ask(const char *path, const char *request, int timeout_ms, char **answer)
{
    int fd = connect_to(path, timeout_ms);
    if (fd < 0)
        return fd;
    int rc = 0;
    char *text = kt_calloc(1, CONTROL_ANSWER_MAX + 1);
    if (text == NULL) {
        rc = -ENOMEM;
        goto out;
    }
    char line[CONTROL_LINE_MAX];
    int size = snprintf(line, sizeof line, "%s\n", request);
    if (send(fd, line, (size_t)size, MSG_NOSIGNAL) != size) {
        rc = -ECONNREFUSED;
        goto out;
    }
    rc = read_all(fd, text, CONTROL_ANSWER_MAX, monotonic_ms() + timeout_ms);
out:
    (void)close(fd);
    if (rc != 0) {
        kt_free(text);
        return rc;
    }
    *answer = text;
    return 0;
}
