/* The tunnel against an agent on loopback that answers, hangs, freezes, refuses, and comes back. */
#include "client/tunnel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "common/mem.h"
#include "tests/fake/fake_agent.h"
#include "tests/unit/unit.h"

#define PATIENCE_MS 20000
#define SIZE 1000
#define SLACK_MS 300 /* of a busy machine */

/* As the real ones to each other, but short; a carrier asks for no echo within 250 ms of the last. */
static const struct tunnel_times times = {.redial = {.backoff_min_ms = 10,
                                                     .backoff_max_ms = 500,
                                                     .backoff_soon_ms = 100,
                                                     .soon_ms = 60000,
                                                     .retry_ms = 150,
                                                     .try_ms = 300,
                                                     .try_max_ms = 1000},
                                          .path = {.answer_ms = 400, .probe_ms = 260, .tick_max_ms = 300},
                                          .look_ms = 25,
                                          .down_look_ms = 5,
                                          .close_ms = 100,
                                          .age_ms = 3600000};

struct fixture {
    uv_loop_t loop;
    uv_timer_t patience, pulse;
    struct fake_agent agent, other; /* `other` listens only when a test says so */
    struct fake_agent *dialled;
    struct tunnel *tunnel;
    enum tunnel_state state;
    struct error error;
    size_t states[TUNNEL_ENDED + 1], dials, doubts, packets, batches, rooms, answers;
    uint32_t last, answer_id;
    int dial_rc, doubt;
    bool is_in_call, is_closed, closes_when_up, is_late;
    struct address target;
};

static int on_dial(void *context, struct stream **out)
{
    struct fixture *f = context;
    struct address loopback = address_v4(0x7f000001);
    assert_false(f->is_in_call);
    f->dials++;
    return f->dial_rc != 0 ? f->dial_rc : stream_dial_tcp(out, &f->loop, &loopback, f->dialled->port);
}

static void on_closed(void *context)
{
    struct fixture *f = context;
    assert_false(f->is_in_call);
    assert_false(f->is_closed);
    f->is_closed = true;
}

static void close_tunnel(struct fixture *f)
{
    f->is_in_call = true;
    tunnel_close(f->tunnel, on_closed);
    f->is_in_call = false;
}

static void on_state(void *context, enum tunnel_state state, const struct error *error)
{
    struct fixture *f = context;
    assert_false(f->is_in_call);
    assert_false(f->is_closed);
    f->state = state;
    f->states[state]++;
    if (error != NULL)
        f->error = *error;
    if (state == TUNNEL_UP && f->closes_when_up)
        close_tunnel(f);
}

static void on_doubt(void *context, int error)
{
    struct fixture *f = context;
    assert_false(f->is_in_call);
    f->doubts++;
    f->doubt = error;
}

static void on_packet(void *context, uint8_t *packet, size_t size)
{
    struct fixture *f = context;
    assert_int_equal(size, SIZE);
    f->packets++;
    f->last = fake_packet_sequence(packet);
}

static void on_batch(void *context)
{
    ((struct fixture *)context)->batches++;
}

static void on_room(void *context)
{
    struct fixture *f = context;
    assert_false(f->is_in_call);
    f->rooms++;
}

static void on_dns_answer(void *context, uint32_t id, const uint8_t *message, size_t size)
{
    struct fixture *f = context;
    assert_int_equal(size, 8);
    assert_memory_equal(message, "question", 8);
    f->answers++;
    f->answer_id = id;
}

static const struct tunnel_ops ops = {.dial = on_dial,
                                      .on_state = on_state,
                                      .on_doubt = on_doubt,
                                      .on_packet = on_packet,
                                      .on_batch = on_batch,
                                      .on_room = on_room,
                                      .on_dns_answer = on_dns_answer};

static void on_patience(uv_timer_t *timer)
{
    ((struct fixture *)timer->data)->is_late = true;
}

static void on_pulse(uv_timer_t *timer)
{
    (void)timer; /* only wakes the loop, so that a condition on time is looked at */
}

/* Runs the loop until the condition holds. */
#define WAIT(f, condition)                                                 \
    do {                                                                   \
        (f)->is_late = false;                                              \
        (void)uv_timer_start(&(f)->patience, on_patience, PATIENCE_MS, 0); \
        while (!(condition) && !(f)->is_late)                              \
            (void)uv_run(&(f)->loop, UV_RUN_ONCE);                         \
        assert_true(condition);                                            \
    } while (0)

