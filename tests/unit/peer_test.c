/* One carrier of the agent, with a real client on the other end of a socket pair. */
#include "agent/peer.h"

#include <errno.h>

#include "common/log.h"
#include "common/mem.h"
#include "tests/unit/test_client.h"

struct fixture {
    uv_loop_t loop;
    struct noise_keypair keys;
    struct test_client client;
    struct peer *peer;
    int keyed, requests, packets, batches, rooms, questions, byes, gone, error;
    struct wire_open open;
    uint32_t question_id;
    size_t question_size;
    enum wire_reason bye;
    bool accepts, refuses, closes_on_packet, closes_on_request;
    int info_lines;
    uint8_t slots;
};

static void shut(struct fixture *f)
{
    if (f->peer == NULL)
        return;
    peer_close(f->peer);
    f->peer = NULL;
}

static void on_key(void *context, struct peer *peer)
{
    struct fixture *f = context;
    f->keyed++;
    assert_memory_equal(peer->carrier.peer, f->client.keys.public_key, WIRE_KEY_SIZE);
}

static void on_request(void *context, struct peer *peer, const struct wire_open *open)
{
    struct fixture *f = context;
    f->requests++;
    f->open = *open;
    struct wire_accept accept = {.mtu = WIRE_MTU, .idle_ms = 5};
    if (f->accepts)
        peer_accept(peer, &accept);
    if (f->refuses)
        peer_leave(peer, WIRE_REASON_FULL, "full up");
    if (f->closes_on_request)
        shut(f);
}

static void on_packet(void *context, struct peer *peer KT_UNUSED, const uint8_t *packet KT_UNUSED,
                      size_t size KT_UNUSED)
{
    struct fixture *f = context;
    f->packets++;
    if (f->closes_on_packet)
        shut(f);
}

static void on_batch(void *context, struct peer *peer KT_UNUSED)
{
    ((struct fixture *)context)->batches++;
}

static void on_room(void *context, struct peer *peer KT_UNUSED)
{
    ((struct fixture *)context)->rooms++;
}

static void on_question(void *context, struct peer *peer, uint32_t id, const uint8_t *message, size_t size)
{
    struct fixture *f = context;
    f->questions++;
    f->question_id = id;
    f->question_size = size;
    peer_answer(peer, id, message, size);
}

static void on_bye(void *context, struct peer *peer KT_UNUSED, enum wire_reason reason)
{
    struct fixture *f = context;
    f->byes++;
    f->bye = reason;
}

static void on_gone(void *context, struct peer *peer, int error)
{
    struct fixture *f = context;
    assert_ptr_equal(peer, f->peer);
    f->gone++;
    f->error = error;
    shut(f);
}

static void on_use(void *context, struct peer *peer KT_UNUSED, const struct wire_use *use)
{
    ((struct fixture *)context)->slots = use->slots;
}

static const struct peer_ops ops = {on_key,      on_request, on_packet, on_batch, on_room,
                                    on_question, on_use,     on_bye,    on_gone};

static void on_log(void *context, enum log_level level, const char *line KT_UNUSED)
{
    ((struct fixture *)context)->info_lines += level <= LOG_LEVEL_INFO;
}

