#include "tests/unit/unit.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <string.h>

#include "client/kube/agent_status.h"

static struct agent_status status_of(const char *text)
{
    struct agent_status status;
    cJSON *json = cJSON_Parse(text);
    assert_non_null(json);
    assert_int_equal(agent_status_read(&status, json), 0);
    cJSON_Delete(json);
    return status;
}

#define POD(spec, status) \
    "{\"metadata\":{\"name\":\"ktvpn-agent-x-abcde\"},\"spec\":{" spec "},\"status\":{" status "}}"
#define ON_NODE "\"nodeName\":\"node1\""
#define CONTAINER(state)                                                                                               \
    "\"containerStatuses\":[{\"name\":\"proxy\",\"state\":{\"running\":{}}},{\"name\":\"agent\",\"state\":{" state "}" \
    "}"                                                                                                                \
    "]"

static void follows_a_pod_from_pending_to_running(void **state)
{
    (void)state;
    struct agent_status status = status_of(POD("", "\"phase\":\"Pending\""));
    assert_int_equal(status.state, AGENT_PENDING);
    assert_false(status.is_troubled);
    assert_string_equal(status.pod, "ktvpn-agent-x-abcde");
    assert_string_equal(status.node, "");
    assert_int_equal(status.address.family, ADDRESS_NONE);

    status = status_of(POD(ON_NODE, "\"phase\":\"Pending\""));
    assert_int_equal(status.state, AGENT_STARTING);
    assert_string_equal(status.node, "node1");

    status = status_of(POD(ON_NODE, CONTAINER("\"waiting\":{\"reason\":\"ContainerCreating\"}")));
    assert_int_equal(status.state, AGENT_STARTING);
    assert_false(status.is_troubled);

    status = status_of(POD(ON_NODE, "\"phase\":\"Running\",\"podIP\":\"10.232.0.9\"," CONTAINER("\"running\":{}")));
    assert_int_equal(status.state, AGENT_RUNNING);
    char text[ADDRESS_STRLEN];
    assert_string_equal(address_print(&status.address, text), "10.232.0.9");
}

static void tells_the_trouble_in_the_apis_words(void **state)
{
    (void)state;
    struct agent_status status = status_of(POD(
        "", "\"conditions\":[{\"type\":\"PodScheduled\",\"status\":\"False\",\"reason\":\"Unschedulable\",\"message\":"
            "\"0/1 nodes are available: 1 Insufficient cpu.\"}]"));
    assert_int_equal(status.state, AGENT_PENDING);
    assert_true(status.is_troubled);
    assert_string_equal(status.reason, "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.");

    status =
        status_of(POD(ON_NODE, CONTAINER("\"waiting\":{\"reason\":\"ErrImagePull\",\"message\":\"not\\nfound\"}")));
    assert_int_equal(status.state, AGENT_STARTING);
    assert_true(status.is_troubled);
    assert_string_equal(status.reason, "ErrImagePull: not\\x0afound");
}

static void tells_how_it_ended(void **state)
{
    (void)state;
    struct agent_status status = status_of(
        POD(ON_NODE, "\"phase\":\"Failed\"," CONTAINER("\"terminated\":{\"reason\":\"OOMKilled\",\"exitCode\":137}")));
    assert_int_equal(status.state, AGENT_ENDED);
    assert_string_equal(status.reason, "OOMKilled, exit code 137");

    status = status_of(
        POD(ON_NODE, CONTAINER("\"terminated\":{\"reason\":\"StartError\",\"exitCode\":128,\"message\":\"exec "
                               "format error\"}")));
    assert_string_equal(status.reason, "StartError, exit code 128: exec format error");

    status = status_of(POD(ON_NODE, "\"phase\":\"Failed\",\"reason\":\"Evicted\",\"message\":\"low on memory\""));
    assert_int_equal(status.state, AGENT_ENDED);
    assert_string_equal(status.reason, "Evicted: low on memory");

    status =
        status_of("{\"metadata\":{\"name\":\"p\",\"deletionTimestamp\":\"2026-01-01T00:00:00Z\"},\"spec\":{" ON_NODE
                  "},\"status\":{" CONTAINER("\"running\":{}") "}}");
    assert_int_equal(status.state, AGENT_LEAVING);
}