static void set_agent(struct fixture *f, struct fake_agent *agent)
{
    f->is_in_call = true;
    f->dialled = agent;
    tunnel_set_agent(f->tunnel, agent->keys.public_key);
    f->is_in_call = false;
}

static struct fixture *start_with(uint8_t carriers, const struct tunnel_times *start_times)
{
    struct fixture *f = test_calloc(1, sizeof *f);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(uv_timer_init(&f->loop, &f->patience), 0);
    assert_int_equal(uv_timer_init(&f->loop, &f->pulse), 0);
    assert_int_equal(uv_timer_start(&f->pulse, on_pulse, 5, 5), 0);
    f->patience.data = f;
    f->other.fd = -1;
    f->target = address_v4(0x0ade0001);
    fake_agent_start(&f->agent, &f->loop);
    struct tunnel_options options = {.mtu = WIRE_MTU, .name = "user@host", .carriers = carriers, .times = start_times};
    assert_int_equal(tunnel_open(&f->tunnel, &f->loop, &options, &ops, f), 0);
    return f;
}

static struct fixture *start(void)
{
    return start_with(1, &times);
}

static struct fixture *start_up(void)
{
    struct fixture *f = start();
    set_agent(f, &f->agent);
    WAIT(f, f->state == TUNNEL_UP);
    return f;
}

static void stop(struct fixture *f)
{
    if (!f->is_closed) {
        close_tunnel(f);
        WAIT(f, f->is_closed);
    }
    fake_agent_stop(&f->agent);
    fake_agent_stop(&f->other);
    fake_agent_cut(&f->agent);
    fake_agent_cut(&f->other);
    uv_close((uv_handle_t *)&f->patience, NULL);
    uv_close((uv_handle_t *)&f->pulse, NULL);
    assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    test_free(f);
}

static int send_packet(struct fixture *f, uint32_t sequence, size_t size)
{
    static uint8_t packet[WIRE_MTU + 1];
    fake_packet(packet, size, tunnel_v4(f->tunnel), &f->target, sequence);
    struct carrier_part part = {packet, size};
    f->is_in_call = true;
    int rc = tunnel_send(f->tunnel, &part, 1);
    f->is_in_call = false;
    return rc;
}

static void send_packets(struct fixture *f, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        assert_int_equal(send_packet(f, i, SIZE), 0);
    f->is_in_call = true;
    tunnel_flush(f->tunnel);
    f->is_in_call = false;
}

static void expect_all(struct fixture *f, size_t packets)
{
    WAIT(f, f->agent.packets >= packets);
    assert_int_equal(f->agent.packets, packets);
    assert_int_equal(f->agent.duplicates, 0);
    assert_int_equal(f->agent.disorders, 0);
    assert_int_equal(f->agent.bad, 0);
}

static void agent_sends(struct fixture *f, const struct address *target, uint32_t sequence)
{
    uint8_t packet[SIZE];
    fake_packet(packet, sizeof packet, &f->target, target, sequence);
    fake_agent_send(&f->agent, WIRE_PACKET, packet, sizeof packet);
}

/* --- up ----------------------------------------------------------------------------------------------------------- */

static void packets_and_questions_go_both_ways(void **state)
{
    (void)state;
    struct fixture *f = start();
    assert_null(tunnel_accept(f->tunnel));
    assert_int_equal(tunnel_ask_dns(f->tunnel, 7, (const uint8_t *)"question", 8), -ENOTCONN);
    set_agent(f, &f->agent);
    WAIT(f, f->state == TUNNEL_UP);
    assert_int_equal(f->states[TUNNEL_DIALLING], 1);
    assert_int_equal(tunnel_accept(f->tunnel)->mtu, 1234);
    assert_true(address_equal(&f->agent.connection[0].open.v4, tunnel_v4(f->tunnel)));
    assert_string_equal(f->agent.connection[0].open.name, "user@host");
    assert_int_equal(f->agent.connection[0].open.mtu, WIRE_MTU);

    send_packets(f, 0, 2000);
    expect_all(f, 2000);
    agent_sends(f, tunnel_v4(f->tunnel), 42);
    WAIT(f, f->packets == 1 && f->batches >= 1);
    assert_int_equal(f->last, 42);
    assert_int_equal(tunnel_ask_dns(f->tunnel, 7, (const uint8_t *)"question", 8), 0);
    WAIT(f, f->answers == 1);
    assert_int_equal(f->answer_id, 7);

    struct tunnel_info info;
    tunnel_info(f->tunnel, &info);
    assert_int_equal(info.state, TUNNEL_UP);
    assert_int_equal(info.carriers, 1);
    assert_int_equal(info.reconnects, 0);
    assert_true(info.carrier[0].bytes_in > SIZE && info.carrier[0].bytes_out > 2000 * SIZE);
    stop(f);
}

