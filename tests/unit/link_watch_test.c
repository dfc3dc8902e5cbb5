/* A device that is set down, with the real kernel in a network namespace of the test's own. */
#include "client/host/link_watch.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

#include "common/mem.h"
#include "tests/unit/netns.h"

#define WAIT_MS 10000

struct bed {
    struct netns netns;
    uv_loop_t loop;
    struct link_watch *watch;
    int downs;
    bool closes;
};

static void on_down(void *context)
{
    struct bed *bed = context;
    bed->downs++;
    if (bed->closes)
        link_watch_close(bed->watch);
}

static void turn(struct bed *bed)
{
    struct timespec ms = {.tv_nsec = 1000000};
    (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    (void)nanosleep(&ms, NULL);
}

static int set_up(void **state)
{
    struct bed *bed = test_calloc(1, sizeof *bed);
    *state = bed;
    netns_enter(&bed->netns);
    netns_run("ip link add ktt0 type veth peer name ktt1 && ip link set ktt0 up && ip link set ktt1 up");
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    assert_int_equal(link_watch_open(&bed->watch, &bed->loop, "ktt0", on_down, bed), 0);
    return 0;
}

static int tear_down(void **state)
{
    struct bed *bed = *state;
    link_watch_close(bed->watch);
    assert_int_equal(uv_run(&bed->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    netns_leave(&bed->netns);
    assert_int_equal(kt_mem_live(), 0);
    test_free(bed);
    return 0;
}

static void test_is_set_down(void **state)
{
    struct bed *bed = *state;
    netns_run("ip link set ktt0 down");
    for (int i = 0; i < WAIT_MS && bed->downs == 0; i++)
        turn(bed);
    assert_true(bed->downs > 0);
}

/* Another device, and what is up again when we look, is no news. */
static void test_others_are_no_news(void **state)
{
    struct bed *bed = *state;
    netns_run("ip link add ktt2 type veth peer name ktt3 && ip link set ktt2 up && ip link set ktt2 down");
    netns_run("ip link set ktt0 down && ip link set ktt0 up");
    for (int i = 0; i < 20; i++)
        turn(bed);
    assert_int_equal(bed->downs, 0);
    netns_run("ip link del ktt0");
    for (int i = 0; i < 20; i++)
        turn(bed);
    assert_int_equal(bed->downs, 0);
}

static void test_closes_in_the_callback(void **state)
{
    struct bed *bed = *state;
    bed->closes = true;
    netns_run("ip link set ktt0 down");
    for (int i = 0; i < WAIT_MS && bed->downs == 0; i++)
        turn(bed);
    assert_int_equal(bed->downs, 1);
    bed->watch = NULL;
}

static void test_no_memory(void **state)
{
    struct bed *bed = *state;
    struct link_watch *watch = NULL;
    kt_mem_fail_nth(1);
    assert_int_equal(link_watch_open(&watch, &bed->loop, "ktt0", on_down, bed), -ENOMEM);
    kt_mem_fail_nth(0);
    assert_null(watch);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_is_set_down), TEST(test_others_are_no_news),
                                       TEST(test_closes_in_the_callback), TEST(test_no_memory)};
    return unit_run(tests);
}
