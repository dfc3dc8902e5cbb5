/* An installed agent, found by label. The test is the API server. */
#include "client/kube/installed.h"

#include <errno.h>

#include "common/mem.h"
#include "tests/fake/api_seam.h"

#define EMS "/api/v1/namespaces/ems/pods?labelSelector=app.kubernetes.io%2Fname%3Dktvpn-agent"
#define KTVPN "/api/v1/namespaces/ktvpn/pods?labelSelector="
#define LOG(pod) "/api/v1/namespaces/ktvpn/pods/" pod "/log?container=agent"
#define REVIEWS "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
#define KEY_LINE "ktvpn-agent " KTVPN_VERSION " key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\nmore\n"
#define POD(name, hash, created, ready, extra)                                                            \
    "{\"metadata\":{\"name\":\"" name "\",\"creationTimestamp\":\"" created                               \
    "\",\"labels\":{\"pod-template-hash\":\"" hash "\"}" extra "},\"spec\":{\"nodeName\":\"n1\"},"        \
    "\"status\":{\"podIP\":\"10.232.0.9\",\"containerStatuses\":[{\"name\":\"agent\",\"restartCount\":2," \
    "\"ready\":" ready ",\"state\":{\"running\":{}}}]}}"
#define OLD(name) POD(name, "h1", "2026-01-01T00:00:00Z", "true", "")
#define NEW(name) POD(name, "h2", "2026-02-01T00:00:00Z", "true", "")
#define UNREADY(name) POD(name, "h3", "2026-03-01T00:00:00Z", "false", "")
#define DELETED(name) POD(name, "h3", "2026-03-01T00:00:00Z", "true", ",\"deletionTimestamp\":\"2026-03-01T00:00:00Z\"")
#define LIST(pods) "{\"items\":[" pods "]}"

static struct bed {
    struct installed *installed;
    struct launcher_agent agent;
    struct error why;
    int ready, none, answers;
    bool has_why, is_running;
    char text[512];
} bed;

static void on_ready(void *context, const struct launcher_agent *agent)
{
    assert_ptr_equal(context, &bed);
    bed.ready++;
    bed.agent = *agent;
}

static void on_none(void *context, const struct error *why)
{
    assert_ptr_equal(context, &bed);
    bed.none++;
    bed.has_why = why != NULL;
    if (why != NULL)
        bed.why = *why;
}

static void on_answer(void *context, const struct pod_check_answer *answer)
{
    assert_ptr_equal(context, &bed);
    bed.answers++;
    bed.is_running = answer->is_running;
    (void)snprintf(bed.text, sizeof bed.text, "%s", answer->why);
}

static int try_open(const char *name_space, const char *place, const char *name)
{
    static const struct installed_ops ops = {on_ready, on_none};
    struct installed_options options = {name_space, place, name};
    return installed_open(&bed.installed, NULL, &options, &ops, &bed);
}

static int set_up(void **state KT_UNUSED)
{
    seam_reset();
    memset(&bed, 0, sizeof bed);
    return 0;
}

