#include "common/cursor.h"

#include "tests/unit/unit.h"

static void written_and_read_back(void **state)
{
    (void)state;
    uint8_t data[18];
    struct cursor out = cursor_writer(data, sizeof data);
    cursor_put_u8(&out, 0x01);
    cursor_put_u16(&out, 0x0203);
    cursor_put_u32(&out, 0x04050607);
    cursor_put_u64(&out, 0x08090a0b0c0d0e0f);
    cursor_put_bytes(&out, "abc", 3);
    assert_true(cursor_done(&out));
    for (uint8_t i = 0; i < 15; i++)
        assert_int_equal(data[i], i + 1); /* big-endian */

    struct cursor in = cursor_reader(data, sizeof data);
    assert_int_equal(cursor_left(&in), 18);
    assert_int_equal(cursor_u8(&in), 0x01);
    assert_int_equal(cursor_u16(&in), 0x0203);
    assert_int_equal(cursor_u32(&in), 0x04050607);
    assert_true(cursor_u64(&in) == 0x08090a0b0c0d0e0f);
    assert_int_equal(cursor_left(&in), 3);
    const uint8_t *view = cursor_bytes(&in, 3);
    assert_ptr_equal(view, data + 15);
    assert_true(cursor_done(&in));
    cursor_seek(&in, 15);
    assert_false(cursor_done(&in));
    assert_true(cursor_ok(&in));
    char copy[3];
    cursor_copy(&in, copy, 3);
    assert_memory_equal(copy, "abc", 3);
    cursor_seek(&in, 18); /* the end itself is fine */
    assert_true(cursor_done(&in));
}

static void fails_for_good(void **state)
{
    (void)state;
    static const uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct cursor in = cursor_reader(data, 7);
    assert_true(cursor_u64(&in) == 0);
    assert_false(cursor_ok(&in));
    assert_false(cursor_done(&in));
    assert_int_equal(cursor_left(&in), 0);
    assert_int_equal(cursor_u8(&in), 0); /* although there are bytes */
    assert_null(cursor_bytes(&in, 1));
    assert_null(cursor_bytes(&in, 0));
    cursor_seek(&in, 0);
    assert_int_equal(cursor_u8(&in), 0);
    char copy[4] = "xyz";
    cursor_copy(&in, copy, sizeof copy);
    assert_memory_equal(copy, "\0\0\0\0", 4);
}

static void each_get_stops_at_the_end(void **state)
{
    (void)state;
    static const uint8_t data[8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    for (size_t size = 0; size <= 8; size++) {
        struct cursor in = cursor_reader(data, size);
        assert_true((cursor_u16(&in) != 0) == (size >= 2));
        in = cursor_reader(data, size);
        assert_true((cursor_u32(&in) != 0) == (size >= 4));
        in = cursor_reader(data, size);
        assert_true((cursor_u64(&in) != 0) == (size >= 8));
        in = cursor_reader(data, size);
        cursor_skip(&in, 5);
        assert_true(cursor_ok(&in) == (size >= 5));
        in = cursor_reader(data, size);
        cursor_seek(&in, 5);
        assert_true(cursor_ok(&in) == (size >= 5));
        in = cursor_reader(data, size);
        cursor_skip(&in, SIZE_MAX); /* no wrap-around */
        assert_false(cursor_ok(&in));
    }
}

static void a_full_writer_writes_nothing(void **state)
{
    (void)state;
    uint8_t data[4] = {9, 9, 9, 9};
    struct cursor out = cursor_writer(data, 3);
    cursor_put_u32(&out, 1);
    assert_false(cursor_ok(&out));
    cursor_put_u8(&out, 1);
    assert_memory_equal(data, "\x09\x09\x09\x09", 4);
    out = cursor_writer(data, 3);
    cursor_put_bytes(&out, "abcd", 4);
    assert_memory_equal(data, "\x09\x09\x09\x09", 4);
}

static void nothing_is_fine(void **state)
{
    (void)state;
    struct cursor in = cursor_reader(NULL, 0);
    assert_true(cursor_done(&in));
    cursor_copy(&in, NULL, 0);
    cursor_skip(&in, 0);
    assert_true(cursor_done(&in));
    assert_int_equal(cursor_u8(&in), 0);
    struct cursor out = cursor_writer(NULL, 0);
    cursor_put_bytes(&out, NULL, 0);
    assert_true(cursor_done(&out));
    cursor_put_u8(&out, 1);
    assert_false(cursor_ok(&out));
}

/* A reader's memory is never written to: it may be a constant. */
static void a_reader_cannot_be_written_to(void **state)
{
    (void)state;
    static const uint8_t data[4] = {1, 2, 3, 4};
    struct cursor in = cursor_reader(data, sizeof data);
    cursor_put_u8(&in, 9);
    assert_false(cursor_ok(&in));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_and_read_back),     cmocka_unit_test(fails_for_good),
        cmocka_unit_test(each_get_stops_at_the_end), cmocka_unit_test(a_full_writer_writes_nothing),
        cmocka_unit_test(nothing_is_fine),           cmocka_unit_test(a_reader_cannot_be_written_to),
    };
    return unit_run(tests);
}
