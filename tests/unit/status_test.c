/* `status` and `down` against control sockets in a runtime folder of the test's own. */
#include "client/status.h"

#include <errno.h>

#include "tests/unit/control_fixture.h"

static int print_status(struct fixture *fixture, const char *output, const char *name)
{
    size_t size = 0;
    struct options options = {.command = OPTIONS_STATUS, .output = output, .name = name};
    FILE *out = open_memstream(&fixture->printed, &size);
    int rc = status_run(&options, out, &fixture->error);
    (void)fclose(out);
    return rc;
}

static int ask_table(struct fixture *fixture)
{
    return print_status(fixture, NULL, NULL);
}

static int ask_json(struct fixture *fixture)
{
    return print_status(fixture, "json", NULL);
}

static int ask_unknown(struct fixture *fixture)
{
    return print_status(fixture, NULL, "another");
}

static int ask_down(struct fixture *fixture)
{
    size_t size = 0;
    struct options options = {.command = OPTIONS_DOWN};
    FILE *out = open_memstream(&fixture->printed, &size);
    int rc = down_run(&options, out, &fixture->error);
    (void)fclose(out);
    return rc;
}

static void test_status(void **state KT_UNUSED)
{
    struct fixture fixture;
    with_control(&fixture, ask_table);
    assert_int_equal(fixture.asked, 0);
    static const char *const wanted[] = {"kt: connected", "https://192.0.2.1:6443", "ems", "10.222.0.0/16", "1.5 ms",
                                         "no ping"};
    for (size_t i = 0; i < KT_ARRAY_LEN(wanted); i++)
        assert_non_null(strstr(fixture.printed, wanted[i]));
    free(fixture.printed);
    with_control(&fixture, ask_json);
    assert_int_equal(fixture.asked, 0);
    assert_non_null(strstr(fixture.printed, "\"items\""));
    assert_non_null(strstr(fixture.printed, "\"connected\""));
    free(fixture.printed);
}

static void test_unknown_name(void **state KT_UNUSED)
{
    struct fixture fixture;
    with_control(&fixture, ask_unknown);
    assert_int_equal(fixture.asked, -ENOENT);
    assert_int_equal(fixture.error.code, EXIT_CODE_NOT_RUNNING);
    free(fixture.printed);
}

static void test_down_waits_for_the_end(void **state KT_UNUSED)
{
    struct fixture fixture;
    with_control(&fixture, ask_down);
    assert_int_equal(fixture.asked, 0);
    assert_true(fixture.is_down);
    assert_string_equal(fixture.printed, "kt: left\n");
    free(fixture.printed);
}

static void test_nobody(void **state KT_UNUSED)
{
    struct fixture fixture = {0};
    assert_int_equal(ask_down(&fixture), -ENOENT);
    assert_int_equal(fixture.error.code, EXIT_CODE_NOT_RUNNING);
    free(fixture.printed);
    assert_int_equal(ask_json(&fixture), -ENOENT);
    assert_non_null(strstr(fixture.printed, "\"items\""));
    free(fixture.printed);
}

/* -o json with a name: that one's object alone. */
static int ask_named_json(struct fixture *fixture)
{
    return print_status(fixture, "json", "kt");
}

static void test_named_json(void **state KT_UNUSED)
{
    struct fixture fixture;
    with_control(&fixture, ask_named_json);
    assert_int_equal(fixture.asked, 0);
    assert_null(strstr(fixture.printed, "\"items\""));
    assert_non_null(strstr(fixture.printed, "\"connected\""));
    free(fixture.printed);
}

/* Its lock is held and nobody listens: it starts. */
static void test_starting(void **state KT_UNUSED)
{
    struct fixture fixture = {0};
    struct instance instance;
    assert_int_equal(instance_acquire(&instance, "young", &fixture.error), 0);
    assert_int_equal(ask_table(&fixture), 0);
    assert_string_equal(fixture.printed, "young: starting\n");
    free(fixture.printed);
    instance_release(&instance);
}

static int ask_down_all(struct fixture *fixture)
{
    size_t size = 0;
    struct options options = {.command = OPTIONS_DOWN, .is_for_all = true};
    FILE *out = open_memstream(&fixture->printed, &size);
    int rc = down_run(&options, out, &fixture->error);
    (void)fclose(out);
    return rc;
}

/* Of two, one has to be named; and --all goes on after one that does not leave. */
static void test_down_of_several(void **state KT_UNUSED)
{
    struct fixture fixture;
    struct instance other;
    struct error error;
    assert_int_equal(instance_acquire(&other, "another", &error), 0);
    with_control(&fixture, ask_down);
    assert_int_equal(fixture.asked, -EINVAL);
    assert_int_equal(fixture.error.code, EXIT_CODE_USAGE);
    assert_non_null(strstr(fixture.error.text, "'another', 'kt'"));
    assert_false(fixture.is_down);
    free(fixture.printed);
    with_control(&fixture, ask_down_all);
    assert_int_equal(fixture.asked, -ECONNREFUSED);
    assert_non_null(strstr(fixture.error.text, "'another' did not leave"));
    assert_true(fixture.is_down);
    assert_string_equal(fixture.printed, "kt: left\n");
    free(fixture.printed);
    instance_release(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_named_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_down_waits_for_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_starting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_down_of_several, set_up, tear_down),
    };
    return unit_run(tests);
}
