#include "tests/fake/api_seam.h"

#include "client/kube/json_path.h"
#include "client/kube/launcher.h"
#include "common/mem.h"

#define NODES "/api/v1/nodes?limit="
#define RUNNING_PODS "/api/v1/namespaces/ems/pods?fieldSelector=status.phase%3DRunning&limit="
#define JOBS "/apis/batch/v1/namespaces/ems/jobs"
#define MAPS "/api/v1/namespaces/ems/configmaps"
#define WATCH "/api/v1/namespaces/ems/pods?watch=true"
#define TRY "/api/v1/namespaces/ems/pods?dryRun=All"
#define POD "/api/v1/namespaces/ems/pods/pod-1"
#define KEY_LINE "ktvpn-agent " KTVPN_VERSION " key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

static const char NODE_LIST[] = "{\"items\":[{\"metadata\":{\"name\":\"n1\",\"labels\":{\"kubernetes.io/"
                                "arch\":\"amd64\"}},\"status\":{\"conditions\":[{\"type\":"
                                "\"Ready\",\"status\":\"True\"}],\"images\":[{\"names\":[\"r/pause:3.9\"]}]}}]}";
static const char POD_LIST[] = "{\"items\":[{\"metadata\":{\"name\":\"p\"},\"spec\":{\"nodeName\":\"n2\","
                               "\"containers\":[{\"name\":\"a\",\"image\":\"r/app:1\"}]},"
                               "\"status\":{\"containerStatuses\":[{\"name\":\"a\",\"state\":{\"running\":{}}}]}}]}";
#define POD_WITH(state)                                                                                       \
    "{\"metadata\":{\"name\":\"pod-1\"},\"spec\":{\"nodeName\":\"n1\"},\"status\":{\"podIP\":\"10.232.0.9\"," \
    "\"containerStatuses\":[{\"name\":\"agent\",\"state\":{" state "}}]}}"
static const char POD_RUNS[] = "{\"type\":\"ADDED\",\"object\":" POD_WITH("\"running\":{}") "}";

struct bed {
    uv_loop_t loop;
    struct launcher *launcher;
    int ready, failed, answers;
    bool is_closed, is_running, has_crashed;
    struct launcher_agent agent;
    struct error error;
    char why[1024];
};

static void on_step(void *context, const char *text)
{
    (void)context;
    assert_non_null(text);
}

static void on_ready(void *context, const struct launcher_agent *agent)
{
    struct bed *bed = context;
    bed->ready++;
    bed->agent = *agent;
}

static void on_failed(void *context, const struct error *error, bool has_crashed)
{
    struct bed *bed = context;
    bed->has_crashed = has_crashed;
    bed->failed++;
    bed->error = *error;
}

static void on_answer(void *context, const struct pod_check_answer *answer)
{
    struct bed *bed = context;
    bed->answers++;
    bed->is_running = answer->is_running;
    (void)snprintf(bed->why, sizeof bed->why, "%s", answer->why);
}

static void on_closed(void *context)
{
    struct bed *bed = context;
    bed->is_closed = true;
}

static const struct launcher_ops OPS = {on_step, on_ready, on_failed};

static void open_launcher(struct bed *bed, const char *image)
{
    struct launcher_options options = {"ems", image, "alice@laptop", NULL};
    assert_int_equal(launcher_open(&bed->launcher, NULL, &bed->loop, &options, &OPS, bed), 0);
    assert_int_equal(seam.count, 0); /* nothing happens inside the call */
}

static int open_bed(void **state)
{
    struct bed *bed = kt_calloc(1, sizeof *bed);
    *state = bed;
    seam_reset();
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    return 0;
}

