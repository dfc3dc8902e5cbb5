/* The table of sessions: who may come in, who is found again, and when it is over. */
#include "agent/guests.h"

#include <errno.h>

#include "common/log.h"
#include "common/mem.h"
#include "common/resolvconf.h"
#include "tests/unit/fake_netstack.h"
#include "tests/unit/test_client.h"

#define CLIENTS 3

struct fixture {
    uv_loop_t loop;
    struct noise_keypair keys;
    struct resolver *resolver;
    struct guests *guests;
    struct guests_setup guests_setup;
    struct test_client client[CLIENTS];
    uint8_t allowed[1][WIRE_KEY_SIZE];
    int idle, closed, warnings;
};

static void on_idle(void *context, const char *why KT_UNUSED)
{
    ((struct fixture *)context)->idle++;
}

static void on_closed(void *context)
{
    ((struct fixture *)context)->closed++;
}

static void on_log(void *context, enum log_level level, const char *line KT_UNUSED)
{
    ((struct fixture *)context)->warnings += level == LOG_LEVEL_WARNING;
}

static void open_guests(struct fixture *f)
{
    assert_int_equal(guests_open(&f->guests, &f->loop, &f->guests_setup), 0);
}

static int setup(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    struct fixture *f = &fixture;
    struct resolvconf conf = {.servers = 1};
    conf.server[0] = address_v4(0x7f000001);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    noise_keypair_generate(&f->keys);
    assert_int_equal(resolver_open(&f->resolver, &f->loop, &conf, 1), 0);
    for (int i = 0; i < CLIENTS; i++)
        client_init(&f->client[i], &f->loop);
    f->guests_setup = (struct guests_setup){.keys = &f->keys,
                                            .allowed = (const uint8_t(*)[WIRE_KEY_SIZE])f->allowed,
                                            .idle_first_ms = 30000,
                                            .idle_ms = 300000,
                                            .resolver = f->resolver,
                                            .on_idle = on_idle,
                                            .context = f};
    log_open(on_log, f, LOG_LEVEL_DEBUG);
    *state = f;
    return 0;
}

static void close_guests(struct fixture *f)
{
    if (f->guests == NULL)
        return;
    struct guests *guests = f->guests;
    f->guests = NULL;
    guests_close(guests, on_closed, f);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close_guests(f);
    for (int i = 0; i < CLIENTS; i++)
        client_stop(&f->client[i]);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    resolver_close(f->resolver);
    assert_int_equal(f->closed, 1);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    assert_null(fake_first);
    return 0;
}

static void connect_to(struct fixture *f, struct test_client *client)
{
    int pair[2];
    struct address from = address_v4(0x7f000001);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    guests_take(f->guests, pair[0], &from, 1);
    client_start(client, pair[1], f->keys.public_key);
    RUN_UNTIL(&f->loop, client->opened);
}

static void join(struct fixture *f, struct test_client *client)
{
    struct wire_open open = client_wish(client);
    connect_to(f, client);
    client_send_open(client, &open);
    RUN_UNTIL(&f->loop, client->accepts);
}

static void expect_stats(const struct fixture *f, size_t sessions, size_t carriers, size_t pending)
{
    struct guests_stats stats;
    guests_stats(f->guests, &stats);
    assert_int_equal(stats.sessions, sessions);
    assert_int_equal(stats.carriers, carriers);
    assert_int_equal(stats.pending, pending);
}

#define STATS(f, field) (guests_stats((f)->guests, &stats), stats.field)

static void clients_have_sessions_of_their_own(void **state)
{
    struct fixture *f = *state;
    f->guests_setup.about.servers = 1;
    f->guests_setup.about.server[0] = address_v4(0x0ade000a);
    open_guests(f);
    for (int i = 0; i < CLIENTS; i++)
        join(f, &f->client[i]);
    expect_stats(f, CLIENTS, CLIENTS, 0);
    assert_int_equal(f->client[0].accept.mtu, WIRE_MTU);
    assert_int_equal(f->client[0].accept.idle_ms, 300000);
    assert_int_equal(f->client[0].accept.servers, 1);
}

static void same_key_finds_its_session_again(void **state)
{
    struct fixture *f = *state;
    struct guests_stats stats;
    open_guests(f);
    join(f, &f->client[0]);
    f->client[1] = f->client[0];
    f->client[1].pump = NULL;
    f->client[1].opened = f->client[1].accepts = 0;
    join(f, &f->client[1]);
    expect_stats(f, 1, 2, 0);
    client_stop(&f->client[0]);
    client_stop(&f->client[1]);
    RUN_UNTIL(&f->loop, STATS(f, carriers) == 0);
    expect_stats(f, 1, 0, 0); /* stalled, kept */
    f->client[2] = f->client[1];
    f->client[2].opened = f->client[2].accepts = 0;
    join(f, &f->client[2]);
    expect_stats(f, 1, 1, 0);
    assert_int_equal(fake_first->thaws, 1);
}

