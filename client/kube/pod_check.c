#include "client/kube/pod_check.h"

#include <stdio.h>
#include <string.h>

#define PATH_SIZE 512

static void on_pod(void *context, const struct api_response *response)
{
    struct pod_check *check = context;
    struct agent_status pod;
    char why[AGENT_STATUS_REASON_MAX + 320];
    struct pod_check_answer answer = {.why = why};
    check->request = NULL;
    if (response->status == 404) {
        (void)snprintf(why, sizeof why, "the agent's pod %s is gone", check->pod);
    } else if (response->status != 200 || agent_status_read(&pod, response->json) != 0) {
        answer.is_running = true;
        answer.why = response->error.text;
    } else if (pod.state == AGENT_RUNNING) {
        answer = (struct pod_check_answer){.is_running = true, .starts = pod.starts, .why = ""};
    } else {
        const char *what = pod.state == AGENT_ENDED ? "has ended" : "does not run";
        answer.has_crashed = pod.state == AGENT_ENDED && pod.has_crashed;
        (void)snprintf(why, sizeof why, "the agent's pod %s %s: %s", pod.pod, what, pod.reason);
    }
    check->done(check->context, &answer);
}

void pod_check_start(struct pod_check *check, struct api *api, const char *name_space, const char *pod,
                     pod_check_done *done, void *context)
{
    char path[PATH_SIZE];
    pod_check_cancel(check);
    *check = (struct pod_check){.api = api, .done = done, .context = context};
    (void)snprintf(check->pod, sizeof check->pod, "%s", pod);
    (void)snprintf(path, sizeof path, "/api/v1/namespaces/%s/pods/%s", name_space, pod);
    struct api_call call = {
        .method = "GET", .path = path, .what = "look at the agent's pod", .context = check, .done = on_pod};
    check->request = api_send(api, &call);
}

void pod_check_cancel(struct pod_check *check)
{
    if (check->request != NULL)
        api_cancel(check->request);
    check->request = NULL;
}
