/* The status as JSON. */
#include "client/report.h"

#include <string.h>

#include <cjson/cJSON.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

static char *sample(void)
{
    static struct cidr_set ranges;
    static struct address v4;
    struct cidr range;
    v4 = address_v4(0xc6120005);
    cidr_set_init(&ranges);
    assert_int_equal(cidr_parse(&range, "10.222.0.0/16"), 0);
    assert_int_equal(cidr_set_add(&ranges, &range), 0);
    struct report report = {.name = "kt",
                            .state = "connected",
                            .context = "kt",
                            .cluster = "https://192.0.2.1:6443",
                            .name_space = "ems",
                            .pod = "agent-1",
                            .device = "ktvpn0",
                            .v4 = &v4,
                            .ranges = &ranges,
                            .nameserver = {address_v4(0xc0000201)},
                            .nameservers = 1,
                            .tunnel = {.state = TUNNEL_UP, .carriers = 1, .carrier = {{.rtt_us = 1500, .bytes_in = 7}}},
                            .warning = {"no ping"},
                            .warnings = 1};
    return report_json(&report);
}

static void test_fields(void **state KT_UNUSED)
{
    char *text = sample();
    cJSON *json = cJSON_Parse(text);
    assert_non_null(json);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(json, "state")), "connected");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(json, "namespace")), "ems");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(json, "ranges"), 0)),
                        "10.222.0.0/16");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(json, "nameservers"), 0)),
                        "192.0.2.1");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetArrayItem(cJSON_GetObjectItem(json, "addresses"), 0)),
                        "198.18.0.5");
    assert_true(cJSON_GetObjectItem(json, "rtt_ms")->valuedouble == 1.5);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(json, "carriers")), 1);
    assert_null(cJSON_GetObjectItem(json, "since")); /* what is not known is not there */
    assert_int_equal(text[strlen(text) - 1], '\n');
    cJSON_Delete(json);
    kt_free(text);
}

static void test_no_memory(void **state KT_UNUSED)
{
    kt_mem_fail_nth(1);
    assert_null(sample());
    assert_int_equal(kt_mem_live(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fields), cmocka_unit_test(test_no_memory)};
    return unit_run(tests);
}
