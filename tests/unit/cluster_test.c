/* The cluster's sequence. The test is the API server (by the seam); the launcher and the port-forward are in their
 * place here and only take notes; access, ranges and watches are the real ones. */
#include "client/cluster.h"

#include <dlfcn.h>
#include <errno.h>

#include "client/kube/portforward.h"
#include "common/mem.h"
#include "tests/fake/api_seam.h"

#define REVIEWS "/apis/authorization.k8s.io/"
#define NAMESPACE "/api/v1/namespaces/ems"
#define NAMESPACES "/api/v1/namespaces"
#define SERVICES "/api/v1/namespaces/ems/services"
#define HURRY 100 /* the cluster's own timer runs so many times faster */

struct bed {
    uv_loop_t loop;
    uv_timer_t soon; /* what the fakes call back comes on the loop */
    struct cluster *cluster;
    int checked, agents, failures, names, gone, known;
    char last_name[64];
    enum names_kind last_kind;
    struct cluster_ranges ranges;
    struct error error;
    bool is_closed;

    /* the installed agent */
    const struct installed_ops *installed_ops;
    void *installed_context;
    int looks, installed_closes;

    /* the launcher */
    const struct launcher_ops *ops;
    void *context;
    int open_rc, opened, restarted, launcher_closes, checks, dials;
    char name_space[64];
    pod_check_done *on_answer;
    void (*on_launcher_closed)(void *context);
    void (*on_api_closed)(void *context);
    void *api_context;
    int api_rc;
};

static struct bed *bed;
static uint64_t last_timer_ms;

/* --- in place of libuv, api.c, launcher.c and portforward.c --- */

int uv_timer_start(uv_timer_t *timer, uv_timer_cb callback, uint64_t timeout_ms, uint64_t repeat_ms)
{
    int (*real)(uv_timer_t *, uv_timer_cb, uint64_t, uint64_t);
    void *found = dlsym(RTLD_NEXT, "uv_timer_start");
    memcpy(&real, &found, sizeof real); /* ISO C has no cast from an object's to a function's pointer */
    last_timer_ms = timeout_ms;
    return real(timer, callback, timeout_ms / HURRY, repeat_ms / HURRY);
}

int api_open(struct api **out, struct uv_loop_s *loop, const struct kubeconfig *config, struct error *error)
{
    (void)loop;
    (void)config;
    *out = (struct api *)(void *)bed;
    return bed->api_rc == 0 ? 0 : error_set(error, EXIT_CODE_KUBECONFIG, bed->api_rc, "no such server");
}

static void on_soon(uv_timer_t *timer)
{
    (void)timer;
    if (bed->on_launcher_closed != NULL) {
        void (*on_closed)(void *context) = bed->on_launcher_closed;
        bed->on_launcher_closed = NULL;
        on_closed(bed->context);
    } else if (bed->on_api_closed != NULL) {
        void (*on_closed)(void *context) = bed->on_api_closed;
        bed->on_api_closed = NULL;
        on_closed(bed->api_context);
    }
}

void api_close(struct api *api, void (*on_closed)(void *context), void *context)
{
    assert_ptr_equal(api, bed);
    for (size_t i = 0; i < seam.count; i++)
        seam.request[i].is_open = false;
    bed->on_api_closed = on_closed;
    bed->api_context = context;
    assert_int_equal(uv_timer_start(&bed->soon, on_soon, 0, 0), 0);
}

struct uv_loop_s *api_loop(const struct api *api)
{
    assert_ptr_equal(api, bed);
    return &bed->loop;
}

const struct access_need *launcher_needs(size_t *count)
{
    static const struct access_need needs[] = {{.group = "batch", .resource = "jobs", .verb = "create"},
                                               {.group = "", .resource = "pods", .verb = "get"}};
    *count = KT_ARRAY_LEN(needs);
    return needs;
}

