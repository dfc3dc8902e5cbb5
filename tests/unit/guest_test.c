/* One session of the agent between real carriers and a netstack that the test moves. */
#include "agent/guest.h"

#include <errno.h>
#include <netinet/in.h>

#include "common/dns.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/resolvconf.h"
#include "tests/unit/fake_netstack.h"
#include "tests/unit/test_client.h"

#define CARRIERS 10

struct fixture {
    uv_loop_t loop;
    struct noise_keypair keys;
    struct resolver *resolver;
    struct test_client client[CARRIERS]; /* carriers of the same client */
    struct peer *peer[CARRIERS];
    struct guest *guest;
    int gone;
};

static void on_request(void *context, struct peer *peer, const struct wire_open *open)
{
    struct fixture *f = context;
    struct wire_accept accept = {.mtu = WIRE_MTU};
    if (f->guest == NULL)
        assert_int_equal(guest_open(&f->guest, &f->loop, 1, peer->carrier.peer, open, f->resolver), 0);
    peer_accept(peer, &accept);
    guest_join(f->guest, peer, open);
}

static void on_key(void *context KT_UNUSED, struct peer *peer KT_UNUSED)
{
}

static void on_packet(void *context KT_UNUSED, struct peer *peer, const uint8_t *packet, size_t size)
{
    guest_input(peer->session, packet, size);
}

static void on_batch(void *context KT_UNUSED, struct peer *peer)
{
    guest_input_done(peer->session);
}

static void on_room(void *context KT_UNUSED, struct peer *peer)
{
    guest_resume(peer->session, peer);
}

static void on_question(void *context KT_UNUSED, struct peer *peer, uint32_t id, const uint8_t *message, size_t size)
{
    guest_ask(peer->session, id, message, size);
}

static void on_bye(void *context KT_UNUSED, struct peer *peer KT_UNUSED, enum wire_reason reason KT_UNUSED)
{
}

static void on_gone(void *context, struct peer *peer, int error KT_UNUSED)
{
    struct fixture *f = context;
    f->gone++;
    guest_part(f->guest, peer);
    for (int i = 0; i < CARRIERS; i++) {
        if (f->peer[i] == peer)
            f->peer[i] = NULL;
    }
    peer_close(peer);
}

static void on_use(void *context KT_UNUSED, struct peer *peer, const struct wire_use *use)
{
    guest_use(peer->session, use);
}

static const struct peer_ops ops = {on_key,      on_request, on_packet, on_batch, on_room,
                                    on_question, on_use,     on_bye,    on_gone};

static void quiet(void *context KT_UNUSED, enum log_level level KT_UNUSED, const char *line KT_UNUSED)
{
}

/* Nothing listens there: a bound socket, so that nobody else can. */
static uint16_t dead_port(int *fd)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(getsockname(*fd, (struct sockaddr *)&in, &size), 0);
    return ntohs(in.sin_port);
}

static int setup(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    struct fixture *f = &fixture;
    struct resolvconf conf = {.servers = 1};
    int fd;
    conf.server[0] = address_v4(0x7f000001);
    log_open(quiet, NULL, LOG_LEVEL_DEBUG);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    noise_keypair_generate(&f->keys);
    assert_int_equal(resolver_open(&f->resolver, &f->loop, &conf, dead_port(&fd)), 0);
    (void)close(fd); /* its UDP twin was never open */
    client_init(&f->client[0], &f->loop);
    for (int i = 1; i < CARRIERS; i++)
        f->client[i] = f->client[0];
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < CARRIERS; i++) {
        if (f->peer[i] != NULL) {
            guest_part(f->guest, f->peer[i]);
            peer_close(f->peer[i]);
        }
        client_stop(&f->client[i]);
    }
    if (f->guest != NULL)
        guest_close(f->guest);
    resolver_close(f->resolver);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    assert_null(fake_first);
    return 0;
}

