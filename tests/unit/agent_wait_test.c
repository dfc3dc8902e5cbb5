#include "tests/fake/api_seam.h"

#include "client/kube/agent_wait.h"
#include "common/mem.h"

#define JOB "ktvpn-agent-x"
#define WATCH "/api/v1/namespaces/ems/pods?watch=true&labelSelector=app.kubernetes.io%2Finstance%3D" JOB
#define POD_LOG "/api/v1/namespaces/ems/pods/" JOB "-abcde/log?container=agent&"
#define EVENTS "/api/v1/namespaces/ems/events?"
#define KEY_LINE "ktvpn-agent " KTVPN_VERSION " key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

#define EVENT(type, status)                                                                                           \
    "{\"type\":\"" type "\",\"object\":{\"metadata\":{\"name\":\"" JOB "-abcde\"},\"spec\":{\"nodeName\":\"node1\"}," \
    "\"status\":{\"podIP\":\"10.232.0.9\",\"containerStatuses\":[{\"name\":\"agent\",\"state\":{" status "}}]}}}"
#define CREATING EVENT("MODIFIED", "\"waiting\":{\"reason\":\"ContainerCreating\"}")
#define RUNNING EVENT("MODIFIED", "\"running\":{}")
#define NO_IMAGE EVENT("MODIFIED", "\"waiting\":{\"reason\":\"ErrImagePull\",\"message\":\"no such image\"}")
#define BACK_OFF EVENT("MODIFIED", "\"waiting\":{\"reason\":\"ImagePullBackOff\",\"message\":\"Back-off\"}")
#define ENDED EVENT("MODIFIED", "\"terminated\":{\"reason\":\"Error\",\"exitCode\":3}")

struct bed {
    uv_loop_t loop;
    struct agent_wait *wait;
    int ready, failed, steps;
    uint8_t key[WIRE_KEY_SIZE];
    struct error error;
};

static void on_step(void *context, const char *text)
{
    struct bed *bed = context;
    assert_non_null(text);
    bed->steps++;
}

static void on_ready(void *context, const struct agent_status *pod, const uint8_t key[static WIRE_KEY_SIZE])
{
    struct bed *bed = context;
    bed->ready++;
    memcpy(bed->key, key, WIRE_KEY_SIZE);
    assert_string_equal(pod->pod, JOB "-abcde");
    assert_string_equal(pod->node, "node1");
}

static void on_failed(void *context, const struct error *error, bool has_crashed KT_UNUSED)
{
    struct bed *bed = context;
    bed->failed++;
    bed->error = *error;
}

static const struct agent_wait_ops OPS = {on_step, on_ready, on_failed};

static int open_bed(void **state)
{
    struct bed *bed = kt_calloc(1, sizeof *bed);
    *state = bed;
    seam_reset();
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    bed->wait = agent_wait_start(NULL, &bed->loop, "ems", JOB, &OPS, bed);
    assert_non_null(bed->wait);
    return 0;
}