static void packets_for_others_are_dropped(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    agent_sends(f, &f->target, 1);
    agent_sends(f, tunnel_v4(f->tunnel), 2);
    WAIT(f, f->packets > 0);
    assert_int_equal(f->packets, 1);
    assert_int_equal(f->last, 2);
    stop(f);
}

static void bulk_is_held_back_not_lost(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    fake_agent_freeze(&f->agent, true);
    uint32_t n = 0;
    while (send_packet(f, n, WIRE_MTU) == 0)
        n++;
    assert_true(n > WIRE_QUEUE_SIZE / WIRE_MTU / 2);
    assert_int_equal(f->rooms, 0);
    fake_agent_freeze(&f->agent, false);
    WAIT(f, f->rooms > 0);
    assert_int_equal(f->rooms, 1);
    expect_all(f, n);
    assert_int_equal(send_packet(f, n, WIRE_MTU + 1), -EMSGSIZE);
    stop(f);
}

/* --- lost --------------------------------------------------------------------------------------------------------- */

static void a_cut_costs_no_queued_packet(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    send_packets(f, 0, 100);
    expect_all(f, 100);
    fake_agent_stop(&f->agent);
    fake_agent_cut(&f->agent);
    WAIT(f, f->state == TUNNEL_STALLED);
    assert_true(f->error.text[0] != '\0');
    send_packets(f, 100, 1100);
    WAIT(f, f->doubts > 0); /* some tries were refused */
    send_packets(f, 1100, 2100);
    struct tunnel_info info;
    tunnel_info(f->tunnel, &info);
    assert_true(info.queued_bytes >= 2000 * SIZE);
    fake_agent_start(&f->agent, &f->loop);
    WAIT(f, f->state == TUNNEL_UP);
    send_packets(f, 2100, 2200);
    expect_all(f, 2200);
    tunnel_info(f->tunnel, &info);
    assert_int_equal(info.reconnects, 1);
    assert_int_equal(info.queued_bytes, 0);
    stop(f);
}

static void room_comes_back_with_the_carrier(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    fake_agent_stop(&f->agent);
    fake_agent_cut(&f->agent);
    WAIT(f, f->state == TUNNEL_STALLED);
    uint32_t n = 0;
    while (send_packet(f, n, SIZE) == 0)
        n++;
    fake_agent_start(&f->agent, &f->loop);
    WAIT(f, f->rooms > 0);
    expect_all(f, n);
    assert_int_equal(f->rooms, 1);
    stop(f);
}

/* The first try after an outage is at most about a second away. */
static void a_refused_dial_is_tried_again_soon(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    fake_agent_stop(&f->agent);
    fake_agent_cut(&f->agent);
    WAIT(f, f->doubts >= 2); /* six tries: the back-off is at its longest */
    fake_agent_start(&f->agent, &f->loop);
    uint64_t from = uv_now(&f->loop);
    WAIT(f, f->state == TUNNEL_UP);
    assert_true(uv_now(&f->loop) - from < times.redial.backoff_soon_ms * 5 / 4 + SLACK_MS);
    stop(f);
}

/* The next byte out is one after the last byte in: a look was in between. */
static void let_it_look(struct fixture *f)
{
    uint64_t from = uv_now(&f->loop);
    WAIT(f, uv_now(&f->loop) - from > 3 * times.look_ms);
}

static void a_frozen_carrier_is_replaced_by_a_second_one(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    let_it_look(f);
    fake_agent_freeze(&f->agent, true);
    send_packets(f, 0, 1); /* this one is lost with the carrier */
    WAIT(f, f->state == TUNNEL_STALLED);
    send_packets(f, 1, 500); /* these wait */
    WAIT(f, f->state == TUNNEL_UP);
    expect_all(f, 499);
    assert_int_equal(f->agent.accepted, 2);
    fake_agent_freeze(&f->agent, false);
    WAIT(f, f->agent.closes == 1); /* the old one got its CLOSE after the new one had its ACCEPT */
    assert_int_equal(f->agent.last_close, WIRE_REASON_CARRIER);
    assert_int_equal(f->agent.packets, 500);
    stop(f);
}

