#include "client/cluster.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include <cjson/cJSON.h>

#include "client/kube/portforward.h"
#include "client/kube/watch.h"
#include "common/log.h"
#include "common/mem.h"

enum cluster_state {
    CLUSTER_CHECKING,
    CLUSTER_CHECKED,
    CLUSTER_LAUNCHING,
    CLUSTER_RUNNING,
    CLUSTER_FAILED,
    CLUSTER_CLOSING
};

struct cluster {
    enum cluster_state state;
    struct uv_loop_s *loop;
    struct api *api;
    struct cluster_ops ops;
    void *context;
    char name_space[64];
    const char *image, *owner; /* the options' */

    /* CHECKING: three questions at once; the first error wins. */
    int questions;
    bool has_error, sees_namespaces;
    struct error error;
    struct access_need needs[ACCESS_NEEDS_MAX];
    size_t needs_count;
    struct access *access;
    struct cluster_ranges_search *search;
    struct cluster_ranges ranges;

    struct launcher *launcher;
    struct launcher_agent agent;
    bool has_agent, names_are_known;
    uv_timer_t relaunch_timer;
    uint64_t relaunch_ms; /* 0: the last launch went well */
    struct watch *services, *namespaces;
    void (*on_closed)(void *context);
};

static void failed(struct cluster *cluster, const struct error *error)
{
    if (cluster->state == CLUSTER_FAILED || cluster->state == CLUSTER_CLOSING)
        return;
    cluster->state = CLUSTER_FAILED;
    cluster->ops.on_failed(cluster->context, error);
}

/* --- CHECKING ----------------------------------------------------------------------------------------------------- */

static void answered(struct cluster *cluster, const struct error *error)
{
    if (error != NULL && !cluster->has_error) {
        cluster->error = *error;
        cluster->has_error = true;
    }
    if (--cluster->questions > 0 || cluster->state != CLUSTER_CHECKING)
        return;
    if (cluster->has_error) {
        failed(cluster, &cluster->error);
        return;
    }
    cluster->state = CLUSTER_CHECKED;
    cluster->ops.on_checked(cluster->context, &cluster->ranges);
}

static void on_access(void *context, const struct error *error)
{
    struct cluster *cluster = context;
    struct error missing;
    cluster->access = NULL;
    if (error == NULL && access_missing(cluster->needs, cluster->needs_count, cluster->name_space, &missing) != 0)
        error = &missing;
    answered(cluster, error);
}

static void on_ranges(void *context, const struct cluster_ranges *ranges, const struct error *error)
{
    struct cluster *cluster = context;
    cluster->search = NULL;
    if (error == NULL)
        cluster->ranges = *ranges;
    answered(cluster, error);
}

/* "a, b, c" of a list's names, cut to fit. */
static void join_names(char *out, size_t size, const cJSON *list)
{
    size_t at = 0;
    const cJSON *item;
    out[0] = '\0';
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(list, "items"))
    {
        const char *name = cJSON_GetStringValue(
            cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(item, "metadata"), "name"));
        char text[4 * 63 + 1];
        if (name != NULL)
            (void)log_escape(text, sizeof text, name, strnlen(name, 63));
        int added = name == NULL ? 0 : snprintf(out + at, size - at, "%s%s", at > 0 ? ", " : "", text);
        if (added < 0 || (size_t)added >= size - at)
            break;
        at += (size_t)added;
    }
}

static void on_namespaces(void *context, const struct api_response *response)
{
    struct cluster *cluster = context;
    struct error error;
    char names[512];
    join_names(names, sizeof names, response->json);
    (void)error_set(&error, EXIT_CODE_NOT_FOUND, -ENOENT, "there is no namespace '%s' in the cluster%s%s",
                    cluster->name_space, names[0] != '\0' ? "; there are: " : "", names);
    answered(cluster, &error);
}

/* Only a plain "not found" is an error here: a developer need not be allowed to see namespaces. */
static void on_namespace(void *context, const struct api_response *response)
{
    struct cluster *cluster = context;
    cluster->sees_namespaces = response->status == 200;
    if (response->status == 404) {
        struct api_call call = {.method = "GET",
                                .path = "/api/v1/namespaces",
                                .what = "list the namespaces",
                                .context = cluster,
                                .done = on_namespaces};
        if (api_send(cluster->api, &call) != NULL)
            return; /* on_namespaces answers */
    }
    answered(cluster, cluster->sees_namespaces || response->status == 403 ? NULL : &response->error);
}

