#include "client/kube/job_deletions.h"

#include <cjson/cJSON.h>
#include <stdio.h>

#include "common/log.h"
#include "common/mem.h"

#define PATH_SIZE 512

struct job_deletion {
    struct job_deletions *deletions;
    struct api_request *request;
    struct job_deletion *next;
    char job[JOB_DELETIONS_NAME_MAX + 1];
};

static void left_behind(const struct job_deletion *deletion, const char *why)
{
    const char *name_space = deletion->deletions->name_space;
    log_warning("job %s in namespace %s may be left behind (%s); it ends by itself, or: kubectl -n %s delete job %s",
                deletion->job, name_space, why, name_space, deletion->job);
}

static bool is_gone(const struct api_response *response)
{
    return (response->status >= 200 && response->status < 300) || response->status == 404;
}

static void on_deleted(void *context, const struct api_response *response)
{
    struct job_deletion *deletion = context;
    struct job_deletions *deletions = deletion->deletions;
    if (!is_gone(response))
        left_behind(deletion, response->error.text);
    struct job_deletion **link = &deletions->first;
    while (*link != deletion)
        link = &(*link)->next;
    *link = deletion->next;
    kt_free(deletion);
    deletions->on_done(deletions->context);
}

static struct api_request *send_delete(struct job_deletion *deletion)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "/apis/batch/v1/namespaces/%s/jobs/%s", deletion->deletions->name_space,
                   deletion->job);
    cJSON *body =
        cJSON_Parse("{\"apiVersion\":\"v1\",\"kind\":\"DeleteOptions\",\"propagationPolicy\":\"Background\"}");
    struct api_call call = {.method = "DELETE", .path = path, .body = body, .context = deletion, .done = on_deleted};
    call.what = "delete the agent's Job";
    struct api_request *request = body ? api_send(deletion->deletions->api, &call) : NULL;
    cJSON_Delete(body);
    return request;
}

void job_deletions_start(struct job_deletions *deletions, const char *job)
{
    struct job_deletion *deletion = kt_calloc(1, sizeof *deletion);
    if (deletion) {
        deletion->deletions = deletions;
        (void)snprintf(deletion->job, sizeof deletion->job, "%s", job);
        deletion->request = send_delete(deletion);
    }
    if (!deletion || !deletion->request) {
        log_warning("job %s: no memory to delete it; it ends by itself", job);
        kt_free(deletion);
        return;
    }
    deletion->next = deletions->first;
    deletions->first = deletion;
}

bool job_deletions_are_done(const struct job_deletions *deletions)
{
    return deletions->first == NULL;
}

void job_deletions_give_up(struct job_deletions *deletions)
{
    while (deletions->first) {
        struct job_deletion *deletion = deletions->first;
        deletions->first = deletion->next;
        left_behind(deletion, "no answer from the API");
        api_cancel(deletion->request);
        kt_free(deletion);
    }
}