static void a_slow_carrier_comes_back_as_it_was(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    let_it_look(f);
    f->agent.is_hanging = true;
    fake_agent_freeze(&f->agent, true);
    send_packets(f, 0, 1);
    WAIT(f, f->state == TUNNEL_STALLED);
    send_packets(f, 1, 500);
    WAIT(f, f->agent.connections >= 2);
    fake_agent_freeze(&f->agent, false);
    WAIT(f, f->state == TUNNEL_UP);
    expect_all(f, 500);
    struct tunnel_info info;
    tunnel_info(f->tunnel, &info);
    assert_int_equal(info.reconnects, 0);
    assert_int_equal(f->agent.accepted, 1);
    stop(f);
}

static void an_idle_carrier_is_not_suspected(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    uint64_t from = uv_now(&f->loop);
    WAIT(f, uv_now(&f->loop) - from > 2 * times.path.answer_ms);
    assert_int_equal(f->states[TUNNEL_STALLED], 0);
    assert_int_equal(f->dials, 1);
    stop(f);
}

static void a_try_that_hangs_gets_company(void **state)
{
    (void)state;
    struct fixture *f = start();
    f->agent.is_hanging = true;
    set_agent(f, &f->agent);
    WAIT(f, f->agent.connections == 2);
    assert_int_equal(f->states[TUNNEL_DIALLING], 1); /* none has failed yet */
    f->agent.is_hanging = false;
    uint64_t from = uv_now(&f->loop);
    WAIT(f, f->state == TUNNEL_UP);
    assert_true(uv_now(&f->loop) - from < times.redial.retry_ms * 5 / 4 + SLACK_MS);
    stop(f);
}

static void an_open_without_answer_is_a_failed_try(void **state)
{
    (void)state;
    struct fixture *f = start();
    f->agent.is_mute_on_open = true;
    set_agent(f, &f->agent);
    WAIT(f, f->states[TUNNEL_DIALLING] >= 2);
    assert_int_equal(f->error.code, EXIT_CODE_UNREACHABLE);
    f->agent.is_mute_on_open = false;
    WAIT(f, f->state == TUNNEL_UP);
    stop(f);
}

/* --- several carriers --------------------------------------------------------------------------------------------- */

static size_t used(const struct fixture *f)
{
    struct tunnel_info info;
    size_t count = 0;
    tunnel_info(f->tunnel, &info);
    for (size_t i = 0; i < info.carriers; i++)
        count += info.carrier[i].is_used;
    return count;
}

static struct fixture *start_three(const struct tunnel_times *start_times)
{
    struct fixture *f = start_with(3, start_times);
    set_agent(f, &f->agent);
    WAIT(f, used(f) == 3);
    return f;
}

/* A flow for each sequence. */
static void send_flows(struct fixture *f, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        f->target = address_v4(0x0ade0000 + i);
        send_packets(f, i, i + 1);
    }
}

static void the_first_carrier_is_enough_and_the_others_follow(void **state)
{
    (void)state;
    struct fixture *f = start_with(3, &times);
    set_agent(f, &f->agent);
    WAIT(f, f->state == TUNNEL_UP);
    assert_int_equal(f->agent.accepted, 1);
    WAIT(f, used(f) == 3);
    assert_int_equal(f->states[TUNNEL_UP], 1);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(f->agent.connection[i].open.slot, i);
    send_flows(f, 0, 300);
    WAIT(f, f->agent.packets == 300);
    for (size_t i = 0; i < 3; i++)
        assert_true(f->agent.connection[i].carrier.records_in > 50);
    uint64_t from = uv_now(&f->loop);
    WAIT(f, uv_now(&f->loop) - from > 5 * times.redial.retry_ms);
    assert_int_equal(f->dials, 3);
    stop(f);
}

static void one_of_three_that_is_cut_holds_nobody(void **state)
{
    (void)state;
    struct fixture *f = start_three(&times);
    f->agent.is_hanging = true; /* no other one for now */
    fake_agent_cut_one(&f->agent, 1);
    WAIT(f, used(f) == 2);
    size_t before = f->agent.packets;
    send_flows(f, 0, 300);
    WAIT(f, f->agent.packets == before + 300);
    assert_int_equal(f->states[TUNNEL_STALLED], 0);
    WAIT(f, f->agent.use.slots == 5);
    f->agent.is_hanging = false;
    WAIT(f, used(f) == 3 && f->agent.use.slots == 7);
    assert_true(f->agent.connection[f->agent.connections - 1].open.is_lost);
    assert_int_equal(f->doubts, 0); /* while others answer nobody asks for the pod */
    stop(f);
}

