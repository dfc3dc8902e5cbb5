/* Rights that are missing, as text. */
#include "client/kube/access.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

static void test_nothing_is_missing(void **state KT_UNUSED)
{
    struct error error;
    static const struct access_need needs[] = {{"", "pods", "get", true}, {"batch", "jobs", "create", true}};
    assert_int_equal(access_missing(needs, KT_ARRAY_LEN(needs), "ems", &error), 0);
}

static void test_rules(void **state KT_UNUSED)
{
    struct error error;
    static const struct access_need needs[] = {{"batch", "jobs", "create", false},
                                               {"batch", "jobs", "get", true},
                                               {"", "pods/portforward", "get", false},
                                               {"batch", "jobs", "delete", false},
                                               {"", "pods/portforward", "create", false}};
    assert_int_equal(access_missing(needs, KT_ARRAY_LEN(needs), "ems", &error), -EACCES);
    assert_int_equal(error.code, EXIT_CODE_FORBIDDEN);
    assert_non_null(strstr(error.text, "in namespace ems to: create jobs, get pods/portforward, delete jobs"));
    assert_non_null(strstr(error.text,
                           "\n  - {apiGroups: [\"batch\"], resources: [jobs], verbs: [create, delete]}"
                           "\n  - {apiGroups: [\"\"], resources: [pods/portforward], verbs: [get, create]}"));
}

static void test_everything_is_missing_fits(void **state KT_UNUSED)
{
    struct error error;
    struct access_need needs[ACCESS_NEEDS_MAX];
    for (size_t i = 0; i < KT_ARRAY_LEN(needs); i++)
        needs[i] = (struct access_need){"a.group.with.a.long.name.example", "things.with.a.long.name/and-a-subresource",
                                        "deletecollection", false};
    assert_int_equal(access_missing(needs, KT_ARRAY_LEN(needs), "ems", &error), -EACCES);
    assert_true(strlen(error.text) < sizeof error.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_is_missing), cmocka_unit_test(test_rules),
                                       cmocka_unit_test(test_everything_is_missing_fits)};
    return unit_run(tests);
}
