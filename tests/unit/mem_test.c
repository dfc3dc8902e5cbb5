#include "common/mem.h"

#include <stdint.h>
#include <string.h>

#include "tests/unit/unit.h"

static void live_requests_are_counted(void **state)
{
    (void)state;
    long before = kt_mem_live();
    char *a = kt_calloc(3, 5), *b = kt_strdup("hello"), *c = kt_asprintf("%d-%s", 7, "x");
    char *d = kt_realloc(NULL, 10);
    assert_int_equal(kt_mem_live(), before + 4);
    for (int i = 0; i < 15; i++)
        assert_int_equal(a[i], 0);
    assert_string_equal(b, "hello");
    assert_string_equal(c, "7-x");
    d = kt_realloc(d, 100000);
    assert_non_null(d);
    assert_int_equal(kt_mem_live(), before + 4);
    kt_free(a);
    kt_free(b);
    kt_free_secret(c, strlen(c));
    kt_free(d);
    kt_free(NULL);
    kt_free_secret(NULL, 10);
    assert_int_equal(kt_mem_live(), before);
}

static void the_nth_request_fails_and_no_other(void **state)
{
    (void)state;
    char *kept = kt_strdup("kept");
    for (unsigned long nth = 1; nth <= 5; nth++) {
        kt_mem_fail_nth(nth);
        char *got[6] = {kt_calloc(1, 1),      kt_strdup("a"),      kt_strndup("abc", 2),
                        kt_asprintf("%d", 1), kt_realloc(NULL, 4), kt_calloc(1, 1)};
        for (unsigned long i = 0; i < 6; i++) {
            assert_true((got[i] == NULL) == (i + 1 == nth));
            kt_free(got[i]);
        }
    }
    kt_mem_fail_nth(1);
    assert_null(kt_realloc(kept, 1000));
    assert_string_equal(kept, "kept"); /* still ours */
    kt_mem_fail_nth(1);
    kt_mem_fail_nth(0); /* off */
    char *again = kt_realloc(kept, 1000);
    assert_string_equal(again, "kept");
    kt_free(again);
}

static void strndup_stops_at_the_end(void **state)
{
    (void)state;
    static const char bytes[3] = {'a', 'b', 'c'}; /* no NUL behind */
    char *text = kt_strndup(bytes, 3);
    assert_string_equal(text, "abc");
    kt_free(text);
    text = kt_strndup("ab", 100); /* shorter than said */
    assert_string_equal(text, "ab");
    kt_free(text);
    text = kt_strndup("ab", SIZE_MAX);
    assert_string_equal(text, "ab");
    kt_free(text);
    text = kt_strndup("", 0);
    assert_string_equal(text, "");
    kt_free(text);
}

static void impossible_sizes(void **state)
{
    (void)state;
    volatile size_t huge = SIZE_MAX / 2; /* hidden from the compiler's own check */
    assert_null(kt_calloc(huge, 3));     /* the product wraps */
    long before = kt_mem_live();
    char *text = kt_realloc(NULL, 0);
    assert_non_null(text);
    text = kt_realloc(text, 0); /* never a hidden free() */
    assert_non_null(text);
    assert_int_equal(kt_mem_live(), before + 1);
    kt_free(text);
    assert_int_equal(kt_mem_live(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_requests_are_counted),
        cmocka_unit_test(the_nth_request_fails_and_no_other),
        cmocka_unit_test(strndup_stops_at_the_end),
        cmocka_unit_test(impossible_sizes),
    };
    return unit_run(tests);
}

/* calloc() of an impossible size is an error for ASan, and NULL for us. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
