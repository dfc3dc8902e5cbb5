/* The agent's command line. */
#include "agent/settings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct settings settings;
static char error[SETTINGS_ERROR_MAX];

/* Arguments behind the program's name, ended by NULL. */
static int parse(const char *first, ...)
{
    char *argv[200] = {(char *)(uintptr_t) "ktvpn-agent"};
    int argc = 1;
    va_list args;
    va_start(args, first);
    for (const char *arg = first; arg != NULL; arg = va_arg(args, const char *))
        argv[argc++] = (char *)(uintptr_t)arg;
    va_end(args);
    error[0] = '\0';
    return settings_parse(&settings, argc, argv, error);
}

#define KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static void defaults(void **state)
{
    (void)state;
    assert_int_equal(parse(NULL), 0);
    assert_int_equal(settings.action, SETTINGS_RUN);
    assert_int_equal(settings.listens, 2);
    assert_true(address_is_loopback(&settings.listen[0].address) && address_is_loopback(&settings.listen[1].address));
    assert_int_equal(settings.listen[0].address.family, ADDRESS_V4);
    assert_int_equal(settings.listen[1].address.family, ADDRESS_V6);
    assert_int_equal(settings.listen[1].port, 4789);
    assert_true(settings.listen[0].is_default && settings.listen[1].is_default);
    assert_int_equal(settings.idle_first_ms, 30000);
    assert_int_equal(settings.idle_ms, 300000);
    assert_int_equal(settings.log_level, LOG_LEVEL_INFO);
    assert_string_equal(settings.resolv_conf, "/etc/resolv.conf");
}

static void every_option(void **state)
{
    (void)state;
    assert_int_equal(parse("--listen", "127.0.0.2:0", "--listen=[::]:65535", "--allow-key", KEY, "--idle-first", "0",
                           "--idle=2m", "--log-level", "debug", "--resolv-conf", "/x", NULL),
                     0);
    assert_int_equal(settings.listens, 2);
    assert_false(settings.listen[0].is_default);
    assert_int_equal(settings.listen[0].port, 0);
    assert_int_equal(settings.listen[1].port, 65535);
    assert_int_equal(settings.listen[1].address.family, ADDRESS_V6);
    assert_int_equal(settings.keys, 1);
    for (uint8_t i = 0; i < WIRE_KEY_SIZE; i++)
        assert_int_equal(settings.key[0][i], i);
    assert_int_equal(settings.idle_first_ms, 0);
    assert_int_equal(settings.idle_ms, 120000);
    assert_int_equal(settings.log_level, LOG_LEVEL_DEBUG);
    assert_string_equal(settings.resolv_conf, "/x");
    assert_int_equal(parse("--check", NULL), 0);
    assert_int_equal(settings.action, SETTINGS_CHECK);
    assert_int_equal(parse("--version", NULL), 0);
    assert_int_equal(settings.action, SETTINGS_VERSION);
    assert_int_equal(parse("--help", NULL), 0);
    assert_int_equal(settings.action, SETTINGS_HELP);
}

static void open_doors_need_keys(void **state)
{
    (void)state;
    assert_int_equal(parse("--listen", "127.0.0.1:1", "--listen", "10.0.0.1:4789", NULL), -EINVAL);
    assert_non_null(strstr(error, "10.0.0.1:4789"));
    assert_non_null(strstr(error, "--allow-key"));
    assert_int_equal(parse("--listen", "0.0.0.0:4789", NULL), -EINVAL);
    assert_int_equal(parse("--listen", "[::]:4789", NULL), -EINVAL);
    assert_int_equal(parse("--listen", "0.0.0.0:4789", "--allow-key", KEY, NULL), 0);
    assert_int_equal(parse("--listen", "[::1]:1", "--listen", "127.9.9.9:1", NULL), 0);
    assert_int_equal(parse("--listen", "0.0.0.0:4789", "--check", NULL), 0); /* only asks */
}

static void bad_values_are_named(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"--listen", "127.0.0.1"},
        {"--listen", ":4789"},
        {"--listen", "127.0.0.1:65536"},
        {"--listen", "127.0.0.1:"},
        {"--listen", "127.0.0.1:1x"},
        {"--listen", "::1:4789"},
        {"--listen", "[127.0.0.1]:1"},
        {"--listen", "[::1]"},
        {"--listen", "localhost:1"},
        {"--listen", "[::1:4789"},
        {"--listen", "127.0.0.1:-1"},
        {"--allow-key", ""},
        {"--allow-key", "AAEC"},
        {"--allow-key", KEY "="},
        {"--allow-key", KEY "AAEC"},
        {"--idle", ""},
        {"--idle", "s"},
        {"--idle", "-1"},
        {"--idle", "1d"},
        {"--idle", "99999999999999999999999"},
        {"--idle", "9000h"},
        {"--log-level", "loud"},
        {"--resolv-conf", ""},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++) {
        assert_int_equal(parse(bad[i][0], bad[i][1], NULL), -EINVAL);
        assert_non_null(strstr(error, bad[i][0]));
    }
    assert_int_equal(parse("--frob", NULL), -EINVAL);
    assert_non_null(strstr(error, "--frob"));
    assert_int_equal(parse("extra", NULL), -EINVAL);
    assert_int_equal(parse("", NULL), -EINVAL);
    assert_int_equal(parse("--idle", NULL), -EINVAL);
    assert_non_null(strstr(error, "--idle takes TIME"));
    assert_int_equal(parse("--check=1", NULL), -EINVAL);
    assert_non_null(strstr(error, "no value"));
}

static void lists_have_an_end(void **state)
{
    (void)state;
    char *argv[2 * SETTINGS_KEYS_MAX + 3] = {NULL};
    for (int round = 0; round < 2; round++) {
        int max = round == 0 ? SETTINGS_LISTENS_MAX : SETTINGS_KEYS_MAX;
        for (int i = 0; i <= max; i++) {
            argv[1 + 2 * i] = (char *)(uintptr_t)(round == 0 ? "--listen" : "--allow-key");
            argv[2 + 2 * i] = (char *)(uintptr_t)(round == 0 ? "127.0.0.1:1" : KEY);
        }
        assert_int_equal(settings_parse(&settings, 1 + 2 * max, argv, error), 0);
        assert_int_equal(settings_parse(&settings, 3 + 2 * max, argv, error), -EINVAL);
    }
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"0", 0},       {"30", 30000},   {"30s", 30000}, {"250ms", 250},
                {"5m", 300000}, {"1h", 3600000}, {"007s", 7000}};
    uint64_t ms = 1;
    for (size_t i = 0; i < KT_ARRAY_LEN(good); i++) {
        assert_int_equal(settings_parse_duration(&ms, good[i].text), 0);
        assert_int_equal(ms, good[i].ms);
    }
    assert_int_equal(settings_parse_duration(&ms, "1 s"), -EINVAL);
    assert_int_equal(settings_parse_duration(&ms, "1S"), -EINVAL);
}

static void help_names_every_option(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    settings_print_help(out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(text, "--listen ADDRESS:PORT"));
    assert_non_null(strstr(text, "needed when listening"));
    assert_non_null(strstr(text, "--help"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(every_option),
        cmocka_unit_test(open_doors_need_keys),
        cmocka_unit_test(bad_values_are_named),
        cmocka_unit_test(lists_have_an_end),
        cmocka_unit_test(durations),
        cmocka_unit_test(help_names_every_option),
    };
    return unit_run(tests);
}
