#include "client/cluster.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include <cjson/cJSON.h>

#include "client/cluster_names.h"
#include "client/identity.h"
#include "client/kube/portforward.h"
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
    const struct placement *placement;
    bool is_named; /* an installed agent, and no other */

    /* CHECKING: up to four questions at once; the first error wins. */
    int questions;
    bool has_error, sees_namespaces, lacks_rights, has_found, has_why;
    struct error error;
    struct error missing; /* lacks_rights: to make a Job of our own */
    struct error why;     /* has_why: why no installed agent can be used */
    struct access_need needs[ACCESS_NEEDS_MAX];
    size_t needs_count;
    struct access *access;
    struct cluster_ranges_search *search;
    struct cluster_ranges ranges;

    struct installed *installed; /* NULL: not looked for, or given up */
    struct launcher *launcher;   /* NULL: no Job of ours */
    struct launcher_agent agent;
    bool has_agent;
    unsigned tries;                     /* for another pod of the installed agent */
    uint64_t crash_ms[CLUSTER_CRASHES]; /* the last ones; 0: none */
    uv_timer_t relaunch_timer;
    uint64_t relaunch_ms; /* 0: the last launch went well */
    struct cluster_names names;
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

/* All is answered: the reason to give up, or NULL. */
static const struct error *refusal(struct cluster *cluster)
{
    if (cluster->has_error)
        return &cluster->error;
    if (cluster->has_found)
        return NULL;
    if (cluster->is_named)
        return &cluster->why;
    if (!cluster->lacks_rights || !cluster->has_why)
        return cluster->lacks_rights ? &cluster->missing : NULL;
    (void)error_set(&cluster->error, cluster->missing.code, -EACCES,
                    "%.600s\n(and the installed agent is of no use: %.360s)", cluster->missing.text, cluster->why.text);
    return &cluster->error;
}

static void answered(struct cluster *cluster, const struct error *error)
{
    /* After a 401 the server closes the connection, and others of it break: the 401 says more. */
    if (error != NULL && (!cluster->has_error || error->code == EXIT_CODE_UNAUTHORIZED)) {
        cluster->error = *error;
        cluster->has_error = true;
    }
    /* Where one question does not reach the server, the others would only take their time to find out. */
    bool is_in_vain = error != NULL && (error->code == EXIT_CODE_UNREACHABLE || error->code == EXIT_CODE_TLS);
    if ((--cluster->questions > 0 && !is_in_vain) || cluster->state != CLUSTER_CHECKING)
        return;
    const struct error *why = refusal(cluster);
    if (why != NULL) {
        failed(cluster, why);
        return;
    }
    cluster->state = CLUSTER_CHECKED;
    cluster->ops.on_checked(cluster->context, &cluster->ranges);
}

