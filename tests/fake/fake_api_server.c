#include "tests/fake/fake_api_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/kube/websocket.h"
#include "common/compiler.h"
#include "tests/fake/fake_api_tls.h"
#include "tests/unit/unit.h"

#define MESSAGE_MAX (32 * 1024) /* what Kubernetes sends at most */

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(struct fake_api_server *s)
{
    bool reads = !s->has_request || !s->is_deaf;
    int events = (reads ? UV_READABLE : 0) | (s->out_start < s->out_end ? UV_WRITABLE : 0);
    if (s->connection >= 0)
        (void)uv_poll_start(&s->poll, events, on_poll);
}

void fake_api_server_end(struct fake_api_server *s)
{
    if (s->connection < 0)
        return;
    if (s->tls != NULL)
        fake_api_tls_end(s->tls);
    uv_close((uv_handle_t *)&s->poll, NULL);
    (void)close(s->connection);
    s->connection = -1;
    s->is_gone = true;
}

void fake_api_server_send(struct fake_api_server *s, const void *data, size_t size)
{
    assert_true(size <= FAKE_API_OUT_SIZE - s->out_end);
    memcpy(s->out + s->out_end, data, size);
    s->out_end += size;
    watch(s);
}

void fake_api_server_send_message(struct fake_api_server *s, uint8_t channel, const void *data, size_t size)
{
    uint8_t head[WEBSOCKET_HEAD_MAX];
    size_t n = websocket_put_head(head, WEBSOCKET_BINARY, size + 1);
    head[1] &= 0x7f; /* a server does not mask */
    fake_api_server_send(s, head, n - 4);
    fake_api_server_send(s, &channel, 1);
    fake_api_server_send(s, data, size);
}

/* The request is there: the answer goes out. */
static void answer(struct fake_api_server *s)
{
    static const char key_name[] = "Sec-WebSocket-Key: ", mark[] = "@ACCEPT@";
    char key[WEBSOCKET_KEY_SIZE] = "", accept[WEBSOCKET_ACCEPT_SIZE];
    const char *at = strstr(s->request, key_name), *text = s->answer == NULL ? "" : s->answer,
               *hole = strstr(text, mark);
    s->has_request = true;
    if (at != NULL)
        (void)snprintf(key, sizeof key, "%s", at + sizeof key_name - 1);
    websocket_accept_of(accept, key);
    fake_api_server_send(s, text, hole == NULL ? strlen(text) : (size_t)(hole - text));
    if (hole != NULL) {
        fake_api_server_send(s, accept, strlen(accept));
        fake_api_server_send(s, hole + sizeof mark - 1, strlen(hole) - sizeof mark + 1);
    }
    if (s->answer_more_size > 0)
        fake_api_server_send(s, s->answer_more, s->answer_more_size);
}

static void take_data(struct fake_api_server *s, const uint8_t *data, size_t size)
{
    assert_true(size <= FAKE_API_IN_SIZE - s->data_size);
    memcpy(s->data + s->data_size, data, size);
    s->data_size += size;
    for (size_t at = 0; s->echoes && at < size; at += MESSAGE_MAX)
        fake_api_server_send_message(s, 0, data + at, KT_MIN(size - at, MESSAGE_MAX));
}

/* One masked frame from the client, with the key 0; its size, or 0 when it is not there yet. */
static size_t take_frame(struct fake_api_server *s, const uint8_t *in, size_t size)
{
    if (size < 2)
        return 0;
    size_t head = 2, payload = in[1] & 0x7f;
    if (payload == 126 && size >= 4) {
        payload = (size_t)in[2] << 8 | in[3];
        head = 4;
    } else if (payload >= 126) {
        if (size < 10)
            return 0;
        payload = (size_t)in[6] << 24 | (size_t)in[7] << 16 | (size_t)in[8] << 8 | in[9];
        head = 10;
    }
    if (size < head + 4 + payload)
        return 0;
    const uint8_t *data = in + head + 4;
    s->frames++;
    s->has_broken_frame |= (in[0] & 0xf0) != 0x80 || (in[1] & 0x80) == 0 || memcmp(in + head, "\0\0\0\0", 4) != 0;
    if (in[0] == 0x82 && payload > 0 && data[0] == 0)
        take_data(s, data + 1, payload - 1);
    s->pongs += in[0] == 0x8a;
    if (in[0] == 0x88) {
        s->has_close = true;
        s->close_code = payload >= 2 ? data[0] << 8 | data[1] : 0;
    }
    return head + 4 + payload;
}

