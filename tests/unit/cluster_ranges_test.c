/* What the API's answers say about ranges. */
#include "client/kube/cluster_ranges.h"

#include <errno.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "tests/unit/unit.h"

static struct cidr_set set;

/* Reads `text` by `read`; the result's ranges as one text. */
static const char *read_json(int (*read)(struct cidr_set *out, const struct cJSON *list), const char *text, int want)
{
    static char out[512];
    cJSON *json = cJSON_Parse(text);
    cidr_set_init(&set);
    assert_int_equal(read(&set, json), want);
    cJSON_Delete(json);
    out[0] = '\0';
    for (size_t i = 0; i < set.count; i++) {
        char one[CIDR_STRLEN];
        (void)strncat(out, i > 0 ? " " : "", sizeof out - strlen(out) - 1);
        (void)strncat(out, cidr_print(&set.range[i], one), sizeof out - strlen(out) - 1);
    }
    return out;
}

static void test_service_cidrs(void **state KT_UNUSED)
{
    static const char list[] = "{\"items\":[{\"spec\":{\"cidrs\":[\"10.222.0.0/16\",\"fd00:222::/112\"]}}]}";
    assert_string_equal(read_json(cluster_ranges_of_service_cidrs, list, 0), "10.222.0.0/16 fd00:222::/112");
    assert_string_equal(read_json(cluster_ranges_of_service_cidrs, "{\"items\":[]}", -ENOENT), "");
    assert_string_equal(read_json(cluster_ranges_of_service_cidrs, "{}", -ENOENT), "");
    assert_string_equal(
        read_json(cluster_ranges_of_service_cidrs, "{\"items\":[{\"spec\":{\"cidrs\":[\"ten\"]}}]}", -EBADMSG), "");
    assert_string_equal(
        read_json(cluster_ranges_of_service_cidrs, "{\"items\":[{\"spec\":{\"cidrs\":[7]}}]}", -EBADMSG), "");
}

static int read_dry_run(const char *message)
{
    cidr_set_init(&set);
    return cluster_ranges_of_dry_run(&set, message);
}

static void test_dry_run(void **state KT_UNUSED)
{
    char text[CIDR_STRLEN];
    assert_int_equal(
        read_dry_run(
            "Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"1.2.3.4\"]: failed to allocate IP "
            "1.2.3.4: the provided IP (1.2.3.4) is not in the valid range. The range of valid IPs is 10.222.0.0/16"),
        0);
    assert_string_equal(cidr_print(&set.range[0], text), "10.222.0.0/16");
    assert_int_equal(read_dry_run("The range of valid IPs is fd00::/112."), 0);
    assert_string_equal(cidr_print(&set.range[0], text), "fd00::/112");
    assert_int_equal(read_dry_run("the provided network does not match the current range"), -ENOENT);
    assert_int_equal(read_dry_run(""), -ENOENT);
    assert_int_equal(read_dry_run("range of valid IPs is "), -EBADMSG);
    assert_int_equal(read_dry_run("range of valid IPs is ......"), -EBADMSG);
    assert_int_equal(read_dry_run("range of valid IPs is 10.0.0.1/8"), -EBADMSG);
    char longest[600] = "range of valid IPs is ";
    memset(longest + strlen(longest), '1', 500);
    assert_int_equal(read_dry_run(longest), -EBADMSG);
}

static void test_services_seen(void **state KT_UNUSED)
{
    static const char list[] =
        "{\"items\":[{\"spec\":{\"clusterIPs\":[\"10.96.1.1\"]}},{\"spec\":{\"clusterIPs\":[\"None\"]}},"
        "{\"spec\":{\"type\":\"ExternalName\"}},{\"spec\":{\"clusterIPs\":[\"10.111.2.2\",\"fd00::5\"]}}]}";
    assert_string_equal(read_json(cluster_ranges_of_services, list, 0), "10.96.0.0/12 fd00::/112");
    assert_string_equal(
        read_json(cluster_ranges_of_services, "{\"items\":[{\"spec\":{\"clusterIPs\":[\"10.1.1.1\"]}}]}", 0),
        "10.1.1.0/24");
    assert_string_equal(
        read_json(cluster_ranges_of_services, "{\"items\":[{\"spec\":{\"clusterIPs\":[\"x\"]}}]}", -EBADMSG), "");
    assert_string_equal(read_json(cluster_ranges_of_services, "[]", -ENOENT), "");
    static const char two[] = "{\"items\":[{\"spec\":{\"clusterIPs\":[\"10.96.1.1\",\"fd00:1::1\"]}},"
                              "{\"spec\":{\"clusterIPs\":[\"172.20.0.1\",\"fd00:1::2:1\"]}},"
                              "{\"spec\":{\"clusterIPs\":[\"172.20.7.1\",\"fd00:2::1\"]}}]}";
    assert_string_equal(read_json(cluster_ranges_of_services, two, 0),
                        "10.96.1.0/24 172.20.0.0/21 fd00:1::/110 fd00:2::/112");
}

