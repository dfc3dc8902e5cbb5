/* TCP through a netstack, against the kernel's own TCP; see netstack_fixture.h. */
#include "tests/unit/unit.h"

#include "tests/unit/netstack_fixture.h"

static struct fixture *fixture;

static int setup(void **state)
{
    (void)state;
    fixture = fixture_start();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_stop(fixture);
    return 0;
}

/* A connection through the netstack, both ends. */
struct pair {
    int client, server;
};

static struct pair connected(void)
{
    uint16_t port;
    int listener = fixture_serve(SOCK_STREAM, &port);
    struct pair pair = {.client = fixture_connect(SOCK_STREAM, FIXTURE_TARGET, port)};
    assert_true(pair.client >= 0);
    pair.server = fixture_accept(listener);
    assert_true(pair.server >= 0);
    close(listener);
    return pair;
}

static void close_pair(struct pair pair)
{
    close(pair.client);
    close(pair.server);
}

/* True when it becomes so within 20 s. */
static bool flows_become(uint32_t count)
{
    for (int i = 0; i < 2000; i++) {
        if (fixture_stats(fixture).tcp_flows == count)
            return true;
        usleep(10000);
    }
    return false;
}

static void echo(int from, int to, const char *text)
{
    char got[64] = "";
    assert_int_equal(send(from, text, strlen(text), 0), strlen(text));
    assert_int_equal(recv(to, got, sizeof got, 0), strlen(text));
    assert_string_equal(got, text);
}

static void test_bytes_both_ways(void **state)
{
    (void)state;
    struct pair pair = connected();
    for (int i = 0; i < 100; i++) {
        echo(pair.client, pair.server, "up");
        echo(pair.server, pair.client, "down");
    }
    close_pair(pair);
    assert_true(flows_become(0));
}

int main(void)
{
    if (!fixture_enter_namespace()) {
        printf("skipped: no network namespace or no TUN device here\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bytes_both_ways, setup, teardown),
    };
    return unit_run(tests);
}
