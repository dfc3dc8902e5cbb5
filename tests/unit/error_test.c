#include "client/error.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

static void set_returns_what_it_was_given(void **state)
{
    (void)state;
    struct error error = {0};
    assert_int_equal(error_set(&error, EXIT_CODE_FORBIDDEN, -EACCES, "no right to %s %s", "create", "jobs"), -EACCES);
    assert_int_equal(error.code, EXIT_CODE_FORBIDDEN);
    assert_string_equal(error.text, "no right to create jobs");
    assert_int_equal(error_set(&error, EXIT_CODE_FAILED, 0, "%s", ""), 0); /* the newest wins */
    assert_int_equal(error.code, EXIT_CODE_FAILED);
    assert_string_equal(error.text, "");
}

static void long_texts_are_cut(void **state)
{
    (void)state;
    struct error error;
    char text[3 * ERROR_TEXT_MAX];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(error_set(&error, EXIT_CODE_FAILED, -1, "%s", text), -1);
    assert_int_equal(strlen(error.text), ERROR_TEXT_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_returns_what_it_was_given),
        cmocka_unit_test(long_texts_are_cut),
    };
    return unit_run(tests);
}
