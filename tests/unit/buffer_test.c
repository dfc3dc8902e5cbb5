#include "common/buffer.h"

#include <string.h>

#include "tests/unit/unit.h"

static void bytes_come_out_in_order(void **state)
{
    (void)state;
    uint8_t memory[50], next_in = 0, next_out = 0;
    struct buffer buffer = {.data = memory, .capacity = sizeof memory};
    uint32_t random = 1;
    for (int step = 0; step < 5000; step++) {
        random = random * 1664525u + 1013904223u;
        size_t in = (random >> 8) % 30, out = (random >> 16) % 30, before = buffer_size(&buffer);
        uint8_t *tail = buffer_tail(&buffer, in);
        assert_true((tail != NULL) == (before + in <= sizeof memory)); /* NULL only when there is truly no room */
        for (size_t i = 0; tail != NULL && i < in; i++)
            tail[i] = next_in++;
        buffer.end += tail != NULL ? in : 0;
        before = buffer_size(&buffer);
        const uint8_t *head = buffer_take(&buffer, out);
        assert_true((head != NULL) == (before >= out));
        for (size_t i = 0; head != NULL && i < out; i++)
            assert_int_equal(head[i], next_out++);
    }
}

static void full_and_empty(void **state)
{
    (void)state;
    uint8_t memory[4];
    struct buffer buffer = {.data = memory, .capacity = sizeof memory};
    assert_null(buffer_take(&buffer, 1));
    assert_null(buffer_tail(&buffer, 5));
    buffer_put(&buffer, "abcd", 4);
    assert_null(buffer_tail(&buffer, 1));
    assert_memory_equal(buffer_take(&buffer, 3), "abc", 3);
    buffer_put(&buffer, "efg", 3); /* moves "d" to the front */
    assert_memory_equal(buffer_take(&buffer, 4), "defg", 4);
    assert_int_equal(buffer_size(&buffer), 0);
    assert_ptr_equal(buffer_tail(&buffer, 4), memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_come_out_in_order),
        cmocka_unit_test(full_and_empty),
    };
    return unit_run(tests);
}