static void one_of_three_that_is_silent_holds_nobody(void **state)
{
    (void)state;
    struct fixture *f = start_three(&times);
    let_it_look(f);
    pump_pause(f->agent.connection[2].pump, true);
    for (uint32_t i = 0; f->agent.use.slots != 3; i++) {
        send_flows(f, i % 300, i % 300 + 1);
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    }
    assert_int_equal(f->states[TUNNEL_STALLED], 0);
    WAIT(f, used(f) == 3);
    assert_int_equal(f->agent.accepted, 4);
    assert_int_equal(f->agent.connection[3].open.slot, 2);
    assert_true(f->agent.connection[3].open.is_lost);
    pump_pause(f->agent.connection[2].pump, false);
    WAIT(f, f->agent.last_close == WIRE_REASON_CARRIER);
    stop(f);
}

/* The new one has its ACCEPT before the old one hears of its end, and no packet is lost or sent twice. */
static void old_carriers_are_replaced_before_they_end(void **state)
{
    (void)state;
    static struct tunnel_times short_life;
    short_life = times;
    short_life.age_ms = 200;
    struct fixture *f = start_with(2, &short_life);
    set_agent(f, &f->agent);
    WAIT(f, used(f) == 2);
    uint32_t sent = 0;
    while (f->agent.closes < 6) {
        send_flows(f, sent, sent + 1);
        sent++;
        assert_true(used(f) == 2);
        (void)uv_run(&f->loop, UV_RUN_ONCE);
        assert_true(f->agent.connections < FAKE_AGENT_CONNECTIONS - 2 && sent < FAKE_AGENT_SEQUENCES);
    }
    WAIT(f, f->agent.packets >= sent);
    assert_int_equal(f->agent.packets, sent);
    assert_int_equal(f->agent.duplicates, 0);
    assert_int_equal(f->agent.last_close, WIRE_REASON_CARRIER);
    assert_false(f->agent.connection[3].open.is_lost);
    assert_int_equal(f->states[TUNNEL_STALLED], 0);
    struct tunnel_info info;
    tunnel_info(f->tunnel, &info);
    assert_int_equal(info.reconnects, 0);
    stop(f);
}

static void an_old_carrier_stays_while_no_other_can_be_had(void **state)
{
    (void)state;
    static struct tunnel_times short_life;
    short_life = times;
    short_life.age_ms = 100;
    struct fixture *f = start_with(1, &short_life);
    set_agent(f, &f->agent);
    WAIT(f, f->state == TUNNEL_UP);
    f->agent.is_mute_on_open = true;
    size_t before = f->agent.connections;
    WAIT(f, f->agent.connections >= before + 3);
    send_packets(f, 0, 100);
    expect_all(f, 100);
    assert_int_equal(f->states[TUNNEL_STALLED], 0);
    assert_int_equal(f->doubts, 0);
    stop(f);
}

/* --- doubt -------------------------------------------------------------------------------------------------------- */

static void another_agents_key_is_doubted_at_once(void **state)
{
    (void)state;
    struct fixture *f = start();
    struct fake_agent stranger = {.port = f->agent.port};
    noise_keypair_generate(&stranger.keys);
    set_agent(f, &stranger);
    WAIT(f, f->doubts > 0);
    assert_int_equal(f->dials, 1);
    set_agent(f, &f->agent);
    WAIT(f, f->state == TUNNEL_UP);
    stop(f);
}

static void a_dial_that_fails_is_doubted_after_two(void **state)
{
    (void)state;
    struct fixture *f = start();
    f->dial_rc = -ENOTCONN;
    set_agent(f, &f->agent);
    WAIT(f, f->doubts == 1);
    assert_int_equal(f->dials, REDIAL_CHECK_TRIES);
    WAIT(f, f->doubts == 2);
    f->dial_rc = 0;
    WAIT(f, f->state == TUNNEL_UP);
    stop(f);
}

