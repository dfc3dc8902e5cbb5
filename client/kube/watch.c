/* States:
 *
 *   LISTING ──list──► WATCHING ──ended in order──► WATCHING (from the last version seen)
 *      ▲                 │  broken: after a pause, WATCHING again
 *      └──after a pause──┴──410 Gone, or an answer that makes no sense
 *
 * `known` is a sorted table of names with the round (number of the list) in which each was last seen; what was not seen
 * in the newest list is gone. */
#include "client/kube/watch.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "common/mem.h"

#define VERSION_MAX 128 /* of a resourceVersion */
#define KEY_MAX 512     /* "namespace/name" */
#define CALM_MS 5000    /* a watch that lived this long was no failure */

struct known {
    char *key; /* "namespace/name" */
    unsigned round;
};

struct watch {
    struct api *api;
    char *path, *what;
    const struct watch_ops *ops;
    void *context;
    uv_timer_t timer;
    struct api_request *request;
    char version[VERSION_MAX]; /* empty: list first */
    uint64_t started_ms;
    unsigned pause_ms;
    unsigned round;
    struct known *known;
    size_t count, capacity;
    bool is_closed;
};

static void start(struct watch *watch);

/* ---- names ---- */

static const char *text_at(const struct cJSON *object, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static const struct cJSON *metadata_of(const struct cJSON *object)
{
    return cJSON_GetObjectItemCaseSensitive(object, "metadata");
}

/* NULL: it has no usable name, or there is no memory. */
static char *key_of(const struct cJSON *object)
{
    const struct cJSON *metadata = metadata_of(object);
    const char *name = text_at(metadata, "name"), *space = text_at(metadata, "namespace");
    if (name == NULL || strlen(name) + (space != NULL ? strlen(space) : 0) > KEY_MAX)
        return NULL;
    return kt_asprintf("%s/%s", space != NULL ? space : "", name);
}

/* The first whose key is not less. */
static size_t position(const struct watch *watch, const char *key)
{
    size_t low = 0, high = watch->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(watch->known[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct known *find(struct watch *watch, const char *key)
{
    size_t at = position(watch, key);
    return at < watch->count && strcmp(watch->known[at].key, key) == 0 ? &watch->known[at] : NULL;
}

static bool has_room(struct watch *watch)
{
    if (watch->count < watch->capacity)
        return true;
    size_t capacity = watch->capacity == 0 ? 64 : 2 * watch->capacity;
    if (watch->count == WATCH_OBJECTS_MAX)
        return false;
    struct known *known = kt_realloc(watch->known, capacity * sizeof known[0]);
    if (known == NULL)
        return false;
    watch->known = known;
    watch->capacity = capacity;
    return true;
}

/* Takes `key`. */
static void learn(struct watch *watch, char *key)
{
    if (!has_room(watch)) {
        kt_free(key);
        return;
    }
    size_t at = position(watch, key);
    memmove(&watch->known[at + 1], &watch->known[at], (watch->count - at) * sizeof watch->known[0]);
    watch->known[at] = (struct known){.key = key, .round = watch->round};
    watch->count++;
}

static void forget(struct watch *watch, struct known *known)
{
    size_t at = (size_t)(known - watch->known);
    kt_free(known->key);
    watch->count--;
    memmove(known, known + 1, (watch->count - at) * sizeof watch->known[0]);
}

/* ---- telling ---- */

static void tell(struct watch *watch, bool is_there, const struct cJSON *object)
{
    char *key = key_of(object);
    if (key == NULL)
        return;
    struct known *known = find(watch, key);
    enum watch_event event = !is_there ? WATCH_DELETED : known != NULL ? WATCH_MODIFIED : WATCH_ADDED;
    if (known != NULL)
        known->round = watch->round;
    if (known != NULL && !is_there)
        forget(watch, known);
    if (known == NULL && is_there)
        learn(watch, key);
    else
        kt_free(key);
    watch->ops->on_object(watch->context, event, object);
}

/* `key` is gone, and this is all that is left of it. */
static void tell_gone(struct watch *watch, const char *key)
{
    const char *slash = strchr(key, '/');
    char space[KEY_MAX + 2];
    memcpy(space, key, (size_t)(slash - key));
    space[slash - key] = '\0';
    struct cJSON *object = cJSON_CreateObject();
    struct cJSON *metadata = cJSON_AddObjectToObject(object, "metadata");
    if (metadata != NULL && cJSON_AddStringToObject(metadata, "name", slash + 1) != NULL &&
        (space[0] == '\0' || cJSON_AddStringToObject(metadata, "namespace", space) != NULL))
        watch->ops->on_object(watch->context, WATCH_DELETED, object);
    cJSON_Delete(object);
}

static void tell_vanished(struct watch *watch)
{
    for (size_t i = 0; i < watch->count && !watch->is_closed;) {
        struct known gone = watch->known[i];
        if (gone.round == watch->round) {
            i++;
            continue;
        }
        watch->known[i].key = NULL; /* ours now */
        forget(watch, &watch->known[i]);
        tell_gone(watch, gone.key);
        kt_free(gone.key);
    }
}

/* ---- lists and watches ---- */

static void on_timer(uv_timer_t *timer)
{
    start(KT_CONTAINER_OF(timer, struct watch, timer));
}

static void start_later(struct watch *watch)
{
    if (watch->is_closed)
        return;
    uint64_t delay = watch->pause_ms / 2 + randombytes_uniform(watch->pause_ms / 2 + 1);
    watch->pause_ms = KT_MIN(2 * watch->pause_ms, WATCH_BACKOFF_MAX_MS);
    (void)uv_timer_start(&watch->timer, on_timer, delay, 0);
}

static void fail(struct watch *watch, const struct error *error)
{
    if (watch->ops->on_error != NULL && !watch->is_closed)
        watch->ops->on_error(watch->context, error);
    start_later(watch);
}

static void fail_by_nonsense(struct watch *watch)
{
    struct error error;
    watch->version[0] = '\0';
    (void)error_set(&error, EXIT_CODE_FAILED, -EBADMSG, "cannot %s: the API server's answer makes no sense",
                    watch->what);
    fail(watch, &error);
}

/* It goes into a URL. */
static bool set_version(struct watch *watch, const struct cJSON *object)
{
    const char *version = text_at(metadata_of(object), "resourceVersion");
    if (version == NULL || version[0] == '\0' || strlen(version) >= sizeof watch->version ||
        version[strspn(version, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.")] != '\0')
        return false;
    memcpy(watch->version, version, strlen(version) + 1);
    return true;
}

static void on_listed(void *context, const struct api_response *response)
{
    struct watch *watch = context;
    watch->request = NULL;
    if (response->status < 200 || response->status > 299) {
        fail(watch, &response->error);
        return;
    }
    const struct cJSON *items = cJSON_GetObjectItemCaseSensitive(response->json, "items"), *item;
    if (!(cJSON_IsArray(items) || cJSON_IsNull(items)) || !set_version(watch, response->json)) {
        fail_by_nonsense(watch);
        return;
    }
    watch->round++;
    cJSON_ArrayForEach(item, items)
    {
        if (!watch->is_closed)
            tell(watch, true, item);
    }
    tell_vanished(watch);
    if (!watch->is_closed && watch->ops->on_synced != NULL)
        watch->ops->on_synced(watch->context);
    if (!watch->is_closed)
        start(watch);
}

/* Ends the stream at once. */
static void drop_stream(struct watch *watch)
{
    api_cancel(watch->request);
    watch->request = NULL;
}

/* {"type": "ERROR", "object": a Status}: 410 when the version is too old (k8s.io/apimachinery/pkg/watch). */
static void take_error(struct watch *watch, const struct cJSON *status)
{
    const struct cJSON *code = cJSON_GetObjectItemCaseSensitive(status, "code");
    int number = cJSON_IsNumber(code) ? code->valueint : 500;
    const char *message = text_at(status, "message");
    drop_stream(watch);
    watch->version[0] = '\0';
    if (number == 410) {
        start_later(watch);
        return;
    }
    struct error error;
    (void)api_status_error(number, message, message != NULL ? strlen(message) : 0, watch->what, &error);
    fail(watch, &error);
}

static void take_event(struct watch *watch, const struct cJSON *event)
{
    const char *type = text_at(event, "type");
    const struct cJSON *object = cJSON_GetObjectItemCaseSensitive(event, "object");
    if (type != NULL && strcmp(type, "ERROR") == 0) {
        take_error(watch, object);
        return;
    }
    if (type == NULL || !set_version(watch, object)) {
        drop_stream(watch);
        fail_by_nonsense(watch);
        return;
    }
    watch->pause_ms = WATCH_BACKOFF_MIN_MS;
    if (strcmp(type, "ADDED") == 0 || strcmp(type, "MODIFIED") == 0)
        tell(watch, true, object);
    else if (strcmp(type, "DELETED") == 0)
        tell(watch, false, object);
    /* BOOKMARK: only the version counts. Other types: later inventions. */
}

static void on_line(void *context, const char *line, size_t size)
{
    struct watch *watch = context;
    if (size == 0)
        return;
    struct cJSON *event = cJSON_ParseWithLength(line, size);
    take_event(watch, event);
    cJSON_Delete(event);
}

/* Over, in order or not. What it told is right in any case, so the next one goes on from there. */
static void on_watched(void *context, const struct api_response *response)
{
    struct watch *watch = context;
    bool is_ok = response->status >= 200 && response->status < 300;
    watch->request = NULL;
    if (uv_now(watch->timer.loop) - watch->started_ms >= CALM_MS)
        watch->pause_ms = WATCH_BACKOFF_MIN_MS;
    if (response->status != 0 && !is_ok)
        watch->version[0] = '\0';
    if (is_ok || response->status == 410)
        start_later(watch);
    else
        fail(watch, &response->error);
}

static char *url_of(const struct watch *watch)
{
    if (watch->version[0] == '\0')
        return kt_strdup(watch->path);
    return kt_asprintf("%s%cwatch=1&allowWatchBookmarks=true&timeoutSeconds=%d&resourceVersion=%s", watch->path,
                       strchr(watch->path, '?') == NULL ? '?' : '&', WATCH_TIMEOUT_S, watch->version);
}

static void start(struct watch *watch)
{
    bool is_list = watch->version[0] == '\0';
    char *url = url_of(watch);
    struct api_call call = {.method = "GET", .path = url, .what = watch->what, .context = watch};
    call.done = is_list ? on_listed : on_watched;
    call.line = is_list ? NULL : on_line;
    watch->started_ms = uv_now(watch->timer.loop);
    watch->request = url == NULL ? NULL : api_send(watch->api, &call);
    kt_free(url);
    if (watch->request == NULL)
        start_later(watch);
}

static void free_watch(struct watch *watch)
{
    for (size_t i = 0; i < watch->count; i++)
        kt_free(watch->known[i].key);
    kt_free(watch->known);
    kt_free(watch->path);
    kt_free(watch->what);
    kt_free(watch);
}

int watch_open(struct watch **out, struct api *api, const struct watch_options *options, const struct watch_ops *ops,
               void *context)
{
    struct watch *watch = kt_calloc(1, sizeof *watch);
    if (watch == NULL)
        return -ENOMEM;
    *watch = (struct watch){.api = api, .ops = ops, .context = context, .pause_ms = WATCH_BACKOFF_MIN_MS};
    watch->path = kt_strdup(options->path);
    watch->what = kt_strdup(options->what);
    if (watch->path == NULL || watch->what == NULL) {
        free_watch(watch);
        return -ENOMEM;
    }
    (void)uv_timer_init(api_loop(api), &watch->timer); /* cannot fail */
    start(watch);
    *out = watch;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    free_watch(KT_CONTAINER_OF((uv_timer_t *)handle, struct watch, timer));
}

void watch_close(struct watch *watch)
{
    if (watch == NULL || watch->is_closed)
        return;
    watch->is_closed = true;
    drop_stream(watch);
    uv_close((uv_handle_t *)&watch->timer, on_closed);
}