static void join_slot(struct fixture *f, int i, uint8_t slot, bool is_lost)
{
    int pair[2];
    struct test_client *client = &f->client[i];
    struct wire_open open = client_wish(client);
    open.slot = slot;
    open.is_lost = is_lost;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    struct peer_setup peer_setup = {
        .id = (unsigned)i + 1, .keys = &f->keys, .from = address_v4(1), .ops = &ops, .context = f};
    assert_int_equal(peer_open(&f->peer[i], &f->loop, pair[0], &peer_setup), 0);
    client_start(client, pair[1], f->keys.public_key);
    RUN_UNTIL(&f->loop, client->opened);
    client_send_open(client, &open);
    RUN_UNTIL(&f->loop, client->accepts);
}

static void join(struct fixture *f, int i)
{
    join_slot(f, i, 0, true);
}

/* One packet of each of 64 flows. */
static void put_out_flows(void)
{
    uint8_t packet[100] = {0};
    struct address here = address_v4(0x0a000001);
    for (uint8_t i = 0; i < 64; i++) {
        struct address there = address_v4(0xc6120000u + i);
        struct carrier_part part = {packet, fake_packet(packet, sizeof packet, &here, &there)};
        assert_int_equal(fake_first->ops.output(fake_first->context, &part, 1), 0);
    }
}

static void use_slots(struct fixture *f, int i, uint32_t sequence, uint8_t slots)
{
    uint8_t body[16];
    struct wire_use use = {sequence, slots};
    int size = wire_put_use(body, sizeof body, &use);
    assert_true(size > 0);
    client_send(&f->client[i], WIRE_USE, body, (size_t)size);
}

static void put_out(struct fixture *f, size_t count)
{
    (void)f;
    fake_first->to_put_out = count;
    fake_put_out(fake_first);
}

static void own_packets_pass_and_foreign_ones_do_not(void **state)
{
    struct fixture *f = *state;
    join(f, 0);
    uint8_t packet[100];
    struct address there = address_v4(0x0a000001), foreign = address_v4(0xc6120003), zero = address_v4(0);
    client_send(&f->client[0], WIRE_PACKET, packet, fake_packet(packet, sizeof packet, &foreign, &there));
    client_send(&f->client[0], WIRE_PACKET, packet, fake_packet(packet, sizeof packet, &zero, &there));
    client_send(&f->client[0], WIRE_PACKET, packet, 10);
    client_send(&f->client[0], WIRE_PACKET, NULL, 0);
    client_send(&f->client[0], WIRE_PACKET, packet, fake_packet(packet, sizeof packet, &f->client[0].v4, &there));
    RUN_UNTIL(&f->loop, fake_first->inputs);
    assert_int_equal(fake_first->inputs, 1);
    assert_int_equal(f->guest->foreign, 4);
    assert_true(fake_first->batches > 0);
    assert_int_equal(fake_first->mtu, WIRE_MTU);
}

static void output_goes_out_without_being_asked_to(void **state)
{
    struct fixture *f = *state;
    join(f, 0);
    for (int i = 0; i < 5; i++)
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    put_out(f, 1);
    for (int i = 0; i < 5; i++) /* in the next turns, not when some timer is due */
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_int_equal(f->client[0].packets, 1);
}

static void more_than_fits_waits_and_goes_on(void **state)
{
    struct fixture *f = *state;
    join(f, 0);
    pump_pause(f->client[0].pump, true);
    put_out(f, 200);
    for (int i = 0; i < 20; i++)
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    size_t waiting = fake_first->to_put_out;
    assert_true(waiting > 0); /* 6 MB do not pile up anywhere */
    pump_pause(f->client[0].pump, false);
    RUN_UNTIL(&f->loop, f->client[0].packets == 200);
    assert_int_equal(fake_first->to_put_out, 0);
}

static void newest_carrier_sends_and_the_older_ones_are_read(void **state)
{
    struct fixture *f = *state;
    uint8_t packet[100];
    struct address there = address_v4(0x0a000001);
    join(f, 0);
    join(f, 1);
    assert_int_equal(fake_first->resends, 1); /* the switch: what was in the old socket is sent again */
    assert_true(fake_first->was_lost);
    assert_int_equal(fake_first->freezes, 0);
    assert_false(fake_first->is_frozen);
    put_out(f, 3);
    client_send(&f->client[0], WIRE_PACKET, packet, fake_packet(packet, sizeof packet, &f->client[0].v4, &there));
    RUN_UNTIL(&f->loop, f->client[1].packets == 3 && fake_first->inputs == 1);
    assert_int_equal(f->client[0].packets, 0);
    assert_int_equal(f->guest->session.state, SESSION_UP);
    assert_int_equal(f->guest->session.link.carriers, 1);

    client_stop(&f->client[0]); /* an old one ends: nothing changes */
    RUN_UNTIL(&f->loop, f->gone == 1);
    assert_int_equal(fake_first->resends, 1);
    assert_int_equal(fake_first->freezes, 0);
    put_out(f, 1);
    RUN_UNTIL(&f->loop, f->client[1].packets == 4);
}