int launcher_open(struct launcher **out, struct api *api, struct uv_loop_s *loop,
                  const struct launcher_options *options, const struct launcher_ops *ops, void *context)
{
    assert_ptr_equal(api, bed);
    assert_ptr_equal(loop, &bed->loop);
    if (bed->open_rc != 0)
        return bed->open_rc;
    (void)snprintf(bed->name_space, sizeof bed->name_space, "%s", options->name_space);
    bed->opened++;
    bed->ops = ops;
    bed->context = context;
    *out = (struct launcher *)(void *)bed;
    return 0;
}

void launcher_restart(struct launcher *launcher)
{
    assert_ptr_equal(launcher, bed);
    bed->restarted++;
}

void launcher_check(struct launcher *launcher, pod_check_done *on_answer)
{
    assert_ptr_equal(launcher, bed);
    bed->checks++;
    bed->on_answer = on_answer;
}

void launcher_close(struct launcher *launcher, void (*on_closed)(void *context))
{
    assert_ptr_equal(launcher, bed);
    bed->launcher_closes++;
    bed->on_launcher_closed = on_closed;
    assert_int_equal(uv_timer_start(&bed->soon, on_soon, 0, 0), 0);
}

/* Takes notes, and answers by tell_installed() and tell_none(). */
int installed_open(struct installed **out, struct api *api, const struct installed_options *options,
                   const struct installed_ops *ops, void *context)
{
    assert_ptr_equal(api, bed);
    assert_string_equal(options->name_space, "ems");
    bed->installed_ops = ops;
    bed->installed_context = context;
    bed->looks++;
    *out = (struct installed *)(void *)bed;
    return options->name != NULL && strcmp(options->name, "A") == 0 ? -EINVAL : 0;
}

int installed_restart(struct installed *installed)
{
    assert_ptr_equal(installed, bed);
    bed->looks++;
    return 0;
}

void installed_check(struct installed *installed, pod_check_done *on_answer)
{
    assert_ptr_equal(installed, bed);
    bed->checks++;
    bed->on_answer = on_answer;
    bed->context = bed->installed_context;
}

void installed_close(struct installed *installed)
{
    bed->installed_closes += installed != NULL;
}

int portforward_open(struct stream **out, struct api *api, struct uv_loop_s *loop, const char *name_space,
                     const char *pod, uint16_t port)
{
    (void)out;
    assert_ptr_equal(api, bed);
    assert_ptr_equal(loop, &bed->loop);
    assert_string_equal(name_space, "ems");
    assert_string_equal(pod, "pod-1");
    assert_int_equal(port, 4789);
    bed->dials++;
    return 0;
}

/* --- the owner --- */

static void on_checked(void *context, const struct cluster_ranges *ranges)
{
    assert_ptr_equal(context, bed);
    bed->checked++;
    bed->ranges = *ranges;
}

static void on_step(void *context, const char *text)
{
    assert_ptr_equal(context, bed);
    assert_non_null(text);
}

static void on_agent(void *context, const struct launcher_agent *agent)
{
    assert_ptr_equal(context, bed);
    assert_string_equal(agent->pod, "pod-1");
    bed->agents++;
}

static void on_failed(void *context, const struct error *error)
{
    assert_ptr_equal(context, bed);
    bed->failures++;
    bed->error = *error;
}

static void on_name(void *context, enum names_kind kind, const char *name, bool is_there)
{
    assert_ptr_equal(context, bed);
    bed->names += is_there;
    bed->gone += !is_there;
    bed->last_kind = kind;
    (void)snprintf(bed->last_name, sizeof bed->last_name, "%s", name);
}

static void on_names_known(void *context)
{
    assert_ptr_equal(context, bed);
    bed->known++;
}

static void on_closed(void *context)
{
    assert_ptr_equal(context, bed);
    assert_false(bed->is_closed);
    bed->is_closed = true;
}

static struct cluster_options wish = {.is_own_job = true};

