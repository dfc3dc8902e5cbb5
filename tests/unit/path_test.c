/* What a path's silence means, with the test's clock, and what its end does. The dial, the handshake and the records
 * are in tunnel_test.c, against an agent. */
#include "client/path.h"

#include <errno.h>
#include <string.h>

#include "common/mem.h"
#include "tests/unit/peer.h"
#include "tests/unit/unit.h"

#define NOW 1000000u
#define LOOK_MS 500u

static const struct path_times times = PATH_TIMES;

/* An accepted path without a stream: what its carrier counted is the test's. */
static struct path silent_path(void)
{
    return (struct path){.state = PATH_ACCEPTED, .times = times, .looked_ms = NOW};
}

/* Looks every LOOK_MS, from NOW on; after how long it was suspected. 0: not within `limit_ms`. */
static uint64_t suspected_after_ms(struct path *path, uint64_t limit_ms)
{
    for (uint64_t ms = LOOK_MS; ms <= limit_ms; ms += LOOK_MS) {
        if (path_look(path, NOW + ms) == PATH_SUSPECT)
            return ms;
    }
    return 0;
}

static void an_idle_path_is_never_suspected(void **state)
{
    (void)state;
    struct path path = silent_path();
    assert_int_equal(suspected_after_ms(&path, 10 * WIRE_DEAD_MS), 0);
    assert_false(path.is_unanswered);
}

static void one_that_does_not_answer_is_suspected_after_two_seconds(void **state)
{
    (void)state;
    struct path path = silent_path();
    path.carrier.bytes_out = 100;
    assert_int_equal(suspected_after_ms(&path, 60000), LOOK_MS + PATH_ANSWER_MS);
    assert_true(path.is_unanswered);
    path.carrier.bytes_in = 1; /* a byte ends it */
    assert_int_equal(path_look(&path, NOW + 60000), PATH_FINE);
    assert_false(path.is_unanswered);
    assert_int_equal(path_look(&path, NOW + 60500), PATH_FINE); /* nothing went out since */
    assert_false(path.is_unanswered);
}

static void a_long_way_has_more_time(void **state)
{
    (void)state;
    struct path path = silent_path();
    path.carrier.rtt_us = 500000;
    path.carrier.bytes_out = 100;
    assert_int_equal(suspected_after_ms(&path, 60000), LOOK_MS + PATH_ANSWER_MS + PATH_ANSWER_RTTS * 500);
}

/* A process that was stopped for a minute heard nothing in it: that is not the network's fault. */
static void a_gap_of_ours_does_not_count(void **state)
{
    (void)state;
    struct path path = silent_path();
    path.carrier.bytes_out = 100;
    assert_int_equal(path_look(&path, NOW + LOOK_MS), PATH_FINE);
    assert_int_equal(path_look(&path, NOW + 60000), PATH_FINE);
    assert_int_equal(path_look(&path, NOW + 61000), PATH_FINE);
    assert_int_equal(path_look(&path, NOW + 62000), PATH_SUSPECT);
}

static void an_answer_now_and_then_is_enough(void **state)
{
    (void)state;
    struct path path = silent_path();
    for (uint64_t ms = LOOK_MS; ms < 120000; ms += LOOK_MS) {
        path.carrier.bytes_out += 1500;
        path.carrier.bytes_in += ms % (3 * LOOK_MS) == 0;
        assert_int_equal(path_look(&path, NOW + ms), PATH_FINE);
    }
}