static void older_one_takes_over_when_the_newest_ends(void **state)
{
    struct fixture *f = *state;
    join(f, 0);
    join(f, 1);
    client_stop(&f->client[1]);
    RUN_UNTIL(&f->loop, f->gone == 1);
    assert_int_equal(fake_first->thaws, 1);
    assert_int_equal(f->guest->session.state, SESSION_UP);
    put_out(f, 2);
    RUN_UNTIL(&f->loop, f->client[0].packets == 2);
}

static void an_old_carrier_that_is_replaced_is_not_lost(void **state)
{
    struct fixture *f = *state;
    join(f, 0);
    join_slot(f, 1, 0, false);
    assert_int_equal(fake_first->resends, 0);
    assert_int_equal(f->guest->session.link.carriers, 1);
    put_out(f, 2);
    RUN_UNTIL(&f->loop, f->client[1].packets == 2);
}

static void flows_are_spread_over_the_slots_and_move_when_one_is_lost(void **state)
{
    struct fixture *f = *state;
    join(f, 0);
    join_slot(f, 1, 1, true);
    assert_int_equal(f->guest->session.link.carriers, 2);
    assert_int_equal(fake_first->resends, 0);
    put_out_flows();
    RUN_UNTIL(&f->loop, f->client[0].packets + f->client[1].packets == 64);
    assert_in_range(f->client[0].packets, 10, 54);
    int on_other = f->client[1].packets;

    int lost = 0; /* exactly the flows that were on it are sent again */
    for (uint8_t i = 0; i < 64; i++) {
        fake_first->flow = (struct netstack_flow){
            .protocol = NETSTACK_UDP, .source = address_v4(0xc6120000u + i), .target = address_v4(0x0a000001)};
        use_slots(f, 0, 2u * i + 1, 1);
        RUN_UNTIL(&f->loop, f->guest->session.link.carriers == 1);
        lost += fake_first->was_lost;
        use_slots(f, 0, 2u * i + 2, 3);
        RUN_UNTIL(&f->loop, f->guest->session.link.carriers == 2);
    }
    assert_int_equal(lost, on_other);
    assert_int_equal(fake_first->resends, 64);

    client_stop(&f->client[1]);
    RUN_UNTIL(&f->loop, f->gone == 1);
    assert_int_equal(fake_first->resends, 65);
    assert_int_equal(fake_first->freezes, 0);
    f->client[0].packets = 0;
    put_out_flows();
    RUN_UNTIL(&f->loop, f->client[0].packets == 64);
}

static void what_is_used_is_the_clients_last_word(void **state)
{
    struct fixture *f = *state;
    join(f, 0);
    join_slot(f, 1, 1, true);
    use_slots(f, 0, 5, 2);
    use_slots(f, 0, 4, 1); /* overtaken by the one before */
    use_slots(f, 0, 6, 4); /* nothing is there: better what was than nothing */
    put_out(f, 3);
    RUN_UNTIL(&f->loop, f->peer[0]->carrier.records_in == 4);
    put_out_flows();
    RUN_UNTIL(&f->loop, f->client[1].packets >= 64);
    use_slots(f, 1, 7, 1); /* there and back, by the carrier that is given up */
    RUN_UNTIL(&f->loop, f->client[0].packets >= 0 && f->peer[1]->carrier.records_in == 2);
    f->client[0].packets = 0;
    put_out_flows();
    RUN_UNTIL(&f->loop, f->client[0].packets == 64);
}