static void a_new_agent_is_used_at_once(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    fake_agent_start(&f->other, &f->loop);
    set_agent(f, &f->other);
    WAIT(f, f->other.accepted == 1 && f->state == TUNNEL_UP);
    assert_int_equal(f->states[TUNNEL_STALLED], 1);
    WAIT(f, fake_agent_live(&f->agent) == 0);
    set_agent(f, &f->other); /* the same again changes nothing */
    send_packets(f, 0, 10);
    WAIT(f, f->other.packets == 10);
    assert_int_equal(f->other.accepted, 1);
    stop(f);
}

/* --- refused ------------------------------------------------------------------------------------------------------ */

static void expect_refusal(int reason, const char *words)
{
    struct fixture *f = start();
    f->agent.refuse = reason;
    f->agent.refuse_times = 100;
    set_agent(f, &f->agent);
    WAIT(f, f->state == TUNNEL_ENDED);
    assert_non_null(strstr(f->error.text, words));
    assert_non_null(strstr(f->error.text, "because"));
    assert_int_equal(f->error.code, EXIT_CODE_AGENT);
    set_agent(f, &f->agent); /* too late */
    stop(f);
}

static void refusals_end_the_session(void **state)
{
    (void)state;
    expect_refusal(WIRE_REASON_KEY, "allowed keys");
    expect_refusal(WIRE_REASON_VERSION, "version");
    expect_refusal(WIRE_REASON_FULL, "no room");
    expect_refusal(WIRE_REASON_INVALID, "invalid");
    expect_refusal(WIRE_REASON_ADDRESS, "address");
}

static void a_taken_address_makes_a_new_key(void **state)
{
    (void)state;
    struct fixture *f = start();
    struct address before = *tunnel_v4(f->tunnel);
    f->agent.refuse = WIRE_REASON_ADDRESS;
    f->agent.refuse_times = 2;
    set_agent(f, &f->agent);
    WAIT(f, f->state == TUNNEL_UP);
    assert_false(address_equal(&before, tunnel_v4(f->tunnel)));
    assert_true(address_equal(&f->agent.connection[2].open.v4, tunnel_v4(f->tunnel)));
    stop(f);
}

static void a_full_agent_is_tried_again_by_those_who_were_in(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    f->agent.refuse = WIRE_REASON_FULL;
    f->agent.refuse_times = 2;
    fake_agent_cut(&f->agent);
    WAIT(f, f->states[TUNNEL_UP] == 2);
    assert_int_equal(f->agent.refuse_times, 0);
    stop(f);
}

static void a_leaving_agent_is_doubted(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    fake_agent_say_close(&f->agent, WIRE_REASON_LEAVING);
    WAIT(f, f->doubts == 1);
    assert_int_equal(f->state, TUNNEL_STALLED);
    assert_non_null(strstr(f->error.text, "leaving"));
    WAIT(f, f->state == TUNNEL_UP);
    fake_agent_say_close(&f->agent, WIRE_REASON_CARRIER);
    WAIT(f, f->states[TUNNEL_UP] == 3);
    assert_int_equal(f->doubts, 1);
    fake_agent_say_close(&f->agent, WIRE_REASON_BYE);
    WAIT(f, f->state == TUNNEL_ENDED);
    stop(f);
}

static void an_agent_of_another_version_ends_it(void **state)
{
    (void)state;
    struct fixture *f = start();
    f->agent.has_odd_hello = true;
    set_agent(f, &f->agent);
    WAIT(f, f->state == TUNNEL_ENDED);
    assert_non_null(strstr(f->error.text, "version"));
    stop(f);
}

static void a_record_that_makes_no_sense_costs_the_carrier(void **state)
{
    (void)state;
    static const enum wire_type types[] = {WIRE_OPEN, WIRE_ACCEPT, WIRE_DNS_QUERY, WIRE_DNS_ANSWER, WIRE_CLOSE};
    struct fixture *f = start_up();
    for (size_t i = 0; i < KT_ARRAY_LEN(types); i++) {
        fake_agent_send(&f->agent, types[i], "ab", 2);
        WAIT(f, f->states[TUNNEL_UP] == i + 2);
    }
    stop(f);
}

/* --- close -------------------------------------------------------------------------------------------------------- */

static void close_says_bye_after_what_waits(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    send_packets(f, 0, 50);
    close_tunnel(f);
    WAIT(f, f->is_closed && f->agent.closes == 1);
    assert_int_equal(f->agent.last_close, WIRE_REASON_BYE);
    assert_int_equal(f->agent.packets, 50);
    stop(f);
}