/* Two programs with one key file: the older is told, and the newer has a session of its own. */
static void newest_client_of_a_key_takes_the_session(void **state)
{
    struct fixture *f = *state;
    struct wire_open open = client_wish(&f->client[0]);
    open_guests(f);
    join(f, &f->client[0]);
    f->client[1] = f->client[0];
    f->client[1].pump = NULL;
    f->client[1].opened = f->client[1].accepts = 0;
    connect_to(f, &f->client[1]);
    open.run[0]++;
    (void)snprintf(open.name, sizeof open.name, "bob@desk");
    client_send_open(&f->client[1], &open);
    RUN_UNTIL(&f->loop, f->client[1].accepts);
    RUN_UNTIL(&f->loop, f->client[0].closes == 1);
    assert_int_equal(f->client[0].refuse.reason, WIRE_REASON_TAKEN);
    assert_string_equal(f->client[0].refuse.text, "bob@desk");
    assert_int_equal(f->client[1].closes, 0);
}

static void bye_ends_the_session_at_once_on_all_carriers(void **state)
{
    struct fixture *f = *state;
    struct guests_stats stats;
    open_guests(f);
    join(f, &f->client[0]);
    f->client[1] = f->client[0];
    f->client[1].opened = f->client[1].accepts = 0;
    join(f, &f->client[1]);
    client_send_close(&f->client[0], WIRE_REASON_BYE);
    RUN_UNTIL(&f->loop, STATS(f, sessions) == 0);
    RUN_UNTIL(&f->loop, f->client[1].closes == 1);
    assert_int_equal(f->client[1].refuse.reason, WIRE_REASON_BYE);
    RUN_UNTIL(&f->loop, STATS(f, pending) == 0);
}

static void close_of_one_carrier_leaves_the_session(void **state)
{
    struct fixture *f = *state;
    struct guests_stats stats;
    open_guests(f);
    join(f, &f->client[0]);
    client_send_close(&f->client[0], WIRE_REASON_CARRIER);
    RUN_UNTIL(&f->loop, f->client[0].closes == 1); /* after all that was sealed for it */
    assert_int_equal(f->client[0].refuse.reason, WIRE_REASON_CARRIER);
    expect_stats(f, 1, 0, 1);
    client_stop(&f->client[0]);
    RUN_UNTIL(&f->loop, STATS(f, pending) == 0);
    expect_stats(f, 1, 0, 0);
}

static void expect_refusal(struct fixture *f, struct test_client *client, const struct wire_open *open,
                           enum wire_reason reason)
{
    client_send_open(client, open);
    RUN_UNTIL(&f->loop, client->refuses);
    assert_int_equal(client->refuse.reason, reason);
    assert_int_equal(client->accepts, 0);
}

/* Tries keys until one has the address of another: 17 bits of host take a while, so the session is given the address.
 */
static void second_key_with_the_same_address_is_refused(void **state)
{
    struct fixture *f = *state;
    struct wire_open open = client_wish(&f->client[1]);
    open_guests(f);
    join(f, &f->client[0]);
    ((struct guest *)fake_first->context)->session.v4 = f->client[1].v4;
    connect_to(f, &f->client[1]);
    expect_refusal(f, &f->client[1], &open, WIRE_REASON_ADDRESS);
    expect_stats(f, 1, 1, 1);
}

static void foreign_addresses_and_a_changed_mtu_are_refused(void **state)
{
    struct fixture *f = *state;
    struct wire_open open = client_wish(&f->client[0]);
    open_guests(f);
    open.v4 = f->client[1].v4;
    connect_to(f, &f->client[0]);
    expect_refusal(f, &f->client[0], &open, WIRE_REASON_INVALID);
    client_stop(&f->client[0]);

    open = client_wish(&f->client[1]);
    open.v6 = f->client[0].v6;
    connect_to(f, &f->client[1]);
    expect_refusal(f, &f->client[1], &open, WIRE_REASON_INVALID);
    client_stop(&f->client[1]);

    join(f, &f->client[2]);
    client_stop(&f->client[2]);
    open = client_wish(&f->client[2]);
    open.mtu--;
    f->client[2].opened = f->client[2].accepts = 0;
    connect_to(f, &f->client[2]);
    expect_refusal(f, &f->client[2], &open, WIRE_REASON_INVALID);
}