static void without_carrier_everything_stands_still_until_the_next(void **state)
{
    struct fixture *f = *state;
    join(f, 0);
    put_out(f, 1);
    client_stop(&f->client[0]);
    RUN_UNTIL(&f->loop, f->gone == 1);
    assert_true(fake_first->is_frozen);
    assert_int_equal(f->guest->session.state, SESSION_STALLED);
    put_out(f, 5);
    assert_int_equal(fake_first->to_put_out, 5);
    join(f, 1);
    assert_false(fake_first->is_frozen);
    RUN_UNTIL(&f->loop, f->client[1].packets == 5);
    assert_int_equal(f->guest->session.state, SESSION_UP);
}

static void oldest_leaves_when_there_are_too_many(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < WIRE_CARRIERS_MAX + 1; i++)
        join(f, i);
    assert_int_equal(f->guest->peers, WIRE_CARRIERS_MAX);
    RUN_UNTIL(&f->loop, f->client[0].closes);
    assert_int_equal(f->client[0].refuse.reason, WIRE_REASON_CARRIER);
    put_out(f, 1);
    RUN_UNTIL(&f->loop, f->client[WIRE_CARRIERS_MAX].packets == 1);
    assert_int_equal(f->client[1].closes, 0);
}

static void questions_without_an_answer_are_answered_empty(void **state)
{
    struct fixture *f = *state;
    uint8_t query[512];
    int size = dns_put_query(query, sizeof query, 1, "a.test", DNS_A, 0);
    join(f, 0);
    client_ask(&f->client[0], 5, query, (size_t)size); /* no server there */
    RUN_UNTIL(&f->loop, f->client[0].answers == 1);
    assert_int_equal(f->client[0].answer_id, 5);
    assert_int_equal(f->client[0].answer_size, 0);
    client_ask(&f->client[0], 6, "nonsense", 8);
    RUN_UNTIL(&f->loop, f->client[0].answers == 2);
    assert_int_equal(f->client[0].answer_id, 6);
    client_ask(&f->client[0], 7, query, (size_t)size); /* and the session ends before its answer */
    RUN_UNTIL(&f->loop, f->client[0].carrier.records_out == 4 && f->peer[0]->carrier.records_in == 4);
}

static void policy_is_asked(void **state)
{
    struct fixture *f = *state;
    join(f, 0);
    struct netstack_flow flow = {.protocol = NETSTACK_TCP, .target = address_v4(0x7f000001), .target_port = 4789};
    struct netstack_route route = {.address = flow.target};
    assert_int_equal(fake_first->ops.route(fake_first->context, &flow, &route), NETSTACK_REFUSE);
    flow.target = address_v4(0x0a000001);
    assert_int_equal(fake_first->ops.route(fake_first->context, &flow, &route), NETSTACK_DIAL);
}

static void every_allocation_fails_once(void **state)
{
    struct fixture *f = *state;
    struct wire_open open = client_wish(&f->client[0]);
    unsigned long nth = 0;
    int rc = -ENOMEM;
    while (rc != 0) {
        long live = kt_mem_live();
        kt_mem_fail_nth(++nth);
        rc = guest_open(&f->guest, &f->loop, 1, f->client[0].keys.public_key, &open, f->resolver);
        kt_mem_fail_nth(0);
        if (rc != 0) {
            assert_int_equal(rc, -ENOMEM);
            assert_int_equal(kt_mem_live(), live);
        }
    }
    assert_true(nth > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(own_packets_pass_and_foreign_ones_do_not, setup, teardown),
        cmocka_unit_test_setup_teardown(output_goes_out_without_being_asked_to, setup, teardown),
        cmocka_unit_test_setup_teardown(more_than_fits_waits_and_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(newest_carrier_sends_and_the_older_ones_are_read, setup, teardown),
        cmocka_unit_test_setup_teardown(an_old_carrier_that_is_replaced_is_not_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(flows_are_spread_over_the_slots_and_move_when_one_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_used_is_the_clients_last_word, setup, teardown),
        cmocka_unit_test_setup_teardown(older_one_takes_over_when_the_newest_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(without_carrier_everything_stands_still_until_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(oldest_leaves_when_there_are_too_many, setup, teardown),
        cmocka_unit_test_setup_teardown(questions_without_an_answer_are_answered_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(policy_is_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_fails_once, setup, teardown),
    };
    return unit_run(tests);
}
