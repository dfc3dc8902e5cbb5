#include "tests/unit/unit.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/kube/image_pick.h"

static struct placement placement;

static bool is_amd64(const char *arch)
{
    return strcmp(arch, "amd64") == 0;
}

#define READY \
    "\"conditions\":[{\"type\":\"DiskPressure\",\"status\":\"False\"},{\"type\":\"Ready\",\"status\":\"True\"}]"
#define NODE(name, arch, spec, images)                                                \
    "{\"metadata\":{\"name\":\"" name "\",\"labels\":{\"kubernetes.io/arch\":\"" arch \
    "\",\"kubernetes.io/os\":\"linux\"}},\"spec\":{" spec "},\"status\":{" READY ",\"images\":[" images "]}}"
#define PAUSE "{\"names\":[\"registry.example/pause@sha256:00ff\",\"registry.example/pause:3.9\"],\"sizeBytes\":7}"
#define APP "{\"names\":[\"registry.example/pause-button/app:1-pause\"]}"

static int from_nodes(struct image_pick *pick, const char *text)
{
    cJSON *list = cJSON_Parse(text);
    assert_non_null(list);
    int rc = image_pick_from_nodes(pick, list, &placement, is_amd64);
    cJSON_Delete(list);
    return rc;
}

static void takes_the_pause_image_and_every_node_that_has_it(void **state)
{
    (void)state;
    struct image_pick pick;
    assert_int_equal(
        from_nodes(&pick,
                   "{\"items\":[" NODE("n0", "amd64", "", APP) "," NODE("n1", "amd64", "", APP "," PAUSE) "," NODE(
                       "n2", "amd64", "", PAUSE) "," NODE("n3", "arm64", "", PAUSE) "]}"),
        0);
    assert_string_equal(pick.image, "registry.example/pause:3.9");
    assert_string_equal(pick.arch, "amd64");
    assert_int_equal(pick.nodes, 2);
    assert_string_equal(pick.node[0], "n1");
    assert_string_equal(pick.node[1], "n2");
    assert_int_equal(pick.secrets, 0);
}

static void takes_a_digest_where_no_tag_is(void **state)
{
    (void)state;
    struct image_pick pick;
    assert_int_equal(
        from_nodes(&pick, "{\"items\":[" NODE("n1", "amd64", "",
                                              "{\"names\":[\"<none>@<none>\",\"r/mirrored-pause@sha256:11\"]}") "]}"),
        0);
    assert_string_equal(pick.image, "r/mirrored-pause@sha256:11");
}

static void leaves_out_nodes_that_take_no_pod(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "{\"items\":[" NODE("n", "amd64", "\"unschedulable\":true", PAUSE) "]}",
        "{\"items\":[" NODE("n", "amd64", "\"taints\":[{\"effect\":\"NoSchedule\",\"key\":\"k\"}]", PAUSE) "]}",
        "{\"items\":[" NODE("n", "arm64", "", PAUSE) "]}",
        "{\"items\":[" NODE("n", "amd64", "", APP) "]}",
        "{\"items\":[{\"metadata\":{\"name\":\"n\",\"labels\":{\"kubernetes.io/"
        "arch\":\"amd64\"}},\"status\":{\"conditions\":[{"
        "\"type\":\"Ready\",\"status\":\"Unknown\"}],\"images\":[" PAUSE "]}}]}",
        "{\"items\":[{\"metadata\":{\"name\":\"n\",\"labels\":{\"kubernetes.io/arch\":\"amd64\",\"kubernetes.io/"
        "os\":\"windows\"}},"
        "\"status\":{" READY ",\"images\":[" PAUSE "]}}]}"};
    struct image_pick pick;
    for (size_t i = 0; i < KT_ARRAY_LEN(lists); i++)
        assert_int_equal(from_nodes(&pick, lists[i]), -ENOENT);
    assert_int_equal(from_nodes(&pick, "{\"items\":[" NODE(
                                           "n", "amd64", "\"taints\":[{\"effect\":\"PreferNoSchedule\"}]", PAUSE) "]}"),
                     0);
}

#define POD(node, image, extra)                                                         \
    "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"nodeName\":\"" node                     \
    "\",\"containers\":[{\"name\":\"w\",\"image\":\"r/waits:1\"},"                      \
    "{\"name\":\"a\",\"image\":\"" image "\"}]" extra                                   \
    "},\"status\":{\"containerStatuses\":[{\"name\":\"w\",\"state\":{\"waiting\":{}}}," \
    "{\"name\":\"a\",\"state\":{\"running\":{}}}]}}"

