/* The flags that place the agent's pod: what Kubernetes would take, what it would not, and what becomes of them. */
#include "client/kube/placement.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "client/kube/json_path.h"
#include "tests/unit/unit.h"

static struct placement placement;

static const char job_text[] = "{\"metadata\":{\"labels\":{},\"annotations\":{}},\"spec\":{\"template\":{\"metadata\":{"
                               "\"labels\":{},\"annotations\":{}},\"spec\":{\"nodeSelector\":{\"kubernetes.io/os\":"
                               "\"linux\"},\"containers\":[{\"resources\":{\"requests\":{\"cpu\":\"50m\",\"memory\":"
                               "\"32Mi\"},\"limits\":{\"cpu\":\"2\"}}}]}}}}";

static int set_up(void **state KT_UNUSED)
{
    placement = (struct placement){0};
    return 0;
}

static void add(enum placement_kind kind, const char *text)
{
    assert_null(placement_add(&placement, kind, text));
}

static void test_what_is_taken(void **state KT_UNUSED)
{
    add(PLACEMENT_NODE_SELECTOR, "disk=ssd");
    add(PLACEMENT_NODE_SELECTOR, "node.example.com/empty=");
    add(PLACEMENT_TOLERATION, "dedicated");
    add(PLACEMENT_TOLERATION, "dedicated=ci");
    add(PLACEMENT_TOLERATION, "node-role.kubernetes.io/control-plane:NoSchedule");
    add(PLACEMENT_TOLERATION, "a=b:NoExecute");
    add(PLACEMENT_PULL_SECRET, "pull.me-1");
    add(PLACEMENT_REQUESTS, "cpu=100m,memory=1.5Gi");
    add(PLACEMENT_LIMITS, "ephemeral-storage=1e3");
    add(PLACEMENT_LABEL, "team=a.b_c-D");
    add(PLACEMENT_ANNOTATION, "example.com/why=any text, at all = fine");
}

static void test_what_is_not(void **state KT_UNUSED)
{
    static const struct {
        enum placement_kind kind;
        const char *text, *words;
    } cases[] = {
        {PLACEMENT_NODE_SELECTOR, "", "KEY=VALUE"},
        {PLACEMENT_NODE_SELECTOR, "disk", "KEY=VALUE"},
        {PLACEMENT_NODE_SELECTOR, "=ssd", "qualified name"},
        {PLACEMENT_NODE_SELECTOR, "-a=b", "qualified name"},
        {PLACEMENT_NODE_SELECTOR, "a..b/c=d", "qualified name"},
        {PLACEMENT_NODE_SELECTOR, "A/c=d", "qualified name"},
        {PLACEMENT_NODE_SELECTOR, "a/b/c=d", "qualified name"},
        {PLACEMENT_NODE_SELECTOR, "disk=a b", "valid label"},
        {PLACEMENT_NODE_SELECTOR, "disk=-", "valid label"},
        {PLACEMENT_LABEL, "a=b=c", "valid label"},
        {PLACEMENT_LABEL, "a=0123456789012345678901234567890123456789012345678901234567890123", "valid label"},
        {PLACEMENT_LABEL, "app.kubernetes.io/instance=x", "own"},
        {PLACEMENT_TOLERATION, "", "qualified name"},
        {PLACEMENT_TOLERATION, "a=b:Never", "taint effect"},
        {PLACEMENT_TOLERATION, "a:", "taint effect"},
        {PLACEMENT_TOLERATION, "a=b c", "valid label"},
        {PLACEMENT_PULL_SECRET, "", "subdomain"},
        {PLACEMENT_PULL_SECRET, "A", "subdomain"},
        {PLACEMENT_PULL_SECRET, "a..b", "subdomain"},
        {PLACEMENT_PULL_SECRET, "../a", "subdomain"},
        {PLACEMENT_REQUESTS, "cpu", "KEY=VALUE"},
        {PLACEMENT_REQUESTS, "cpu=", "quantities"},
        {PLACEMENT_REQUESTS, "cpu=lots", "quantities"},
        {PLACEMENT_REQUESTS, "cpu=1,", "KEY=VALUE"},
        {PLACEMENT_LIMITS, "memory=1 Gi", "quantities"},
        {PLACEMENT_ANNOTATION, "no value", "KEY=VALUE"},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        const char *why = placement_add(&placement, cases[i].kind, cases[i].text);
        assert_non_null(why);
        assert_non_null(strstr(why, cases[i].words));
    }
    for (enum placement_kind kind = 0; kind < PLACEMENT_KINDS; kind++)
        assert_int_equal(placement.count[kind], 0);
    for (int i = 0; i < PLACEMENT_MAX; i++)
        add(PLACEMENT_LABEL, "a=b");
    assert_non_null(placement_add(&placement, PLACEMENT_LABEL, "a=b"));
}

