/* Signals and the clock that end a running ktvpn. The test's clock is libuv's own, pushed on by HURRY. */
#include "client/departure.h"

#include <dlfcn.h>
#include <signal.h>
#include <string.h>

#include "tests/unit/unit.h"

#define HURRY 1000

static uv_loop_t loop;
static struct departure departure;
static int requests, cuts;
static bool was_wanted;

int uv_timer_start(uv_timer_t *timer, uv_timer_cb callback, uint64_t timeout_ms, uint64_t repeat_ms)
{
    int (*real)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);
    void *found = dlsym(RTLD_NEXT, "uv_timer_start");
    memcpy(&real, &found, sizeof real); /* ISO C has no cast from an object's to a function's pointer */
    return real(timer, callback, timeout_ms / HURRY, repeat_ms / HURRY);
}

static void on_request(void *context)
{
    assert_ptr_equal(context, &loop);
    requests++;
}

static void on_cut(void *context, bool is_wanted)
{
    assert_ptr_equal(context, &loop);
    cuts++;
    was_wanted = is_wanted;
}

static int set_up(void **state KT_UNUSED)
{
    requests = cuts = 0;
    if (uv_loop_init(&loop) != 0)
        return -1;
    departure_init(&departure, &loop, on_request, on_cut, &loop);
    return 0;
}

static int tear_down(void **state KT_UNUSED)
{
    departure_close(&departure);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0); /* nothing else holds it */
    return uv_loop_close(&loop);
}

static void turn_until(const int *count, int wanted)
{
    while (*count < wanted)
        (void)uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(*count, wanted);
}

static void test_signals(void **state KT_UNUSED)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < KT_ARRAY_LEN(numbers); i++) {
        assert_int_equal(raise(numbers[i]), 0);
        turn_until(i == 0 ? &requests : &cuts, i == 0 ? 1 : (int)i);
    }
    assert_int_equal(requests, 1);
    assert_true(was_wanted);
}

static void test_it_takes_too_long(void **state KT_UNUSED)
{
    assert_int_equal(raise(SIGINT), 0);
    turn_until(&requests, 1);
    departure_begin(&departure);
    turn_until(&cuts, 1);
    assert_false(was_wanted);
}

static void test_ends_in_time(void **state KT_UNUSED)
{
    departure_begin(&departure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_signals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_it_takes_too_long, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ends_in_time, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