static int from_pods(struct image_pick *pick, const char *text)
{
    cJSON *list = cJSON_Parse(text);
    assert_non_null(list);
    int rc = image_pick_from_pods(pick, list, "amd64");
    cJSON_Delete(list);
    return rc;
}

static void takes_a_running_pods_image_nodes_and_secrets(void **state)
{
    (void)state;
    struct image_pick pick;
    assert_int_equal(
        from_pods(
            &pick,
            "{\"items\":[" POD("n1", "r/app:1", ",\"imagePullSecrets\":[{\"name\":\"s1\"},{\"name\":\"s2\"}]") "," POD(
                "n2", "r/other:1", "") "," POD("n3", "r/app:1", "") "," POD("n1", "r/app:1", "") "]}"),
        0);
    assert_string_equal(pick.image, "r/app:1");
    assert_string_equal(pick.arch, "amd64");
    assert_int_equal(pick.nodes, 2);
    assert_string_equal(pick.node[0], "n1");
    assert_string_equal(pick.node[1], "n3");
    assert_int_equal(pick.secrets, 2);
    assert_string_equal(pick.secret[1], "s2");
}

static void leaves_out_pods_that_are_no_help(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "{}",
        "{\"items\":[]}",
        "{\"items\":[null,7,{},[]]}",
        "{\"items\":[" POD("", "r/app:1", "") "]}",
        "{\"items\":[" POD("n1", "r/app:1", ",\"os\":{\"name\":\"windows\"}") "]}",
        "{\"items\":[" POD("n1", "bad image", "") "]}",
        "{\"items\":[" POD("n/1", "r/app:1", "") "]}",
        "{\"items\":[{\"metadata\":{\"deletionTimestamp\":\"t\"},\"spec\":{\"nodeName\":\"n\",\"containers\":[{"
        "\"name\":\"a\",\"image\":"
        "\"i\"}]},\"status\":{\"containerStatuses\":[{\"name\":\"a\",\"state\":{\"running\":{}}}]}}]}"};
    struct image_pick pick;
    for (size_t i = 0; i < KT_ARRAY_LEN(lists); i++)
        assert_int_equal(from_pods(&pick, lists[i]), -ENOENT);
    assert_int_equal(image_pick_from_pods(&pick, NULL, "amd64"), -ENOENT);
}

static void bounds_names_and_counts(void **state)
{
    (void)state;
    char list[65536] = "{\"items\":[", pod[1024];
    size_t at = strlen(list);
    for (int i = 0; i < 30; i++) {
        (void)snprintf(pod, sizeof pod,
                       POD("n%d", "r/app:1",
                           ",\"imagePullSecrets\":[{\"name\":\"s\"},{\"name\":\"s\"},{\"name\":\"s\"},"
                           "{\"name\":\"s\"},{\"name\":\"s\"},{\"name\":\"s\"}]") "%s",
                       i, i == 29 ? "]}" : ",");
        at += (size_t)snprintf(list + at, sizeof list - at, "%s", pod);
    }
    struct image_pick pick;
    assert_int_equal(from_pods(&pick, list), 0);
    assert_int_equal(pick.nodes, IMAGE_PICK_NODES_MAX);
    assert_int_equal(pick.secrets, IMAGE_PICK_SECRETS_MAX);

    char image[IMAGE_PICK_NAME_MAX + 10];
    memset(image, 'i', sizeof image - 1);
    image[sizeof image - 1] = '\0';
    (void)snprintf(list, sizeof list, "{\"items\":[" POD("n1", "%s", "") "]}", image);
    assert_int_equal(from_pods(&pick, list), -ENOENT);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_pause_image_and_every_node_that_has_it),
        cmocka_unit_test(takes_a_digest_where_no_tag_is),
        cmocka_unit_test(leaves_out_nodes_that_take_no_pod),
        cmocka_unit_test(takes_a_running_pods_image_nodes_and_secrets),
        cmocka_unit_test(leaves_out_pods_that_are_no_help),
        cmocka_unit_test(bounds_names_and_counts),
    };
    return unit_run(tests);
}