static void wish_for_no_address_is_fine(void **state)
{
    struct fixture *f = *state;
    struct wire_open open = {.mtu = 1500, .name = "nobody"};
    open_guests(f);
    connect_to(f, &f->client[0]);
    client_send_open(&f->client[0], &open);
    RUN_UNTIL(&f->loop, f->client[0].accepts);
}

static void only_keys_on_the_list_may_come(void **state)
{
    struct fixture *f = *state;
    memcpy(f->allowed[0], f->client[1].keys.public_key, WIRE_KEY_SIZE);
    f->guests_setup.allowed_count = 1;
    open_guests(f);
    connect_to(f, &f->client[0]);
    RUN_UNTIL(&f->loop, f->client[0].refuses);
    assert_int_equal(f->client[0].refuse.reason, WIRE_REASON_KEY);
    join(f, &f->client[1]);
    expect_stats(f, 1, 1, 1);
}

static void there_is_room_for_so_many_and_no_more(void **state)
{
    struct fixture *f = *state;
    struct wire_open open;
    struct guests_stats stats;
    open_guests(f);
    while (STATS(f, sessions) < WIRE_SESSIONS_MAX) {
        client_init(&f->client[0], &f->loop);
        open = client_wish(&f->client[0]);
        connect_to(f, &f->client[0]);
        client_send_open(&f->client[0], &open);
        RUN_UNTIL(&f->loop, f->client[0].accepts || f->client[0].refuses); /* two keys may have the same address */
        client_stop(&f->client[0]);
    }
    RUN_UNTIL(&f->loop, STATS(f, carriers) == 0);
    expect_stats(f, WIRE_SESSIONS_MAX, 0, 0);
    open = client_wish(&f->client[1]);
    connect_to(f, &f->client[1]);
    expect_refusal(f, &f->client[1], &open, WIRE_REASON_FULL);
}

/* 200 connections that say nothing; then a client is still served, and the log has an end. */
static void silent_strangers_keep_nobody_out(void **state)
{
    struct fixture *f = *state;
    struct address from = address_v4(0x7f000001);
    int fds[200];
    open_guests(f);
    for (int i = 0; i < 200; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
        guests_take(f->guests, pair[0], &from, 1);
        fds[i] = pair[1];
    }
    expect_stats(f, 0, 0, GUESTS_PENDING_MAX);
    join(f, &f->client[0]);
    expect_stats(f, 1, 1, GUESTS_PENDING_MAX - 1);
    for (int i = 0; i < 200; i++)
        (void)close(fds[i]);
}

static void refusals_do_not_flood_the_log(void **state)
{
    struct fixture *f = *state;
    f->guests_setup.allowed_count = 1; /* a key that nobody has */
    open_guests(f);
    for (int i = 0; i < 50; i++) {
        client_init(&f->client[0], &f->loop);
        connect_to(f, &f->client[0]);
        RUN_UNTIL(&f->loop, f->client[0].refuses);
        client_stop(&f->client[0]);
    }
    assert_int_equal(f->warnings, 10);
}

static void client_of_another_agent_is_turned_away(void **state)
{
    struct fixture *f = *state;
    struct guests_stats stats;
    struct noise_keypair other;
    struct address from = address_v4(0x7f000001);
    int pair[2];
    noise_keypair_generate(&other);
    open_guests(f);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    guests_take(f->guests, pair[0], &from, 1);
    client_start(&f->client[0], pair[1], other.public_key);
    RUN_UNTIL(&f->loop, f->client[0].died && STATS(f, pending) == 0);
    assert_int_equal(f->warnings, 1);
}

static void idle_agent_says_so_once(void **state)
{
    struct fixture *f = *state;
    struct guests_stats stats;
    open_guests(f);
    uint64_t start = uv_now(&f->loop);
    guests_tick(f->guests, start + 29000);
    assert_int_equal(f->idle, 0);
    join(f, &f->client[0]);
    guests_tick(f->guests, start + 10000000);
    assert_int_equal(f->idle, 0); /* a carrier is there */
    client_stop(&f->client[0]);
    RUN_UNTIL(&f->loop, STATS(f, carriers) == 0);
    uint64_t quiet = uv_now(&f->loop);
    guests_tick(f->guests, quiet + 299000);
    assert_int_equal(f->idle, 0);
    guests_tick(f->guests, quiet + 301000);
    guests_tick(f->guests, quiet + 302000);
    assert_int_equal(f->idle, 1);
}

static void a_probe_is_no_client(void **state)
{
    struct fixture *f = *state;
    struct guests_stats stats;
    open_guests(f);
    uint64_t start = uv_now(&f->loop);
    connect_to(f, &f->client[0]);
    client_stop(&f->client[0]);
    RUN_UNTIL(&f->loop, STATS(f, pending) == 0);
    guests_tick(f->guests, start + 31000);
    assert_int_equal(f->idle, 1);
}

