/*   LISTING  the agent's pods in each place that may hold them, all at once
 *   READING  one pod's log for its key and, beside it, whether the user holds the rights that the tunnel needs there;
 *            a pod whose log has no key is followed by the next
 *   READY    on_ready was called
 *   NONE     on_none was called
 *
 * Where the user may not list pods there is no agent for them, and that is no error, unless they named it. */
#include "client/kube/installed.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "client/kube/json_path.h"
#include "common/log.h"
#include "common/mem.h"

#define PLACES_MAX 2
#define LOG_LIMIT 512 /* bytes: the key line is shorter */
#define PATH_SIZE 512
#define TEMPLATE_MAX 64

enum installed_state { INSTALLED_LISTING, INSTALLED_READING, INSTALLED_READY, INSTALLED_NONE };

/* A namespace where it may be. */
struct place {
    struct installed *installed;
    char name_space[INSTALLED_NAME_MAX];
    struct api_request *request;
    struct agent_status pod[INSTALLED_PODS_MAX];
    size_t pods;
    int status;
    struct error error;
};

struct installed {
    struct api *api;
    const struct installed_ops *ops;
    void *context;
    enum installed_state state;
    char name[INSTALLED_NAME_MAX]; /* empty: any */
    struct place place[PLACES_MAX];
    size_t places, open; /* LISTING: answers that are missing */

    /* READING */
    struct place *chosen;
    size_t at;
    struct api_request *log;
    struct access *access;
    struct access_need needs[ACCESS_NEEDS_MAX];
    size_t needs_count;
    bool has_key, has_rights;
    uint8_t key[WIRE_KEY_SIZE];
    struct error error; /* of the last pod's log */

    struct agent_status pod; /* READY, or of before */
    struct pod_check check;
    pod_check_done *on_answer;
};

/* ---- which pods */

static const char *template_of(const cJSON *pod)
{
    const cJSON *hash = cJSON_GetObjectItemCaseSensitive(json_path_get(pod, "metadata.labels"), "pod-template-hash");
    return cJSON_IsString(hash) ? hash->valuestring : "";
}

static bool is_usable(struct agent_status *status, const cJSON *pod)
{
    return agent_status_read(status, pod) == 0 && status->state == AGENT_RUNNING && status->is_ready;
}

/* The pod template of the newest usable pod; times of RFC 3339 in UTC order as text. */
static const char *newest_template(const cJSON *list)
{
    const cJSON *pod;
    const char *newest = "", *hash = "";
    struct agent_status status;
    cJSON_ArrayForEach(pod, json_path_get(list, "items"))
    {
        const char *created = json_path_text(pod, "metadata.creationTimestamp");
        if (!is_usable(&status, pod) || strcmp(created, newest) < 0)
            continue;
        newest = created;
        hash = template_of(pod);
    }
    return hash;
}

static void swap(struct agent_status *a, struct agent_status *b)
{
    struct agent_status kept = *a;
    *a = *b;
    *b = kept;
}

size_t installed_choose(struct agent_status out[static INSTALLED_PODS_MAX], const struct cJSON *list, uint32_t seed,
                        const char *last)
{
    const char *newest = newest_template(list);
    const cJSON *pod;
    size_t count = 0, first = 0; /* [0, first) are of the newest template */
    cJSON_ArrayForEach(pod, json_path_get(list, "items"))
    {
        if (count == INSTALLED_PODS_MAX)
            break;
        if (!is_usable(&out[count], pod))
            continue;
        if (strcmp(template_of(pod), newest) == 0 && strcmp(out[count].pod, last) != 0)
            swap(&out[first++], &out[count]);
        count++;
    }
    if (first > 0)
        swap(&out[0], &out[seed % first]);
    for (size_t i = first; i + 1 < count; i++) {
        if (strcmp(out[i].pod, last) == 0)
            swap(&out[i], &out[count - 1]);
    }
    return count;
}

/* ---- results */

static void stop(struct installed *installed)
{
    for (size_t i = 0; i < installed->places; i++) {
        if (installed->place[i].request != NULL)
            api_cancel(installed->place[i].request);
        installed->place[i].request = NULL;
    }
    if (installed->log != NULL)
        api_cancel(installed->log);
    installed->log = NULL;
    access_cancel(installed->access);
    installed->access = NULL;
    pod_check_cancel(&installed->check);
}

static void none(struct installed *installed, const struct error *why)
{
    struct error copy;
    if (why != NULL)
        copy = *why;
    stop(installed);
    installed->state = INSTALLED_NONE;
    installed->ops->on_none(installed->context, why != NULL ? &copy : NULL);
}

