/* The command line: kubectl's ways of writing options, and what is refused. */
#include "client/options.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

#define ARGUMENTS_MAX 16
#define PARSE(...) parse((const char *const[]){"ktvpn", __VA_ARGS__, NULL})

static struct options options;
static struct error error;

static int parse(const char *const *arguments)
{
    static char text[ARGUMENTS_MAX][256];
    char *argv[ARGUMENTS_MAX] = {NULL};
    int argc = 0;
    for (; arguments[argc] != NULL; argc++) {
        (void)snprintf(text[argc], sizeof text[argc], "%s", arguments[argc]);
        argv[argc] = text[argc];
    }
    memset(&error, 0, sizeof error);
    return options_parse(&options, argc, argv, &error);
}

static void expect_usage(int rc, const char *text)
{
    assert_int_not_equal(rc, 0);
    assert_int_equal(error.code, EXIT_CODE_USAGE);
    if (strstr(error.text, text) == NULL)
        fail_msg("'%s' is not in '%s'", text, error.text);
}

static void test_ways_to_write(void **state KT_UNUSED)
{
    assert_int_equal(PARSE("up", "-n", "ems", "--context=kt", "--kubeconfig", "/x", "-d"), 0);
    assert_int_equal(options.command, OPTIONS_UP);
    assert_string_equal(options.name_space, "ems");
    assert_string_equal(options.context, "kt");
    assert_string_equal(options.kubeconfig, "/x");
    assert_true(options.is_detached);
    assert_int_equal(PARSE("up", "-nems"), 0);
    assert_string_equal(options.name_space, "ems");
    assert_int_equal(PARSE("up", "-n=ems"), 0);
    assert_string_equal(options.name_space, "ems");
    assert_int_equal(PARSE("up", "--namespace=ems"), 0);
    assert_string_equal(options.name_space, "ems");
}

static void test_ranges_repeat(void **state KT_UNUSED)
{
    assert_int_equal(PARSE("up", "--also", "10.0.0.0/8", "--also=192.0.2.1", "--exclude", "10.1.0.0/16"), 0);
    assert_int_equal(options.also.count, 2);
    assert_int_equal(options.also.cidr[1].prefix, 32);
    assert_int_equal(options.exclude.count, 1);
    expect_usage(PARSE("up", "--also", "10.0.0.1/8"), "10.0.0.1/8");
}

static void test_placement(void **state KT_UNUSED)
{
    assert_int_equal(PARSE("up", "--agent-label", "a=b", "--agent-label=c=d", "--agent-requests=cpu=1"), 0);
    assert_int_equal(options.placement.count[PLACEMENT_LABEL], 2);
    assert_true(options.places_job);
    expect_usage(PARSE("up", "--agent-label", "a b=c"), "a qualified name must consist of");
    expect_usage(PARSE("up", "--agent-limits", "cpu=lots"), "quantities must match");
    expect_usage(PARSE("up", "--agent", "team-a", "--agent-limits", "cpu=1"), "--agent");
    assert_int_equal(PARSE("up", "--agent", "job", "--agent-limits", "cpu=1"), 0);
}

static void test_key(void **state KT_UNUSED)
{
    assert_int_equal(PARSE("key"), 0);
    assert_int_equal(options.command, OPTIONS_KEY);
    assert_int_equal(PARSE("key", "--key", "/k"), 0);
    assert_string_equal(options.key_file, "/k");
    assert_int_equal(PARSE("up", "--key=/k"), 0);
    expect_usage(PARSE("up", "--key="), "--key");
    expect_usage(PARSE("status", "--key=/k"), "--key");
}

static void test_installed_agent(void **state KT_UNUSED)
{
    assert_int_equal(PARSE("up"), 0);
    assert_false(options.is_own_job || options.agent_name[0] || options.agent_place[0]);
    assert_int_equal(PARSE("up", "--agent", "job"), 0);
    assert_true(options.is_own_job);
    assert_int_equal(PARSE("up", "--agent", "team-a"), 0);
    assert_string_equal(options.agent_name, "team-a");
    assert_string_equal(options.agent_place, "");
    assert_int_equal(PARSE("up", "--agent=infra/team-a"), 0);
    assert_string_equal(options.agent_name, "team-a");
    assert_string_equal(options.agent_place, "infra");
    assert_int_equal(PARSE("up", "--agent=infra/team-a", "--agent=job"), 0); /* the last one counts */
    assert_true(options.is_own_job && !options.agent_name[0]);
    static const char *const wrong[] = {"", "/", "a/", "/a", "a/b/c", "A", "a%2Fb", "../x", "udp://1.2.3.4:5"};
    for (size_t i = 0; i < KT_ARRAY_LEN(wrong); i++)
        expect_usage(PARSE("up", "--agent", wrong[i]), "--agent");
    char text[72];
    memset(text, 'a', 64);
    text[64] = '\0';
    expect_usage(PARSE("up", "--agent", text), "--agent");
}