static int try_open(const char *name_space)
{
    static const struct cluster_ops ops = {.on_checked = on_checked,
                                           .on_step = on_step,
                                           .on_agent = on_agent,
                                           .on_failed = on_failed,
                                           .on_name = on_name,
                                           .on_names_known = on_names_known};
    struct cluster_options options = wish;
    options.name_space = name_space;
    options.owner = "user@host";
    return cluster_open(&bed->cluster, &bed->loop, &options, &ops, bed, &bed->error);
}

static int set_up(void **state KT_UNUSED)
{
    seam_reset();
    wish = (struct cluster_options){.is_own_job = true};
    bed = kt_calloc(1, sizeof *bed);
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    return uv_timer_init(&bed->loop, &bed->soon);
}

static void close_cluster(void)
{
    struct cluster *cluster = bed->cluster;
    bed->cluster = NULL;
    if (cluster == NULL)
        return;
    cluster_close(cluster, on_closed);
    assert_false(bed->is_closed); /* not inside the call */
    for (int turn = 0; turn < SEAM_TURNS_MAX && !bed->is_closed; turn++)
        (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_true(bed->is_closed);
}

static int tear_down(void **state KT_UNUSED)
{
    close_cluster();
    uv_close((uv_handle_t *)&bed->soon, NULL);
    assert_int_equal(uv_run(&bed->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    assert_int_equal(seam_open_count(), 0);
    kt_free(bed);
    seam_reset();
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

/* --- the API server --- */

static void answer_rights(int status, bool is_granted)
{
    size_t answered = 0;
    for (struct seam_request *request; (request = seam_find("POST", REVIEWS)) != NULL; answered++)
        seam_reply(request, status, is_granted ? "{\"status\":{\"allowed\":true}}" : "{\"status\":{}}");
    assert_int_equal(answered, 2);
}

/* An open GET of exactly this path. */
static struct seam_request *find_exactly(const char *path)
{
    for (size_t i = 0; i < seam.count; i++) {
        struct seam_request *request = &seam.request[i];
        if (request->is_open && strcmp(request->method, "GET") == 0 && strcmp(request->path, path) == 0)
            return request;
    }
    return NULL;
}

/* Every open request but for the namespace, the namespaces and the rights. */
static void answer_ranges(int status)
{
    for (size_t i = 0; i < seam.count; i++) {
        struct seam_request *request = &seam.request[i];
        if (request->is_open && strcmp(request->path, NAMESPACE) != 0 && strcmp(request->path, NAMESPACES) != 0 &&
            strncmp(request->path, REVIEWS, strlen(REVIEWS)) != 0)
            seam_reply(request, status,
                       "{\"items\":[{\"spec\":{\"cidrs\":[\"10.222.0.0/16\"],\"podCIDRs\":[\"10.232.0.0/16\"]}}]}");
    }
}

static void check_well(void)
{
    assert_int_equal(try_open("ems"), 0);
    assert_int_equal(bed->checked + bed->failures, 0);
    seam_reply(find_exactly(NAMESPACE), 200, "{}");
    answer_rights(201, true);
    answer_ranges(200);
    assert_int_equal(bed->checked, 1);
}

static void tell_installed(void)
{
    struct launcher_agent agent = {
        .name_space = "ems", .pod = "pod-1", .node = "n1", .port = 4789, .is_installed = true};
    bed->installed_ops->on_ready(bed->installed_context, &agent);
}

static void tell_none(const char *text)
{
    struct error why;
    (void)error_set(&why, EXIT_CODE_AGENT, 0, "%s", text != NULL ? text : "");
    bed->installed_ops->on_none(bed->installed_context, text != NULL ? &why : NULL);
}

static void tell_ready(void)
{
    struct launcher_agent agent = {.name_space = "ems", .pod = "pod-1", .node = "n1", .port = 4789};
    bed->ops->on_ready(bed->context, &agent);
}

static void answer(bool is_running, bool has_crashed, const char *why)
{
    struct pod_check_answer answer = {.is_running = is_running, .has_crashed = has_crashed, .why = why};
    bed->on_answer(bed->context, &answer);
}

static void tell_failed(void)
{
    struct error error;
    (void)error_set(&error, EXIT_CODE_AGENT, 0, "the quota is used up");
    bed->ops->on_failed(bed->context, &error, false);
}

static void run_well(void)
{
    check_well();
    cluster_launch(bed->cluster);
    tell_ready();
    assert_int_equal(bed->agents, 1);
}

/* --- CHECKING --- */

static void test_checks(void **state KT_UNUSED)
{
    check_well();
    assert_int_equal(bed->ranges.services.count, 1);
    assert_int_equal(bed->ranges.pods.count, 1);
    assert_int_equal(seam_open_count(), 0);
    assert_int_equal(bed->opened, 0); /* nothing is made before cluster_launch() */
    assert_ptr_equal(cluster_api(bed->cluster), bed);
}

static void test_namespace_that_is_not_there(void **state KT_UNUSED)
{
    assert_int_equal(try_open("ems"), 0);
    answer_rights(201, true);
    answer_ranges(200);
    seam_reply(find_exactly(NAMESPACE), 404, "{}");
    assert_int_equal(bed->failures, 0); /* first it asks which there are */
    seam_reply(
        seam_find("GET", NAMESPACES), 200,
        "{\"items\":[{\"metadata\":{\"name\":\"default\"}},{\"metadata\":{}},{\"metadata\":{\"name\":\"shop\"}}]}");
    assert_int_equal(bed->failures, 1);
    assert_int_equal(bed->error.code, EXIT_CODE_NOT_FOUND);
    assert_string_equal(bed->error.text, "there is no namespace 'ems' in the cluster; there are: default, shop");
}

static void test_namespace_that_is_not_there_and_no_list(void **state KT_UNUSED)
{
    assert_int_equal(try_open("ems"), 0);
    seam_reply(find_exactly(NAMESPACE), 404, "{}");
    seam_reply(find_exactly(NAMESPACES), 403, "{}");
    answer_rights(201, true);
    answer_ranges(200);
    assert_string_equal(bed->error.text, "there is no namespace 'ems' in the cluster");
}

/* More names than a line holds, and one that is no name. */
static void test_namespaces_without_end(void **state KT_UNUSED)
{
    char *body = kt_calloc(1, 1 << 16);
    size_t at = (size_t)snprintf(body, 1 << 16, "{\"items\":[{\"metadata\":{\"name\":\"\\u001b[2Jred\\n\"}}");
    for (int i = 0; i < 500; i++)
        at += (size_t)snprintf(body + at, (1 << 16) - at, ",{\"metadata\":{\"name\":\"namespace-%d\"}}", i);
    (void)snprintf(body + at, (1 << 16) - at, "]}");
    assert_int_equal(try_open("ems"), 0);
    seam_reply(find_exactly(NAMESPACE), 404, "{}");
    seam_reply(find_exactly(NAMESPACES), 200, body);
    kt_free(body);
    answer_rights(201, true);
    answer_ranges(200);
    assert_non_null(strstr(bed->error.text, "namespace-0, namespace-1"));
    assert_true(strlen(bed->error.text) < 700);
    assert_null(strchr(bed->error.text, '\x1b')); /* text from the network is escaped */
    assert_null(strchr(bed->error.text, '\n'));
}

static void test_may_not_see_the_namespace(void **state KT_UNUSED)
{
    assert_int_equal(try_open("ems"), 0);
    seam_reply(find_exactly(NAMESPACE), 403, "{}");
    answer_rights(201, true);
    answer_ranges(200);
    assert_int_equal(bed->checked, 1);
    cluster_launch(bed->cluster);
    tell_ready();
    assert_int_equal(cluster_watch_names(bed->cluster), 0);
    assert_int_equal(seam_open_count(), 1); /* Services alone: namespaces would be refused again and again */
    assert_non_null(seam_find("GET", SERVICES));
}

static void test_missing_right(void **state KT_UNUSED)
{
    assert_int_equal(try_open("ems"), 0);
    seam_reply(find_exactly(NAMESPACE), 200, "{}");
    answer_ranges(200);
    answer_rights(201, false);
    assert_int_equal(bed->failures, 1);
    assert_int_equal(bed->checked, 0);
    assert_int_equal(bed->error.code, EXIT_CODE_FORBIDDEN);
    assert_non_null(strstr(bed->error.text, "create jobs"));
}

/* The first error is told, and only when all three have their answers. */
static void test_first_error_wins(void **state KT_UNUSED)
{
    assert_int_equal(try_open("ems"), 0);
    seam_reply(find_exactly(NAMESPACE), 500, "{}");
    answer_rights(201, false);
    assert_int_equal(bed->failures, 0);
    answer_ranges(200);
    assert_int_equal(bed->failures, 1);
    assert_string_equal(bed->error.text, "the server says 500");
}

/* It goes into paths: what is no label must not. */
static void test_names_that_are_no_namespace(void **state KT_UNUSED)
{
    static const char *const names[] = {
        "",      "a/b", "../../nodes", "a?watch=true",
        "a%2fb", "A",   "a b",         "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg"};
    for (size_t i = 0; i < KT_ARRAY_LEN(names); i++) {
        bed->cluster = NULL;
        assert_int_equal(try_open(names[i]), -EINVAL);
        assert_null(bed->cluster);
        assert_int_equal(bed->error.code, EXIT_CODE_USAGE);
        assert_int_equal(seam.count, 0);
    }
}

/* --- LAUNCHING and RUNNING --- */

static void test_launches(void **state KT_UNUSED)
{
    struct stream *stream = NULL;
    check_well();
    cluster_launch(bed->cluster);
    assert_string_equal(bed->name_space, "ems");
    bed->ops->on_step(bed->context, "pod scheduled");
    assert_int_equal(cluster_dial(bed->cluster, &stream), -ENOTCONN);
    cluster_doubt(bed->cluster);
    assert_int_equal(bed->checks, 0);
    tell_ready();
    assert_int_equal(bed->agents, 1);
    assert_int_equal(cluster_dial(bed->cluster, &stream), 0);
    assert_int_equal(bed->dials, 1);
}

static void test_first_launch_fails_for_good(void **state KT_UNUSED)
{
    check_well();
    cluster_launch(bed->cluster);
    tell_failed();
    assert_int_equal(bed->failures, 1);
    assert_string_equal(bed->error.text, "the quota is used up");
    assert_int_equal(bed->restarted, 0);
}

static void test_launcher_does_not_open(void **state KT_UNUSED)
{
    check_well();
    bed->open_rc = -ENOMEM;
    cluster_launch(bed->cluster);
    assert_int_equal(bed->failures, 1);
    assert_int_equal(bed->error.code, EXIT_CODE_AGENT);
}

static void test_doubt(void **state KT_UNUSED)
{
    struct stream *stream = NULL;
    run_well();
    cluster_doubt(bed->cluster);
    assert_int_equal(bed->checks, 1);
    answer(true, false, "");
    assert_int_equal(bed->restarted, 0);
    cluster_doubt(bed->cluster);
    answer(false, false, "the pod was evicted");
    assert_int_equal(bed->restarted, 1);
    assert_int_equal(cluster_dial(bed->cluster, &stream), -ENOTCONN);
    tell_ready();
    assert_int_equal(bed->agents, 2);
    assert_int_equal(cluster_dial(bed->cluster, &stream), 0);
    assert_int_equal(bed->failures, 0);
}

/* A look that found no memory has no answer (launcher.h): the next doubt must look again. */
static void test_doubt_after_a_look_without_answer(void **state KT_UNUSED)
{
    run_well();
    cluster_doubt(bed->cluster);
    cluster_doubt(bed->cluster);
    assert_int_equal(bed->checks, 2);
}

static void run_until_restarted(int times)
{
    for (int turn = 0; turn < SEAM_TURNS_MAX && bed->restarted < times; turn++)
        (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_int_equal(bed->restarted, times);
}

static void test_relaunch_backs_off(void **state KT_UNUSED)
{
    static const uint64_t pauses_ms[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};
    run_well();
    cluster_doubt(bed->cluster);
    answer(false, false, "gone");
    for (size_t i = 0; i < KT_ARRAY_LEN(pauses_ms); i++) {
        tell_failed();
        assert_int_equal(last_timer_ms, pauses_ms[i]);
        assert_int_equal(bed->failures, 0);
        run_until_restarted((int)i + 2);
    }
    tell_ready();
    cluster_doubt(bed->cluster);
    answer(false, false, "gone again");
    tell_failed();
    assert_int_equal(last_timer_ms, pauses_ms[0]);
}

/* Three crashes in a minute, whether it ran before or not. */
static void test_crash_loop(void **state KT_UNUSED)
{
    run_well();
    for (int i = 0; i < 2; i++) {
        cluster_doubt(bed->cluster);
        answer(false, true, "OOMKilled, exit code 137");
        assert_int_equal(bed->restarted, i + 1);
        tell_ready();
        seam.now_ms += 20000;
    }
    cluster_doubt(bed->cluster);
    answer(false, true, "OOMKilled, exit code 137");
    assert_int_equal(bed->failures, 1);
    assert_int_equal(bed->restarted, 2);
    assert_non_null(strstr(bed->error.text, "3 times within 60 s"));
    assert_non_null(strstr(bed->error.text, "OOMKilled"));
}

static void test_crashes_now_and_then(void **state KT_UNUSED)
{
    run_well();
    for (int i = 0; i < 8; i++) {
        cluster_doubt(bed->cluster);
        answer(false, i != 3, "OOMKilled, exit code 137");
        seam.now_ms += CLUSTER_CRASHES_MS / 2 + 1;
        tell_ready();
    }
    assert_int_equal(bed->failures, 0);
}

/* --- an installed agent --- */

static void check_without_rights(void)
{
    assert_int_equal(try_open("ems"), 0);
    seam_reply(find_exactly(NAMESPACE), 403, "{}");
    answer_rights(201, false);
    answer_ranges(403);
    assert_int_equal(bed->checked + bed->failures, 0); /* the agent is still looked for */
}

static void turn_until_agents(int agents)
{
    for (int turn = 0; turn < SEAM_TURNS_MAX && bed->agents < agents; turn++)
        (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_int_equal(bed->agents, agents);
}

/* No right to make anything is needed. */
static void test_installed_agent(void **state KT_UNUSED)
{
    struct stream *stream = NULL;
    wish.is_own_job = false;
    check_without_rights();
    tell_installed();
    assert_int_equal(bed->checked, 1);
    cluster_launch(bed->cluster);
    assert_int_equal(bed->agents, 0); /* not inside the call */
    turn_until_agents(1);
    assert_false(cluster_has_job(bed->cluster));
    assert_int_equal(cluster_dial(bed->cluster, &stream), 0);
    assert_int_equal(bed->opened, 0);
}

static void test_no_installed_agent(void **state KT_UNUSED)
{
    wish.is_own_job = false;
    check_without_rights();
    tell_none(NULL);
    assert_int_equal(bed->failures, 1);
    assert_non_null(strstr(bed->error.text, "create jobs"));
}

static void test_installed_agent_of_no_use(void **state KT_UNUSED)
{
    wish.is_own_job = false;
    check_without_rights();
    tell_none("its version is 7.0");
    assert_non_null(strstr(bed->error.text, "create jobs"));
    assert_non_null(strstr(bed->error.text, "its version is 7.0"));
}

static void test_named_agent_is_missing(void **state KT_UNUSED)
{
    wish = (struct cluster_options){.agent_name = "a"};
    assert_int_equal(try_open("ems"), 0);
    seam_reply(find_exactly(NAMESPACE), 200, "{}");
    answer_rights(201, true);
    answer_ranges(200);
    tell_none("there is no agent a");
    assert_int_equal(bed->failures, 1);
    assert_string_equal(bed->error.text, "there is no agent a");
}

static void test_named_badly(void **state KT_UNUSED)
{
    wish = (struct cluster_options){.agent_name = "A"};
    assert_int_equal(try_open("ems"), -EINVAL);
    assert_int_equal(bed->error.code, EXIT_CODE_USAGE);
}

static void run_installed(bool is_granted)
{
    wish.is_own_job = false;
    assert_int_equal(try_open("ems"), 0);
    seam_reply(find_exactly(NAMESPACE), 200, "{}");
    answer_rights(201, is_granted);
    answer_ranges(200);
    tell_installed();
    cluster_launch(bed->cluster);
    turn_until_agents(1);
    cluster_doubt(bed->cluster);
    answer(true, false, "");
    assert_int_equal(bed->looks, 1);
    cluster_doubt(bed->cluster);
    answer(false, false, "somebody deletes the pod");
    assert_int_equal(bed->looks, 2);
}

static void turn_until_looks(int looks)
{
    for (int turn = 0; turn < SEAM_TURNS_MAX && bed->looks < looks; turn++)
        (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_int_equal(bed->looks, looks);
}

static void test_installed_agent_moves(void **state KT_UNUSED)
{
    run_installed(false);
    tell_installed();
    assert_int_equal(bed->agents, 2);
}

/* Whoever may not make one waits for ever; a crash is the kubelet's business. */
static void test_installed_agent_comes_back(void **state KT_UNUSED)
{
    run_installed(false);
    for (int i = 0; i < 8; i++) {
        tell_none(NULL);
        turn_until_looks(3 + i);
    }
    tell_installed();
    assert_int_equal(bed->agents, 2);
    assert_int_equal(bed->failures, 0);
}

static void test_installed_agent_is_gone(void **state KT_UNUSED)
{
    run_installed(true);
    for (int i = 0; i < CLUSTER_INSTALLED_TRIES; i++) {
        assert_int_equal(bed->opened, 0);
        turn_until_looks(2 + i);
        tell_none(NULL);
    }
    assert_int_equal(bed->opened, 1);
    assert_int_equal(bed->installed_closes, 1);
    tell_ready();
    assert_int_equal(bed->agents, 2);
    assert_true(cluster_has_job(bed->cluster));
}

/* --- names --- */

static void test_names(void **state KT_UNUSED)
{
    run_well();
    assert_int_equal(cluster_watch_names(bed->cluster), 0);
    seam_reply(seam_find("GET", SERVICES), 200,
               "{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[{\"metadata\":{\"name\":\"shop\"}},{}]}");
    assert_int_equal(bed->names, 1);
    assert_int_equal(bed->known, 1);
    assert_string_equal(bed->last_name, "shop");
    assert_int_equal(bed->last_kind, NAMES_SERVICE);
    struct seam_request *watch = seam_await(&bed->loop, "GET", SERVICES);
    seam_line(watch, "{\"type\":\"DELETED\",\"object\":{\"metadata\":{\"name\":\"shop\",\"resourceVersion\":\"8\"}}}");
    assert_int_equal(bed->gone, 1);
    seam_reply(seam_find("GET", NAMESPACES), 200,
               "{\"metadata\":{\"resourceVersion\":\"7\"},\"items\":[{\"metadata\":{\"name\":\"other\"}}]}");
    assert_int_equal(bed->last_kind, NAMES_NAMESPACE);
    assert_string_equal(bed->last_name, "other");
}

/* Services that may not be listed hold nobody up, and are tried again. */
static void test_names_that_cannot_be_known(void **state KT_UNUSED)
{
    run_well();
    assert_int_equal(cluster_watch_names(bed->cluster), 0);
    for (int i = 0; i < 3; i++)
        seam_reply(seam_await(&bed->loop, "GET", SERVICES), 500, "{}");
    assert_int_equal(bed->known, 1);
    assert_int_equal(bed->failures, 0);
}

/* --- closing --- */

static void test_closes_while_checking(void **state KT_UNUSED)
{
    cluster_close(NULL, on_closed);
    assert_false(bed->is_closed);
    assert_int_equal(try_open("ems"), 0);
    close_cluster();
    assert_int_equal(bed->checked + bed->failures, 0);
    assert_int_equal(bed->launcher_closes, 0);
}

static void test_closes_checked(void **state KT_UNUSED)
{
    check_well();
    close_cluster();
    assert_int_equal(bed->launcher_closes, 0);
}

static void test_closes_while_launching(void **state KT_UNUSED)
{
    check_well();
    cluster_launch(bed->cluster);
    close_cluster();
    assert_int_equal(bed->launcher_closes, 1);
}

static void test_closes_running(void **state KT_UNUSED)
{
    run_well();
    assert_int_equal(cluster_watch_names(bed->cluster), 0);
    cluster_doubt(bed->cluster);
    close_cluster();
    assert_int_equal(bed->launcher_closes, 1);
}

static void test_closes_during_the_back_off(void **state KT_UNUSED)
{
    run_well();
    cluster_doubt(bed->cluster);
    answer(false, false, "gone");
    tell_failed();
    close_cluster();
    assert_int_equal(bed->restarted, 1);
}

static void test_closes_failed(void **state KT_UNUSED)
{
    check_well();
    cluster_launch(bed->cluster);
    tell_failed();
    close_cluster();
    assert_int_equal(bed->launcher_closes, 1);
    assert_int_equal(bed->failures, 1);
}

static void test_does_not_open(void **state KT_UNUSED)
{
    bed->api_rc = -EINVAL;
    assert_int_equal(try_open("ems"), -EINVAL);
    assert_null(bed->cluster);
    assert_int_equal(bed->error.code, EXIT_CODE_KUBECONFIG);
}

/* Every request and every allocation fails once. After an error it may be closed, and must be if it is there. */
static void test_no_memory(void **state KT_UNUSED)
{
    int rc = -1;
    for (size_t nth = 1; rc != 0 && nth < 50; nth++) {
        seam.fail_nth = nth;
        rc = try_open("ems");
        bed->is_closed = false;
        close_cluster();
    }
    seam.fail_nth = 0;
    rc = -1;
    for (size_t nth = 1; rc != 0 && nth < 50; nth++) {
        seam_reset();
        kt_mem_fail_nth(nth);
        rc = try_open("ems");
        kt_mem_fail_nth(0);
        bed->is_closed = false;
        close_cluster();
    }
    assert_int_equal(rc, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_crash_loop),
        TEST(test_crashes_now_and_then),
        TEST(test_installed_agent),
        TEST(test_no_installed_agent),
        TEST(test_installed_agent_of_no_use),
        TEST(test_named_agent_is_missing),
        TEST(test_named_badly),
        TEST(test_installed_agent_moves),
        TEST(test_installed_agent_comes_back),
        TEST(test_installed_agent_is_gone),
        TEST(test_checks),
        TEST(test_namespace_that_is_not_there),
        TEST(test_namespace_that_is_not_there_and_no_list),
        TEST(test_namespaces_without_end),
        TEST(test_may_not_see_the_namespace),
        TEST(test_missing_right),
        TEST(test_first_error_wins),
        TEST(test_names_that_are_no_namespace),
        TEST(test_launches),
        TEST(test_first_launch_fails_for_good),
        TEST(test_launcher_does_not_open),
        TEST(test_doubt),
        TEST(test_doubt_after_a_look_without_answer),
        TEST(test_relaunch_backs_off),
        TEST(test_names),
        TEST(test_names_that_cannot_be_known),
        TEST(test_closes_while_checking),
        TEST(test_closes_checked),
        TEST(test_closes_while_launching),
        TEST(test_closes_running),
        TEST(test_closes_during_the_back_off),
        TEST(test_closes_failed),
        TEST(test_does_not_open),
        TEST(test_no_memory),
    };
    return unit_run(tests);
}
