/* libcurl's multi interface in libuv's loop (multi.c). A request's way:
 *
 *   WAITING ─► RUNNING ─► ENDED ─► told, gone
 *   for a        ▲  └───────┐
 *   credential   │ 429, 503 │ 401, once
 *              DELAYED ◄────┴──► WAITING
 *
 * libcurl's own callbacks only collect bytes. The user's callbacks run in pump(), outside of libcurl, one line or end
 * at a time, so each may send, cancel or close; `busy` is the request whose callback runs, and its memory outlives the
 * callback.
 *
 * Ordinary calls go over HTTP/2 where the server offers it, all on one connection (a dozen access reviews cost one TLS
 * handshake). */
#include "client/kube/api.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <uv.h>

#include "client/kube/api_request.h"
#include "client/kube/retry.h"
#include "common/log.h"
#include "common/mem.h"

struct api {
    struct api_parts parts;
    uv_loop_t *loop;
    struct credential_wait login;
    uv_timer_t timer; /* of DELAYED requests */
    LIST_HEAD(, api_request) requests;
    struct api_request *busy;
    unsigned open; /* multi, credential, timer: not closed yet */
    bool is_closing;
    void (*on_closed)(void *context);
    void *on_closed_context;
};

/* ---- sending ---- */

void api_cancel(struct api_request *request)
{
    if (request == NULL)
        return;
    api_request_stop(request);
    if (request == request->api->busy)
        request->is_cancelled = true;
    else
        api_request_free(request);
}

static void start_or_wait(struct api_request *request)
{
    int rc = api_request_start(request);
    if (rc == -EAGAIN) {
        request->state = REQUEST_WAITING;
        credential_await(request->api->parts.credential, &request->api->login);
    } else if (rc != 0) {
        request->state = REQUEST_ENDED;
        request->code = CURLE_OUT_OF_MEMORY;
    }
}

struct api_request *api_send(struct api *api, const struct api_call *call)
{
    struct api_request *request = kt_calloc(1, sizeof *request);
    if (request == NULL)
        return NULL;
    request->api = api;
    request->parts = &api->parts;
    int rc = api_request_copy(request, call) ? api_request_start(request) : -ENOMEM;
    if (rc == -ENOMEM) {
        api_request_free(request);
        return NULL;
    }
    if (rc == -EAGAIN)
        credential_await(api->parts.credential, &api->login);
    LIST_INSERT_HEAD(&api->requests, request, entry);
    return request;
}

/* ---- another try ---- */

static void on_due(uv_timer_t *timer);

/* For the first that is due. */
static void set_timer(struct api *api)
{
    struct api_request *request;
    uint64_t now = uv_now(api->loop), due = UINT64_MAX;
    LIST_FOREACH(request, &api->requests, entry)
    {
        if (request->state == REQUEST_DELAYED)
            due = KT_MIN(due, request->due_ms);
    }
    if (due != UINT64_MAX)
        (void)uv_timer_start(&api->timer, on_due, due > now ? due - now : 0, 0);
}

/* After a 401 the API server closes the connection, which cuts the bodies of those on it: the head says all. */
static bool has_answer(const struct api_request *request)
{
    long status = 0;
    if (request->easy != NULL)
        (void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
    return request->code == CURLE_OK || (request->code == CURLE_PARTIAL_FILE && status == 401);
}

/* The connection that it shared with others ended before its answer: a server closes one after a 401, and one that was
 * idle. What changes nothing may be asked once more. */
static bool was_cut_off(const struct api_request *request)
{
    long status = 0, connects = 1;
    bool is_question = strcmp(request->method, "GET") == 0 || strstr(request->path, "subjectaccessreviews") != NULL;
    bool is_cut = request->code == CURLE_PARTIAL_FILE || request->code == CURLE_GOT_NOTHING ||
                  request->code == CURLE_SEND_ERROR || request->code == CURLE_RECV_ERROR ||
                  request->code == CURLE_HTTP2 || request->code == CURLE_HTTP2_STREAM;
    if (request->easy == NULL || !is_cut || !is_question || request->was_cut_off || request->line != NULL)
        return false;
    (void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(request->easy, CURLINFO_NUM_CONNECTS, &connects);
    bool is_shared = connects == 0 || request->code == CURLE_PARTIAL_FILE; /* HTTP/2: its stream was ended */
    return status == 0 && is_shared;
}

/* True: what came is not to be told. */
static bool try_again(struct api_request *request)
{
    struct api *api = request->api;
    long status = 0;
    curl_off_t after_s = 0;
    if (was_cut_off(request)) {
        request->was_cut_off = true;
        api_request_clear(request);
        start_or_wait(request);
        return true;
    }
    if (request->easy == NULL || !has_answer(request))
        return false;
    (void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(request->easy, CURLINFO_RETRY_AFTER, &after_s);
    if (status == 401 && !request->was_refused && credential_refused(api->parts.credential, request->generation)) {
        request->was_refused = true;
        api_request_clear(request);
        start_or_wait(request);
        return true;
    }
    int64_t delay = retry_delay_ms((int)status, after_s, request->tries);
    if (delay < 0)
        return false;
    log_info("cannot %s yet: the API server answered %ld; again in %.0f s", request->what, status,
             (double)delay / 1000);
    request->tries++;
    request->due_ms = uv_now(api->loop) + (uint64_t)delay;
    api_request_clear(request);
    request->state = REQUEST_DELAYED;
    set_timer(api);
    return true;
}

/* ---- telling the user ---- */

static void fill_reason(struct api_response *response)
{
    const struct cJSON *json = response->json;
    const char *kind = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "kind"));
    const char *reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "reason"));
    if (kind != NULL && reason != NULL && strcmp(kind, "Status") == 0)
        (void)log_escape(response->reason, sizeof response->reason, reason, strlen(reason));
}