static void none_for_memory(struct installed *installed)
{
    struct error error;
    (void)error_set(&error, EXIT_CODE_AGENT, -ENOMEM, "no memory to look for an installed agent");
    none(installed, &error);
}

static void ready_if_all_is(struct installed *installed)
{
    if (!installed->has_key || !installed->has_rights)
        return;
    const struct agent_status *pod = &installed->chosen->pod[installed->at];
    struct launcher_agent agent = {.is_installed = true, .port = LAUNCHER_PORT, .pod_address = pod->address};
    memcpy(agent.name_space, installed->chosen->name_space, sizeof agent.name_space);
    memcpy(agent.pod, pod->pod, sizeof agent.pod);
    memcpy(agent.node, pod->node, sizeof agent.node);
    memcpy(agent.key, installed->key, sizeof agent.key);
    installed->pod = *pod;
    installed->state = INSTALLED_READY;
    installed->ops->on_ready(installed->context, &agent);
}

/* ---- READING */

static void read_log(struct installed *installed);

/* The first line of the log, whole; without its end when the log ends there. */
static int read_key(struct installed *installed, const struct api_response *response)
{
    if (response->status != 200) {
        installed->error = response->error;
        return -ENOENT;
    }
    const char *end = response->size > 0 ? memchr(response->body, '\n', response->size) : NULL;
    size_t size = end != NULL ? (size_t)(end - response->body) : response->size;
    return agent_status_key(installed->key, response->body, size, &installed->error);
}

static void on_log(void *context, const struct api_response *response)
{
    struct installed *installed = context;
    installed->log = NULL;
    if (read_key(installed, response) == 0) {
        installed->has_key = true;
        ready_if_all_is(installed);
    } else if (response->status != 0 && response->status != 401 && ++installed->at < installed->chosen->pods) {
        read_log(installed);
    } else if (response->status != 403 || installed->access == NULL) { /* else the rights' answer tells all */
        none(installed, &installed->error);
    }
}

static void read_log(struct installed *installed)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "/api/v1/namespaces/%s/pods/%s/log?container=" AGENT_CONTAINER "&limitBytes=%d",
                   installed->chosen->name_space, installed->chosen->pod[installed->at].pod, LOG_LIMIT);
    struct api_call call = {.method = "GET", .path = path, .context = installed, .done = on_log};
    call.what = "read the log of the installed agent";
    installed->log = api_send(installed->api, &call);
    if (installed->log == NULL)
        none_for_memory(installed);
}

static void on_access(void *context, const struct error *error)
{
    struct installed *installed = context;
    struct error missing;
    installed->access = NULL;
    if (error == NULL &&
        access_missing(installed->needs, installed->needs_count, installed->chosen->name_space, &missing) != 0)
        error = &missing;
    if (error != NULL) {
        none(installed, error);
        return;
    }
    installed->has_rights = true;
    if (installed->log == NULL && !installed->has_key)
        none(installed, &installed->error);
    else
        ready_if_all_is(installed);
}

/* What the tunnel needs in the agent's namespace. */
static int ask_rights(struct installed *installed)
{
    static const struct access_need needs[] = {
        {.group = "", .resource = "pods", .verb = "get"},
        {.group = "", .resource = "pods", .verb = "list"},
        {.group = "", .resource = "pods/log", .verb = "get"},
        {.group = "", .resource = "pods/portforward", .verb = "get"},
        {.group = "", .resource = "pods/portforward", .verb = "create"},
    };
    memcpy(installed->needs, needs, sizeof needs);
    installed->needs_count = KT_ARRAY_LEN(needs);
    installed->access = access_start(installed->api, installed->chosen->name_space, installed->needs,
                                     installed->needs_count, on_access, installed);
    return installed->access != NULL ? 0 : -ENOMEM;
}

/* ---- LISTING */

/* The first place that has a pod. */
static struct place *choose_place(struct installed *installed)
{
    for (size_t i = 0; i < installed->places; i++) {
        if (installed->place[i].pods > 0)
            return &installed->place[i];
    }
    return NULL;
}

/* It was named, so that it is not there is an error: the first place that may not be looked into says more. */
static void none_of_that_name(struct installed *installed)
{
    struct error error;
    const struct place *first = &installed->place[0], *last = &installed->place[installed->places - 1];
    for (size_t i = 0; i < installed->places; i++) {
        if (installed->place[i].status == 200)
            continue;
        none(installed, &installed->place[i].error);
        return;
    }
    bool is_two = first != last;
    (void)error_set(&error, EXIT_CODE_AGENT, -ENOENT,
                    "there is no Ready pod of an installed agent '%s' in namespace %s%s%s; see: kubectl -n %s get pods "
                    "-l app.kubernetes.io/name=ktvpn-agent",
                    installed->name, first->name_space, is_two ? " or " : "", is_two ? last->name_space : "",
                    last->name_space);
    none(installed, &error);
}

