#include "tests/unit/unit.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "client/kube/agent_manifest.h"
#include "client/kube/json_path.h"
#include "common/mem.h"

#define POD "spec.template.spec"
#define CONTAINER POD ".containers.0"

static const struct image_pick PICK = {
    .image = "r/pause:3.9", .arch = "amd64", .node = {"n1", "n2"}, .nodes = 2, .secret = {"pull"}, .secrets = 1};

static const char *label(const cJSON *object, const char *path, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json_path_get(object, path), key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static void job_runs_the_binary_in_a_picked_image(void **state)
{
    (void)state;
    struct agent_manifest manifest = {"ktvpn-agent-x", "alice@\"laptop\"", NULL, &PICK, NULL};
    cJSON *job = agent_manifest_job(&manifest);
    assert_non_null(job);
    assert_string_equal(json_path_text(job, "metadata.name"), "ktvpn-agent-x");
    assert_string_equal(label(job, "metadata.annotations", "ktvpn/owner"), "alice@\"laptop\"");
    assert_string_equal(label(job, "spec.template.metadata.labels", AGENT_MANIFEST_LABEL), "ktvpn-agent-x");
    assert_string_equal(json_path_text(job, CONTAINER ".image"), "r/pause:3.9");
    assert_string_equal(json_path_text(job, CONTAINER ".command.0"), "/ktvpn/ktvpn-agent");
    assert_string_equal(json_path_text(job, POD ".volumes.0.configMap.name"), "ktvpn-agent-x");
    assert_int_equal(json_path_int(job, POD ".volumes.0.configMap.defaultMode", 0), 0555);
    assert_string_equal(label(job, POD ".nodeSelector", "kubernetes.io/arch"), "amd64");
    static const char TERMS[] =
        POD ".affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    const cJSON *terms = json_path_get(job, TERMS);
    assert_int_equal(cJSON_GetArraySize(terms), 2);
    assert_string_equal(json_path_text(terms, "1.matchFields.0.values.0"), "n2");
    assert_string_equal(json_path_text(job, POD ".imagePullSecrets.0.name"), "pull");
    cJSON *pod = agent_manifest_pod(job); /* the same, as a pod of its own */
    assert_string_equal(json_path_text(pod, "kind"), "Pod");
    assert_string_equal(json_path_text(pod, "metadata.name"), "ktvpn-agent-x");
    assert_true(cJSON_Compare(json_path_get(pod, "spec"), json_path_get(job, POD), true));
    cJSON_Delete(pod);
    cJSON_Delete(job);
}

/* What Pod Security "restricted", quotas and meshes ask for. */
static void job_is_admitted_anywhere(void **state)
{
    (void)state;
    struct agent_manifest manifest = {"ktvpn-agent-x", NULL, NULL, &PICK, NULL};
    cJSON *job = agent_manifest_job(&manifest);
    assert_true(json_path_is_true(job, POD ".securityContext.runAsNonRoot"));
    assert_int_equal(json_path_int(job, POD ".securityContext.runAsUser", 0), 65532);
    assert_string_equal(json_path_text(job, POD ".securityContext.seccompProfile.type"), "RuntimeDefault");
    assert_string_equal(json_path_text(job, CONTAINER ".securityContext.capabilities.drop.0"), "ALL");
    assert_true(cJSON_IsFalse(json_path_get(job, CONTAINER ".securityContext.allowPrivilegeEscalation")));
    assert_true(json_path_is_true(job, CONTAINER ".securityContext.readOnlyRootFilesystem"));
    assert_true(cJSON_IsFalse(json_path_get(job, POD ".automountServiceAccountToken")));
    assert_true(cJSON_IsFalse(json_path_get(job, POD ".enableServiceLinks")));
    static const char *const resources[] = {"requests.cpu", "requests.memory", "limits.cpu", "limits.memory"};
    const cJSON *given = json_path_get(job, CONTAINER ".resources");
    for (size_t i = 0; i < KT_ARRAY_LEN(resources); i++)
        assert_string_not_equal(json_path_text(given, resources[i]), "");
    assert_string_equal(label(job, "spec.template.metadata.annotations", "linkerd.io/inject"), "disabled");
    assert_string_equal(label(job, "spec.template.metadata.labels", "sidecar.istio.io/inject"), "false");
    assert_int_equal(json_path_int(job, "spec.ttlSecondsAfterFinished", 0), 60);
    assert_int_equal(json_path_int(job, "spec.backoffLimit", -1), 0);
    assert_null(json_path_get(job, "metadata.annotations.ktvpn/owner"));
    cJSON_Delete(job);
}

static void job_takes_an_image_of_the_agent_as_it_is(void **state)
{
    (void)state;
    struct agent_manifest manifest = {"ktvpn-agent-x", "a@b", "r/ktvpn-agent:1", NULL, NULL};
    cJSON *job = agent_manifest_job(&manifest);
    assert_string_equal(json_path_text(job, CONTAINER ".image"), "r/ktvpn-agent:1");
    assert_null(json_path_get(job, CONTAINER ".command"));
    assert_null(json_path_get(job, POD ".volumes"));
    assert_null(json_path_get(job, POD ".affinity"));
    cJSON_Delete(job);
}

static void config_map_holds_the_binary_and_belongs_to_the_job(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0x7f, 'E', 'L', 'F', 0, 0xff};
    struct agent_binary binary = {"amd64", bytes, sizeof bytes};
    cJSON *map = agent_manifest_config_map("ktvpn-agent-x", "uid-1", &binary);
    assert_string_equal(json_path_text(map, "binaryData.ktvpn-agent"), "f0VMRgD/");
    assert_string_equal(json_path_text(map, "metadata.ownerReferences.0.uid"), "uid-1");
    assert_string_equal(json_path_text(map, "metadata.ownerReferences.0.name"), "ktvpn-agent-x");
    assert_string_equal(json_path_text(map, "metadata.ownerReferences.0.kind"), "Job");
    assert_null(json_path_get(map, "metadata.ownerReferences.0.blockOwnerDeletion"));
    cJSON_Delete(map);

    kt_mem_fail_nth(1);
    assert_null(agent_manifest_config_map("ktvpn-agent-x", "uid-1", &binary));
    kt_mem_fail_nth(0);
}

