/* When the next try is: pure decisions, so that hours pass in no time. */
#include "client/redial.h"

#include <errno.h>

#include "tests/unit/unit.h"

#define NOW 1000000u
#define ROUNDS 200

static const struct redial_times times = REDIAL_TIMES;

static struct redial begin(void)
{
    struct redial redial;
    redial_init(&redial, &times);
    redial_outage(&redial, NOW);
    return redial;
}

/* Between three and five quarters of `ms` after `now_ms`. */
static void expect_next(const struct redial *redial, uint64_t now_ms, uint64_t ms)
{
    assert_in_range(redial->next_ms, now_ms + ms * 3 / 4, now_ms + ms * 5 / 4);
    assert_false(redial_is_due(redial, now_ms + ms * 3 / 4 - 1));
    assert_true(redial_is_due(redial, now_ms + ms * 5 / 4));
}

static void the_first_try_is_now(void **state)
{
    (void)state;
    struct redial redial = begin();
    assert_true(redial_is_due(&redial, NOW));
    assert_int_equal(redial_begin_try(&redial, NOW), NOW + REDIAL_TRY_MS);
    expect_next(&redial, NOW, REDIAL_RETRY_MS); /* while the first one hangs */
}

static void the_back_off_doubles_up_to_a_second(void **state)
{
    (void)state;
    static const uint64_t want_ms[] = {100, 200, 400, 800, 1000, 1000, 1000, 1000, 1000, 1000};
    struct redial redial = begin();
    for (size_t i = 0; i < KT_ARRAY_LEN(want_ms); i++) {
        (void)redial_failed(&redial, -ECONNREFUSED, true, NOW + i);
        expect_next(&redial, NOW + i, want_ms[i]);
    }
}

static void a_long_outage_is_asked_less_often(void **state)
{
    (void)state;
    struct redial redial = begin();
    for (int i = 0; i < 20; i++)
        (void)redial_failed(&redial, -ECONNREFUSED, true, NOW);
    (void)redial_failed(&redial, -ECONNREFUSED, true, NOW + REDIAL_SOON_MS - 1);
    expect_next(&redial, NOW + REDIAL_SOON_MS - 1, REDIAL_BACKOFF_SOON_MS);
    (void)redial_failed(&redial, -ECONNREFUSED, true, NOW + REDIAL_SOON_MS);
    expect_next(&redial, NOW + REDIAL_SOON_MS, REDIAL_BACKOFF_MAX_MS);
    redial_anew(&redial, NOW + REDIAL_SOON_MS); /* the same outage: soon is over, the back-off is not */
    assert_true(redial_is_due(&redial, NOW + REDIAL_SOON_MS));
    (void)redial_failed(&redial, -ECONNREFUSED, true, NOW + REDIAL_SOON_MS);
    expect_next(&redial, NOW + REDIAL_SOON_MS, REDIAL_BACKOFF_MIN_MS);
}

/* An outage of days: no shift, no counter runs over. */
static void it_never_stops_trying(void **state)
{
    (void)state;
    struct redial redial = begin();
    uint64_t now_ms = NOW;
    unsigned doubts = 0;
    for (int i = 0; i < 100000; i++) {
        doubts += redial_failed(&redial, -ETIMEDOUT, true, now_ms);
        assert_in_range(redial.next_ms, now_ms + 1, now_ms + REDIAL_BACKOFF_MAX_MS * 5 / 4);
        now_ms = redial.next_ms;
    }
    assert_int_equal(doubts, 25000);
}

/* Many clients that lost the same server do not come back together. */
static void the_back_off_is_spread(void **state)
{
    (void)state;
    uint64_t first = UINT64_MAX, last = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct redial redial = begin();
        (void)redial_begin_try(&redial, NOW);
        first = KT_MIN(first, redial.next_ms);
        last = KT_MAX(last, redial.next_ms);
        assert_in_range(redial.next_ms, NOW + REDIAL_RETRY_MS * 3 / 4, NOW + REDIAL_RETRY_MS * 5 / 4);
    }
    assert_true(last - first > REDIAL_RETRY_MS / 4);
}

/* The others may still succeed: the failed one is not followed by a wait of its own. */
static void a_failed_try_with_company_changes_no_plan(void **state)
{
    (void)state;
    struct redial redial = begin();
    (void)redial_begin_try(&redial, NOW);
    uint64_t next_ms = redial.next_ms;
    (void)redial_failed(&redial, -ECONNREFUSED, false, NOW + 10);
    assert_int_equal(redial.next_ms, next_ms);
    assert_int_equal(redial.failures, 1);
}

static void tries_get_longer_when_they_are_too_late(void **state)
{
    (void)state;
    static const uint64_t want_ms[] = {3000, 4500, 6750, 10000, 10000};
    struct redial redial = begin();
    for (size_t i = 0; i < KT_ARRAY_LEN(want_ms); i++) {
        assert_int_equal(redial_begin_try(&redial, NOW), NOW + want_ms[i]);
        (void)redial_failed(&redial, -ETIMEDOUT, true, NOW);
    }
    (void)redial_failed(&redial, -ECONNREFUSED, true, NOW); /* that one was quick */
    redial_outage(&redial, NOW);                            /* another agent on the same slow road */
    assert_int_equal(redial_begin_try(&redial, NOW), NOW + REDIAL_TRY_MAX_MS);
    redial_succeeded(&redial);
    assert_int_equal(redial_begin_try(&redial, NOW), NOW + REDIAL_TRY_MS);
}

static void doubt_comes_after_two_and_then_after_every_fourth(void **state)
{
    (void)state;
    struct redial redial = begin();
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 1; i <= 14; i++)
            assert_int_equal(redial_failed(&redial, -ECONNREFUSED, true, NOW), i == 2 || i == 6 || i == 10 || i == 14);
        redial_succeeded(&redial); /* and from the beginning */
    }
}

static void at_once_forgets_no_failure(void **state)
{
    (void)state;
    struct redial redial = begin();
    (void)redial_failed(&redial, -ECONNREFUSED, true, NOW);
    assert_false(redial_is_due(&redial, NOW));
    redial_at_once(&redial, NOW);
    assert_true(redial_is_due(&redial, NOW));
    assert_true(redial_failed(&redial, -ECONNREFUSED, true, NOW)); /* the second */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_try_is_now),
        cmocka_unit_test(the_back_off_doubles_up_to_a_second),
        cmocka_unit_test(a_long_outage_is_asked_less_often),
        cmocka_unit_test(it_never_stops_trying),
        cmocka_unit_test(the_back_off_is_spread),
        cmocka_unit_test(a_failed_try_with_company_changes_no_plan),
        cmocka_unit_test(tries_get_longer_when_they_are_too_late),
        cmocka_unit_test(doubt_comes_after_two_and_then_after_every_fourth),
        cmocka_unit_test(at_once_forgets_no_failure),
    };
    return unit_run(tests);
}