static void on_access(void *context, const struct error *error)
{
    struct cluster *cluster = context;
    cluster->access = NULL;
    cluster->lacks_rights = error == NULL && access_missing(cluster->needs, cluster->needs_count, cluster->name_space,
                                                            &cluster->missing) != 0;
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

/* --- LAUNCHING and RUNNING ---------------------------------------------------------------------------------------- */

static void on_relaunch_timer(uv_timer_t *timer);

static void on_launcher_step(void *context, const char *text)
{
    struct cluster *cluster = context;
    cluster->ops.on_step(cluster->context, text);
}

static void run(struct cluster *cluster)
{
    cluster->has_agent = true;
    cluster->relaunch_ms = 0;
    cluster->tries = 0;
    cluster->state = CLUSTER_RUNNING;
    cluster->ops.on_agent(cluster->context, &cluster->agent);
}

static void on_launcher_ready(void *context, const struct launcher_agent *agent)
{
    struct cluster *cluster = context;
    cluster->agent = *agent;
    run(cluster);
}

static void try_later(struct cluster *cluster, const char *why)
{
    cluster->relaunch_ms = KT_MIN(KT_MAX(2 * cluster->relaunch_ms, CLUSTER_RELAUNCH_MIN_MS), CLUSTER_RELAUNCH_MAX_MS);
    log_warning("no new agent: %s; next try in %.0f s", why, (double)cluster->relaunch_ms / 1000);
    (void)uv_timer_start(&cluster->relaunch_timer, on_relaunch_timer, cluster->relaunch_ms, 0);
}

/* Counts one crash. Was it one too many? Then it has failed. */
static bool is_crash_loop(struct cluster *cluster, const char *why)
{
    struct error error;
    uint64_t now_ms = uv_now(cluster->loop);
    memmove(cluster->crash_ms, cluster->crash_ms + 1, sizeof cluster->crash_ms - sizeof cluster->crash_ms[0]);
    cluster->crash_ms[CLUSTER_CRASHES - 1] = now_ms;
    if (cluster->crash_ms[0] == 0 || now_ms - cluster->crash_ms[0] > CLUSTER_CRASHES_MS)
        return false;
    (void)error_set(&error, EXIT_CODE_AGENT, -EAGAIN, "the agent ended by itself %d times within %d s; at last: %.800s",
                    CLUSTER_CRASHES, CLUSTER_CRASHES_MS / 1000, why);
    failed(cluster, &error);
    return true;
}

/* The first launch's failure is final; a later one may be an API server that restarts, so it is tried again. */
static void on_launcher_failed(void *context, const struct error *error, bool has_crashed)
{
    struct cluster *cluster = context;
    if (!cluster->has_agent)
        failed(cluster, error);
    else if (!has_crashed || !is_crash_loop(cluster, error->text))
        try_later(cluster, error->text);
}

static void launch_job(struct cluster *cluster)
{
    static const struct launcher_ops ops = {
        .on_step = on_launcher_step, .on_ready = on_launcher_ready, .on_failed = on_launcher_failed};
    struct launcher_options options = {.name_space = cluster->name_space,
                                       .image = cluster->image,
                                       .owner = cluster->owner,
                                       .placement = cluster->placement};
    struct error error;
    int rc = launcher_open(&cluster->launcher, cluster->api, cluster->loop, &options, &ops, cluster);
    if (rc == 0)
        return;
    (void)error_set(&error, EXIT_CODE_AGENT, rc, "cannot start the agent: %s", strerror(-rc));
    failed(cluster, &error);
}

static void on_installed_ready(void *context, const struct launcher_agent *agent)
{
    struct cluster *cluster = context;
    cluster->agent = *agent;
    cluster->has_found = true;
    if (cluster->state == CLUSTER_CHECKING)
        answered(cluster, NULL);
    else
        run(cluster);
}

/* It was there, and is gone: a rolling update brings another pod soon. */
static void no_other_pod(struct cluster *cluster, const char *why)
{
    bool may_make_one = !cluster->is_named && !cluster->lacks_rights;
    if (++cluster->tries < CLUSTER_INSTALLED_TRIES || !may_make_one) {
        try_later(cluster, why);
        return;
    }
    log_warning("the installed agent is gone: %s; starting one for this session", why);
    installed_close(cluster->installed);
    cluster->installed = NULL;
    launch_job(cluster);
}

static void on_installed_none(void *context, const struct error *why)
{
    struct cluster *cluster = context;
    cluster->has_why = why != NULL;
    if (why != NULL)
        cluster->why = *why;
    if (cluster->state == CLUSTER_CHECKING)
        answered(cluster, NULL);
    else
        no_other_pod(cluster, why != NULL ? why->text : "no pod of the installed agent is Ready");
}

static void on_relaunch_timer(uv_timer_t *timer)
{
    struct cluster *cluster = timer->data;
    if (cluster->launcher != NULL)
        launcher_restart(cluster->launcher);
    else if (installed_restart(cluster->installed) != 0)
        try_later(cluster, "out of memory");
}

static void on_checked_agent(void *context, const struct pod_check_answer *answer)
{
    struct cluster *cluster = context;
    if (answer->is_running || cluster->state != CLUSTER_RUNNING)
        return;
    const char *next = cluster->agent.is_installed ? "looking for another" : "starting a new one";
    log_warning("the agent's pod %s is lost: %s; %s", cluster->agent.pod, answer->why, next);
    if (answer->has_crashed && !cluster->agent.is_installed && is_crash_loop(cluster, answer->why))
        return;
    cluster->state = CLUSTER_LAUNCHING;
    on_relaunch_timer(&cluster->relaunch_timer);
}

void cluster_doubt(struct cluster *cluster)
{
    if (cluster->state != CLUSTER_RUNNING)
        return;
    if (cluster->launcher != NULL)
        launcher_check(cluster->launcher, on_checked_agent);
    else
        installed_check(cluster->installed, on_checked_agent);
}

static void on_found_timer(uv_timer_t *timer)
{
    run(timer->data);
}

void cluster_launch(struct cluster *cluster)
{
    cluster->state = CLUSTER_LAUNCHING;
    if (cluster->has_found) { /* on_agent is not to come inside this call */
        (void)uv_timer_start(&cluster->relaunch_timer, on_found_timer, 0, 0);
        return;
    }
    installed_close(cluster->installed);
    cluster->installed = NULL;
    launch_job(cluster);
}

bool cluster_has_job(const struct cluster *cluster)
{
    return cluster->launcher != NULL;
}

/* --- the start ---------------------------------------------------------------------------------------------------- */

static int find_installed(struct cluster *cluster, const struct cluster_options *options)
{
    static const struct installed_ops ops = {.on_ready = on_installed_ready, .on_none = on_installed_none};
    struct installed_options wish = {
        .name_space = cluster->name_space, .place = options->agent_place, .name = options->agent_name};
    cluster->is_named = options->agent_name != NULL && *options->agent_name;
    cluster->questions++;
    return installed_open(&cluster->installed, cluster->api, &wish, &ops, cluster);
}

static int start_checking(struct cluster *cluster, const struct cluster_options *options)
{
    const struct access_need *needs = launcher_needs(&cluster->needs_count);
    cluster->needs_count = KT_MIN(cluster->needs_count, (size_t)ACCESS_NEEDS_MAX);
    memcpy(cluster->needs, needs, cluster->needs_count * sizeof *needs);
    cluster->questions = 3;
    cluster->access =
        access_start(cluster->api, cluster->name_space, cluster->needs, cluster->needs_count, on_access, cluster);
    cluster->search = cluster_ranges_start(cluster->api, cluster->name_space, on_ranges, cluster);
    if (cluster->access == NULL || cluster->search == NULL || ask_namespace(cluster) != 0)
        return -ENOMEM;
    return options->is_own_job ? 0 : find_installed(cluster, options);
}

int cluster_dial(struct cluster *cluster, struct stream **out)
{
    if (cluster->state != CLUSTER_RUNNING)
        return -ENOTCONN;
    return portforward_open(out, cluster->api, cluster->loop, cluster->agent.name_space, cluster->agent.pod,
                            cluster->agent.port);
}

int cluster_watch_names(struct cluster *cluster)
{
    struct cluster_names_options options = {.on_name = cluster->ops.on_name,
                                            .on_known = cluster->ops.on_names_known,
                                            .context = cluster->context,
                                            .sees_namespaces = cluster->sees_namespaces};
    return cluster_names_open(&cluster->names, cluster->api, cluster->name_space, &options);
}

/* --- life --------------------------------------------------------------------------------------------------------- */

/* RFC 1123's label, as Kubernetes wants it. It goes into paths. */
static bool is_label(const char *text)
{
    size_t size = strlen(text);
    return size > 0 && size < 64 && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
}

struct cluster_options cluster_options_of(const struct options *options, const struct identity *who)
{
    return (struct cluster_options){.config = who->config,
                                    .name_space = who->name_space,
                                    .image = options->agent_image,
                                    .owner = who->owner,
                                    .agent_place = options->agent_place,
                                    .agent_name = options->agent_name,
                                    .placement = &options->placement,
                                    .is_own_job = options->is_own_job || options->places_job};
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
    cluster->placement = options->placement;
    int rc = api_open(&cluster->api, loop, options->config, error);
    if (rc != 0) {
        kt_free(cluster);
        return rc;
    }
    cluster->relaunch_timer.data = cluster;
    (void)uv_timer_init(loop, &cluster->relaunch_timer);
    *out = cluster;
    rc = start_checking(cluster, options);
    if (rc == -EINVAL)
        return error_set(error, EXIT_CODE_USAGE, rc, "--agent: no name of an agent or its namespace");
    return rc == 0 ? 0 : error_set(error, EXIT_CODE_FAILED, rc, "out of memory");
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
    cluster_names_close(&cluster->names);
    if (cluster->access != NULL)
        access_cancel(cluster->access);
    if (cluster->search != NULL)
        cluster_ranges_cancel(cluster->search);
    installed_close(cluster->installed);
    if (cluster->launcher != NULL)
        launcher_close(cluster->launcher, on_launcher_closed);
    else
        on_launcher_closed(cluster);
}
