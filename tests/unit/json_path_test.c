#include "tests/unit/unit.h"

#include <cjson/cJSON.h>
#include <limits.h>

#include "client/kube/json_path.h"

static const char TEXT[] = "{\"a\":{\"b\":[{\"c\":\"x\"},{\"c\":7,\"t\":true,\"f\":1e300}]},\"s\":\"text\",\"n\":null}";

static void finds_by_key_and_index(void **state)
{
    (void)state;
    cJSON *json = cJSON_Parse(TEXT);
    assert_ptr_equal(json_path_get(json, ""), json);
    assert_string_equal(json_path_text(json, "a.b.0.c"), "x");
    assert_string_equal(json_path_text(json, "s"), "text");
    assert_int_equal(json_path_int(json, "a.b.1.c", -1), 7);
    assert_true(json_path_is_true(json, "a.b.1.t"));
    cJSON_Delete(json);
}

static void reads_what_is_not_there_as_nothing(void **state)
{
    (void)state;
    cJSON *json = cJSON_Parse(TEXT);
    static const char *const paths[] = {"b",   "a.b.2", "a.b.x", "a.b.-1", "a.b.99999999999", "s.t",
                                        "n.x", "A",     "a..b",  ".a",     "a.b..c"};
    for (size_t i = 0; i < KT_ARRAY_LEN(paths); i++)
        assert_null(json_path_get(json, paths[i]));
    assert_string_equal(json_path_text(json, "a.b.1.c"), "");
    assert_string_equal(json_path_text(json, "n"), "");
    assert_int_equal(json_path_int(json, "s", -1), -1);
    assert_int_equal(json_path_int(json, "a.b.1.f", -1), -1);
    assert_false(json_path_is_true(json, "a.b.1.c"));
    assert_null(json_path_get(NULL, "a"));
    assert_string_equal(json_path_text(NULL, "a"), "");
    assert_null(json_path_get(json, "a123456789012345678901234567890123456789012345678901234567890123456789"));
    cJSON_Delete(json);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_by_key_and_index),
        cmocka_unit_test(reads_what_is_not_there_as_nothing),
    };
    return unit_run(tests);
}