/* One that only sends is asked for an echo, once, before it is suspected. */
static void an_echo_is_asked_for_first(void **state)
{
    (void)state;
    struct peer peer;
    struct path path = silent_path();
    size_t size;
    peer_open_client(&peer, &path.carrier, NOW);
    path.seen_in = path.carrier.bytes_in;
    path.seen_out = path.carrier.bytes_out - 1;
    assert_int_equal(path_look(&path, NOW + LOOK_MS), PATH_FINE);
    assert_null(carrier_tx(&path.carrier, &size));
    assert_int_equal(path_look(&path, NOW + LOOK_MS + PATH_PROBE_MS - 1), PATH_FINE);
    assert_null(carrier_tx(&path.carrier, &size));
    assert_int_equal(path_look(&path, NOW + LOOK_MS + PATH_PROBE_MS), PATH_FINE);
    assert_non_null(carrier_tx(&path.carrier, &size));
    size_t before = size;
    assert_int_equal(path_look(&path, NOW + LOOK_MS + PATH_PROBE_MS + LOOK_MS), PATH_FINE);
    (void)carrier_tx(&path.carrier, &size);
    assert_int_equal(size, before);
    carrier_deinit(&path.carrier);
    assert_int_equal(kt_mem_live(), 0);
}

static void only_an_accepted_path_says_close(void **state)
{
    (void)state;
    struct peer peer;
    struct path path = silent_path();
    size_t size;
    peer_open_client(&peer, &path.carrier, NOW);
    assert_true(path_is_flushed(&path));
    path.state = PATH_OPENING;
    path_say_close(&path, WIRE_REASON_BYE);
    assert_null(carrier_tx(&path.carrier, &size));
    path.state = PATH_ACCEPTED;
    path_say_close(&path, WIRE_REASON_BYE);
    assert_non_null(carrier_tx(&path.carrier, &size));
    assert_false(path_is_flushed(&path));
    carrier_sent(&path.carrier, size);
    assert_true(path_is_flushed(&path));
    carrier_deinit(&path.carrier);
    assert_int_equal(kt_mem_live(), 0);
}

static void each_reason_has_its_text_and_its_end(void **state)
{
    (void)state;
    static const struct {
        enum wire_reason reason;
        bool is_final, is_final_later;
    } cases[] = {
        {WIRE_REASON_BYE, true, true},       {WIRE_REASON_CARRIER, false, false}, {WIRE_REASON_LEAVING, false, false},
        {WIRE_REASON_ADDRESS, true, true},   {WIRE_REASON_FULL, true, false},     {WIRE_REASON_KEY, true, true},
        {WIRE_REASON_VERSION, true, true},   {WIRE_REASON_INVALID, true, true},   {WIRE_REASON_TAKEN, true, true},
        {(enum wire_reason)250, true, true},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        assert_int_equal(path_end_is_final(cases[i].reason, false), cases[i].is_final);
        assert_int_equal(path_end_is_final(cases[i].reason, true), cases[i].is_final_later);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(path_end_text(cases[i].reason), path_end_text(cases[j].reason));
    }
}

static void a_stranger_is_one_who_hangs_up_on_our_init(void **state)
{
    (void)state;
    struct path path = {.state = PATH_HANDSHAKE, .carrier = {.state = CARRIER_HELLO}};
    assert_false(path_is_stranger(&path, -ECONNRESET)); /* before HELLO: a forwarder whose target is gone */
    assert_true(path_is_stranger(&path, -EPROTO));
    path.carrier.state = CARRIER_HANDSHAKE;
    assert_true(path_is_stranger(&path, -ECONNRESET));
    assert_true(path_is_stranger(&path, -EBADMSG));
    assert_false(path_is_stranger(&path, -ETIMEDOUT));
    static const enum path_state others[] = {PATH_DIALLING, PATH_OPENING, PATH_ACCEPTED};
    for (size_t i = 0; i < KT_ARRAY_LEN(others); i++) {
        path.state = others[i];
        assert_false(path_is_stranger(&path, -EPROTO));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_path_is_never_suspected),
        cmocka_unit_test(one_that_does_not_answer_is_suspected_after_two_seconds),
        cmocka_unit_test(a_long_way_has_more_time),
        cmocka_unit_test(a_gap_of_ours_does_not_count),
        cmocka_unit_test(an_answer_now_and_then_is_enough),
        cmocka_unit_test(an_echo_is_asked_for_first),
        cmocka_unit_test(only_an_accepted_path_says_close),
        cmocka_unit_test(each_reason_has_its_text_and_its_end),
        cmocka_unit_test(a_stranger_is_one_who_hangs_up_on_our_init),
    };
    return unit_run(tests);
}
