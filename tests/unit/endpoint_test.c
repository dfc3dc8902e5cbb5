/* Sockets of flows against real ones on loopback: connected, refused, edges, and both ways to close. */
#include "netstack/endpoint.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

#define PATIENCE_MS 20000

struct bed {
    uv_loop_t loop;
    uv_timer_t patience;
    struct endpoint_set set;
    struct endpoint endpoint[2];
    struct netstack_route route;
    int peer; /* the listening or bound socket behind `route` */
    unsigned edges;
    bool is_late;
    bool closes_other; /* the first edge closes the other endpoint */
};

static struct bed *bed; /* endpoint_set_collect() passes no context */

static void on_edge(struct endpoint *endpoint)
{
    bed->edges++;
    if (bed->closes_other)
        endpoint_close(&bed->endpoint[endpoint == &bed->endpoint[0]], false);
}

static void on_events(uv_poll_t *poll, int status, int events)
{
    (void)poll;
    (void)status;
    (void)events;
    endpoint_set_collect(&bed->set, on_edge);
}

static void on_patience(uv_timer_t *timer)
{
    (void)timer;
    bed->is_late = true;
}

#define WAIT(condition)                                                    \
    do {                                                                   \
        bed->is_late = false;                                              \
        (void)uv_timer_start(&bed->patience, on_patience, PATIENCE_MS, 0); \
        while (!(condition) && !bed->is_late)                              \
            (void)uv_run(&bed->loop, UV_RUN_ONCE);                         \
        assert_true(condition);                                            \
    } while (0)

static int open_bed(void **state)
{
    (void)state;
    bed = test_calloc(1, sizeof *bed);
    bed->peer = -1;
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    assert_int_equal(uv_timer_init(&bed->loop, &bed->patience), 0);
    for (size_t i = 0; i < KT_ARRAY_LEN(bed->endpoint); i++)
        endpoint_init(&bed->endpoint[i], ENDPOINT_FLOW);
    return endpoint_set_open(&bed->set, &bed->loop, on_events);
}

static int close_bed(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_ARRAY_LEN(bed->endpoint); i++) {
        endpoint_close(&bed->endpoint[i], false);
        endpoint_close(&bed->endpoint[i], true); /* fine when closed */
    }
    if (bed->peer >= 0)
        close(bed->peer);
    endpoint_set_stop(&bed->set);
    uv_close((uv_handle_t *)&bed->set.poll, NULL);
    uv_close((uv_handle_t *)&bed->patience, NULL);
    (void)uv_run(&bed->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    test_free(bed);
    return 0;
}

/* A socket on loopback; its address becomes the route. */
static void serve(int family, int type)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool is_v6 = family == AF_INET6;
    struct sockaddr *address = is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    socklen_t size = is_v6 ? sizeof v6 : sizeof v4;
    bed->peer = socket(family, type | SOCK_CLOEXEC, 0);
    if (bed->peer < 0 || bind(bed->peer, address, size) != 0)
        skip(); /* no IPv6 here */
    if (type == SOCK_STREAM)
        assert_int_equal(listen(bed->peer, 8), 0);
    assert_int_equal(getsockname(bed->peer, address, &size), 0);
    bed->route = (struct netstack_route){.address = address_v4(0x7f000001), .port = ntohs(v4.sin_port)};
    if (is_v6) {
        bed->route.port = ntohs(v6.sin6_port);
        bed->route.address = (struct address){.family = ADDRESS_V6};
        bed->route.address.bytes[15] = 1;
    }
}