static int ask_namespace(struct cluster *cluster)
{
    char path[128];
    (void)snprintf(path, sizeof path, "/api/v1/namespaces/%s", cluster->name_space);
    struct api_call call = {
        .method = "GET", .path = path, .what = "look at the namespace", .context = cluster, .done = on_namespace};
    return api_send(cluster->api, &call) != NULL ? 0 : -ENOMEM;
}

static int start_checking(struct cluster *cluster)
{
    const struct access_need *needs = launcher_needs(&cluster->needs_count);
    cluster->needs_count = KT_MIN(cluster->needs_count, (size_t)ACCESS_NEEDS_MAX);
    memcpy(cluster->needs, needs, cluster->needs_count * sizeof *needs);
    cluster->questions = 3;
    cluster->access =
        access_start(cluster->api, cluster->name_space, cluster->needs, cluster->needs_count, on_access, cluster);
    cluster->search = cluster_ranges_start(cluster->api, cluster->name_space, on_ranges, cluster);
    return cluster->access == NULL || cluster->search == NULL ? -ENOMEM : ask_namespace(cluster);
}

/* --- LAUNCHING and RUNNING ---------------------------------------------------------------------------------------- */

static void on_launcher_step(void *context, const char *text)
{
    struct cluster *cluster = context;
    cluster->ops.on_step(cluster->context, text);
}

static void on_launcher_ready(void *context, const struct launcher_agent *agent)
{
    struct cluster *cluster = context;
    cluster->agent = *agent;
    cluster->has_agent = true;
    cluster->relaunch_ms = 0;
    cluster->state = CLUSTER_RUNNING;
    cluster->ops.on_agent(cluster->context, agent);
}

static void on_relaunch_timer(uv_timer_t *timer)
{
    struct cluster *cluster = timer->data;
    launcher_restart(cluster->launcher);
}

/* The first launch's failure is final; a later one may be an API server that restarts, so it is tried again. */
static void on_launcher_failed(void *context, const struct error *error)
{
    struct cluster *cluster = context;
    if (!cluster->has_agent) {
        failed(cluster, error);
        return;
    }
    cluster->relaunch_ms = KT_MIN(KT_MAX(2 * cluster->relaunch_ms, CLUSTER_RELAUNCH_MIN_MS), CLUSTER_RELAUNCH_MAX_MS);
    log_warning("no new agent: %s; next try in %.0f s", error->text, (double)cluster->relaunch_ms / 1000);
    (void)uv_timer_start(&cluster->relaunch_timer, on_relaunch_timer, cluster->relaunch_ms, 0);
}

static void on_checked_agent(void *context, bool is_running, const char *why)
{
    struct cluster *cluster = context;
    if (is_running || cluster->state != CLUSTER_RUNNING)
        return;
    log_warning("the agent's pod %s is gone: %s; starting a new one", cluster->agent.pod, why);
    cluster->state = CLUSTER_LAUNCHING;
    launcher_restart(cluster->launcher);
}

void cluster_doubt(struct cluster *cluster)
{
    if (cluster->state == CLUSTER_RUNNING)
        launcher_check(cluster->launcher, on_checked_agent);
}

void cluster_launch(struct cluster *cluster)
{
    static const struct launcher_ops ops = {
        .on_step = on_launcher_step, .on_ready = on_launcher_ready, .on_failed = on_launcher_failed};
    struct launcher_options options = {
        .name_space = cluster->name_space, .image = cluster->image, .owner = cluster->owner};
    struct error error;
    cluster->state = CLUSTER_LAUNCHING;
    int rc = launcher_open(&cluster->launcher, cluster->api, cluster->loop, &options, &ops, cluster);
    if (rc == 0)
        return;
    (void)error_set(&error, EXIT_CODE_AGENT, rc, "cannot start the agent: %s", strerror(-rc));
    failed(cluster, &error);
}

int cluster_dial(struct cluster *cluster, struct stream **out)
{
    if (cluster->state != CLUSTER_RUNNING)
        return -ENOTCONN;
    return portforward_open(out, cluster->api, cluster->loop, cluster->agent.name_space, cluster->agent.pod,
                            cluster->agent.port);
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static void tell_name(struct cluster *cluster, enum names_kind kind, const cJSON *object, bool is_there)
{
    const char *name = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(object, "metadata"), "name"));
    if (name != NULL)
        cluster->ops.on_name(cluster->context, kind, name, is_there);
}