static void fill_failure(struct api_request *request, struct api_response *response)
{
    const struct api_failure failure = {request->easy, (int)request->code, request->detail, request->what};
    if (request->has_error)
        (void)error_set(&response->error, request->error.code, -EACCES, "cannot %s: %.900s", request->what,
                        request->error.text);
    else
        (void)api_server_error(&request->parts->server, &failure, &response->error);
}

static void finish(struct api_request *request)
{
    struct api_response response = {0};
    struct cJSON *json = NULL;
    if (try_again(request))
        return;
    if (!has_answer(request) || request->has_error) {
        fill_failure(request, &response);
    } else {
        long status = 0;
        bool is_stream = request->line != NULL && api_request_is_success(request);
        (void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
        response.status = (int)status;
        response.body = request->body.data != NULL && !is_stream ? request->body.data : "";
        response.size = is_stream ? 0 : request->body.size;
        response.json = json = cJSON_ParseWithLength(response.body, response.size);
        fill_reason(&response);
        if (!api_request_is_success(request))
            (void)api_status_error(response.status, response.body, response.size, request->what, &response.error);
    }
    api_request_stop(request);
    request->is_cancelled = true; /* so that it goes when done() has returned */
    request->done(request->context, &response);
    cJSON_Delete(json);
}

static void tell_lines(struct api_request *request)
{
    const char *line;
    size_t size;
    while (!request->is_cancelled &&
           body_next_line(&request->body, request->state == REQUEST_ENDED && request->code == CURLE_OK, &line, &size))
        request->line(request->context, line, size);
    if (request->is_cancelled)
        return;
    body_tidy(&request->body);
    if (request->body.size <= API_LINE_MAX)
        return;
    request->state = REQUEST_ENDED;
    request->code = CURLE_WRITE_ERROR;
}

/* Of a refused stream's body nothing is told as lines: it is the error's text. */
static bool has_lines(const struct api_request *request)
{
    return request->line != NULL && request->body.size > 0 && api_request_is_success(request);
}

static bool has_news(const struct api_request *request)
{
    return request->state == REQUEST_ENDED || (has_lines(request) && body_has_news(&request->body));
}

static struct api_request *next_with_news(struct api *api)
{
    struct api_request *request;
    LIST_FOREACH(request, &api->requests, entry)
    {
        if (has_news(request))
            break;
    }
    return request;
}

/* Marks what libcurl has ended. */
static void collect_ended(struct api *api)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(multi_handle(api->parts.multi), &left)) != NULL) {
        struct api_request *request = NULL;
        if (message->msg != CURLMSG_DONE ||
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&request) != CURLE_OK)
            continue;
        bool is_cut = message->data.result == CURLE_OK && !request->has_head;
        request->state = REQUEST_ENDED;
        request->code = is_cut ? CURLE_GOT_NOTHING : message->data.result;
    }
}

static void fail_all(struct api *api)
{
    struct api_request *request;
    LIST_FOREACH(request, &api->requests, entry)
    {
        request->state = REQUEST_ENDED;
        request->code = CURLE_OUT_OF_MEMORY;
    }
}

static void pump(struct api *api)
{
    struct api_request *request;
    collect_ended(api);
    while (!api->is_closing && (request = next_with_news(api)) != NULL) {
        api->busy = request;
        if (has_lines(request))
            tell_lines(request);
        if (!request->is_cancelled && request->state == REQUEST_ENDED)
            finish(request);
        api->busy = NULL;
        if (request->is_cancelled)
            api_request_free(request);
    }
}

/* ---- the loop ---- */

static void on_activity(void *context, bool is_broken)
{
    struct api *api = context;
    if (api->is_closing)
        return;
    if (is_broken)
        fail_all(api);
    pump(api);
}