static void listed(struct installed *installed)
{
    const struct place *before = installed->chosen;
    installed->chosen = choose_place(installed);
    installed->has_rights &= installed->chosen == before;
    if (installed->chosen == NULL) {
        if (installed->name[0] != '\0')
            none_of_that_name(installed);
        else
            none(installed, NULL);
        return;
    }
    installed->state = INSTALLED_READING;
    installed->at = 0;
    installed->has_key = false;
    if (!installed->has_rights && ask_rights(installed) != 0)
        none_for_memory(installed);
    else
        read_log(installed);
}

static void on_pods(void *context, const struct api_response *response)
{
    struct place *place = context;
    struct installed *installed = place->installed;
    place->request = NULL;
    place->status = response->status;
    place->error = response->error;
    place->pods = response->status == 200
                      ? installed_choose(place->pod, response->json, randombytes_random(), installed->pod.pod)
                      : 0;
    if (--installed->open == 0)
        listed(installed);
}

static int list_place(struct installed *installed, struct place *place)
{
    char path[PATH_SIZE];
    bool is_named = installed->name[0] != '\0';
    (void)snprintf(path, sizeof path,
                   "/api/v1/namespaces/%s/pods?labelSelector=app.kubernetes.io%%2Fname%%3Dktvpn-agent"
                   "%%2Capp.kubernetes.io%%2Fcomponent%%3Dinstalled%s%s",
                   place->name_space, is_named ? "%2Capp.kubernetes.io%2Finstance%3D" : "", installed->name);
    struct api_call call = {.method = "GET", .path = path, .context = place, .done = on_pods};
    call.what = "list the pods of the installed agent";
    place->request = api_send(installed->api, &call);
    return place->request != NULL ? 0 : -ENOMEM;
}

static int look(struct installed *installed)
{
    stop(installed);
    installed->state = INSTALLED_LISTING;
    installed->open = installed->places;
    for (size_t i = 0; i < installed->places; i++) {
        if (list_place(installed, &installed->place[i]) == 0)
            continue;
        stop(installed);
        return -ENOMEM;
    }
    return 0;
}

/* ---- asking after it */

static void on_check(void *context, const struct pod_check_answer *answer)
{
    struct installed *installed = context;
    struct pod_check_answer mine = *answer;
    if (answer->is_running && answer->starts != 0 && answer->starts != installed->pod.starts) {
        mine.is_running = false;
        mine.why = "its container was started again";
    }
    installed->on_answer(installed->context, &mine);
}

void installed_check(struct installed *installed, pod_check_done *on_answer)
{
    installed->on_answer = on_answer;
    if (installed->state == INSTALLED_READY)
        pod_check_start(&installed->check, installed->api, installed->chosen->name_space, installed->pod.pod, on_check,
                        installed);
}

/* ---- life */

/* RFC 1123's label: it goes into paths. */
static bool is_label(const char *text)
{
    size_t size = strlen(text);
    return size > 0 && size < INSTALLED_NAME_MAX && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
}

static void add_place(struct installed *installed, const char *name_space)
{
    struct place *place = &installed->place[installed->places++];
    place->installed = installed;
    (void)snprintf(place->name_space, sizeof place->name_space, "%s", name_space);
}

int installed_open(struct installed **out, struct api *api, const struct installed_options *options,
                   const struct installed_ops *ops, void *context)
{
    *out = NULL;
    bool is_placed = options->place != NULL && *options->place, is_named = options->name != NULL && *options->name;
    const char *place = is_placed ? options->place : options->name_space;
    if (!is_label(place) || (is_named && !is_label(options->name)))
        return -EINVAL;
    struct installed *installed = kt_calloc(1, sizeof *installed);
    if (installed == NULL)
        return -ENOMEM;
    *installed = (struct installed){.api = api, .ops = ops, .context = context};
    (void)snprintf(installed->name, sizeof installed->name, "%s", is_named ? options->name : "");
    add_place(installed, place);
    if (!is_placed && strcmp(place, INSTALLED_NAMESPACE) != 0)
        add_place(installed, INSTALLED_NAMESPACE);
    if (look(installed) != 0) {
        kt_free(installed);
        return -ENOMEM;
    }
    *out = installed;
    return 0;
}

int installed_restart(struct installed *installed)
{
    return look(installed);
}

void installed_close(struct installed *installed)
{
    if (installed == NULL)
        return;
    stop(installed);
    kt_free(installed);
}