static void test_nodes_and_pods(void **state KT_UNUSED)
{
    static const char nodes[] =
        "{\"items\":[{\"spec\":{\"podCIDRs\":[\"10.232.0.0/24\"]}},{\"spec\":{\"podCIDRs\":[\"10.232.1.0/24\"]}},"
        "{\"spec\":{}}]}";
    assert_string_equal(read_json(cluster_ranges_of_nodes, nodes, 0), "10.232.0.0/23");
    static const char pods[] =
        "{\"items\":[{\"spec\":{},\"status\":{\"podIPs\":[{\"ip\":\"10.232.0.7\"},{\"ip\":\"fd00::7\"}]}},"
        "{\"spec\":{\"hostNetwork\":true},\"status\":{\"podIPs\":[{\"ip\":\"192.0.2.1\"}]}},"
        "{\"spec\":{},\"status\":{\"phase\":\"Pending\"}}]}";
    assert_string_equal(read_json(cluster_ranges_of_pods, pods, 0), "10.232.0.0/24 fd00::/64");
    assert_string_equal(read_json(cluster_ranges_of_pods, "{\"items\":[]}", -ENOENT), "");
    assert_string_equal(
        read_json(cluster_ranges_of_pods, "{\"items\":[{\"status\":{\"podIPs\":[{\"ip\":5}]}}]}", -EBADMSG), "");
}

static const char *learn(bool is_guess, const char *range, const char *service)
{
    static char out[CIDR_STRLEN];
    static struct cluster_ranges ranges;
    struct address address;
    struct cidr cidr;
    ranges = (struct cluster_ranges){.is_guess = is_guess};
    assert_int_equal(cidr_parse(&cidr, range), 0);
    assert_int_equal(cidr_set_add(&ranges.services, &cidr), 0);
    assert_int_equal(address_parse(&address, service), 0);
    assert_int_equal(cluster_ranges_learn(&ranges, &address), 0);
    assert_int_equal(ranges.services.count, 1);
    return cidr_print(&ranges.services.range[0], out);
}

static void test_a_guess_learns(void **state KT_UNUSED)
{
    assert_string_equal(learn(true, "10.222.227.0/24", "10.222.0.10"), "10.222.0.0/16");
    assert_string_equal(learn(true, "10.222.0.0/24", "10.222.0.10"), "10.222.0.0/24");
    assert_string_equal(learn(false, "10.222.227.0/24", "10.222.0.10"), "10.222.227.0/24");  /* is known */
    assert_string_equal(learn(true, "10.222.227.0/24", "169.254.20.10"), "10.222.227.0/24"); /* a node's cache */
    assert_string_equal(learn(true, "10.222.227.0/24", "172.20.0.10"), "10.222.227.0/24");   /* too far */
    assert_string_equal(learn(true, "10.222.227.0/24", "fd00::10"), "10.222.227.0/24");
    assert_string_equal(learn(true, "fd00::/112", "10.222.0.10"), "fd00::/112");
    assert_string_equal(learn(true, "fd00::1:0/112", "fd00::a"), "fd00::/111");
    assert_string_equal(learn(true, "fd00::/112", "fd01::a"), "fd00::/112"); /* too far */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_service_cidrs), cmocka_unit_test(test_dry_run),
                                       cmocka_unit_test(test_services_seen), cmocka_unit_test(test_nodes_and_pods),
                                       cmocka_unit_test(test_a_guess_learns)};
    return unit_run(tests);
}