static void close_does_not_wait_for_a_frozen_agent(void **state)
{
    (void)state;
    struct fixture *f = start_up();
    fake_agent_freeze(&f->agent, true);
    while (send_packet(f, 0, WIRE_MTU) == 0)
        tunnel_flush(f->tunnel);
    uint64_t from = uv_now(&f->loop);
    close_tunnel(f);
    WAIT(f, f->is_closed);
    assert_true(uv_now(&f->loop) - from < times.close_ms + SLACK_MS);
    stop(f);
}

static void close_is_fine_in_every_state(void **state)
{
    (void)state;
    struct fixture *f = start(); /* idle */
    stop(f);
    f = start(); /* before the first dial */
    set_agent(f, &f->agent);
    stop(f);
    f = start(); /* while it dials, and nothing comes */
    f->agent.is_hanging = true;
    set_agent(f, &f->agent);
    WAIT(f, f->agent.connections == 2);
    stop(f);
    f = start(); /* in the callback that says that it is up */
    f->closes_when_up = true;
    set_agent(f, &f->agent);
    WAIT(f, f->is_closed);
    stop(f);
    f = start_up(); /* stalled */
    fake_agent_stop(&f->agent);
    fake_agent_cut(&f->agent);
    WAIT(f, f->state == TUNNEL_STALLED);
    stop(f);
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    for (unsigned long nth = 1; nth <= 2; nth++) {
        struct tunnel *tunnel;
        uv_loop_t loop;
        struct tunnel_options options = {.mtu = WIRE_MTU, .name = "x"};
        assert_int_equal(uv_loop_init(&loop), 0);
        kt_mem_fail_nth(nth);
        assert_int_equal(tunnel_open(&tunnel, &loop, &options, &ops, NULL), -ENOMEM);
        assert_int_equal(uv_loop_close(&loop), 0);
        assert_int_equal(kt_mem_live(), 0);
    }
    for (unsigned long nth = 1; nth <= 10; nth++) { /* of the client's or the agent's: the next try mends it */
        struct fixture *f = start();
        kt_mem_fail_nth(nth);
        set_agent(f, &f->agent);
        WAIT(f, f->state == TUNNEL_UP);
        kt_mem_fail_nth(0);
        stop(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_and_questions_go_both_ways),
        cmocka_unit_test(packets_for_others_are_dropped),
        cmocka_unit_test(bulk_is_held_back_not_lost),
        cmocka_unit_test(a_cut_costs_no_queued_packet),
        cmocka_unit_test(room_comes_back_with_the_carrier),
        cmocka_unit_test(a_refused_dial_is_tried_again_soon),
        cmocka_unit_test(a_frozen_carrier_is_replaced_by_a_second_one),
        cmocka_unit_test(a_slow_carrier_comes_back_as_it_was),
        cmocka_unit_test(an_idle_carrier_is_not_suspected),
        cmocka_unit_test(a_try_that_hangs_gets_company),
        cmocka_unit_test(an_open_without_answer_is_a_failed_try),
        cmocka_unit_test(the_first_carrier_is_enough_and_the_others_follow),
        cmocka_unit_test(one_of_three_that_is_cut_holds_nobody),
        cmocka_unit_test(one_of_three_that_is_silent_holds_nobody),
        cmocka_unit_test(old_carriers_are_replaced_before_they_end),
        cmocka_unit_test(an_old_carrier_stays_while_no_other_can_be_had),
        cmocka_unit_test(another_agents_key_is_doubted_at_once),
        cmocka_unit_test(a_dial_that_fails_is_doubted_after_two),
        cmocka_unit_test(a_new_agent_is_used_at_once),
        cmocka_unit_test(refusals_end_the_session),
        cmocka_unit_test(a_taken_address_makes_a_new_key),
        cmocka_unit_test(a_full_agent_is_tried_again_by_those_who_were_in),
        cmocka_unit_test(a_leaving_agent_is_doubted),
        cmocka_unit_test(an_agent_of_another_version_ends_it),
        cmocka_unit_test(a_record_that_makes_no_sense_costs_the_carrier),
        cmocka_unit_test(close_says_bye_after_what_waits),
        cmocka_unit_test(close_does_not_wait_for_a_frozen_agent),
        cmocka_unit_test(close_is_fine_in_every_state),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return unit_run(tests);
}
