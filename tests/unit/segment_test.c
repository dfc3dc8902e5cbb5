#include "netstack/segment.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

/* A segment with these options, padded to words. */
static int parse(struct segment *segment, const uint8_t *options, size_t size, size_t claimed_words, size_t payload)
{
    uint8_t data[200] = {0x45};
    struct packet packet = {.head_size = 20, .source_port = 1, .target_port = 2, .size = 40 + size + payload};
    data[24] = 0x11;
    data[27] = 0x22;
    data[32] = (uint8_t)(claimed_words << 4);
    data[33] = SEGMENT_SYN;
    memcpy(data + 40, options, size);
    return segment_parse(segment, &packet, data);
}

static void test_fields(void **state)
{
    static const uint8_t options[] = {2, 4, 5, 180, 1, 3, 3, 7};
    struct segment segment;
    (void)state;
    assert_int_equal(parse(&segment, options, sizeof options, 7, 10), 0);
    assert_int_equal(segment.sequence, 0x11000022);
    assert_int_equal(segment.flags, SEGMENT_SYN);
    assert_int_equal(segment.head_size, 28);
    assert_int_equal(segment.payload_size, 10);
}

static void test_hostile_options(void **state)
{
    static const uint8_t bad[][4] = {{2, 5, 1, 1}, {2, 0, 1, 1}, {2, 1, 1, 1}, {1, 1, 1, 2}, {8, 255, 0, 0}};
    static const uint8_t good[][4] = {{0, 5, 1, 1}, {1, 1, 1, 0}, {254, 4, 9, 9}, {1, 2, 3, 9}};
    struct segment segment;
    (void)state;
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++)
        assert_int_equal(parse(&segment, bad[i], 4, 6, 0), -EBADMSG);
    for (size_t i = 0; i < KT_ARRAY_LEN(good); i++)
        assert_int_equal(parse(&segment, good[i], 4, 6, 0), 0);
}

static void test_hostile_sizes(void **state)
{
    struct segment segment;
    uint8_t data[64] = {0};
    (void)state;
    for (size_t words = 0; words < 5; words++)
        assert_int_equal(parse(&segment, data, 0, words, 0), -EBADMSG);
    for (size_t words = 6; words < 16; words++)
        assert_int_equal(parse(&segment, data, 0, words, 0), -EBADMSG);
    data[32] = 0x50;
    for (size_t size = 20; size < 40; size++) {
        struct packet packet = {.head_size = 20, .source_port = 1, .target_port = 2, .size = size};
        assert_int_equal(segment_parse(&segment, &packet, data), -EBADMSG);
    }
    struct packet fragment = {.head_size = 20, .source_port = 1, .target_port = 2, .size = 40, .is_fragment = true};
    assert_int_equal(segment_parse(&segment, &fragment, data), -EBADMSG);
    struct packet no_port = {.head_size = 20, .source_port = 1, .size = 40};
    assert_int_equal(segment_parse(&segment, &no_port, data), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_hostile_options),
        cmocka_unit_test(test_hostile_sizes),
    };
    return unit_run(tests);
}
