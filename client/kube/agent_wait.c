/* The pod is watched, not polled; the watch needs no list before it, because without a resourceVersion it begins with
 * what is there.
 *
 *   SEEKING   the Job is there; its pod may be pending, pulling, creating
 *   READING   the container runs: its log is followed to the first line, the key. No probe of the kubelet is as quick
 *   ENDED     the pod has ended: the last line of its log is asked for, then on_failed
 *   OVER      on_ready or on_failed was called
 *
 * One timer looks every TICK_MS at what has not happened: it starts requests that ended too early again, and ends the
 * waiting. Trouble of the pod (an image that can't be pulled, no node with room) is given time to pass, because the
 * kubelet and the scheduler try again. A Job without a pod tells its reason (quota, LimitRange, admission) only in an
 * event, which the user may not be allowed to read; so does a pod whose volumes or network cannot be made. */
#include "client/kube/agent_wait.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "client/kube/json_path.h"
#include "common/log.h"
#include "common/mem.h"

#define TICK_MS 200
#define EVENTS_MS 1500 /* without a pod: ask for the Job's events, and again after this long */
#define LOG_LIMIT 4096 /* bytes of the log that are read: the key line is shorter */
#define PATH_SIZE 512

enum wait_state { WAIT_SEEKING, WAIT_READING, WAIT_ENDED, WAIT_OVER };
enum slot { SLOT_WATCH, SLOT_LOG, SLOT_EVENTS, SLOTS }; /* the requests that may be under way, one of each */

struct agent_wait {
    struct api *api;
    uv_loop_t *loop;
    uv_timer_t timer;
    const struct agent_wait_ops *ops;
    void *context;
    const char *name_space, *job;

    enum wait_state state;
    struct api_request *request[SLOTS];
    struct agent_status pod; /* pod.pod is empty until one is seen */
    uint64_t started_ms, events_ms, reading_ms;
    bool events_forbidden, events_of_pod;
    uint64_t trouble_ms; /* 0: none */
    char trouble[AGENT_STATUS_REASON_MAX];
};

static void step(struct agent_wait *wait, const char *format, ...) KT_PRINTF(2, 3);
static void step(struct agent_wait *wait, const char *format, ...)
{
    char text[LOG_LINE_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    wait->ops->on_step(wait->context, text);
}

/* Without memory now: the next tick tries again. */
static void ask(struct agent_wait *wait, enum slot slot, struct api_call *call)
{
    call->method = "GET";
    call->context = wait;
    wait->request[slot] = api_send(wait->api, call);
}

static void cancel(struct agent_wait *wait, enum slot slot)
{
    if (wait->request[slot])
        api_cancel(wait->request[slot]);
    wait->request[slot] = NULL;
}

static void end(struct agent_wait *wait)
{
    for (enum slot slot = 0; slot < SLOTS; slot++)
        cancel(wait, slot);
    (void)uv_timer_stop(&wait->timer);
    wait->state = WAIT_OVER;
}

static void fail(struct agent_wait *wait, const struct error *error)
{
    struct error copy = *error; /* it may be part of what is cancelled */
    end(wait);
    wait->ops->on_failed(wait->context, &copy, wait->pod.state == AGENT_ENDED && wait->pod.has_crashed);
}

static void fail_pod(struct agent_wait *wait, const char *what, const char *reason)
{
    struct error error;
    const char *colon = *reason ? ": " : "";
    (void)error_set(&error, EXIT_CODE_AGENT, 0, "the agent's pod %s %s%s%s", wait->pod.pod, what, colon, reason);
    fail(wait, &error);
}

/* ---- the log */

static void on_key_line(void *context, const char *line, size_t size)
{
    struct agent_wait *wait = context;
    uint8_t key[WIRE_KEY_SIZE];
    struct error error;
    if (wait->state != WAIT_READING)
        return;
    if (agent_status_key(key, line, size, &error) != 0) {
        fail(wait, &error);
        return;
    }
    end(wait);
    wait->ops->on_ready(wait->context, &wait->pod, key);
}

/* Too early (400: the kubelet does not know the container yet), or the container has ended without a line: the next
 * tick asks again, and the watch tells how it ended. */
static void on_log_end(void *context, const struct api_response *response)
{
    struct agent_wait *wait = context;
    wait->request[SLOT_LOG] = NULL;
    if (response->status == 401 || response->status == 403)
        fail(wait, &response->error);
}

static void follow_log(struct agent_wait *wait)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path,
                   "/api/v1/namespaces/%s/pods/%s/log?container=" AGENT_CONTAINER "&follow=true&limitBytes=%d",
                   wait->name_space, wait->pod.pod, LOG_LIMIT);
    struct api_call call = {.path = path, .done = on_log_end, .line = on_key_line};
    call.what = "read the log of the agent's pod";
    ask(wait, SLOT_LOG, &call);
}

