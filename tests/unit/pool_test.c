#include "netstack/pool.h"

#include <string.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

static void test_sizes(void **state)
{
    (void)state;
    for (size_t size = 0; size < 70000; size += 333) {
        char *memory = pool_alloc(size);
        assert_non_null(memory);
        assert_true(pool_capacity(memory) >= size);
        assert_int_equal((uintptr_t)memory % 16, 0);
        memset(memory, 1, pool_capacity(memory));
        pool_free(memory);
    }
    pool_free(NULL);
    pool_trim();
    assert_int_equal(kt_mem_live(), 0);
}

static void test_zeroed(void **state)
{
    static const char zeros[3000];
    (void)state;
    char *memory = pool_alloc(sizeof zeros);
    memset(memory, 1, sizeof zeros);
    pool_free(memory);
    memory = pool_calloc(3, 1000);
    assert_memory_equal(memory, zeros, sizeof zeros);
    pool_free(memory);
    assert_null(pool_calloc((size_t)-1, 2));
    pool_trim();
}

static void test_no_memory(void **state)
{
    (void)state;
    kt_mem_fail_nth(1);
    assert_null(pool_alloc(100));
    kt_mem_fail_nth(1);
    assert_null(pool_calloc(1, 100000));
    kt_mem_fail_nth(0);
    assert_int_equal(kt_mem_live(), 0);
}

/* What is kept has a ceiling. */
static void test_ceiling(void **state)
{
    static void *blocks[600];
    (void)state;
    for (size_t i = 0; i < KT_ARRAY_LEN(blocks); i++)
        blocks[i] = pool_alloc(65000);
    for (size_t i = 0; i < KT_ARRAY_LEN(blocks); i++)
        pool_free(blocks[i]);
    assert_true(kt_mem_live() <= (long)(POOL_KEPT_BYTES_MAX / 65000));
    pool_trim();
    assert_int_equal(kt_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_zeroed),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_ceiling),
    };
    return unit_run(tests);
}