static void zero_is_never(void **state)
{
    struct fixture *f = *state;
    f->guests_setup.idle_first_ms = 0;
    open_guests(f);
    guests_tick(f->guests, uv_now(&f->loop) + 1000000000);
    assert_int_equal(f->idle, 0);
}

static void stalled_session_ends_after_its_time(void **state)
{
    struct fixture *f = *state;
    struct guests_stats stats;
    open_guests(f);
    join(f, &f->client[0]);
    client_stop(&f->client[0]);
    RUN_UNTIL(&f->loop, STATS(f, carriers) == 0);
    uint64_t stalled = uv_now(&f->loop);
    guests_tick(f->guests, stalled + WIRE_SESSION_MS - 1000);
    expect_stats(f, 1, 0, 0);
    guests_tick(f->guests, stalled + WIRE_SESSION_MS + 1000);
    expect_stats(f, 0, 0, 0);
}

static void leaving_agent_tells_all(void **state)
{
    struct fixture *f = *state;
    open_guests(f);
    join(f, &f->client[0]);
    join(f, &f->client[1]);
    connect_to(f, &f->client[2]);
    close_guests(f);
    RUN_UNTIL(&f->loop, f->client[0].closes && f->client[1].closes && f->client[2].refuses);
    assert_int_equal(f->client[0].refuse.reason, WIRE_REASON_LEAVING);
    assert_int_equal(f->client[2].refuse.reason, WIRE_REASON_LEAVING);
    assert_int_equal(f->closed, 0);
    for (int i = 0; i < CLIENTS; i++)
        client_stop(&f->client[i]);
    RUN_UNTIL(&f->loop, f->closed);
}

static void leaving_agent_does_not_wait_for_ever(void **state)
{
    struct fixture *f = *state;
    open_guests(f);
    join(f, &f->client[0]);
    pump_pause(f->client[0].pump, true);
    close_guests(f);
    RUN_UNTIL(&f->loop, f->closed);
}

static void every_allocation_fails_once(void **state)
{
    struct fixture *f = *state;
    kt_mem_fail_nth(1);
    assert_int_equal(guests_open(&f->guests, &f->loop, &f->guests_setup), -ENOMEM);
    open_guests(f);
    for (unsigned long nth = 1; nth < 3; nth++) { /* the guest itself, its netstack */
        struct wire_open open = client_wish(&f->client[nth]);
        connect_to(f, &f->client[nth]);
        client_send_open(&f->client[nth], &open);
        kt_mem_fail_nth(nth);
        RUN_UNTIL(&f->loop, f->client[nth].refuses);
        kt_mem_fail_nth(0);
        assert_int_equal(f->client[nth].refuse.reason, WIRE_REASON_FULL);
    }
    expect_stats(f, 0, 0, 2);
    join(f, &f->client[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(clients_have_sessions_of_their_own, setup, teardown),
        cmocka_unit_test_setup_teardown(same_key_finds_its_session_again, setup, teardown),
        cmocka_unit_test_setup_teardown(newest_client_of_a_key_takes_the_session, setup, teardown),
        cmocka_unit_test_setup_teardown(bye_ends_the_session_at_once_on_all_carriers, setup, teardown),
        cmocka_unit_test_setup_teardown(close_of_one_carrier_leaves_the_session, setup, teardown),
        cmocka_unit_test_setup_teardown(second_key_with_the_same_address_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(foreign_addresses_and_a_changed_mtu_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(wish_for_no_address_is_fine, setup, teardown),
        cmocka_unit_test_setup_teardown(only_keys_on_the_list_may_come, setup, teardown),
        cmocka_unit_test_setup_teardown(there_is_room_for_so_many_and_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(silent_strangers_keep_nobody_out, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_do_not_flood_the_log, setup, teardown),
        cmocka_unit_test_setup_teardown(client_of_another_agent_is_turned_away, setup, teardown),
        cmocka_unit_test_setup_teardown(idle_agent_says_so_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_probe_is_no_client, setup, teardown),
        cmocka_unit_test_setup_teardown(zero_is_never, setup, teardown),
        cmocka_unit_test_setup_teardown(stalled_session_ends_after_its_time, setup, teardown),
        cmocka_unit_test_setup_teardown(leaving_agent_tells_all, setup, teardown),
        cmocka_unit_test_setup_teardown(leaving_agent_does_not_wait_for_ever, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_fails_once, setup, teardown),
    };
    return unit_run(tests);
}