static void test_agent(void **state KT_UNUSED)
{
    static const char key[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_int_equal(PARSE("up", "--agent", "tcp://10.0.0.1:4789", "--agent-key", key, "--also", "10.9.0.0/16"), 0);
    assert_int_equal(options.agent.family, ADDRESS_V4);
    assert_int_equal(options.agent_port, 4789);
    assert_int_equal(PARSE("up", "--agent", "tcp://[fd00::1]:1", "--agent-key", key, "--also", "10.9.0.0/16"), 0);
    assert_int_equal(options.agent.family, ADDRESS_V6);
    expect_usage(PARSE("up", "--agent", "tcp://10.0.0.1:4789", "--also", "10.9.0.0/16"), "--agent-key");
    expect_usage(PARSE("up", "--agent-key", key), "--agent");
    expect_usage(PARSE("up", "--agent", "tcp://10.0.0.1:4789", "--agent-key", key), "--also");
    static const char *const wrong[] = {"10.0.0.1:4789",    "tcp://host:1",         "tcp://10.0.0.1",
                                        "tcp://10.0.0.1:0", "tcp://10.0.0.1:65536", "tcp://10.0.0.1:1x",
                                        "tcp://:1",         "tcp://[fd00::1:1"};
    for (size_t i = 0; i < KT_ARRAY_LEN(wrong); i++)
        expect_usage(PARSE("up", "--agent", wrong[i], "--agent-key", key), "--agent");
    expect_usage(PARSE("up", "--agent-key", "AAAA"), "--agent-key");
}

static void test_commands(void **state KT_UNUSED)
{
    assert_int_equal(PARSE("status", "-o", "json", "kt"), 0);
    assert_string_equal(options.name, "kt");
    assert_string_equal(options.output, "json");
    assert_int_equal(PARSE("down", "-A"), 0);
    assert_true(options.is_for_all);
    assert_int_equal(parse((const char *const[]){"ktvpn", NULL}), 0);
    assert_int_equal(options.command, OPTIONS_HELP);
    assert_int_equal(PARSE("help", "up"), 0);
    assert_int_equal(options.topic, OPTIONS_UP);
    assert_int_equal(PARSE("up", "--help"), 0);
    assert_int_equal(options.command, OPTIONS_HELP);
    assert_int_equal(options.topic, OPTIONS_UP);
    assert_int_equal(PARSE("--version"), 0);
    assert_int_equal(options.command, OPTIONS_VERSION);
}

static void test_refused(void **state KT_UNUSED)
{
    expect_usage(PARSE("fly"), "fly");
    expect_usage(PARSE("up", "--wings"), "--wings");
    expect_usage(PARSE("up", "-z"), "-z");
    expect_usage(PARSE("up", "extra"), "extra");
    expect_usage(PARSE("up", "-n"), "needs a value");
    expect_usage(PARSE("up", "--detach=yes"), "takes no value");
    expect_usage(PARSE("status", "-n", "ems"), "no option of this command");
    expect_usage(PARSE("-n", "ems"), "no option of this command");
    expect_usage(PARSE("status", "-o", "yaml"), "yaml");
    expect_usage(PARSE("up", "--name", "../x"), "../x");
    expect_usage(PARSE("up", "--name", ".x"), ".x");
    expect_usage(PARSE("down", "kt", "--all"), "--all");
    expect_usage(PARSE("down", "a", "b"), "b");
}

static void test_help_names_every_option(void **state KT_UNUSED)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    options_help(out, OPTIONS_UP);
    options_help(out, 0);
    (void)fclose(out);
    static const char *const wanted[] = {"--namespace",   "--context", "--kubeconfig", "--detach",
                                         "--also",        "--exclude", "--agent ",     "--agent-key",
                                         "--agent-image", "-n,",       "Exit codes"};
    for (size_t i = 0; i < KT_ARRAY_LEN(wanted); i++)
        assert_non_null(strstr(text, wanted[i]));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ways_to_write),
        cmocka_unit_test(test_ranges_repeat),
        cmocka_unit_test(test_agent),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_installed_agent),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_help_names_every_option),
    };
    return unit_run(tests);
}