static const char *text_at(const cJSON *root, const char *path, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json_path_get(root, path), key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static void test_into_the_job(void **state KT_UNUSED)
{
    cJSON *job = cJSON_Parse(job_text);
    test_what_is_taken(NULL);
    assert_int_equal(placement_apply(&placement, job), 0);
    static const char pod[] = "spec.template.spec";
    const cJSON *spec = json_path_get(job, pod);
    assert_string_equal(text_at(spec, "nodeSelector", "disk"), "ssd");
    assert_string_equal(text_at(spec, "nodeSelector", "kubernetes.io/os"), "linux");
    assert_string_equal(json_path_text(spec, "tolerations.0.operator"), "Exists");
    assert_string_equal(json_path_text(spec, "tolerations.1.value"), "ci");
    assert_string_equal(json_path_text(spec, "tolerations.2.effect"), "NoSchedule");
    assert_string_equal(json_path_text(spec, "tolerations.3.operator"), "Equal");
    assert_string_equal(json_path_text(spec, "imagePullSecrets.0.name"), "pull.me-1");
    assert_string_equal(json_path_text(spec, "containers.0.resources.requests.memory"), "1.5Gi");
    assert_string_equal(json_path_text(spec, "containers.0.resources.limits.cpu"), "2"); /* not said: as it was */
    assert_string_equal(text_at(job, "metadata.labels", "team"), "a.b_c-D");
    assert_string_equal(text_at(job, "spec.template.metadata.labels", "team"), "a.b_c-D");
    assert_string_equal(text_at(job, "spec.template.metadata.annotations", "example.com/why"),
                        "any text, at all = fine");
    assert_int_equal(cJSON_GetArraySize(json_path_get(spec, "containers.0.resources.requests")), 2);
    cJSON_Delete(job);
    job = cJSON_Parse("{}");
    assert_int_not_equal(placement_apply(&placement, job), 0);
    cJSON_Delete(job);
}

static bool fits(const char *text)
{
    cJSON *node = cJSON_Parse(text);
    bool result = placement_fits(&placement, node);
    cJSON_Delete(node);
    return result;
}

static void test_against_nodes(void **state KT_UNUSED)
{
    static const char plain[] = "{\"metadata\":{\"labels\":{\"disk\":\"ssd\"}}}";
    static const char tainted[] = "{\"metadata\":{\"labels\":{\"disk\":\"ssd\"}},\"spec\":{\"taints\":[{\"key\":\"a\","
                                  "\"value\":\"b\",\"effect\":\"NoSchedule\"},{\"key\":\"c\",\"effect\":"
                                  "\"PreferNoSchedule\"}]}}";
    assert_true(fits(plain) && fits("{}") && !fits(tainted));
    add(PLACEMENT_TOLERATION, "a=c");
    add(PLACEMENT_TOLERATION, "a:NoExecute");
    assert_false(fits(tainted));
    add(PLACEMENT_TOLERATION, "a=b:NoSchedule");
    assert_true(fits(tainted));
    add(PLACEMENT_NODE_SELECTOR, "disk=ssd");
    assert_true(fits(tainted) && !fits("{}"));
    add(PLACEMENT_NODE_SELECTOR, "disk=hdd");
    assert_false(fits(plain));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_what_is_taken, set_up), cmocka_unit_test_setup(test_what_is_not, set_up),
        cmocka_unit_test_setup(test_into_the_job, set_up), cmocka_unit_test_setup(test_against_nodes, set_up)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
