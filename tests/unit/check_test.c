/* The health probe, against what may be on the agent's port. */
#include "agent/check.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"

/* A listener whose first connection gets `bytes`, in two pieces, and is then closed, or left silent. */
struct server {
    int fd;
    const uint8_t *bytes;
    size_t size;
    bool is_silent;
    pthread_t thread;
    int connection;
};

static void *serve(void *context)
{
    struct server *server = context;
    server->connection = accept(server->fd, NULL, NULL);
    if (server->is_silent)
        return NULL;
    size_t half = server->size / 2;
    (void)send(server->connection, server->bytes, half, MSG_NOSIGNAL);
    (void)send(server->connection, server->bytes + half, server->size - half, MSG_NOSIGNAL);
    (void)close(server->connection);
    return NULL;
}

static int ask(struct server *server, bool listens_on_any)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(getsockname(server->fd, (struct sockaddr *)&in, &size), 0);
    assert_int_equal(listen(server->fd, 1), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
    struct settings settings = {.listens = 1};
    settings.listen[0].address = address_v4(listens_on_any ? 0 : 0x7f000001);
    settings.listen[0].port = ntohs(in.sin_port);
    int rc = check_agent(&settings);
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    (void)close(server->fd);
    return rc;
}

static void a_hello_is_well(void **state)
{
    (void)state;
    uint8_t bytes[WIRE_HELLO_SIZE];
    struct wire_hello hello = {.version = WIRE_VERSION};
    wire_put_hello(bytes, &hello);
    struct server server = {.bytes = bytes, .size = sizeof bytes};
    assert_int_equal(ask(&server, false), 0);
    assert_int_equal(ask(&server, true), 0);
    server.size--;
    assert_int_equal(ask(&server, false), -EPROTO);
}

static void anything_else_is_not(void **state)
{
    (void)state;
    struct server server = {.bytes = (const uint8_t *)"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
                            .size = 44};
    assert_int_equal(ask(&server, false), -EPROTO);
    struct server silent = {.is_silent = true};
    assert_int_equal(ask(&silent, false), -EAGAIN);
    (void)close(silent.connection);
}

static void nobody_there(void **state)
{
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0); /* bound, so nobody else gets it; not listening */
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &size), 0);
    struct settings settings = {.listens = 1};
    settings.listen[0].address = address_v4(0x7f000001);
    settings.listen[0].port = ntohs(in.sin_port);
    assert_int_equal(check_agent(&settings), -ECONNREFUSED);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hello_is_well),
        cmocka_unit_test(anything_else_is_not),
        cmocka_unit_test(nobody_there),
    };
    return unit_run(tests);
}
