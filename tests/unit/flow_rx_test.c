/* From packets to the socket, against the kernel's own TCP on both sides. */
#include "tests/unit/tcp_pair.h"

static void test_bulk(void **state)
{
    (void)state;
    bulk(true, false, false);
    bulk(true, false, true);
    assert_true(flows_become(0));
}

static void test_stalled_server(void **state)
{
    (void)state;
    stall(true);
}

static void test_bytes_then_reset(void **state)
{
    (void)state;
    reset_behind_bytes(true);
}

/* The client goes on sending to a server that has closed: it is reset, as by a direct connection. */
static void test_send_to_closed(void **state)
{
    (void)state;
    struct pair pair = connected();
    struct pollfd wait = {.fd = pair.client};
    close(pair.server);
    expect_end(pair.client, 0, 200000);
    assert_int_equal(send(pair.client, "x", 1, MSG_NOSIGNAL), 1);
    assert_int_equal(poll(&wait, 1, 2000), 1);
    assert_true((wait.revents & (POLLERR | POLLHUP)) != 0);
    close(pair.client);
    assert_true(flows_become(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TCP_PAIR_TEST(test_bulk),
        TCP_PAIR_TEST(test_stalled_server),
        TCP_PAIR_TEST(test_bytes_then_reset),
        TCP_PAIR_TEST(test_send_to_closed),
    };
    return tcp_pair_run(tests);
}