static int tear_down(void **state KT_UNUSED)
{
    installed_close(bed.installed);
    assert_int_equal(seam_open_count(), 0);
    seam_reset();
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static void grant(bool is_allowed)
{
    for (struct seam_request *request; (request = seam_find("POST", REVIEWS)) != NULL;)
        seam_reply(request, 201, is_allowed ? "{\"status\":{\"allowed\":true}}" : "{\"status\":{}}");
}

static void find_one(void)
{
    assert_int_equal(try_open("ems", NULL, NULL), 0);
    assert_int_equal(bed.ready + bed.none, 0);
    seam_reply(seam_find("GET", KTVPN), 200, LIST(NEW("b")));
    seam_reply(seam_find("GET", EMS), 200, LIST(""));
    seam_reply(seam_find("GET", LOG("b")), 200, KEY_LINE);
    grant(true);
    assert_int_equal(bed.ready, 1);
}

static void test_finds_it_in_the_second_place(void **state KT_UNUSED)
{
    find_one();
    assert_string_equal(bed.agent.pod, "b");
    assert_string_equal(bed.agent.name_space, "ktvpn");
    assert_string_equal(bed.agent.node, "n1");
    assert_int_equal(bed.agent.key[31], 31);
    assert_int_equal(bed.agent.port, LAUNCHER_PORT);
    assert_true(bed.agent.is_installed);
    assert_int_equal(bed.agent.pod_address.family, ADDRESS_V4);
}

static void test_there_is_none(void **state KT_UNUSED)
{
    static const int statuses[] = {200, 403, 404, 0, 500};
    for (size_t i = 0; i < KT_ARRAY_LEN(statuses); i++) {
        assert_int_equal(try_open("ems", NULL, NULL), 0);
        seam_reply(seam_find("GET", EMS), 200, LIST(UNREADY("a") "," DELETED("b")));
        seam_reply(seam_find("GET", KTVPN), statuses[i], "{}");
        assert_int_equal(bed.none, i + 1);
        assert_false(bed.has_why);
        installed_close(bed.installed);
        bed.installed = NULL;
    }
}

static void test_one_place(void **state KT_UNUSED)
{
    assert_int_equal(try_open("ktvpn", NULL, NULL), 0);
    assert_int_equal(seam.count, 1);
    installed_close(bed.installed);
    assert_int_equal(try_open("ems", "infra", "team-a"), 0);
    assert_int_equal(seam.count, 2);
    assert_non_null(strstr(seam.request[1].path, "/namespaces/infra/pods?"));
    assert_non_null(strstr(seam.request[1].path, "instance%3Dteam-a"));
    seam_reply(&seam.request[1], 200, LIST(""));
    assert_true(bed.has_why);
    assert_non_null(strstr(bed.why.text, "'team-a' in namespace infra;"));
}

static void test_named_and_forbidden(void **state KT_UNUSED)
{
    assert_int_equal(try_open("ems", NULL, "team-a"), 0);
    seam_reply(seam_find("GET", EMS), 200, LIST(""));
    seam_reply(seam_find("GET", KTVPN), 403, "{}");
    assert_true(bed.has_why);
    assert_non_null(strstr(bed.why.text, "403"));
}

static void test_bad_names(void **state KT_UNUSED)
{
    assert_int_equal(try_open("ems/../x", NULL, NULL), -EINVAL);
    assert_int_equal(try_open("ems", "-.", NULL), -EINVAL);
    assert_int_equal(try_open("ems", NULL, "A"), -EINVAL);
    assert_int_equal(seam.count, 0);
}

static void test_rights_are_missing(void **state KT_UNUSED)
{
    assert_int_equal(try_open("ems", NULL, NULL), 0);
    seam_reply(seam_find("GET", KTVPN), 200, LIST(NEW("b")));
    seam_reply(seam_find("GET", EMS), 403, "{}");
    seam_reply(seam_find("GET", LOG("b")), 403, "{}"); /* the review says more */
    assert_int_equal(bed.none, 0);
    grant(false);
    assert_int_equal(bed.none, 1);
    assert_int_equal(bed.why.code, EXIT_CODE_FORBIDDEN);
    assert_non_null(strstr(bed.why.text, "pods/portforward"));
    assert_non_null(strstr(bed.why.text, "namespace ktvpn"));
}

/* A log without a key, another version, no log: the next pod. */
static void test_next_pod(void **state KT_UNUSED)
{
    static const char *const logs[] = {"", "hello\n", "ktvpn-agent 99.0.0 key AAAA\n"};
    assert_int_equal(try_open("ems", NULL, NULL), 0);
    seam_reply(seam_find("GET", EMS), 200, LIST(""));
    seam_reply(seam_find("GET", KTVPN), 200, LIST(OLD("a") "," OLD("b") "," OLD("c") "," OLD("d")));
    for (size_t i = 0; i < KT_ARRAY_LEN(logs); i++)
        seam_reply(seam_find("GET", "/api/v1/namespaces/ktvpn/pods/"), 200, logs[i]);
    grant(true);
    seam_reply(seam_find("GET", "/api/v1/namespaces/ktvpn/pods/"), 404, "{}");
    assert_int_equal(bed.none, 1);
    assert_true(bed.has_why);
}

static void test_restart_takes_another(void **state KT_UNUSED)
{
    find_one();
    assert_int_equal(installed_restart(bed.installed), 0);
    seam_reply(seam_find("GET", EMS), 200, LIST(""));
    seam_reply(seam_find("GET", KTVPN), 200, LIST(NEW("b") "," NEW("c")));
    assert_null(seam_find("POST", REVIEWS)); /* asked before */
    seam_reply(seam_find("GET", LOG("c")), 200, KEY_LINE);
    assert_int_equal(bed.ready, 2);
    assert_string_equal(bed.agent.pod, "c");
}

static void test_check(void **state KT_UNUSED)
{
    find_one();
    installed_check(bed.installed, on_answer);
    seam_reply(seam_find("GET", "/api/v1/namespaces/ktvpn/pods/b"), 200, NEW("b"));
    assert_true(bed.is_running);
    installed_check(bed.installed, on_answer);
    seam_reply(seam_find("GET", "/api/v1/namespaces/ktvpn/pods/b"), 0, NULL);
    assert_true(bed.is_running);
    installed_check(bed.installed, on_answer);
    seam_reply(seam_find("GET", "/api/v1/namespaces/ktvpn/pods/b"), 200, DELETED("b"));
    assert_false(bed.is_running);
    installed_check(bed.installed, on_answer);
    installed_check(bed.installed, on_answer); /* in the place of the first */
    seam_reply(seam_find("GET", "/api/v1/namespaces/ktvpn/pods/b"), 404, NULL);
    assert_false(bed.is_running);
    assert_int_equal(bed.answers, 4);
}

/* The same pod, another agent in it: its key is another. */
static void test_container_was_restarted(void **state KT_UNUSED)
{
    static const char again[] =
        "{\"metadata\":{\"name\":\"b\"},\"spec\":{\"nodeName\":\"n1\"},\"status\":{\"containerStatuses\":[{\"name\":"
        "\"agent\",\"restartCount\":3,\"ready\":true,\"state\":{\"running\":{}}}]}}";
    find_one();
    installed_check(bed.installed, on_answer);
    seam_reply(seam_find("GET", "/api/v1/namespaces/ktvpn/pods/b"), 200, again);
    assert_false(bed.is_running);
    assert_non_null(strstr(bed.text, "started again"));
}

static size_t choose(const char *list, uint32_t seed, const char *last, const char *first)
{
    static struct agent_status pods[INSTALLED_PODS_MAX];
    cJSON *json = cJSON_Parse(list);
    assert_non_null(json);
    size_t count = installed_choose(pods, json, seed, last);
    if (first != NULL)
        assert_string_equal(pods[0].pod, first);
    if (count > 0 && *last)
        assert_string_equal(pods[count - 1].pod, last);
    cJSON_Delete(json);
    return count;
}

static void test_choice(void **state KT_UNUSED)
{
    static const char mixed[] = LIST(OLD("a") "," NEW("b") "," UNREADY("c") "," DELETED("d") "," NEW("e") "," OLD("f"));
    assert_int_equal(choose(mixed, 0, "", "b"), 4);
    assert_int_equal(choose(mixed, 1, "", "e"), 4);
    assert_int_equal(choose(mixed, 0, "b", "e"), 4);
    assert_int_equal(choose(mixed, 7, "b", "e"), 4);
    assert_int_equal(choose(mixed, 0, "a", "b"), 4);
    assert_int_equal(choose(LIST(NEW("b")), 5, "b", "b"), 1);
    assert_int_equal(choose(LIST(""), 0, "b", NULL), 0);
    assert_int_equal(choose("{\"items\":[7,null,{},{\"metadata\":7}]}", 0, "", NULL), 0);
    assert_int_equal(choose("7", 0, "", NULL), 0);
}

static void test_more_pods_than_are_tried(void **state KT_UNUSED)
{
    char *list = kt_calloc(1, 40000);
    size_t at = (size_t)snprintf(list, 40000, "{\"items\":[" NEW("p"));
    for (int i = 0; i < 60; i++)
        at += (size_t)snprintf(list + at, 40000 - at, "," OLD("q"));
    (void)snprintf(list + at, 40000 - at, "]}");
    assert_int_equal(choose(list, 3, "", "p"), INSTALLED_PODS_MAX);
    kt_free(list);
}

static void test_every_request_without_memory(void **state KT_UNUSED)
{
    for (size_t nth = 1; nth <= 2; nth++) {
        seam.fail_nth = nth;
        assert_int_equal(try_open("ems", NULL, NULL), -ENOMEM);
    }
    for (size_t nth = 3; nth <= 8; nth++) { /* the rights, the log */
        memset(&bed, 0, sizeof bed);
        seam_reset();
        seam.fail_nth = nth;
        assert_int_equal(try_open("ems", NULL, NULL), 0);
        seam_reply(seam_find("GET", EMS), 200, LIST(""));
        seam_reply(seam_find("GET", KTVPN), 200, LIST(NEW("b")));
        assert_int_equal(bed.none, 1);
        assert_int_equal(seam_open_count(), 0);
        installed_close(bed.installed);
        bed.installed = NULL;
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_finds_it_in_the_second_place),
        TEST(test_there_is_none),
        TEST(test_one_place),
        TEST(test_named_and_forbidden),
        TEST(test_bad_names),
        TEST(test_rights_are_missing),
        TEST(test_next_pod),
        TEST(test_restart_takes_another),
        TEST(test_check),
        TEST(test_container_was_restarted),
        TEST(test_choice),
        TEST(test_more_pods_than_are_tried),
        TEST(test_every_request_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