/* Whatever the answer is: its text goes into the error. */
static void on_last_words(void *context, const struct api_response *response)
{
    struct agent_wait *wait = context;
    wait->request[SLOT_LOG] = NULL;
    char words[AGENT_STATUS_REASON_MAX] = "", reason[2 * AGENT_STATUS_REASON_MAX + 32];
    if (response->status == 200 && response->size > 0) {
        size_t size = response->size - (response->body[response->size - 1] == '\n');
        (void)log_escape(words, sizeof words, response->body, size);
    }
    const char *intro = *words ? "; its log ends with: " : "";
    (void)snprintf(reason, sizeof reason, "%s%s%s", wait->pod.reason, intro, words);
    fail_pod(wait, "has ended", reason);
}

static void ask_last_words(struct agent_wait *wait)
{
    char path[PATH_SIZE];
    wait->state = WAIT_ENDED;
    cancel(wait, SLOT_LOG);
    (void)snprintf(path, sizeof path,
                   "/api/v1/namespaces/%s/pods/%s/log?container=" AGENT_CONTAINER "&tailLines=1&limitBytes=%d",
                   wait->name_space, wait->pod.pod, LOG_LIMIT);
    struct api_call call = {.path = path, .what = "read the agent's log", .done = on_last_words};
    ask(wait, SLOT_LOG, &call);
    if (!wait->request[SLOT_LOG])
        fail_pod(wait, "has ended", wait->pod.reason);
}

/* ---- the pod */

/* It is on a node, and its state does not say what it waits for. */
static bool is_starting_silently(const struct agent_wait *wait)
{
    return wait->state == WAIT_SEEKING && wait->pod.state == AGENT_STARTING && !wait->pod.is_troubled;
}

/* `reason` NULL: there is none now. */
static void note_trouble(struct agent_wait *wait, const char *reason)
{
    if (reason == NULL) {
        wait->trouble_ms = 0;
        wait->trouble[0] = '\0';
        return;
    }
    if (wait->trouble_ms == 0)
        wait->trouble_ms = uv_now(wait->loop);
    /* The first reason says more: what follows ErrImagePull is "ImagePullBackOff: Back-off pulling image". */
    if (!wait->trouble[0])
        (void)snprintf(wait->trouble, sizeof wait->trouble, "%s", reason);
}

static void pod_changed(struct agent_wait *wait, bool had_node)
{
    const struct agent_status *pod = &wait->pod;
    if (!had_node && pod->node[0])
        step(wait, "agent pod %s scheduled on %s", pod->pod, pod->node);
    note_trouble(wait, pod->is_troubled ? pod->reason : NULL);
    switch (pod->state) {
    case AGENT_PENDING:
    case AGENT_STARTING:
        return;
    case AGENT_RUNNING:
        if (wait->state != WAIT_SEEKING)
            return;
        wait->state = WAIT_READING;
        wait->reading_ms = uv_now(wait->loop);
        step(wait, "agent pod %s runs", pod->pod);
        follow_log(wait);
        return;
    case AGENT_ENDED:
        ask_last_words(wait);
        return;
    case AGENT_LEAVING:
        fail_pod(wait, "is leaving", pod->reason);
        return;
    }
}

static void pod_event(struct agent_wait *wait, const cJSON *event)
{
    struct agent_status now;
    const char *type = json_path_text(event, "type");
    bool is_pod = strcmp(type, "ADDED") == 0 || strcmp(type, "MODIFIED") == 0 || strcmp(type, "DELETED") == 0;
    if (!is_pod || agent_status_read(&now, json_path_get(event, "object")) != 0)
        return; /* after ERROR the server ends the watch, and the tick starts another */
    bool had_node = wait->pod.node[0] != '\0';
    wait->pod = now;
    if (strcmp(type, "DELETED") == 0)
        fail_pod(wait, "was deleted", now.reason);
    else
        pod_changed(wait, had_node);
}

static void on_watch_line(void *context, const char *line, size_t size)
{
    struct agent_wait *wait = context;
    if (wait->state != WAIT_SEEKING && wait->state != WAIT_READING)
        return;
    cJSON *event = cJSON_ParseWithLength(line, size);
    pod_event(wait, event);
    cJSON_Delete(event);
}

static void on_watch_end(void *context, const struct api_response *response)
{
    struct agent_wait *wait = context;
    wait->request[SLOT_WATCH] = NULL;
    if (response->status == 401 || response->status == 403)
        fail(wait, &response->error);
}

static void watch_pod(struct agent_wait *wait)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path,
                   "/api/v1/namespaces/%s/pods?watch=true&labelSelector=app.kubernetes.io%%2Finstance%%3D%s",
                   wait->name_space, wait->job);
    struct api_call call = {.path = path, .done = on_watch_end, .line = on_watch_line, .what = "watch the agent's pod"};
    ask(wait, SLOT_WATCH, &call);
}

