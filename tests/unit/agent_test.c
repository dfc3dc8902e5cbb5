/* The whole agent in this process: it listens, serves a client over TCP, and ends for each of its reasons. */
#include "agent/agent.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>

#include "common/log.h"
#include "common/mem.h"
#include "tests/unit/test_client.h"

struct fixture {
    uv_loop_t loop;
    struct settings settings;
    struct agent *agent;
    struct test_client client;
    int errors, warnings;
};

static void on_log(void *context, enum log_level level, const char *line KT_UNUSED)
{
    struct fixture *f = context;
    f->errors += level == LOG_LEVEL_ERROR;
    f->warnings += level == LOG_LEVEL_WARNING;
}

static int setup(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    struct fixture *f = &fixture;
    assert_int_equal(uv_loop_init(&f->loop), 0);
    f->settings = (struct settings){.listens = 1, .idle_first_ms = 60000, .idle_ms = 60000, .resolv_conf = "/nowhere"};
    f->settings.listen[0].address = address_v4(0x7f000001);
    client_init(&f->client, &f->loop);
    log_open(on_log, f, LOG_LEVEL_DEBUG);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    client_stop(&f->client);
    if (f->agent != NULL)
        agent_close(f->agent);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static void start(struct fixture *f)
{
    assert_int_equal(agent_open(&f->agent, &f->loop, &f->settings), 0);
    assert_int_not_equal(agent_port(f->agent, 0), 0);
    assert_int_equal(agent_port(f->agent, 1), 0);
}

static int dial(const struct fixture *f)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    in.sin_port = htons(agent_port(f->agent, 0));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

static void join(struct fixture *f)
{
    struct wire_open open = client_wish(&f->client);
    client_start(&f->client, dial(f), agent_key(f->agent));
    RUN_UNTIL(&f->loop, f->client.opened);
    client_send_open(&f->client, &open);
    RUN_UNTIL(&f->loop, f->client.accepts);
}

static void serves_over_tcp(void **state)
{
    struct fixture *f = *state;
    start(f);
    join(f);
    assert_int_equal(f->client.accept.mtu, WIRE_MTU);
    assert_int_equal(f->client.accept.servers, 1); /* no file: 127.0.0.1 */
}

static void keys_are_new_each_time(void **state)
{
    struct fixture *f = *state;
    uint8_t key[WIRE_KEY_SIZE];
    start(f);
    memcpy(key, agent_key(f->agent), sizeof key);
    agent_close(f->agent);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    start(f);
    assert_memory_not_equal(key, agent_key(f->agent), sizeof key);
}

/* Runs the loop until nothing is left: the agent ended by itself. */
static void expect_end(struct fixture *f)
{
    f->agent = NULL;
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
}

static void leaves_when_no_client_comes(void **state)
{
    struct fixture *f = *state;
    f->settings.idle_first_ms = 1;
    start(f);
    expect_end(f);
}

static void leaves_when_told_to(void **state)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < KT_ARRAY_LEN(numbers); i++) {
        assert_int_equal(setup(state), 0);
        struct fixture *f = *state;
        start(f);
        join(f);
        assert_int_equal(raise(numbers[i]), 0);
        assert_int_equal(raise(numbers[i]), 0); /* twice changes nothing */
        RUN_UNTIL(&f->loop, f->client.closes);
        assert_int_equal(f->client.refuse.reason, WIRE_REASON_LEAVING);
        client_stop(&f->client);
        expect_end(f);
        if (i + 1 < KT_ARRAY_LEN(numbers))
            assert_int_equal(teardown(state), 0);
    }
}

static void taken_port_is_an_error_and_a_missing_default_is_none(void **state)
{
    struct fixture *f = *state;
    start(f);
    struct settings again = f->settings;
    struct agent *other = NULL;
    again.listen[0].port = agent_port(f->agent, 0);
    assert_int_equal(agent_open(&other, &f->loop, &again), -EADDRINUSE);
    assert_int_equal(f->errors, 1);
    again.listens = 2;
    again.listen[0] = (struct settings_listen){.address = address_v4(0x7f000001)};
    again.listen[1] = (struct settings_listen){.address = address_v4(0xc0000201)}; /* 192.0.2.1 is nobody's */
    assert_int_equal(agent_open(&other, &f->loop, &again), -EADDRNOTAVAIL);
    again.listen[1].is_default = true;
    assert_int_equal(agent_open(&other, &f->loop, &again), 0);
    agent_close(other);
    again.listens = 1;
    again.listen[0] = again.listen[1];
    assert_int_equal(agent_open(&other, &f->loop, &again), -EADDRNOTAVAIL); /* none of the defaults is there */
}

static void unreadable_resolv_conf_is_told_when_the_first_client_comes(void **state)
{
    struct fixture *f = *state;
    f->settings.resolv_conf = "/";
    start(f);
    assert_int_equal(f->warnings, 0); /* the key is the log's first line */
    join(f);
    assert_int_equal(f->warnings, 1);
}

static void every_allocation_fails_once(void **state)
{
    struct fixture *f = *state;
    int rc = -ENOMEM;
    unsigned long nth = 0;
    while (rc != 0) {
        kt_mem_fail_nth(++nth);
        rc = agent_open(&f->agent, &f->loop, &f->settings);
        kt_mem_fail_nth(0);
        if (rc != 0) {
            f->agent = NULL;
            (void)uv_run(&f->loop, UV_RUN_DEFAULT);
            assert_int_equal(kt_mem_live(), 0);
        }
        if (nth > 20)
            break;
    }
    assert_int_equal(rc, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(serves_over_tcp, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_are_new_each_time, setup, teardown),
        cmocka_unit_test_setup_teardown(leaves_when_no_client_comes, setup, teardown),
        cmocka_unit_test_teardown(leaves_when_told_to, teardown),
        cmocka_unit_test_setup_teardown(taken_port_is_an_error_and_a_missing_default_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(unreadable_resolv_conf_is_told_when_the_first_client_comes, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_fails_once, setup, teardown),
    };
    return unit_run(tests);
}