/* The first endpoint, connected; the server's side of it. */
static int connect_first(void)
{
    struct endpoint *endpoint = &bed->endpoint[0];
    int rc = endpoint_connect(endpoint, &bed->set, &bed->route);
    assert_true(rc == 0 || rc == -EINPROGRESS);
    WAIT(endpoint->is_writable);
    assert_int_equal(endpoint_error(endpoint), 0);
    int fd = accept4(bed->peer, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void tcp_connects(int family)
{
    char got[8] = "";
    serve(family, SOCK_STREAM);
    int fd = connect_first();
    struct endpoint *endpoint = &bed->endpoint[0];
    assert_int_equal(send(endpoint->fd, "there", 5, 0), 5);
    assert_int_equal(recv(fd, got, sizeof got, 0), 5);
    assert_false(endpoint->is_readable || endpoint->has_ended);
    assert_int_equal(send(fd, "back", 4, 0), 4);
    WAIT(endpoint->is_readable);
    assert_int_equal(recv(endpoint->fd, got, sizeof got, 0), 4);
    assert_false(endpoint->has_ended);
    close(fd);
    WAIT(endpoint->has_ended);
    assert_int_equal(recv(endpoint->fd, got, sizeof got, 0), 0);
}

static void tcp_connects_over_ipv4(void **state)
{
    (void)state;
    tcp_connects(AF_INET);
}

static void tcp_connects_over_ipv6(void **state)
{
    (void)state;
    tcp_connects(AF_INET6);
}

static void refused_is_told_by_the_error(void **state)
{
    (void)state;
    serve(AF_INET, SOCK_STREAM);
    close(bed->peer);
    bed->peer = -1;
    struct endpoint *endpoint = &bed->endpoint[0];
    int rc = endpoint_connect(endpoint, &bed->set, &bed->route);
    if (rc == -EINPROGRESS) {
        WAIT(endpoint->is_writable);
        assert_int_equal(endpoint_error(endpoint), -ECONNREFUSED);
        assert_int_equal(endpoint_error(endpoint), 0); /* it is told once */
    } else {
        assert_int_equal(rc, -ECONNREFUSED);
        assert_int_equal(endpoint->fd, -1);
    }
}

static void datagrams_are_connected_at_once(void **state)
{
    (void)state;
    char got[8];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    struct endpoint *endpoint = &bed->endpoint[0];
    serve(AF_INET, SOCK_DGRAM);
    endpoint_init(endpoint, ENDPOINT_DATAGRAM);
    assert_int_equal(endpoint_connect(endpoint, &bed->set, &bed->route), 0);
    assert_true(endpoint->is_writable);
    assert_int_equal(send(endpoint->fd, "?", 1, 0), 1);
    assert_int_equal(recvfrom(bed->peer, got, sizeof got, 0, (struct sockaddr *)&from, &size), 1);
    assert_int_equal(sendto(bed->peer, "!", 1, 0, (struct sockaddr *)&from, size), 1);
    WAIT(endpoint->is_readable);
    assert_int_equal(recv(endpoint->fd, got, sizeof got, 0), 1);
}

static void what_cannot_be_leaves_nothing_open(void **state)
{
    (void)state;
    struct endpoint *endpoint = &bed->endpoint[0];
    serve(AF_INET, SOCK_STREAM);
    struct netstack_route route = bed->route;
    memcpy(route.device, "ktvpn-none", sizeof "ktvpn-none");
    assert_true(endpoint_connect(endpoint, &bed->set, &route) < 0); /* -ENODEV, or -EPERM */
    assert_int_equal(endpoint->fd, -1);
    endpoint_init(endpoint, ENDPOINT_DATAGRAM);
    route = (struct netstack_route){.address = address_v4(0xffffffff), .port = 1}; /* broadcast is not allowed */
    assert_true(endpoint_connect(endpoint, &bed->set, &route) < 0);
    assert_int_equal(endpoint->fd, -1);
    assert_false(endpoint->is_writable);
}

static void a_reset_is_one_and_an_orderly_close_is_not(void **state)
{
    (void)state;
    char byte;
    serve(AF_INET, SOCK_STREAM);
    for (int with_reset = 0; with_reset < 2; with_reset++) {
        int fd = connect_first();
        endpoint_close(&bed->endpoint[0], with_reset != 0);
        assert_int_equal(bed->endpoint[0].fd, -1);
        assert_false(bed->endpoint[0].is_writable);
        ssize_t n = recv(fd, &byte, 1, 0);
        assert_int_equal(n, with_reset != 0 ? -1 : 0);
        if (with_reset != 0)
            assert_int_equal(errno, ECONNRESET);
        close(fd);
        endpoint_init(&bed->endpoint[0], ENDPOINT_FLOW);
    }
}

/* The other one's edge is in the same batch already: it is not told for a closed endpoint. */
static void an_endpoint_closed_in_the_batch_has_no_edge(void **state)
{
    (void)state;
    serve(AF_INET, SOCK_DGRAM);
    for (size_t i = 0; i < KT_ARRAY_LEN(bed->endpoint); i++) {
        endpoint_init(&bed->endpoint[i], ENDPOINT_DATAGRAM);
        assert_int_equal(endpoint_connect(&bed->endpoint[i], &bed->set, &bed->route), 0);
    }
    bed->closes_other = true; /* both are writable: two edges wait */
    endpoint_set_collect(&bed->set, on_edge);
    assert_int_equal(bed->edges, 1);
    assert_int_equal((bed->endpoint[0].fd < 0) + (bed->endpoint[1].fd < 0), 1);
}

static void a_closed_endpoint_leaves_the_ready_list(void **state)
{
    (void)state;
    struct endpoint *endpoint = &bed->endpoint[0];
    serve(AF_INET, SOCK_STREAM);
    int fd = connect_first();
    list_move_to_end(&bed->set.ready, &endpoint->ready);
    endpoint_close(endpoint, false);
    assert_true(list_is_empty(&bed->set.ready));
    close(fd);
}

int main(void)
{
#define ENDPOINT_TEST(test) cmocka_unit_test_setup_teardown(test, open_bed, close_bed)
    const struct CMUnitTest tests[] = {
        ENDPOINT_TEST(tcp_connects_over_ipv4),
        ENDPOINT_TEST(tcp_connects_over_ipv6),
        ENDPOINT_TEST(refused_is_told_by_the_error),
        ENDPOINT_TEST(datagrams_are_connected_at_once),
        ENDPOINT_TEST(what_cannot_be_leaves_nothing_open),
        ENDPOINT_TEST(a_reset_is_one_and_an_orderly_close_is_not),
        ENDPOINT_TEST(an_endpoint_closed_in_the_batch_has_no_edge),
        ENDPOINT_TEST(a_closed_endpoint_leaves_the_ready_list),
    };
    return unit_run(tests);
}