static void on_due(uv_timer_t *timer)
{
    struct api *api = KT_CONTAINER_OF(timer, struct api, timer);
    struct api_request *request;
    LIST_FOREACH(request, &api->requests, entry)
    {
        if (request->state == REQUEST_DELAYED && request->due_ms <= uv_now(api->loop))
            start_or_wait(request);
    }
    set_timer(api);
    pump(api);
}

static void on_login(void *context, const struct error *error)
{
    struct api *api = context;
    struct api_request *request;
    LIST_FOREACH(request, &api->requests, entry)
    {
        if (request->state != REQUEST_WAITING)
            continue;
        if (error == NULL) {
            start_or_wait(request);
            continue;
        }
        request->state = REQUEST_ENDED;
        request->has_error = true;
        request->error = *error;
    }
    pump(api);
}

static void closed_one(void *context)
{
    struct api *api = context;
    if (--api->open > 0)
        return;
    void (*on_closed)(void *context) = api->on_closed;
    context = api->on_closed_context;
    kt_free(api);
    if (on_closed != NULL)
        on_closed(context);
}

static void on_timer_closed(uv_handle_t *handle)
{
    closed_one(KT_CONTAINER_OF((uv_timer_t *)handle, struct api, timer));
}

/* ---- life ---- */

/* The server is there. On an error nothing is left of the rest, at the latest when the loop has turned. */
static int open_parts(struct api *api, const struct kubeconfig *config)
{
    static const struct multi_ops multi_ops = {.on_activity = on_activity, .on_closed = closed_one};
    int rc = multi_open(&api->parts.multi, api->loop, &multi_ops, api);
    if (rc != 0)
        return rc;
    rc = credential_open(&api->parts.credential, api->loop, config);
    if (rc != 0)
        return rc;
    (void)uv_timer_init(api->loop, &api->timer); /* cannot fail */
    api->login = (struct credential_wait){.on_ready = on_login, .context = api};
    api->open = 3;
    return 0;
}

int api_open(struct api **out, struct uv_loop_s *loop, const struct kubeconfig *config, struct error *error)
{
    struct api *api = kt_calloc(1, sizeof *api);
    if (api == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        kt_free(api);
        return error_set(error, EXIT_CODE_FAILED, -ENOMEM, "no memory");
    }
    api->loop = loop;
    int rc = api_server_init(&api->parts.server, config, error);
    if (rc == 0 && (rc = open_parts(api, config)) != 0) {
        api_server_deinit(&api->parts.server);
        (void)error_set(error, EXIT_CODE_FAILED, rc, "no memory");
    }
    if (rc == 0) {
        *out = api;
        return 0;
    }
    curl_global_cleanup();
    if (api->parts.multi == NULL) {
        kt_free(api);
        return rc;
    }
    api->open = 1;
    multi_close(api->parts.multi); /* ends in closed_one() */
    return rc;
}

void api_close(struct api *api, void (*on_closed)(void *context), void *context)
{
    if (api == NULL || api->is_closing)
        return;
    api->is_closing = true;
    api->on_closed = on_closed;
    api->on_closed_context = context;
    while (!LIST_EMPTY(&api->requests))
        api_cancel(LIST_FIRST(&api->requests));
    credential_close(api->parts.credential, closed_one, api);
    multi_close(api->parts.multi);
    uv_close((uv_handle_t *)&api->timer, on_timer_closed);
    api_server_deinit(&api->parts.server);
    curl_global_cleanup();
}

void *api_new_easy(struct api *api, const char *path, struct curl_slist **headers, unsigned *generation)
{
    struct credential_value login;
    if (!credential_get(api->parts.credential, &login))
        return NULL;
    *generation = login.generation;
    return api_server_new_easy(&api->parts.server, &login, path, headers);
}

struct credential *api_credential(struct api *api)
{
    return api->parts.credential;
}

int api_easy_error(const struct api *api, void *easy, int curl_code, const char *what, struct error *error)
{
    const struct api_failure failure = {easy, curl_code, "", what};
    return api_server_error(&api->parts.server, &failure, error);
}

size_t api_peers(const struct api *api, struct address *out, size_t max)
{
    size_t count = KT_MIN(max, api->parts.server.peers);
    memcpy(out, api->parts.server.peer, count * sizeof out[0]);
    return count;
}

void api_set_device_of(struct api *api, const char *(*device_of)(void *context, const struct address *to),
                       void *context)
{
    api->parts.server.device_of = device_of;
    api->parts.server.device_context = context;
}

struct uv_loop_s *api_loop(const struct api *api)
{
    return api->loop;
}

unsigned api_warnings(const struct api *api)
{
    return api->parts.warnings.count;
}
