/* The limit against a path of known rate and length, by a simulation in which the test owns time. */
#include "common/flight.h"

#include <errno.h>

#include "tests/unit/unit.h"

#define RECORD 16384

/* A link of `rate` bytes a ms, `delay_ms` there and back; what does not fit it queues. */
struct path {
    struct flight flight;
    uint64_t now_ms, rate, delay_ms;
    uint64_t crossed[8192]; /* bytes that had crossed the link at each ms */
    uint64_t written, told, longest_ms;
};

static void path_init(struct path *path, uint64_t rate, uint64_t delay_ms)
{
    *path = (struct path){.now_ms = 1000, .rate = rate, .delay_ms = delay_ms};
    flight_init(&path->flight, delay_ms, 1000);
}

/* One ms, in which at most `wish` bytes are there to be sent. */
static void step(struct path *path, uint64_t wish)
{
    struct flight *flight = &path->flight;
    uint64_t *crossed = path->crossed, at = path->now_ms % 8192, before = (path->now_ms - 1) % 8192;
    crossed[at] = KT_MIN(path->written, crossed[before] + path->rate);
    uint64_t seen = crossed[(path->now_ms - path->delay_ms) % 8192];
    if (seen >= path->told + FLIGHT_ACK_BYTES) {
        path->told = seen;
        assert_int_equal(flight_acked(flight, seen, path->now_ms), 0);
    }
    for (; wish >= RECORD; wish -= RECORD) {
        if (!flight_has_room(flight, false)) {
            flight_refused(flight);
            break;
        }
        flight_sealed(flight, RECORD);
        path->written += RECORD;
    }
    flight_written(flight, path->now_ms);
    path->longest_ms = KT_MAX(path->longest_ms, (path->written - crossed[at]) / path->rate);
    path->now_ms++;
}

static uint64_t run(struct path *path, uint64_t ms, uint64_t wish)
{
    uint64_t before = path->crossed[(path->now_ms - 1) % 8192];
    path->longest_ms = 0;
    for (uint64_t i = 0; i < ms; i++)
        step(path, wish);
    return path->crossed[(path->now_ms - 1) % 8192] - before;
}

static void bulk_fills_the_path_and_not_its_queue(void **state)
{
    (void)state;
    static const struct {
        uint64_t rate, delay_ms;
    } paths[] = {{25000, 20}, {125000, 2}, {125000, 20}, {25000, 1}, {25000, 100}, {2500, 20}, {300000, 1}};
    static struct path path;
    for (size_t i = 0; i < KT_ARRAY_LEN(paths); i++) {
        path_init(&path, paths[i].rate, paths[i].delay_ms);
        (void)run(&path, 4000, 1 << 22);
        uint64_t moved = run(&path, 1000, 1 << 22);
        assert_true(moved >= 1000 * path.rate * 95 / 100);
        uint64_t floor_ms = (FLIGHT_MIN + RECORD) / path.rate; /* a slow path holds the minimum */
        assert_true(path.longest_ms <= KT_MAX(KT_MAX(3u * FLIGHT_QUEUE_MS, floor_ms + 1), path.delay_ms / 4));
    }
}

static void the_limit_follows_the_rate(void **state)
{
    (void)state;
    static struct path path;
    path_init(&path, 125000, 20);
    (void)run(&path, 2000, 1 << 22);
    assert_true(path.flight.limit > 2000000);
    path.rate = 12500;
    (void)run(&path, 2000, 1 << 22);
    assert_true(path.flight.limit < 500000);
    path.rate = 125000;
    (void)run(&path, 2000, 1 << 22);
    assert_true(path.flight.limit > 2000000);
    assert_true(path.flight.limit <= FLIGHT_MAX);
}

/* A request now and then says nothing about the path: neither up nor down. */
static void little_traffic_does_not_move_it(void **state)
{
    (void)state;
    static struct path path;
    path_init(&path, 25000, 20);
    for (int i = 0; i < 50; i++) {
        (void)run(&path, 1, RECORD);
        (void)run(&path, 100, 0);
    }
    assert_int_equal(path.flight.limit, FLIGHT_START);
    for (int i = 0; i < 50; i++) {
        (void)run(&path, 1, 10 * RECORD);
        (void)run(&path, 100, 0);
    }
    assert_int_equal(path.flight.limit, FLIGHT_START);
}

/* The way got longer: the first base is forgotten, and bulk is not held down by it for ever. */
static void a_longer_way_is_learned(void **state)
{
    (void)state;
    static struct path path;
    path_init(&path, 25000, 5);
    (void)run(&path, 1000, 1 << 22);
    path.delay_ms = 60;
    (void)run(&path, FLIGHT_BASE_MS + 3000, 1 << 22);
    assert_in_range(path.flight.base_ms, 55, 75);
    assert_true(run(&path, 1000, 1 << 22) >= 1000 * path.rate * 9 / 10);
}

static void long_bulk_does_not_raise_the_base(void **state)
{
    (void)state;
    static struct path path;
    path_init(&path, 25000, 20);
    (void)run(&path, 4 * FLIGHT_BASE_MS + 500, 1 << 22);
    assert_in_range(path.flight.base_ms, 18, 32); /* the minimum itself takes 10 ms of this path */
    (void)run(&path, 1000, 1 << 22);
    assert_true(path.longest_ms <= 4u * FLIGHT_QUEUE_MS);
}

static void small_packets_have_a_reserve(void **state)
{
    (void)state;
    struct flight flight;
    flight_init(&flight, 20, 0);
    while (flight_has_room(&flight, false))
        flight_sealed(&flight, RECORD);
    size_t small = 0;
    for (; flight_has_room(&flight, true); small += 1000)
        flight_sealed(&flight, 1000);
    assert_in_range(small, FLIGHT_RESERVE - RECORD, FLIGHT_RESERVE + 1000);
    assert_false(flight_has_room(&flight, false));
}

static void acknowledgements_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct flight flight;
    flight_init(&flight, 20, 0);
    assert_int_equal(flight_acked(&flight, 1, 0), -EPROTO);
    flight_sealed(&flight, 100000);
    flight_written(&flight, 7);
    assert_int_equal(flight_acked(&flight, 100001, 7), -EPROTO);
    assert_int_equal(flight_acked(&flight, 50000, 7), 0);
    assert_int_equal(flight_acked(&flight, 49999, 7), -EPROTO);
    assert_int_equal(flight_acked(&flight, UINT64_MAX, 7), -EPROTO);
    assert_int_equal(flight_acked(&flight, 100000, 7), 0); /* in no time at all */
    assert_int_equal(flight.base_ms, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bulk_fills_the_path_and_not_its_queue),
        cmocka_unit_test(the_limit_follows_the_rate),
        cmocka_unit_test(little_traffic_does_not_move_it),
        cmocka_unit_test(a_longer_way_is_learned),
        cmocka_unit_test(long_bulk_does_not_raise_the_base),
        cmocka_unit_test(small_packets_have_a_reserve),
        cmocka_unit_test(acknowledgements_that_cannot_be_are_refused),
    };
    return unit_run(tests);
}