static void bounds_hostile_pods(void **state)
{
    (void)state;
    static const char *const bad[] = {"{}",
                                      "[]",
                                      "7",
                                      "{\"metadata\":{\"name\":\"\"}}",
                                      "{\"metadata\":{\"name\":\"../secrets\"}}",
                                      "{\"metadata\":{\"name\":\"a?b\"}}",
                                      "{\"metadata\":7}"};
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++) {
        struct agent_status status;
        cJSON *json = cJSON_Parse(bad[i]);
        assert_int_equal(agent_status_read(&status, json), -EBADMSG);
        cJSON_Delete(json);
    }
    struct agent_status status;
    assert_int_equal(agent_status_read(&status, NULL), -EBADMSG);

    char text[8192], message[2000];
    memset(message, 'm', sizeof message - 1);
    message[sizeof message - 1] = '\0';
    (void)snprintf(
        text, sizeof text,
        POD(ON_NODE, "\"podIP\":\"no address\"," CONTAINER("\"waiting\":{\"reason\":\"%s\",\"message\":\"%s\"}")),
        message, message);
    status = status_of(text);
    assert_true(status.is_troubled);
    assert_true(strlen(status.reason) < AGENT_STATUS_REASON_MAX);
    assert_int_equal(status.address.family, ADDRESS_NONE);

    memset(message, 'n', 300);
    message[300] = '\0';
    (void)snprintf(text, sizeof text, "{\"metadata\":{\"name\":\"%s\"}}", message);
    cJSON *json = cJSON_Parse(text);
    assert_int_equal(agent_status_read(&status, json), -EBADMSG);
    cJSON_Delete(json);
}

static void finds_the_newest_warning(void **state)
{
    (void)state;
    char reason[AGENT_STATUS_REASON_MAX];
    cJSON *list = cJSON_Parse(
        "{\"items\":[{\"type\":\"Warning\",\"reason\":\"Old\",\"message\":\"o\",\"lastTimestamp\":\"2026-01-01T00:00:"
        "00Z\"},"
        "{\"type\":\"Warning\",\"reason\":\"FailedCreate\",\"message\":\"exceeded "
        "quota\",\"lastTimestamp\":\"2026-01-01T00:00:05Z\"},"
        "{\"type\":\"Normal\",\"reason\":\"Fine\",\"message\":\"f\",\"lastTimestamp\":\"2026-01-01T00:00:03Z\"},"
        "{\"type\":\"Warning\",\"reason\":\"Older\",\"message\":\"p\",\"eventTime\":\"2026-01-01T00:00:04.000000Z\"}]"
        "}");
    assert_int_equal(agent_status_warning(reason, list), 0);
    assert_string_equal(reason, "FailedCreate: exceeded quota");
    cJSON_Delete(list);
    list = cJSON_Parse("{\"items\":[{\"type\":\"Warning\",\"reason\":\"FailedMount\",\"lastTimestamp\":"
                       "\"2026-01-01T00:00:00Z\"},{\"type\":\"Normal\",\"reason\":\"Pulled\",\"lastTimestamp\":"
                       "\"2026-01-01T00:00:00Z\"}]}");
    assert_int_equal(agent_status_warning(reason, list), -ENOENT); /* it has passed */
    cJSON_Delete(list);
    static const char pull[] =
        "{\"type\":\"Warning\",\"reason\":\"Failed\",\"message\":\"Failed to pull x\",\"lastTimestamp\":\"1\"}",
                      echo[] = "{\"type\":\"Warning\",\"reason\":\"Failed\",\"message\":\"Error: ErrImagePull\","
                               "\"lastTimestamp\":\"1\"}";
    for (int i = 0; i < 2; i++) { /* the kubelet's two, in either order: the one that says more */
        char text[512];
        (void)snprintf(text, sizeof text, "{\"items\":[%s,%s]}", i == 0 ? pull : echo, i == 0 ? echo : pull);
        list = cJSON_Parse(text);
        assert_int_equal(agent_status_warning(reason, list), 0);
        assert_string_equal(reason, "Failed: Failed to pull x");
        cJSON_Delete(list);
    }
    list = cJSON_Parse("{\"items\":[{\"type\":\"Warning\",\"reason\":\"Failed\",\"message\":\"Error: alone\"}]}");
    assert_int_equal(agent_status_warning(reason, list), 0);
    assert_string_equal(reason, "Failed: Error: alone");
    cJSON_Delete(list);
    list = cJSON_Parse("{\"items\":[{\"type\":\"Normal\"},7,null,[]]}");
    assert_int_equal(agent_status_warning(reason, list), -ENOENT);
    cJSON_Delete(list);
    assert_int_equal(agent_status_warning(reason, NULL), -ENOENT);
}

