/* From nothing to an agent with a known key, in as few round trips as the API allows:
 *
 *   BEGINNING  on the loop's next turn
 *   FINDING    list nodes; where that is forbidden or gives nothing, the namespace's pods: which image, which nodes
 *   TRYING     POST a pod like the Job's as a dry run: quota, LimitRange, Pod Security and admission policies refuse
 * the Job's pod, not the Job, and tell it in events only, which the user may not be allowed to read. Who may not make
 * pods gets no such answer, and goes on CREATING   POST the Job, under a name of our own WAITING    POST the ConfigMap,
 * owned by the Job, and wait for the pod and its key (agent_wait), both at once: the kubelet waits for the ConfigMap,
 * but tries only every half second, so nothing may come before it READY      on_ready; nothing is watched any more: the
 * tunnel knows sooner than the API when the agent is gone FAILED     on_failed; the Job is being deleted CLOSING waits
 * for the deletions, and for a Job that is being created
 *
 * With --agent-image there is no FINDING and no ConfigMap. An answer that the current state does not want never comes:
 * leaving a state cancels what it asked for. Only the POST of a Job is awaited, because what it made has to be deleted.
 *
 * Deletions outlive the Job's turn (job_deletions): a restart does not wait for them. */
#include "client/kube/launcher.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "client/kube/agent_manifest.h"
#include "client/kube/agent_wait.h"
#include "client/kube/image_search.h"
#include "client/kube/job_deletions.h"
#include "client/kube/json_path.h"
#include "common/log.h"
#include "common/mem.h"

#define TICK_MS 200
#define PATH_SIZE 512
#define NAME_PREFIX "ktvpn-agent-"
#define NAME_RANDOM 8
#define NAME_SIZE (sizeof NAME_PREFIX + NAME_RANDOM)

_Static_assert(NAME_SIZE <= JOB_DELETIONS_NAME_MAX + 1, "a deletion keeps the whole name");

enum launcher_state {
    LAUNCHER_BEGINNING,
    LAUNCHER_FINDING,
    LAUNCHER_TRYING,
    LAUNCHER_CREATING,
    LAUNCHER_WAITING,
    LAUNCHER_READY,
    LAUNCHER_FAILED,
    LAUNCHER_CLOSING,
};

/* The requests that may be under way, one of each. */
enum slot { SLOT_TRY, SLOT_JOB, SLOT_CONFIG_MAP, SLOTS };

struct launcher {
    struct api *api;
    uv_loop_t *loop;
    uv_timer_t timer;
    const struct launcher_ops *ops;
    void *context;
    char *name_space, *image, *owner;

    enum launcher_state state;
    struct api_request *request[SLOTS];
    struct agent_wait *wait;
    struct placement placement;
    struct image_search search;
    struct image_pick pick;
    char job[NAME_SIZE]; /* empty: none of ours is there */
    struct cJSON *body;  /* TRYING: of the Job */
    char pod[254];       /* READY */

    struct job_deletions deletions;
    uint64_t closing_ms;
    struct pod_check check;
    void (*on_closed)(void *context);
};

static void finish_close(struct launcher *launcher);

/* What launcher, carrier and names ask the API for. */
const struct access_need *launcher_needs(size_t *count)
{
    static const struct access_need needs[] = {
        {.group = "batch", .resource = "jobs", .verb = "create"},
        {.group = "batch", .resource = "jobs", .verb = "get"},
        {.group = "batch", .resource = "jobs", .verb = "delete"},
        {.group = "", .resource = "configmaps", .verb = "create"},
        {.group = "", .resource = "configmaps", .verb = "delete"},
        {.group = "", .resource = "pods", .verb = "get"},
        {.group = "", .resource = "pods", .verb = "list"},
        {.group = "", .resource = "pods", .verb = "watch"},
        {.group = "", .resource = "pods/log", .verb = "get"},
        {.group = "", .resource = "pods/portforward", .verb = "get"},
        {.group = "", .resource = "pods/portforward", .verb = "create"},
        {.group = "", .resource = "services", .verb = "get"},
        {.group = "", .resource = "services", .verb = "list"},
        {.group = "", .resource = "services", .verb = "watch"},
    };
    *count = KT_ARRAY_LEN(needs);
    return needs;
}

