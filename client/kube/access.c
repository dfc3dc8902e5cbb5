/* One SelfSubjectAccessReview a right, all at once: the rules review (SelfSubjectRulesReview) would be one request, but
 * an authorizer may leave its answer incomplete. */
#include "client/kube/access.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "client/kube/json_path.h"
#include "common/mem.h"

#define REVIEW_PATH "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
#define RESOURCE_MAX 64

struct access_question {
    struct access *access;
    struct access_need *need;
    struct api_request *request; /* NULL when answered */
};

struct access {
    struct access_question question[ACCESS_NEEDS_MAX];
    size_t count, open;
    bool has_error;
    struct error error;
    void (*done)(void *context, const struct error *error);
    void *context;
};

static void cancel_rest(struct access *access)
{
    for (size_t i = 0; i < access->count; i++) {
        if (access->question[i].request != NULL)
            api_cancel(access->question[i].request);
        access->question[i].request = NULL;
    }
}

/* Where one does not reach the server, the others would only take their time to find out. */
static void on_review(void *context, const struct api_response *response)
{
    struct access_question *question = context;
    struct access *access = question->access;
    question->request = NULL;
    if (response->status / 100 == 2)
        question->need->is_granted = json_path_is_true(response->json, "status.allowed");
    else if (!access->has_error || response->error.code == EXIT_CODE_UNAUTHORIZED) {
        access->error = response->error;
        access->has_error = true;
    }
    if (--access->open > 0 && response->status != 0)
        return;
    cancel_rest(access);
    access->done(access->context, access->has_error ? &access->error : NULL);
    kt_free(access);
}

/* "pods/log" is a resource and a subresource. */
static cJSON *review_of(const struct access_need *need, const char *name_space)
{
    char resource[RESOURCE_MAX];
    const char *slash = strchr(need->resource, '/');
    size_t size = slash != NULL ? (size_t)(slash - need->resource) : strlen(need->resource);
    (void)snprintf(resource, sizeof resource, "%.*s", (int)size, need->resource);
    cJSON *review = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(review, "apiVersion", "authorization.k8s.io/v1");
    (void)cJSON_AddStringToObject(review, "kind", "SelfSubjectAccessReview");
    cJSON *attributes = cJSON_AddObjectToObject(cJSON_AddObjectToObject(review, "spec"), "resourceAttributes");
    (void)cJSON_AddStringToObject(attributes, "namespace", name_space);
    (void)cJSON_AddStringToObject(attributes, "group", need->group);
    (void)cJSON_AddStringToObject(attributes, "resource", resource);
    (void)cJSON_AddStringToObject(attributes, "verb", need->verb);
    if (slash != NULL)
        (void)cJSON_AddStringToObject(attributes, "subresource", slash + 1);
    return review;
}

static int ask(struct api *api, struct access_question *question, const char *name_space)
{
    cJSON *review = review_of(question->need, name_space);
    struct api_call call = {.method = "POST",
                            .path = REVIEW_PATH,
                            .body = review,
                            .what = "ask for your rights",
                            .context = question,
                            .done = on_review};
    question->request = api_send(api, &call);
    cJSON_Delete(review);
    return question->request == NULL ? -ENOMEM : 0;
}

struct access *access_start(struct api *api, const char *name_space, struct access_need *needs, size_t count,
                            void (*done)(void *context, const struct error *error), void *context)
{
    struct access *access = count == 0 || count > ACCESS_NEEDS_MAX ? NULL : kt_calloc(1, sizeof *access);
    if (access == NULL)
        return NULL;
    access->done = done;
    access->context = context;
    for (size_t i = 0; i < count; i++) {
        access->question[access->count++] = (struct access_question){.access = access, .need = &needs[i]};
        needs[i].is_granted = false;
        if (ask(api, &access->question[i], name_space) != 0) {
            access_cancel(access);
            return NULL;
        }
        access->open++;
    }
    return access;
}

void access_cancel(struct access *access)
{
    if (access == NULL)
        return;
    cancel_rest(access);
    kt_free(access);
}

struct text {
    char *out;
    size_t size, at;
};

KT_PRINTF(2, 3) static void append(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text->out + text->at, text->size - text->at, format, args);
    va_end(args);
    if (size > 0)
        text->at = KT_MIN(text->at + (size_t)size, text->size - 1);
}

static bool is_same_resource(const struct access_need *a, const struct access_need *b)
{
    return strcmp(a->group, b->group) == 0 && strcmp(a->resource, b->resource) == 0;
}

/* One rule for each resource, with all its missing verbs, where the resource is first missing. */
static void append_rule(struct text *text, const struct access_need *needs, size_t count, size_t first)
{
    for (size_t i = 0; i < first; i++) {
        if (!needs[i].is_granted && is_same_resource(&needs[i], &needs[first]))
            return;
    }
    append(text, "\n  - {apiGroups: [\"%s\"], resources: [%s], verbs: [%s", needs[first].group, needs[first].resource,
           needs[first].verb);
    for (size_t i = first + 1; i < count; i++) {
        if (!needs[i].is_granted && is_same_resource(&needs[i], &needs[first]))
            append(text, ", %s", needs[i].verb);
    }
    append(text, "]}");
}

int access_missing(const struct access_need *needs, size_t count, const char *name_space, struct error *error)
{
    char rules[ERROR_TEXT_MAX / 2] = "", names[ERROR_TEXT_MAX / 4] = "";
    struct text rule_text = {rules, sizeof rules, 0}, name_text = {names, sizeof names, 0};
    for (size_t i = 0; i < count; i++) {
        if (needs[i].is_granted)
            continue;
        append(&name_text, "%s%s %s", name_text.at > 0 ? ", " : "", needs[i].verb, needs[i].resource);
        append_rule(&rule_text, needs, count, i);
    }
    if (name_text.at == 0)
        return 0;
    return error_set(error, EXIT_CODE_FORBIDDEN, -EACCES,
                     "you have no right in namespace %s to: %s; ask for these rules in a Role of that namespace:%s",
                     name_space, names, rules);
}