#define KEY "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static int key_of(uint8_t key[static WIRE_KEY_SIZE], const char *line, struct error *error)
{
    return agent_status_key(key, line, strlen(line), error);
}

static void reads_the_key_line(void **state)
{
    (void)state;
    uint8_t key[WIRE_KEY_SIZE];
    struct error error;
    assert_int_equal(key_of(key, "ktvpn-agent " KTVPN_VERSION " key " KEY, &error), 0);
    for (uint8_t i = 0; i < WIRE_KEY_SIZE; i++)
        assert_int_equal(key[i], i);
    assert_int_equal(key_of(key, "ktvpn-agent 99.7.1 key " KEY, &error), -EPROTONOSUPPORT);
    assert_non_null(strstr(error.text, "99.7.1"));
    assert_int_equal(error.code, EXIT_CODE_AGENT);
}

static void refuses_other_lines(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "ktvpn-agent",
        "ktvpn-agent " KTVPN_VERSION " key",
        "ktvpn-agent " KTVPN_VERSION " key " KEY " ",
        "ktvpn-agent " KTVPN_VERSION " key " KEY "\r",
        "ktvpn-agent  " KTVPN_VERSION " key " KEY,
        "ktvpn-agent " KTVPN_VERSION " key  " KEY,
        "ktvpn-agent" KTVPN_VERSION "key" KEY,
        " ktvpn-agent " KTVPN_VERSION " key " KEY,
        "ktvpn-agent " KTVPN_VERSION " key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==", /* 31 bytes */
        "ktvpn-agent " KTVPN_VERSION " key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g", /* 33 */
        "ktvpn-agent " KTVPN_VERSION " key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",  /* no padding */
        "ktvpn-agent " KTVPN_VERSION " key ====AwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "exec format error"};
    uint8_t key[WIRE_KEY_SIZE];
    struct error error;
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++)
        assert_int_equal(key_of(key, bad[i], &error), -EBADMSG);
    static const char with_nul[] = "ktvpn-agent " KTVPN_VERSION " key " KEY "\0";
    assert_int_equal(agent_status_key(key, with_nul, sizeof with_nul - 1, &error), -EBADMSG);
    char text[5000];
    memset(text, '\x1b', sizeof text);
    assert_int_equal(agent_status_key(key, text, sizeof text, &error), -EBADMSG);
    assert_null(strchr(error.text, '\x1b'));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_a_pod_from_pending_to_running),
        cmocka_unit_test(tells_the_trouble_in_the_apis_words),
        cmocka_unit_test(tells_how_it_ended),
        cmocka_unit_test(bounds_hostile_pods),
        cmocka_unit_test(finds_the_newest_warning),
        cmocka_unit_test(reads_the_key_line),
        cmocka_unit_test(refuses_other_lines),
    };
    return unit_run(tests);
}
