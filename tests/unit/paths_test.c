/* The paths of a tunnel: found, attached, dropped and told good-bye. Their streams are the test's. */
#include "client/paths.h"

#include <errno.h>
#include <string.h>

#include "common/mem.h"
#include "tests/unit/peer.h"
#include "tests/unit/unit.h"

#define NOW 1000u

struct bed {
    struct session session;
    struct paths paths;
    struct noise_keypair keys;
    struct peer peer[PATHS_MAX];
    struct stream stream[PATHS_MAX];
    size_t opened;
};

static void close_stream(struct stream *stream)
{
    stream->ops = NULL; /* a second time would crash */
}

static const struct stream_ops stream_ops = {.close = close_stream};

static bool is_closed(const struct bed *bed, size_t i)
{
    return bed->stream[i].ops == NULL;
}

/* A try that has until `deadline_ms`. */
static struct path *add_try(struct bed *bed, uint64_t deadline_ms)
{
    static const struct wire_open open = {.mtu = WIRE_MTU};
    static const struct path_times times = PATH_TIMES;
    struct path_options options = {
        .keys = &bed->keys, .agent = bed->keys.public_key, .open = &open, .times = &times, .context = bed};
    struct path *path;
    bed->stream[bed->opened].ops = &stream_ops;
    assert_true(paths_can_try(&bed->paths));
    assert_int_equal(path_open(&path, &bed->stream[bed->opened++], &options, NOW), 0);
    path->deadline_ms = deadline_ms;
    paths_add(&bed->paths, path);
    return path;
}

static struct path *add_accepted(struct bed *bed)
{
    struct path *path = add_try(bed, NOW);
    peer_open_client(&bed->peer[bed->opened - 1], &path->carrier, NOW);
    path->state = PATH_ACCEPTED;
    return path;
}

static int open_bed(void **state)
{
    struct bed *bed = test_calloc(1, sizeof *bed);
    noise_keypair_generate(&bed->keys);
    bed->paths.session = &bed->session;
    *state = bed;
    return session_init(&bed->session, bed->keys.public_key, WIRE_QUEUE_SIZE, NOW);
}

static int close_bed(void **state)
{
    struct bed *bed = *state;
    while (bed->paths.count > 0)
        paths_drop(&bed->paths, bed->paths.path[0], NOW);
    for (size_t i = 0; i < bed->opened; i++)
        assert_true(is_closed(bed, i));
    assert_false(link_is_up(&bed->session.link));
    session_deinit(&bed->session);
    test_free(bed);
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static bool says_close(const struct path *path)
{
    size_t size;
    return carrier_tx(&path->carrier, &size) != NULL;
}

static void nothing_is_found_in_none(void **state)
{
    struct bed *bed = *state;
    assert_null(paths_find_used(&bed->paths, 0));
    assert_null(paths_find_late(&bed->paths, UINT64_MAX));
    assert_false(paths_have(&bed->paths, NULL));
    assert_int_equal(paths_tries(&bed->paths), 0);
    assert_true(paths_are_flushed(&bed->paths));
    paths_drop_others(&bed->paths, NULL, NOW);
    paths_say_bye(&bed->paths, NOW);
}

static void tries_have_a_limit_and_their_deadlines(void **state)
{
    struct bed *bed = *state;
    struct path *accepted = add_accepted(bed), *late = add_try(bed, NOW + 7);
    for (size_t i = 1; i < PATHS_TRIES_MAX; i++)
        (void)add_try(bed, NOW + 20);
    assert_int_equal(paths_tries(&bed->paths), PATHS_TRIES_MAX);
    assert_false(paths_can_try(&bed->paths));
    assert_null(paths_find_used(&bed->paths, 0));
    assert_int_equal(paths_attach(&bed->paths, accepted), 0);
    assert_ptr_equal(paths_find_used(&bed->paths, 0), accepted);
    assert_null(paths_find_used(&bed->paths, 1));
    assert_null(paths_find_late(&bed->paths, NOW + 6)); /* an accepted one has no deadline */
    assert_ptr_equal(paths_find_late(&bed->paths, NOW + 7), late);
    paths_drop(&bed->paths, late, NOW);
    assert_true(paths_can_try(&bed->paths));
    assert_false(paths_have(&bed->paths, late));
    assert_null(paths_find_late(&bed->paths, NOW + 7));
}

static void the_link_uses_what_is_attached(void **state)
{
    struct bed *bed = *state;
    struct path *path = add_accepted(bed);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(paths_attach(&bed->paths, path), 0);
        assert_int_equal(paths_attach(&bed->paths, path), 0); /* it is already */
        assert_true(path->is_attached);
        assert_int_equal(bed->session.link.carriers, 1);
        paths_detach(&bed->paths, path, NOW);
        paths_detach(&bed->paths, path, NOW);
        assert_false(path->is_attached || link_is_up(&bed->session.link));
    }
    session_end(&bed->session);
    assert_true(paths_attach(&bed->paths, path) < 0);
    assert_false(path->is_attached);
}

static void the_others_go_and_the_kept_one_stays(void **state)
{
    struct bed *bed = *state;
    struct path *old = add_accepted(bed), *try = add_try(bed, NOW), *kept = add_accepted(bed);
    assert_int_equal(paths_attach(&bed->paths, old), 0);
    paths_drop_others(&bed->paths, kept, NOW);
    assert_false(paths_have(&bed->paths, old) || paths_have(&bed->paths, try));
    assert_true(paths_have(&bed->paths, kept));
    assert_true(is_closed(bed, 0) && is_closed(bed, 1) && !is_closed(bed, 2));
    assert_false(link_is_up(&bed->session.link)); /* the link does not keep what is gone */
    assert_false(says_close(kept));
    paths_drop_others(&bed->paths, NULL, NOW);
    assert_int_equal(bed->paths.count, 0);
}

static void bye_waits_for_the_accepted_ones_only(void **state)
{
    struct bed *bed = *state;
    struct path *accepted;
    size_t size;
    (void)add_try(bed, NOW);
    accepted = add_accepted(bed);
    (void)add_try(bed, NOW);
    paths_say_bye(&bed->paths, NOW);
    assert_int_equal(bed->paths.count, 1);
    assert_true(is_closed(bed, 0) && !is_closed(bed, 1) && is_closed(bed, 2));
    assert_true(says_close(accepted));
    assert_false(paths_are_flushed(&bed->paths));
    (void)carrier_tx(&accepted->carrier, &size);
    carrier_sent(&accepted->carrier, size);
    assert_true(paths_are_flushed(&bed->paths));
}

int main(void)
{
#define PATHS_TEST(test) cmocka_unit_test_setup_teardown(test, open_bed, close_bed)
    const struct CMUnitTest tests[] = {
        PATHS_TEST(nothing_is_found_in_none),
        PATHS_TEST(tries_have_a_limit_and_their_deadlines),
        PATHS_TEST(the_link_uses_what_is_attached),
        PATHS_TEST(the_others_go_and_the_kept_one_stays),
        PATHS_TEST(bye_waits_for_the_accepted_ones_only),
    };
    return unit_run(tests);
}