static void step(struct launcher *launcher, const char *format, ...) KT_PRINTF(2, 3);
static void step(struct launcher *launcher, const char *format, ...)
{
    char text[LOG_LINE_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    launcher->ops->on_step(launcher->context, text);
}

static void on_wait_step(void *context, const char *text)
{
    step(context, "%s", text);
}

/* ---- requests */

static void cancel(struct launcher *launcher, enum slot slot)
{
    if (launcher->request[slot])
        api_cancel(launcher->request[slot]);
    launcher->request[slot] = NULL;
}

/* All but the POST of a Job. */
static void cancel_all(struct launcher *launcher)
{
    image_search_cancel(&launcher->search);
    cancel(launcher, SLOT_TRY);
    cancel(launcher, SLOT_CONFIG_MAP);
    pod_check_cancel(&launcher->check);
    agent_wait_stop(launcher->wait);
    launcher->wait = NULL;
}

/* 0 or -ENOMEM. */
static int ask(struct launcher *launcher, enum slot slot, struct api_call *call)
{
    call->context = launcher;
    launcher->request[slot] = api_send(launcher->api, call);
    return launcher->request[slot] ? 0 : -ENOMEM;
}

static bool is_success(const struct api_response *response)
{
    return response->status >= 200 && response->status < 300;
}

/* Of the Job of this turn, when there may be one. */
static void delete_job(struct launcher *launcher)
{
    if (launcher->job[0])
        job_deletions_start(&launcher->deletions, launcher->job);
    launcher->job[0] = '\0';
}

/* ---- failing */

static void fail_by(struct launcher *launcher, const struct error *error, bool has_crashed)
{
    struct error copy = *error; /* it may be part of what is cancelled */
    cancel_all(launcher);
    delete_job(launcher);
    launcher->state = LAUNCHER_FAILED;
    launcher->ops->on_failed(launcher->context, &copy, has_crashed);
}

static void fail(struct launcher *launcher, const struct error *error)
{
    fail_by(launcher, error, false);
}

static void fail_memory(struct launcher *launcher)
{
    struct error error;
    (void)error_set(&error, EXIT_CODE_AGENT, 0, "no memory to start the agent");
    fail(launcher, &error);
}

/* ---- WAITING */

static void on_wait_ready(void *context, const struct agent_status *pod, const uint8_t key[static WIRE_KEY_SIZE])
{
    struct launcher *launcher = context;
    struct launcher_agent agent = {.port = LAUNCHER_PORT, .pod_address = pod->address};
    (void)snprintf(agent.name_space, sizeof agent.name_space, "%s", launcher->name_space);
    memcpy(agent.pod, pod->pod, sizeof agent.pod);
    memcpy(agent.node, pod->node, sizeof agent.node);
    memcpy(agent.key, key, sizeof agent.key);
    memcpy(launcher->pod, pod->pod, sizeof launcher->pod);
    cancel_all(launcher);
    launcher->state = LAUNCHER_READY;
    launcher->ops->on_ready(launcher->context, &agent);
}

static void on_wait_failed(void *context, const struct error *error, bool has_crashed)
{
    fail_by(context, error, has_crashed);
}

static void on_config_map(void *context, const struct api_response *response)
{
    struct launcher *launcher = context;
    launcher->request[SLOT_CONFIG_MAP] = NULL;
    if (!is_success(response))
        fail(launcher, &response->error);
}

static int create_config_map(struct launcher *launcher, const char *uid)
{
    char path[PATH_SIZE];
    const struct agent_binary *binary = agent_binary_find(launcher->pick.arch);
    cJSON *body = binary ? agent_manifest_config_map(launcher->job, uid, binary) : NULL;
    if (!body)
        return -ENOMEM;
    (void)snprintf(path, sizeof path, "/api/v1/namespaces/%s/configmaps", launcher->name_space);
    struct api_call call = {.method = "POST", .path = path, .body = body, .done = on_config_map};
    call.what = "create the ConfigMap with the agent";
    int rc = ask(launcher, SLOT_CONFIG_MAP, &call);
    cJSON_Delete(body);
    return rc;
}

static void wait_for_agent(struct launcher *launcher, const char *uid)
{
    static const struct agent_wait_ops ops = {on_wait_step, on_wait_ready, on_wait_failed};
    launcher->state = LAUNCHER_WAITING;
    int rc = launcher->image ? 0 : create_config_map(launcher, uid);
    if (rc == 0)
        launcher->wait =
            agent_wait_start(launcher->api, launcher->loop, launcher->name_space, launcher->job, &ops, launcher);
    if (launcher->wait)
        step(launcher, "job %s created", launcher->job);
    else
        fail_memory(launcher);
}

/* ---- CREATING: the Job */

/* No answer (status 0) does not mean that the server made no Job: then it is deleted as well. */
static void on_job(void *context, const struct api_response *response)
{
    struct launcher *launcher = context;
    launcher->request[SLOT_JOB] = NULL;
    if (!is_success(response) && response->status != 0)
        launcher->job[0] = '\0';
    if (launcher->state != LAUNCHER_CREATING) { /* closing, or restarted meanwhile */
        delete_job(launcher);
        finish_close(launcher);
    } else if (is_success(response)) {
        wait_for_agent(launcher, json_path_text(response->json, "metadata.uid"));
    } else {
        fail(launcher, &response->error);
    }
}

/* Random, so the name is this client's alone; without vowels there are no words, as in the API server's own names. */
static void draw_name(char name[static NAME_SIZE])
{
    static const char letters[] = "bcdfghjklmnpqrstvwxz2456789";
    memcpy(name, NAME_PREFIX, sizeof NAME_PREFIX);
    for (size_t i = 0; i < NAME_RANDOM; i++)
        name[sizeof NAME_PREFIX - 1 + i] = letters[randombytes_uniform(sizeof letters - 1)];
    name[NAME_SIZE - 1] = '\0';
}

static void forget_body(struct launcher *launcher)
{
    cJSON_Delete(launcher->body);
    launcher->body = NULL;
}

static void create_job(struct launcher *launcher)
{
    char path[PATH_SIZE], what[160];
    launcher->state = LAUNCHER_CREATING;
    (void)snprintf(path, sizeof path, "/apis/batch/v1/namespaces/%s/jobs", launcher->name_space);
    (void)snprintf(what, sizeof what, "create the agent's Job in namespace %s", launcher->name_space);
    struct api_call call = {.method = "POST", .path = path, .body = launcher->body, .what = what, .done = on_job};
    (void)snprintf(launcher->job, sizeof launcher->job, "%s", json_path_text(launcher->body, "metadata.name"));
    int rc = ask(launcher, SLOT_JOB, &call);
    forget_body(launcher);
    if (rc == 0)
        return;
    launcher->job[0] = '\0';
    fail_memory(launcher);
}

/* ---- TRYING: a dry run of the pod */

/* Is it the pod that is refused? Not the right to make one (the words of every authorizer: k8s.io/apiserver,
 * pkg/endpoints/handlers/responsewriters/errors.go); nor a webhook that knows no dry runs. */
static bool is_refused(const struct api_response *response)
{
    if (response->status == 403)
        return strstr(json_path_text(response->json, "message"), " cannot create resource ") == NULL &&
               response->json != NULL;
    return response->status == 422;
}

static void on_try(void *context, const struct api_response *response)
{
    struct launcher *launcher = context;
    launcher->request[SLOT_TRY] = NULL;
    if (is_refused(response))
        fail(launcher, &response->error);
    else
        create_job(launcher);
}

static void try_pod(struct launcher *launcher)
{
    char path[PATH_SIZE], what[160], name[NAME_SIZE];
    launcher->state = LAUNCHER_TRYING;
    draw_name(name);
    forget_body(launcher);
    struct agent_manifest manifest = {name, launcher->owner, launcher->image, &launcher->pick, &launcher->placement};
    launcher->body = agent_manifest_job(&manifest);
    cJSON *pod = launcher->body ? agent_manifest_pod(launcher->body) : NULL;
    (void)snprintf(path, sizeof path, "/api/v1/namespaces/%s/pods?dryRun=All", launcher->name_space);
    (void)snprintf(what, sizeof what, "create the agent's pod in namespace %s", launcher->name_space);
    struct api_call call = {.method = "POST", .path = path, .body = pod, .what = what, .done = on_try};
    int rc = pod ? ask(launcher, SLOT_TRY, &call) : -ENOMEM;
    cJSON_Delete(pod);
    if (rc != 0)
        fail_memory(launcher);
}

/* ---- FINDING: the image */

static void on_image(void *context, const struct error *error)
{
    struct launcher *launcher = context;
    if (error) {
        fail(launcher, error);
        return;
    }
    step(launcher, "agent runs in image %s, which node %s has", launcher->pick.image, launcher->pick.node[0]);
    try_pod(launcher);
}

static void find_image(struct launcher *launcher)
{
    launcher->state = LAUNCHER_FINDING;
    image_search_cancel(&launcher->search);
    launcher->search = (struct image_search){.api = launcher->api,
                                             .name_space = launcher->name_space,
                                             .pick = &launcher->pick,
                                             .placement = &launcher->placement,
                                             .done = on_image,
                                             .context = launcher};
    if (image_search_start(&launcher->search) != 0)
        fail_memory(launcher);
}

/* ---- asking after the agent */

void launcher_check(struct launcher *launcher, pod_check_done *on_answer)
{
    if (launcher->state == LAUNCHER_READY)
        pod_check_start(&launcher->check, launcher->api, launcher->name_space, launcher->pod, on_answer,
                        launcher->context);
}

/* ---- life */

static void begin(struct launcher *launcher)
{
    if (launcher->request[SLOT_JOB]) /* of the turn before: its Job is not deleted yet */
        return;
    (void)uv_timer_stop(&launcher->timer);
    if (launcher->image)
        try_pod(launcher);
    else
        find_image(launcher);
}

static void on_tick(uv_timer_t *timer)
{
    struct launcher *launcher = timer->data;
    if (launcher->state == LAUNCHER_CLOSING)
        finish_close(launcher);
    else
        begin(launcher);
}

static void free_launcher(struct launcher *launcher)
{
    forget_body(launcher);
    kt_free(launcher->name_space);
    kt_free(launcher->image);
    kt_free(launcher->owner);
    kt_free(launcher);
}

static int copy_text(char **out, const char *text)
{
    *out = text ? kt_strdup(text) : NULL;
    return text && !*out ? -ENOMEM : 0;
}

static void on_deletion_done(void *context)
{
    finish_close(context);
}

/* It goes into paths. */
static bool is_label(const char *text)
{
    size_t size = strlen(text);
    return size > 0 && size < 64 && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
}

int launcher_open(struct launcher **out, struct api *api, struct uv_loop_s *loop,
                  const struct launcher_options *options, const struct launcher_ops *ops, void *context)
{
    *out = NULL;
    if (!is_label(options->name_space))
        return -EINVAL;
    struct launcher *launcher = kt_calloc(1, sizeof *launcher);
    if (!launcher)
        return -ENOMEM;
    *launcher = (struct launcher){.api = api, .loop = loop, .ops = ops, .context = context};
    if (options->placement)
        launcher->placement = *options->placement;
    if (copy_text(&launcher->name_space, options->name_space) != 0 ||
        copy_text(&launcher->image, options->image) != 0 || copy_text(&launcher->owner, options->owner) != 0) {
        free_launcher(launcher);
        return -ENOMEM;
    }
    launcher->deletions = (struct job_deletions){api, launcher->name_space, on_deletion_done, launcher, NULL};
    (void)uv_timer_init(loop, &launcher->timer);
    launcher->timer.data = launcher;
    (void)uv_timer_start(&launcher->timer, on_tick, 0, TICK_MS);
    *out = launcher;
    return 0;
}

static void leave(struct launcher *launcher, enum launcher_state state)
{
    cancel_all(launcher);
    if (!launcher->request[SLOT_JOB])
        delete_job(launcher);
    launcher->state = state;
    (void)uv_timer_start(&launcher->timer, on_tick, 0, TICK_MS);
}

void launcher_restart(struct launcher *launcher)
{
    if (launcher->state != LAUNCHER_CLOSING)
        leave(launcher, LAUNCHER_BEGINNING);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct launcher *launcher = handle->data;
    void (*on_closed)(void *context) = launcher->on_closed;
    void *context = launcher->context;
    free_launcher(launcher);
    if (on_closed)
        on_closed(context);
}

/* When nothing is under way any more, or it has taken too long. */
static void finish_close(struct launcher *launcher)
{
    if (launcher->state != LAUNCHER_CLOSING || uv_is_closing((uv_handle_t *)&launcher->timer))
        return;
    bool is_idle = job_deletions_are_done(&launcher->deletions) && !launcher->request[SLOT_JOB];
    bool is_late = uv_now(launcher->loop) - launcher->closing_ms >= LAUNCHER_CLOSE_MS;
    if (!is_idle && !is_late)
        return;
    cancel(launcher, SLOT_JOB);
    job_deletions_give_up(&launcher->deletions);
    uv_close((uv_handle_t *)&launcher->timer, on_timer_closed);
}

void launcher_close(struct launcher *launcher, void (*on_closed)(void *context))
{
    if (launcher->state == LAUNCHER_CLOSING)
        return;
    launcher->on_closed = on_closed;
    launcher->closing_ms = uv_now(launcher->loop);
    leave(launcher, LAUNCHER_CLOSING);
}