static int close_bed(void **state)
{
    struct bed *bed = *state;
    agent_wait_stop(bed->wait);
    (void)uv_run(&bed->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    assert_int_equal(seam_open_count(), 0);
    kt_free(bed);
    seam_reset();
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

/* Turns the loop, with `ms` more on its clock, until it failed. */
static void await_failure(struct bed *bed, uint64_t ms)
{
    seam.now_ms += ms;
    for (int turn = 0; turn < SEAM_TURNS_MAX && !bed->failed; turn++)
        (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_int_equal(bed->failed, 1);
    assert_int_equal(bed->ready, 0);
    assert_int_equal(bed->error.code, EXIT_CODE_AGENT);
}

static void one_tick(struct bed *bed, uint64_t ms)
{
    seam.now_ms += ms;
    (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_int_equal(bed->failed, 0);
}

static void ready_when_the_log_tells_the_key(void **state)
{
    struct bed *bed = *state;
    struct seam_request *watch = seam_find("GET", WATCH);
    seam_line(watch, EVENT("ADDED", ""));
    seam_line(watch, CREATING);
    assert_null(seam_find("GET", POD_LOG));
    seam_line(watch, RUNNING);
    seam_line(watch, RUNNING);
    assert_int_equal(bed->ready, 0);
    seam_line(seam_find("GET", POD_LOG "follow=true"), KEY_LINE);
    assert_int_equal(bed->ready, 1);
    assert_int_equal(bed->key[31], 31);
    assert_int_equal(seam_open_count(), 0);
    assert_int_equal(bed->steps, 2);
}

static void asks_again_when_the_log_came_too_early(void **state)
{
    struct bed *bed = *state;
    seam_line(seam_find("GET", WATCH), RUNNING);
    seam_reply(seam_find("GET", POD_LOG), 400, NULL);
    seam_line(seam_await(&bed->loop, "GET", POD_LOG), KEY_LINE);
    assert_int_equal(bed->ready, 1);
}

static void watches_again_when_the_watch_ends(void **state)
{
    struct bed *bed = *state;
    seam_line(seam_find("GET", WATCH), "{\"type\":\"ERROR\",\"object\":{\"code\":410}}");
    seam_reply(seam_find("GET", WATCH), 200, NULL);
    seam_line(seam_await(&bed->loop, "GET", WATCH), RUNNING);
    seam_line(seam_find("GET", POD_LOG), KEY_LINE);
    assert_int_equal(bed->ready, 1);
}

static void another_program_is_told(void **state)
{
    struct bed *bed = *state;
    seam_line(seam_find("GET", WATCH), RUNNING);
    seam_line(seam_find("GET", POD_LOG), "hello from nginx");
    await_failure(bed, 0);
    assert_non_null(strstr(bed->error.text, "hello from nginx"));
}

static void trouble_that_stays_is_the_error(void **state)
{
    struct bed *bed = *state;
    seam_line(seam_find("GET", WATCH), NO_IMAGE);
    one_tick(bed, AGENT_WAIT_TROUBLE_MS - 1);
    seam_line(seam_find("GET", WATCH), BACK_OFF);
    await_failure(bed, 1);
    assert_non_null(strstr(bed->error.text, "ErrImagePull: no such image"));
    assert_int_equal(seam_open_count(), 0);
}

static void trouble_that_passes_is_none(void **state)
{
    struct bed *bed = *state;
    seam_line(seam_find("GET", WATCH), NO_IMAGE);
    one_tick(bed, AGENT_WAIT_TROUBLE_MS - 1);
    seam_line(seam_find("GET", WATCH), CREATING);
    one_tick(bed, AGENT_WAIT_TROUBLE_MS);
    seam_line(seam_find("GET", WATCH), NO_IMAGE);
    one_tick(bed, AGENT_WAIT_TROUBLE_MS - 1);
}

static void a_crash_is_told_with_its_last_words(void **state)
{
    struct bed *bed = *state;
    seam_line(seam_find("GET", WATCH), RUNNING);
    seam_line(seam_find("GET", WATCH), ENDED);
    assert_null(seam_find("GET", POD_LOG "follow"));
    seam_reply(seam_find("GET", POD_LOG "tailLines=1"), 200, "no such option\n");
    await_failure(bed, 0);
    assert_non_null(strstr(bed->error.text, "Error, exit code 3; its log ends with: no such option"));
}

static void a_crash_without_a_log_is_told_too(void **state)
{
    struct bed *bed = *state;
    seam_line(seam_find("GET", WATCH), ENDED);
    one_tick(bed, 2 * AGENT_WAIT_READY_MS);
    seam_reply(seam_find("GET", POD_LOG "tailLines=1"), 404, NULL);
    await_failure(bed, 0);
    assert_non_null(strstr(bed->error.text, "Error, exit code 3"));
}

static void a_deleted_pod_is_told(void **state)
{
    struct bed *bed = *state;
    seam_line(seam_find("GET", WATCH), RUNNING);
    seam_line(seam_find("GET", WATCH), EVENT("DELETED", "\"running\":{}"));
    await_failure(bed, 0);
    assert_non_null(strstr(bed->error.text, "was deleted"));
}

static void no_pod_is_told_by_the_jobs_events(void **state)
{
    struct bed *bed = *state;
    seam.now_ms += 2000;
    seam_reply(seam_await(&bed->loop, "GET", EVENTS), 200, "{\"items\":[]}");
    seam.now_ms += 2000;
    seam_reply(seam_await(&bed->loop, "GET", EVENTS), 200,
               "{\"items\":[{\"type\":\"Warning\",\"reason\":\"FailedCreate\",\"message\":\"exceeded quota: q\"}]}");
    await_failure(bed, 0);
    assert_non_null(strstr(bed->error.text, "FailedCreate: exceeded quota: q"));
}

static void no_pod_and_no_right_to_see_events(void **state)
{
    struct bed *bed = *state;
    seam.now_ms += 2000;
    seam_reply(seam_await(&bed->loop, "GET", EVENTS), 403, NULL);
    one_tick(bed, 2000);
    assert_null(seam_find("GET", EVENTS));
    await_failure(bed, AGENT_WAIT_NO_POD_MS);
    assert_non_null(strstr(bed->error.text, "quota"));
}

/* ContainerCreating is no trouble; what holds it up is in events only. A warning that passes is none. */
static void a_pod_that_is_held_up_is_told_by_its_events(void **state)
{
    struct bed *bed = *state;
    static const char warning[] =
        "{\"items\":[{\"type\":\"Warning\",\"reason\":\"FailedMount\",\"message\":\"configmap x not found\"}]}";
    seam_line(seam_find("GET", WATCH), CREATING);
    seam.now_ms += 2000;
    struct seam_request *request = seam_await(&bed->loop, "GET", EVENTS);
    assert_non_null(strstr(request->path, "involvedObject.kind%3DPod%2CinvolvedObject.name%3D" JOB "-abcde"));
    seam_reply(request, 200, warning);
    seam.now_ms += AGENT_WAIT_TROUBLE_MS - 1;
    seam_reply(seam_await(&bed->loop, "GET", EVENTS), 200, "{\"items\":[{\"type\":\"Normal\"}]}");
    one_tick(bed, 10);
    seam.now_ms += 2000;
    seam_reply(seam_await(&bed->loop, "GET", EVENTS), 200, warning);
    await_failure(bed, AGENT_WAIT_TROUBLE_MS);
    assert_non_null(strstr(bed->error.text, "FailedMount: configmap x not found"));
}

static void a_pod_that_never_gets_there(void **state)
{
    struct bed *bed = *state;
    seam_line(seam_find("GET", WATCH), CREATING);
    one_tick(bed, AGENT_WAIT_READY_MS - 1);
    await_failure(bed, 1);
    assert_non_null(strstr(bed->error.text, "not ready in time"));
}

static void a_program_that_tells_no_key(void **state)
{
    struct bed *bed = *state;
    seam_line(seam_find("GET", WATCH), CREATING);
    one_tick(bed, AGENT_WAIT_KEY_MS);
    seam_line(seam_find("GET", WATCH), RUNNING);
    one_tick(bed, AGENT_WAIT_KEY_MS - 1);
    await_failure(bed, 1);
    assert_non_null(strstr(bed->error.text, "tells no key"));
}

static void a_forbidden_watch_or_log_is_the_error(void **state)
{
    struct bed *bed = *state;
    seam_reply(seam_find("GET", WATCH), 403, NULL);
    assert_int_equal(bed->failed, 1);
    assert_string_equal(bed->error.text, "the server says 403");
}

static void hostile_events_do_nothing(void **state)
{
    struct bed *bed = *state;
    static const char *const lines[] = {"",
                                        "{",
                                        "null",
                                        "[]",
                                        "{\"type\":\"ADDED\"}",
                                        "{\"type\":7,\"object\":{}}",
                                        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"../x\"}}}",
                                        "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"name\":\"b\"}}}"};
    for (size_t i = 0; i < KT_ARRAY_LEN(lines); i++)
        seam_line(seam_find("GET", WATCH), lines[i]);
    assert_int_equal(bed->failed + bed->ready + bed->steps, 0);
    assert_int_equal(seam_open_count(), 1);
}

static void a_request_without_memory_is_tried_again(void **state)
{
    struct bed *bed = *state;
    seam_line(seam_find("GET", WATCH), CREATING);
    seam.fail_nth = 1;
    seam_line(seam_find("GET", WATCH), RUNNING);
    assert_null(seam_find("GET", POD_LOG));
    seam_line(seam_await(&bed->loop, "GET", POD_LOG), KEY_LINE);
    assert_int_equal(bed->ready, 1);
}

int main(void)
{
#define WAIT_TEST(test) cmocka_unit_test_setup_teardown(test, open_bed, close_bed)
    static const struct CMUnitTest tests[] = {
        WAIT_TEST(ready_when_the_log_tells_the_key),
        WAIT_TEST(asks_again_when_the_log_came_too_early),
        WAIT_TEST(watches_again_when_the_watch_ends),
        WAIT_TEST(another_program_is_told),
        WAIT_TEST(trouble_that_stays_is_the_error),
        WAIT_TEST(trouble_that_passes_is_none),
        WAIT_TEST(a_crash_is_told_with_its_last_words),
        WAIT_TEST(a_crash_without_a_log_is_told_too),
        WAIT_TEST(a_deleted_pod_is_told),
        WAIT_TEST(no_pod_is_told_by_the_jobs_events),
        WAIT_TEST(no_pod_and_no_right_to_see_events),
        WAIT_TEST(a_pod_that_is_held_up_is_told_by_its_events),
        WAIT_TEST(a_pod_that_never_gets_there),
        WAIT_TEST(a_program_that_tells_no_key),
        WAIT_TEST(a_forbidden_watch_or_log_is_the_error),
        WAIT_TEST(hostile_events_do_nothing),
        WAIT_TEST(a_request_without_memory_is_tried_again),
    };
    return unit_run(tests);
}