/* ---- events: of the Job while there is no pod, then of the pod while it starts */

static void on_events(void *context, const struct api_response *response)
{
    struct agent_wait *wait = context;
    wait->request[SLOT_EVENTS] = NULL;
    wait->events_forbidden = response->status == 403;
    char reason[AGENT_STATUS_REASON_MAX];
    bool is_warning = response->status == 200 && agent_status_warning(reason, response->json) == 0;
    if (wait->events_of_pod) {
        if (response->status == 200 && is_starting_silently(wait))
            note_trouble(wait, is_warning ? reason : NULL);
        return;
    }
    if (!is_warning || wait->pod.pod[0])
        return;
    struct error error;
    (void)error_set(&error, EXIT_CODE_AGENT, 0, "the cluster makes no pod for the agent's Job in namespace %s: %s",
                    wait->name_space, reason);
    fail(wait, &error);
}

static void ask_events(struct agent_wait *wait, uint64_t now)
{
    char path[PATH_SIZE];
    if (now - wait->events_ms < EVENTS_MS || wait->request[SLOT_EVENTS] || wait->events_forbidden)
        return;
    wait->events_of_pod = wait->pod.pod[0] != '\0';
    (void)snprintf(path, sizeof path,
                   "/api/v1/namespaces/%s/events?fieldSelector=involvedObject.kind%%3D%s%%2CinvolvedObject.name%%3D%s",
                   wait->name_space, wait->events_of_pod ? "Pod" : "Job",
                   wait->events_of_pod ? wait->pod.pod : wait->job);
    struct api_call call = {.path = path, .what = "list the events of the agent's Job", .done = on_events};
    wait->events_ms = now;
    ask(wait, SLOT_EVENTS, &call);
}

static void look_without_pod(struct agent_wait *wait, uint64_t now)
{
    if (now - wait->started_ms < AGENT_WAIT_NO_POD_MS) {
        ask_events(wait, now);
        return;
    }
    struct error error;
    (void)error_set(
        &error, EXIT_CODE_AGENT, 0,
        "the cluster made no pod for the agent's Job within %d s: a quota, a limit or an admission policy may forbid "
        "it; see: kubectl -n %s get events",
        AGENT_WAIT_NO_POD_MS / 1000, wait->name_space);
    fail(wait, &error);
}

/* ---- life */

/* What should have happened by now? */
static void tick(struct agent_wait *wait)
{
    uint64_t now = uv_now(wait->loop);
    if (wait->state == WAIT_ENDED || wait->state == WAIT_OVER)
        return;
    if (now - wait->started_ms >= AGENT_WAIT_READY_MS) {
        fail_pod(wait, "was not ready in time", wait->trouble);
        return;
    }
    if (wait->trouble_ms != 0 && now - wait->trouble_ms >= AGENT_WAIT_TROUBLE_MS) {
        fail_pod(wait, "does not start", wait->trouble);
        return;
    }
    if (wait->state == WAIT_READING && now - wait->reading_ms >= AGENT_WAIT_KEY_MS) {
        fail_pod(wait, "runs", "its log tells no key, so its image is none of ktvpn-agent, or the log cannot be read");
        return;
    }
    if (!wait->request[SLOT_WATCH])
        watch_pod(wait);
    if (wait->state == WAIT_READING && !wait->request[SLOT_LOG])
        follow_log(wait);
    if (!wait->pod.pod[0])
        look_without_pod(wait, now);
    else if (is_starting_silently(wait))
        ask_events(wait, now);
}

static void on_tick(uv_timer_t *timer)
{
    tick(timer->data);
}

struct agent_wait *agent_wait_start(struct api *api, struct uv_loop_s *loop, const char *name_space, const char *job,
                                    const struct agent_wait_ops *ops, void *context)
{
    struct agent_wait *wait = kt_calloc(1, sizeof *wait);
    if (!wait)
        return NULL;
    *wait = (struct agent_wait){.api = api, .loop = loop, .ops = ops, .context = context};
    wait->name_space = name_space;
    wait->job = job;
    wait->started_ms = wait->events_ms = uv_now(loop);
    (void)uv_timer_init(loop, &wait->timer);
    wait->timer.data = wait;
    (void)uv_timer_start(&wait->timer, on_tick, TICK_MS, TICK_MS);
    watch_pod(wait);
    return wait;
}

static void on_timer_closed(uv_handle_t *handle)
{
    kt_free(handle->data);
}

void agent_wait_stop(struct agent_wait *wait)
{
    if (!wait)
        return;
    end(wait);
    uv_close((uv_handle_t *)&wait->timer, on_timer_closed);
}