static void take_frames(struct fake_api_server *s)
{
    size_t at = 0, n;
    while ((n = take_frame(s, s->in + at, s->in_size - at)) > 0)
        at += n;
    memmove(s->in, s->in + at, s->in_size - at);
    s->in_size -= at;
    if (s->has_close && !s->keeps_open)
        fake_api_server_end(s);
}

static ssize_t receive(struct fake_api_server *s, void *out, size_t size)
{
    if (s->tls != NULL)
        return fake_api_tls_read(s->tls, out, size);
    ssize_t n = recv(s->connection, out, size, 0);
    return n < 0 ? -errno : n;
}

static ssize_t transmit(struct fake_api_server *s, const void *data, size_t size)
{
    if (s->tls != NULL)
        return fake_api_tls_write(s->tls, data, size);
    ssize_t n = send(s->connection, data, size, MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

static ssize_t read_request(struct fake_api_server *s)
{
    ssize_t n = receive(s, s->request + s->request_size, 1); /* what follows the head is for others */
    if (n <= 0)
        return n;
    s->request_size += (size_t)n;
    assert_true(s->request_size < sizeof s->request);
    if (s->request_size >= 4 && memcmp(s->request + s->request_size - 4, "\r\n\r\n", 4) == 0)
        answer(s);
    return n;
}

static void read_some(struct fake_api_server *s)
{
    ssize_t n = 1;
    while (n > 0 && s->connection >= 0 && (!s->has_request || !s->is_deaf)) {
        if (!s->has_request) {
            n = read_request(s);
            continue;
        }
        n = receive(s, s->in + s->in_size, FAKE_API_IN_SIZE - s->in_size);
        if (n > 0)
            s->in_size += (size_t)n;
        take_frames(s);
    }
    if (n <= 0 && n != -EAGAIN)
        fake_api_server_end(s);
}

static void write_some(struct fake_api_server *s)
{
    ssize_t n = 1;
    while (n > 0 && s->out_start < s->out_end) {
        size_t size = s->out_end - s->out_start;
        n = transmit(s, s->out + s->out_start, s->piece > 0 ? KT_MIN(size, s->piece) : size);
        if (n > 0)
            s->out_start += (size_t)n;
        if (s->piece > 0)
            break;
    }
    if (n <= 0 && n != -EAGAIN)
        fake_api_server_end(s);
    else if (s->has_request && s->ends && s->out_start == s->out_end)
        fake_api_server_end(s);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct fake_api_server *s = KT_CONTAINER_OF(poll, struct fake_api_server, poll);
    if (status < 0 || (events & UV_READABLE))
        read_some(s);
    if (s->connection >= 0)
        write_some(s);
    watch(s);
}

/* One connection at a time: later ones wait in the backlog. */
static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct fake_api_server *s = KT_CONTAINER_OF(poll, struct fake_api_server, listener);
    (void)status;
    (void)events;
    int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    assert_int_equal(s->connections, 0);
    s->connections++;
    s->connection = fd;
    if (s->tls != NULL)
        fake_api_tls_accept(s->tls, fd);
    assert_int_equal(uv_poll_init(s->loop, &s->poll, fd), 0);
    watch(s);
}

void fake_api_server_start(struct fake_api_server *s, uv_loop_t *loop, bool is_tls)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->loop = loop;
    s->connection = -1;
    s->tls = is_tls ? fake_api_tls_new() : NULL;
    s->data = test_malloc(FAKE_API_IN_SIZE);
    s->in = test_malloc(FAKE_API_IN_SIZE);
    s->out = test_malloc(FAKE_API_OUT_SIZE);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(s->fd, 8), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&address, &size), 0);
    s->port = ntohs(address.sin_port);
    assert_int_equal(uv_poll_init(loop, &s->listener, s->fd), 0);
    assert_int_equal(uv_poll_start(&s->listener, UV_READABLE, on_connection), 0);
}

void fake_api_server_stop(struct fake_api_server *s)
{
    fake_api_server_end(s);
    uv_close((uv_handle_t *)&s->listener, NULL);
    (void)close(s->fd);
    fake_api_tls_free(s->tls);
    test_free(s->data);
    test_free(s->in);
    test_free(s->out);
}

void fake_api_server_listen_again(struct fake_api_server *s)
{
    s->is_deaf = false;
    watch(s);
}

const char *fake_api_server_certificate(const struct fake_api_server *s)
{
    return fake_api_tls_certificate(s->tls);
}