static void on_service(void *context, enum watch_event event, const struct cJSON *object)
{
    tell_name(context, NAMES_SERVICE, object, event != WATCH_DELETED);
}

static void on_namespace_seen(void *context, enum watch_event event, const struct cJSON *object)
{
    tell_name(context, NAMES_NAMESPACE, object, event != WATCH_DELETED);
}

static void on_services_synced(void *context)
{
    struct cluster *cluster = context;
    if (!cluster->names_are_known)
        cluster->ops.on_names_known(cluster->context);
    cluster->names_are_known = true;
}

static void on_services_error(void *context, const struct error *error)
{
    log_info("names: %s", error->text); /* the watch goes on by itself */
    on_services_synced(context);
}

static void on_namespaces_error(void *context KT_UNUSED, const struct error *error)
{
    log_info("names: %s", error->text);
}

int cluster_watch_names(struct cluster *cluster)
{
    static const struct watch_ops services = {
        .on_object = on_service, .on_synced = on_services_synced, .on_error = on_services_error};
    static const struct watch_ops namespaces = {.on_object = on_namespace_seen, .on_error = on_namespaces_error};
    char path[128];
    (void)snprintf(path, sizeof path, "/api/v1/namespaces/%s/services", cluster->name_space);
    struct watch_options options = {.path = path, .what = "list the Services"};
    int rc = watch_open(&cluster->services, cluster->api, &options, &services, cluster);
    options = (struct watch_options){.path = "/api/v1/namespaces", .what = "list the namespaces"};
    if (rc == 0 && cluster->sees_namespaces)
        rc = watch_open(&cluster->namespaces, cluster->api, &options, &namespaces, cluster);
    return rc;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

/* RFC 1123's label, as Kubernetes wants it. It goes into paths. */
static bool is_label(const char *text)
{
    size_t size = strlen(text);
    return size > 0 && size < 64 && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
}

int cluster_open(struct cluster **out, struct uv_loop_s *loop, const struct cluster_options *options,
                 const struct cluster_ops *ops, void *context, struct error *error)
{
    if (!is_label(options->name_space)) {
        char text[256];
        (void)log_escape(text, sizeof text, options->name_space, strlen(options->name_space));
        return error_set(error, EXIT_CODE_USAGE, -EINVAL, "'%s' is no name of a namespace", text);
    }
    struct cluster *cluster = kt_calloc(1, sizeof *cluster);
    if (cluster == NULL)
        return error_set(error, EXIT_CODE_FAILED, -ENOMEM, "out of memory");
    *cluster = (struct cluster){.loop = loop, .ops = *ops, .context = context};
    (void)snprintf(cluster->name_space, sizeof cluster->name_space, "%.63s", options->name_space);
    cluster->image = options->image;
    cluster->owner = options->owner;
    int rc = api_open(&cluster->api, loop, options->config, error);
    if (rc != 0) {
        kt_free(cluster);
        return rc;
    }
    cluster->relaunch_timer.data = cluster;
    (void)uv_timer_init(loop, &cluster->relaunch_timer);
    *out = cluster;
    return start_checking(cluster) == 0 ? 0 : error_set(error, EXIT_CODE_FAILED, -ENOMEM, "out of memory");
}

struct api *cluster_api(struct cluster *cluster)
{
    return cluster->api;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct cluster *cluster = handle->data;
    if (cluster->on_closed != NULL)
        cluster->on_closed(cluster->context);
    kt_free(cluster);
}

static void on_api_closed(void *context)
{
    struct cluster *cluster = context;
    uv_close((uv_handle_t *)&cluster->relaunch_timer, on_timer_closed);
}

static void on_launcher_closed(void *context)
{
    struct cluster *cluster = context;
    api_close(cluster->api, on_api_closed, cluster);
}

void cluster_close(struct cluster *cluster, void (*on_closed)(void *context))
{
    if (cluster == NULL)
        return;
    cluster->state = CLUSTER_CLOSING;
    cluster->on_closed = on_closed;
    (void)uv_timer_stop(&cluster->relaunch_timer);
    watch_close(cluster->services);
    watch_close(cluster->namespaces);
    if (cluster->access != NULL)
        access_cancel(cluster->access);
    if (cluster->search != NULL)
        cluster_ranges_cancel(cluster->search);
    if (cluster->launcher != NULL)
        launcher_close(cluster->launcher, on_launcher_closed);
    else
        on_launcher_closed(cluster);
}