/* The API takes 1 MiB of data in a ConfigMap. */
static void our_own_binary_fits(void **state)
{
    (void)state;
    const struct agent_binary *binary = agent_binary_find(agent_binary_first_arch());
    assert_non_null(binary);
    assert_true(binary->size > 1000 && binary->size <= 1000000);
}

static size_t allocations, fail_at;

static void *failing_malloc(size_t size)
{
    return ++allocations == fail_at ? NULL : malloc(size);
}

static void survives_every_failed_allocation_of_cjson(void **state)
{
    (void)state;
    struct agent_manifest manifest = {"ktvpn-agent-x", "a@b", NULL, &PICK, NULL};
    cJSON_Hooks hooks = {failing_malloc, free};
    cJSON_InitHooks(&hooks);
    cJSON *job = NULL;
    for (fail_at = 1; !job; fail_at++) {
        allocations = 0;
        job = agent_manifest_job(&manifest);
        assert_true(fail_at < 5000);
    }
    cJSON_Delete(job);
    cJSON_InitHooks(NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(job_runs_the_binary_in_a_picked_image),
        cmocka_unit_test(job_is_admitted_anywhere),
        cmocka_unit_test(job_takes_an_image_of_the_agent_as_it_is),
        cmocka_unit_test(config_map_holds_the_binary_and_belongs_to_the_job),
        cmocka_unit_test(our_own_binary_fits),
        cmocka_unit_test(survives_every_failed_allocation_of_cjson),
    };
    return unit_run(tests);
}
