/* Which lists are asked for an image, and what their answers lead to. */
#include "client/kube/image_search.h"

#include <errno.h>

#include "tests/fake/api_seam.h"

#define NODES "/api/v1/nodes?limit="
#define PODS "/api/v1/namespaces/ems/pods?fieldSelector=status.phase%3DRunning&limit="

static const char node_list[] = "{\"items\":[{\"metadata\":{\"name\":\"n1\",\"labels\":{\"kubernetes.io/"
                                "arch\":\"amd64\"}},\"status\":{\"conditions\":[{\"type\":"
                                "\"Ready\",\"status\":\"True\"}],\"images\":[{\"names\":[\"r/pause:3.9\"]}]}}]}";
static const char pod_list[] = "{\"items\":[{\"metadata\":{\"name\":\"p\"},\"spec\":{\"nodeName\":\"n2\","
                               "\"containers\":[{\"name\":\"a\",\"image\":\"r/app:1\"}]},"
                               "\"status\":{\"containerStatuses\":[{\"name\":\"a\",\"state\":{\"running\":{}}}]}}]}";

static struct image_search search;
static struct image_pick pick;
static const struct placement placement;
static struct error error;
static int done, failed;

static void on_done(void *context, const struct error *why)
{
    assert_ptr_equal(context, &search);
    done++;
    failed += why != NULL;
    if (why != NULL)
        error = *why;
}

static int set_up(void **state KT_UNUSED)
{
    seam_reset();
    done = failed = 0;
    return 0;
}

static int tear_down(void **state KT_UNUSED)
{
    image_search_cancel(&search);
    assert_int_equal(seam_open_count(), 0);
    seam_reset();
    return 0;
}

static int start(void)
{
    image_search_cancel(&search);
    search = (struct image_search){
        .name_space = "ems", .pick = &pick, .placement = &placement, .done = on_done, .context = &search};
    return image_search_start(&search);
}

static void test_nodes(void **state KT_UNUSED)
{
    assert_int_equal(start(), 0);
    seam_reply(seam_find("GET", NODES), 200, node_list);
    assert_int_equal(done - failed, 1);
    assert_string_equal(pick.image, "r/pause:3.9");
}

static void test_pods_where_nodes_are_forbidden_or_have_none(void **state KT_UNUSED)
{
    static const struct {
        int status;
        const char *body;
    } nodes[] = {{403, NULL}, {200, "{\"items\":[]}"}, {200, "7"}};
    for (size_t i = 0; i < KT_ARRAY_LEN(nodes); i++) {
        assert_int_equal(start(), 0);
        seam_reply(seam_find("GET", NODES), nodes[i].status, nodes[i].body);
        seam_reply(seam_find("GET", PODS), 200, pod_list);
        assert_int_equal(done - failed, i + 1);
        assert_string_equal(pick.image, "r/app:1");
        assert_string_equal(pick.node[0], "n2");
    }
}

static void test_nothing(void **state KT_UNUSED)
{
    assert_int_equal(start(), 0);
    seam_reply(seam_find("GET", NODES), 200, "{}");
    seam_reply(seam_find("GET", PODS), 200, "{}");
    assert_int_equal(failed, 1);
    assert_non_null(strstr(error.text, "--agent-image"));
    assert_int_equal(start(), 0);
    seam_reply(seam_find("GET", NODES), 500, NULL);
    assert_int_equal(failed, 2);
    assert_string_equal(error.text, "the server says 500");
    assert_int_equal(start(), 0);
    seam_reply(seam_find("GET", NODES), 403, NULL);
    seam_reply(seam_find("GET", PODS), 403, NULL);
    assert_int_equal(failed, 3);
}

static void test_no_memory(void **state KT_UNUSED)
{
    seam.fail_nth = 1;
    assert_int_equal(start(), -ENOMEM);
    assert_int_equal(start(), 0);
    seam.fail_nth = 1;
    seam_reply(seam_find("GET", NODES), 403, NULL);
    assert_int_equal(failed, 1);
}

static void test_cancel(void **state KT_UNUSED)
{
    assert_int_equal(start(), 0);
    assert_int_equal(start(), 0); /* in the place of the first */
    assert_int_equal(seam_open_count(), 1);
    image_search_cancel(&search);
    image_search_cancel(&search);
    assert_int_equal(done, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_nodes), TEST(test_pods_where_nodes_are_forbidden_or_have_none),
                                       TEST(test_nothing), TEST(test_no_memory), TEST(test_cancel)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