static void await_closed(struct bed *bed)
{
    for (int turn = 0; turn < SEAM_TURNS_MAX && !bed->is_closed; turn++)
        (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_true(bed->is_closed);
    bed->launcher = NULL;
}

static int close_bed(void **state)
{
    struct bed *bed = *state;
    if (bed->launcher) {
        launcher_close(bed->launcher, on_closed);
        for (struct seam_request *request; (request = seam_find("DELETE", JOBS));)
            seam_reply(request, 200, "{}");
        seam.now_ms += LAUNCHER_CLOSE_MS;
        await_closed(bed);
    }
    (void)uv_run(&bed->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    assert_int_equal(seam_open_count(), 0);
    kt_free(bed);
    seam_reset();
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

/* The Job's name as it was posted. */
static void job_name(const struct seam_request *request, char name[static 64])
{
    cJSON *job = cJSON_Parse(request->body);
    (void)snprintf(name, 64, "%s", json_path_text(job, "metadata.name"));
    cJSON_Delete(job);
}

/* The POST of the Job, after the dry run. */
static struct seam_request *await_job(struct bed *bed)
{
    seam_reply(seam_await(&bed->loop, "POST", TRY), 201, "{}");
    return seam_find("POST", JOBS);
}

static void job_made(struct bed *bed, char name[static 64])
{
    struct seam_request *request = await_job(bed);
    job_name(request, name);
    seam_reply(request, 201, "{\"metadata\":{\"uid\":\"uid-7\"}}");
}

static void agent_ready(void)
{
    if (seam_find("POST", MAPS))
        seam_reply(seam_find("POST", MAPS), 201, "{}");
    seam_line(seam_find("GET", WATCH), POD_RUNS);
    seam_line(seam_find("GET", POD "/log"), KEY_LINE);
}

/* To READY, by the shortest way. */
static void run_to_ready(struct bed *bed, char name[static 64])
{
    open_launcher(bed, "r/agent:1");
    job_made(bed, name);
    agent_ready();
    assert_int_equal(bed->ready, 1);
}

static void starts_with_the_nodes_pause_image(void **state)
{
    struct bed *bed = *state;
    char name[64];
    open_launcher(bed, NULL);
    seam_reply(seam_await(&bed->loop, "GET", NODES), 200, NODE_LIST);
    assert_non_null(strstr(seam_find("POST", TRY)->body, "\"r/pause:3.9\""));
    assert_null(seam_find("POST", JOBS)); /* not before the dry run's answer */
    struct seam_request *request = await_job(bed);
    assert_non_null(strstr(request->body, "\"r/pause:3.9\""));
    assert_non_null(strstr(request->body, "alice@laptop"));
    assert_null(seam_find("POST", MAPS)); /* no owner yet */
    job_name(request, name);
    seam_reply(request, 201, "{\"metadata\":{\"uid\":\"uid-7\"}}");
    assert_true(strncmp(name, "ktvpn-agent-", 12) == 0 && strlen(name) == 20);
    request = seam_find("POST", MAPS);
    assert_non_null(strstr(request->body, "\"uid-7\""));
    assert_non_null(strstr(request->body, name));
    assert_non_null(strstr(seam_find("GET", WATCH)->path, name));
    agent_ready();
    assert_int_equal(bed->ready, 1);
    assert_string_equal(bed->agent.pod, "pod-1");
    assert_string_equal(bed->agent.name_space, "ems");
    assert_string_equal(bed->agent.node, "n1");
    assert_int_equal(bed->agent.port, LAUNCHER_PORT);
    assert_int_equal(bed->agent.key[31], 31);
    assert_int_equal(bed->agent.pod_address.family, ADDRESS_V4);
    assert_int_equal(seam_open_count(), 0);
}

static void starts_with_a_pods_image_where_nodes_are_forbidden(void **state)
{
    struct bed *bed = *state;
    open_launcher(bed, NULL);
    seam_reply(seam_await(&bed->loop, "GET", NODES), 403, NULL);
    seam_reply(seam_find("GET", RUNNING_PODS), 200, POD_LIST);
    assert_non_null(strstr(await_job(bed)->body, "\"r/app:1\""));
}

static void says_so_when_there_is_no_image(void **state)
{
    struct bed *bed = *state;
    open_launcher(bed, NULL);
    seam_reply(seam_await(&bed->loop, "GET", NODES), 200, "{\"items\":[]}");
    seam_reply(seam_find("GET", RUNNING_PODS), 200, "{\"items\":[]}");
    assert_int_equal(bed->failed, 1);
    assert_int_equal(bed->error.code, EXIT_CODE_AGENT);
    assert_non_null(strstr(bed->error.text, "--agent-image"));
    assert_int_equal(seam_open_count(), 0);
}

static void starts_with_an_image_at_once(void **state)
{
    struct bed *bed = *state;
    char name[64];
    run_to_ready(bed, name);
    for (size_t i = 0; i < seam.count; i++)
        assert_true(strncmp(seam.request[i].path, NODES, 12) != 0 && strcmp(seam.request[i].path, MAPS) != 0);
}

/* What only the pod is refused for is known before anything is made. */
static void a_dry_run_tells_why_there_will_be_no_pod(void **state)
{
    struct bed *bed = *state;
    static const struct {
        int status;
        const char *body;
        bool is_refused;
    } cases[] = {
        {403, "{\"message\":\"pods \\\"p\\\" is forbidden: exceeded quota: small\"}", true},
        {422, "{\"message\":\"Pod \\\"p\\\" is invalid\"}", true},
        {403, "{\"message\":\"pods is forbidden: User \\\"a\\\" cannot create resource \\\"pods\\\" in API group\"}",
         false},
        {403, "a proxy", false},
        {400, "{\"message\":\"admission webhook \\\"w\\\" does not support dry run\"}", false},
        {404, "{}", false},
        {500, "{}", false},
        {0, NULL, false},
    };
    open_launcher(bed, "i");
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        int failed = bed->failed;
        seam_reply(seam_await(&bed->loop, "POST", TRY), cases[i].status, cases[i].body);
        assert_int_equal(bed->failed - failed, cases[i].is_refused);
        assert_int_equal(seam_find("POST", JOBS) == NULL, cases[i].is_refused);
        if (!cases[i].is_refused)
            seam_reply(seam_find("POST", JOBS), 403, NULL);
        launcher_restart(bed->launcher);
    }
}

static void an_error_of_the_api_is_told_as_it_is(void **state)
{
    struct bed *bed = *state;
    open_launcher(bed, NULL);
    seam_reply(seam_await(&bed->loop, "GET", NODES), 500, NULL);
    assert_int_equal(bed->failed, 1);
    assert_string_equal(bed->error.text, "the server says 500");
}

static void a_refused_job_is_not_deleted(void **state)
{
    struct bed *bed = *state;
    open_launcher(bed, "i");
    seam_reply(await_job(bed), 403, NULL);
    assert_int_equal(bed->failed, 1);
    assert_null(seam_find("DELETE", JOBS));
}

static void a_job_without_an_answer_is_deleted(void **state)
{
    struct bed *bed = *state;
    char name[64];
    open_launcher(bed, "i");
    struct seam_request *request = await_job(bed);
    job_name(request, name);
    seam_reply(request, 0, NULL);
    assert_int_equal(bed->failed, 1);
    assert_non_null(strstr(seam_find("DELETE", JOBS)->path, name));
}

static void a_refused_config_map_deletes_the_job_first(void **state)
{
    struct bed *bed = *state;
    char name[64];
    open_launcher(bed, NULL);
    seam_reply(seam_await(&bed->loop, "GET", NODES), 200, NODE_LIST);
    job_made(bed, name);
    seam_reply(seam_find("POST", MAPS), 403, NULL);
    assert_int_equal(bed->failed, 1);
    struct seam_request *request = seam_find("DELETE", JOBS);
    assert_non_null(strstr(request->path, name));
    assert_non_null(strstr(request->body, "\"propagationPolicy\":\"Background\""));
    assert_int_equal(seam_open_count(), 1);
}

static void a_pod_that_fails_deletes_the_job(void **state)
{
    struct bed *bed = *state;
    char name[64];
    open_launcher(bed, "i");
    job_made(bed, name);
    seam_line(seam_find("GET", WATCH), "{\"type\":\"DELETED\",\"object\":" POD_WITH("\"running\":{}") "}");
    assert_int_equal(bed->failed, 1);
    assert_non_null(seam_find("DELETE", JOBS));
}

static void restart_makes_a_new_job_and_deletes_the_old(void **state)
{
    struct bed *bed = *state;
    char name[64], second[64];
    run_to_ready(bed, name);
    launcher_restart(bed->launcher);
    assert_non_null(strstr(seam_find("DELETE", JOBS)->path, name));
    job_made(bed, second); /* before the deletion has its answer */
    assert_string_not_equal(name, second);
    seam_reply(seam_find("DELETE", JOBS), 404, NULL);
    agent_ready();
    assert_int_equal(bed->ready, 2);
    launcher_restart(bed->launcher);
    launcher_restart(bed->launcher); /* before it has begun: once is enough */
    (void)await_job(bed);
    assert_int_equal(bed->failed, 0);
}

static void restart_while_a_job_is_being_created(void **state)
{
    struct bed *bed = *state;
    char first[64], second[64];
    open_launcher(bed, "i");
    struct seam_request *request = await_job(bed);
    job_name(request, first);
    launcher_restart(bed->launcher);
    (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_int_equal(seam_open_count(), 1);
    seam_reply(request, 201, "{\"metadata\":{\"uid\":\"u\"}}");
    assert_non_null(strstr(seam_find("DELETE", JOBS)->path, first));
    job_made(bed, second);
    agent_ready();
    assert_int_equal(bed->ready, 1);
}

static void check_tells_what_became_of_the_pod(void **state)
{
    struct bed *bed = *state;
    char name[64];
    run_to_ready(bed, name);
    static const struct {
        int status;
        const char *body;
        bool is_running;
        const char *why;
    } cases[] = {
        {200, POD_WITH("\"running\":{}"), true, ""},
        {404, NULL, false, "gone"},
        {0, NULL, true, "the server says 0"},
        {200, POD_WITH("\"terminated\":{\"reason\":\"OOMKilled\",\"exitCode\":137}"), false,
         "OOMKilled, exit code 137"},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        launcher_check(bed->launcher, on_answer);
        launcher_check(bed->launcher, on_answer);
        seam_reply(seam_find("GET", POD), cases[i].status, cases[i].body);
        assert_int_equal(bed->answers, (int)i + 1);
        assert_int_equal(bed->is_running, cases[i].is_running);
        assert_non_null(strstr(bed->why, cases[i].why));
    }
}

static void close_waits_for_the_deletion(void **state)
{
    struct bed *bed = *state;
    char name[64];
    run_to_ready(bed, name);
    launcher_check(bed->launcher, on_answer);
    launcher_close(bed->launcher, on_closed);
    (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_false(bed->is_closed);
    seam_reply(seam_find("DELETE", JOBS), 200, "{}");
    await_closed(bed);
    assert_int_equal(bed->answers, 0);
}

static void close_does_not_wait_for_ever(void **state)
{
    struct bed *bed = *state;
    char name[64];
    run_to_ready(bed, name);
    launcher_close(bed->launcher, on_closed);
    seam.now_ms += LAUNCHER_CLOSE_MS;
    await_closed(bed);
    assert_int_equal(seam_open_count(), 0);
}

static void close_deletes_a_job_that_is_being_created(void **state)
{
    struct bed *bed = *state;
    open_launcher(bed, "i");
    struct seam_request *request = await_job(bed);
    launcher_close(bed->launcher, on_closed);
    (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_true(request->is_open);
    seam_reply(request, 201, "{\"metadata\":{\"uid\":\"u\"}}");
    seam_reply(seam_find("DELETE", JOBS), 200, "{}");
    await_closed(bed);
}

static void close_before_anything(void **state)
{
    struct bed *bed = *state;
    open_launcher(bed, NULL);
    launcher_close(bed->launcher, on_closed);
    await_closed(bed);
    assert_int_equal(seam.count, 0);
}

static void refuses_what_is_no_namespace(void **state)
{
    struct bed *bed = *state;
    static const char *const bad[] = {"",    "a/b", "A",
                                      "a?b", "a.b", "0123456789012345678901234567890123456789012345678901234567890123"};
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++) {
        struct launcher_options options = {bad[i], NULL, NULL, NULL};
        assert_int_equal(launcher_open(&bed->launcher, NULL, &bed->loop, &options, &OPS, bed), -EINVAL);
    }
}

/* Ours and the requests': each way out is clean. */
static void survives_every_failed_allocation(void **state)
{
    struct bed *bed = *state;
    struct launcher_options options = {"ems", "r/agent:1", "alice@laptop", NULL};
    for (unsigned long nth = 1; nth <= 4; nth++) {
        kt_mem_fail_nth(nth);
        assert_int_equal(launcher_open(&bed->launcher, NULL, &bed->loop, &options, &OPS, bed), -ENOMEM);
        assert_null(bed->launcher);
    }
    kt_mem_fail_nth(0);
    open_launcher(bed, NULL);
    seam.fail_nth = 2; /* the dry run */
    seam_reply(seam_await(&bed->loop, "GET", NODES), 200, NODE_LIST);
    assert_int_equal(bed->failed, 1);
    launcher_restart(bed->launcher);
    seam_reply(seam_await(&bed->loop, "GET", NODES), 200, NODE_LIST);
    seam.fail_nth = 1; /* the Job */
    seam_reply(seam_find("POST", TRY), 201, "{}");
    assert_int_equal(bed->failed, 2);
    launcher_restart(bed->launcher);
    seam_reply(seam_await(&bed->loop, "GET", NODES), 200, NODE_LIST);
    struct seam_request *job = await_job(bed);
    seam.fail_nth = 1; /* the ConfigMap */
    seam_reply(job, 201, "{\"metadata\":{\"uid\":\"uid-7\"}}");
    assert_int_equal(bed->failed, 3);
    seam_reply(seam_find("DELETE", JOBS), 200, "{}");
    launcher_restart(bed->launcher);
    seam_reply(seam_await(&bed->loop, "GET", NODES), 200, NODE_LIST);
    job = await_job(bed);
    kt_mem_fail_nth(1); /* its base64 */
    seam_reply(job, 201, "{\"metadata\":{\"uid\":\"uid-7\"}}");
    assert_int_equal(bed->failed, 4);
}

static void needs_are_the_documented_role(void **state)
{
    (void)state;
    size_t count;
    const struct access_need *needs = launcher_needs(&count);
    assert_true(count > 0 && count <= ACCESS_NEEDS_MAX);
    for (size_t i = 0; i < count; i++)
        assert_false(needs[i].is_granted);
}

int main(void)
{
#define LAUNCHER_TEST(test) cmocka_unit_test_setup_teardown(test, open_bed, close_bed)
    static const struct CMUnitTest tests[] = {
        LAUNCHER_TEST(starts_with_the_nodes_pause_image),
        LAUNCHER_TEST(starts_with_a_pods_image_where_nodes_are_forbidden),
        LAUNCHER_TEST(says_so_when_there_is_no_image),
        LAUNCHER_TEST(starts_with_an_image_at_once),
        LAUNCHER_TEST(a_dry_run_tells_why_there_will_be_no_pod),
        LAUNCHER_TEST(an_error_of_the_api_is_told_as_it_is),
        LAUNCHER_TEST(a_refused_job_is_not_deleted),
        LAUNCHER_TEST(a_job_without_an_answer_is_deleted),
        LAUNCHER_TEST(a_refused_config_map_deletes_the_job_first),
        LAUNCHER_TEST(a_pod_that_fails_deletes_the_job),
        LAUNCHER_TEST(restart_makes_a_new_job_and_deletes_the_old),
        LAUNCHER_TEST(restart_while_a_job_is_being_created),
        LAUNCHER_TEST(check_tells_what_became_of_the_pod),
        LAUNCHER_TEST(close_waits_for_the_deletion),
        LAUNCHER_TEST(close_does_not_wait_for_ever),
        LAUNCHER_TEST(close_deletes_a_job_that_is_being_created),
        LAUNCHER_TEST(close_before_anything),
        LAUNCHER_TEST(refuses_what_is_no_namespace),
        LAUNCHER_TEST(survives_every_failed_allocation),
        cmocka_unit_test(needs_are_the_documented_role),
    };
    return unit_run(tests);
}