static int setup(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    struct fixture *f = &fixture;
    int pair[2];
    assert_int_equal(uv_loop_init(&f->loop), 0);
    noise_keypair_generate(&f->keys);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    struct peer_setup peer_setup = {.id = 1, .keys = &f->keys, .from = address_v4(1), .ops = &ops, .context = f};
    assert_int_equal(peer_open(&f->peer, &f->loop, pair[0], &peer_setup), 0);
    client_init(&f->client, &f->loop);
    client_start(&f->client, pair[1], f->keys.public_key);
    f->accepts = true;
    log_open(on_log, f, LOG_LEVEL_DEBUG);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    shut(f);
    client_stop(&f->client);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static void open_session(struct fixture *f)
{
    struct wire_open open = client_wish(&f->client);
    RUN_UNTIL(&f->loop, f->client.opened);
    client_send_open(&f->client, &open);
}

static void join(struct fixture *f)
{
    open_session(f);
    RUN_UNTIL(&f->loop, f->client.accepts);
}

static void opens_a_session(void **state)
{
    struct fixture *f = *state;
    join(f);
    assert_int_equal(f->keyed, 1);
    assert_int_equal(f->requests, 1);
    assert_string_equal(f->open.name, "dev@laptop");
    assert_int_equal(f->client.accept.idle_ms, 5);
    assert_int_equal(f->peer->state, PEER_ACCEPTED);
}

static void packets_and_questions_come_through(void **state)
{
    struct fixture *f = *state;
    join(f);
    uint8_t packet[100] = {0x45};
    for (int i = 0; i < 10; i++)
        client_send(&f->client, WIRE_PACKET, packet, sizeof packet);
    client_ask(&f->client, 77, "question", 8);
    RUN_UNTIL(&f->loop, f->packets == 10 && f->client.answers == 1);
    assert_true(f->batches > 0);
    assert_int_equal(f->question_id, 77);
    assert_int_equal(f->question_size, 8);
    assert_int_equal(f->client.answer_id, 77);
    assert_memory_equal(f->client.answer, "question", 8);
    peer_answer(f->peer, 78, NULL, 0);
    RUN_UNTIL(&f->loop, f->client.answers == 2);
    assert_int_equal(f->client.answer_size, 0);
}

static void closes_with_its_reason(void **state)
{
    struct fixture *f = *state;
    join(f);
    client_send_close(&f->client, WIRE_REASON_BYE);
    RUN_UNTIL(&f->loop, f->gone);
    assert_int_equal(f->byes, 1);
    assert_int_equal(f->bye, WIRE_REASON_BYE);
}

static void cut_carrier_is_gone(void **state)
{
    struct fixture *f = *state;
    join(f);
    client_stop(&f->client);
    RUN_UNTIL(&f->loop, f->gone);
    assert_int_equal(f->error, -ECONNRESET);
    assert_int_equal(f->byes, 0);
}

static void refused_peer_hears_why_and_may_do_nothing_more(void **state)
{
    struct fixture *f = *state;
    f->accepts = false;
    f->refuses = true;
    open_session(f);
    RUN_UNTIL(&f->loop, f->client.refuses);
    assert_int_equal(f->client.refuse.reason, WIRE_REASON_FULL);
    assert_string_equal(f->client.refuse.text, "full up");
    uint8_t packet[100] = {0x45};
    client_send(&f->client, WIRE_PACKET, packet, sizeof packet);
    client_ask(&f->client, 1, "x", 1);
    RUN_UNTIL(&f->loop, f->gone); /* by its own clock */
    assert_int_equal(f->packets + f->questions, 0);
    assert_int_equal(f->info_lines, 0); /* strangers do not fill the log */
}

static void told_to_leave_hears_close_and_may_go_first(void **state)
{
    struct fixture *f = *state;
    join(f);
    peer_leave(f->peer, WIRE_REASON_LEAVING, "bye");
    peer_leave(f->peer, WIRE_REASON_LEAVING, "bye");
    RUN_UNTIL(&f->loop, f->client.closes);
    assert_int_equal(f->client.closes, 1);
    assert_int_equal(f->client.refuse.reason, WIRE_REASON_LEAVING);
    client_stop(&f->client);
    RUN_UNTIL(&f->loop, f->gone);
}

static void room_is_told(void **state)
{
    struct fixture *f = *state;
    join(f);
    static uint8_t packet[WIRE_MTU] = {0x45};
    struct carrier_part part = {packet, sizeof packet};
    while (carrier_seal(&f->peer->carrier, WIRE_PACKET, &part, 1) == 0)
        ;
    peer_flush(f->peer);
    RUN_UNTIL(&f->loop, f->rooms);
    RUN_UNTIL(&f->loop, f->client.packets == 2);
}

/* What may not come in a state ends the carrier, and nothing but the carrier. */
static void records_out_of_order_end_it(void **state)
{
    static const enum wire_type not_first[] = {WIRE_PACKET, WIRE_ACCEPT,    WIRE_REFUSE,
                                               WIRE_CLOSE,  WIRE_DNS_QUERY, WIRE_DNS_ANSWER};
    static const enum wire_type not_later[] = {WIRE_OPEN, WIRE_ACCEPT, WIRE_REFUSE, WIRE_DNS_ANSWER};
    for (size_t i = 0; i < KT_ARRAY_LEN(not_first) + KT_ARRAY_LEN(not_later); i++) {
        bool is_first = i < KT_ARRAY_LEN(not_first);
        assert_int_equal(setup(state), 0);
        struct fixture *f = *state;
        if (is_first)
            RUN_UNTIL(&f->loop, f->client.opened);
        else
            join(f);
        uint8_t body[64] = {0x45};
        enum wire_type type = is_first ? not_first[i] : not_later[i - KT_ARRAY_LEN(not_first)];
        client_send(&f->client, type, body, sizeof body);
        RUN_UNTIL(&f->loop, f->gone);
        assert_true(f->error == -EPROTO || f->error == -ECONNRESET);
        assert_int_equal(f->packets + f->questions + f->byes, 0);
        assert_int_equal(f->requests, is_first ? 0 : 1);
        if (i + 1 < KT_ARRAY_LEN(not_first) + KT_ARRAY_LEN(not_later))
            assert_int_equal(teardown(state), 0);
    }
}

static void short_bodies_end_it(void **state)
{
    for (int i = 0; i < 3; i++) {
        assert_int_equal(setup(state), 0);
        struct fixture *f = *state;
        join(f);
        client_send(&f->client, i == 0 ? WIRE_DNS_QUERY : WIRE_CLOSE, "abc", i == 2 ? 0 : 3);
        RUN_UNTIL(&f->loop, f->gone);
        assert_int_equal(f->error, -EPROTO);
        assert_int_equal(f->byes + f->questions, 0);
        if (i < 2)
            assert_int_equal(teardown(state), 0);
    }
}

static void senseless_wish_is_refused(void **state)
{
    struct fixture *f = *state;
    RUN_UNTIL(&f->loop, f->client.opened);
    client_send(&f->client, WIRE_OPEN, "x", 1);
    RUN_UNTIL(&f->loop, f->client.refuses);
    assert_int_equal(f->client.refuse.reason, WIRE_REASON_INVALID);
    assert_int_equal(f->requests, 0);
}

static void may_be_closed_in_any_callback(void **state)
{
    struct fixture *f = *state;
    f->closes_on_packet = true;
    join(f);
    uint8_t packet[100] = {0x45};
    client_send(&f->client, WIRE_PACKET, packet, sizeof packet);
    client_send(&f->client, WIRE_PACKET, packet, sizeof packet);
    RUN_UNTIL(&f->loop, f->client.died);
    assert_int_equal(f->packets, 1);
    assert_int_equal(f->gone, 0);
    assert_int_equal(teardown(state), 0);

    assert_int_equal(setup(state), 0);
    f = *state;
    f->closes_on_request = true;
    open_session(f);
    RUN_UNTIL(&f->loop, f->client.died);
    assert_int_equal(f->requests, 1);
    assert_int_equal(f->gone, 0);
}

static void every_allocation_fails_once(void **state)
{
    struct fixture *f = *state;
    struct peer_setup peer_setup = {.id = 2, .keys = &f->keys, .from = address_v4(1), .ops = &ops, .context = f};
    unsigned long nth = 0;
    int rc = -ENOMEM;
    while (rc != 0) {
        int pair[2];
        struct peer *peer = NULL;
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
        kt_mem_fail_nth(++nth);
        rc = peer_open(&peer, &f->loop, pair[0], &peer_setup);
        kt_mem_fail_nth(0);
        if (rc == 0)
            peer_close(peer);
        else
            assert_int_equal(rc, -ENOMEM);
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
        uint8_t hello[WIRE_HELLO_SIZE];
        assert_int_equal(recv(pair[1], hello, sizeof hello, MSG_DONTWAIT), 0); /* its end is closed, each time */
        (void)close(pair[1]);
    }
    assert_true(nth > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(opens_a_session, setup, teardown),
        cmocka_unit_test_setup_teardown(packets_and_questions_come_through, setup, teardown),
        cmocka_unit_test_setup_teardown(closes_with_its_reason, setup, teardown),
        cmocka_unit_test_setup_teardown(cut_carrier_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_peer_hears_why_and_may_do_nothing_more, setup, teardown),
        cmocka_unit_test_setup_teardown(told_to_leave_hears_close_and_may_go_first, setup, teardown),
        cmocka_unit_test_setup_teardown(room_is_told, setup, teardown),
        cmocka_unit_test_teardown(records_out_of_order_end_it, teardown),
        cmocka_unit_test_teardown(short_bodies_end_it, teardown),
        cmocka_unit_test_setup_teardown(senseless_wish_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(may_be_closed_in_any_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_fails_once, setup, teardown),
    };
    return unit_run(tests);
}
