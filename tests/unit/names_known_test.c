#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/names/names_known.h"
#include "common/mem.h"

static void finds_what_was_added_and_not_removed(void **state)
{
    (void)state;
    struct names_known known = {0};
    char name[32];
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "n%d", i * 7919 % 1000);
        assert_int_equal(names_known_add(&known, name, 1000), 0);
    }
    assert_int_equal(known.count, 1000);
    for (int i = 0; i < 1000; i += 2) {
        (void)snprintf(name, sizeof name, "n%d", i);
        names_known_remove(&known, name);
        names_known_remove(&known, name);
    }
    assert_int_equal(known.count, 500);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "n%d", i);
        assert_int_equal(names_known_has(&known, name, strlen(name)), i % 2 == 1);
    }
    names_known_deinit(&known);
    assert_int_equal(kt_mem_live(), 0);
}

static void compares_by_size(void **state)
{
    (void)state;
    struct names_known known = {0};
    assert_false(names_known_has(&known, "api", 3));
    assert_int_equal(names_known_add(&known, "api-two", 8), 0);
    assert_int_equal(names_known_add(&known, "api", 8), 0);
    assert_true(names_known_has(&known, "api.ems", 3));
    assert_false(names_known_has(&known, "api.ems", 7));
    assert_false(names_known_has(&known, "ap", 2));
    assert_false(names_known_has(&known, "", 0));
    names_known_deinit(&known);
}

static void bounds_names_and_their_number(void **state)
{
    (void)state;
    struct names_known known = {0};
    static const char *const bad[] = {
        "", "a.b", "A", "a_b", "a b", "\xff", "0123456789012345678901234567890123456789012345678901234567890123"};
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++)
        assert_int_equal(names_known_add(&known, bad[i], 2), -EINVAL);
    assert_int_equal(names_known_add(&known, "a", 2), 0);
    assert_int_equal(names_known_add(&known, "b", 2), 0);
    assert_int_equal(names_known_add(&known, "a", 2), 0);
    assert_int_equal(names_known_add(&known, "c", 2), -E2BIG);
    names_known_remove(&known, "zz");
    names_known_deinit(&known);
    for (unsigned long nth = 1; nth <= 2; nth++) {
        kt_mem_fail_nth(nth);
        assert_int_equal(names_known_add(&known, "a", 2), -ENOMEM);
        assert_false(names_known_has(&known, "a", 1));
    }
    kt_mem_fail_nth(0);
    names_known_deinit(&known);
    assert_int_equal(kt_mem_live(), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_was_added_and_not_removed),
        cmocka_unit_test(compares_by_size),
        cmocka_unit_test(bounds_names_and_their_number),
    };
    return unit_run(tests);
}
