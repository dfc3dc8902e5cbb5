/* libcurl's multi interface in libuv's loop:
 *
 *   on_curl_socket()  libcurl wants a socket watched      -> a struct api_socket with its uv_poll_t
 *   on_curl_timer()   libcurl wants to be called later    -> the one uv_timer_t
 *   on_poll, on_timer curl_multi_socket_action(), then pump()
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
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <uv.h>

#include "client/kube/api_server.h"
#include "common/log.h"
#include "common/mem.h"

#define WARNING_TEXTS_MAX 64 /* different ones that are logged */
#define WARNING_HASH_SIZE crypto_generichash_BYTES_MIN
#define STREAM_BUFFER_MAX (4 * API_LINE_MAX) /* complete lines that came in one turn included */
#define SLOWEST_BYTES_PER_MS 8               /* a request's body adds to its time-out: 64 kbit/s */

struct api_socket {
    LIST_ENTRY(api_socket) entry;
    uv_poll_t poll;
    struct api *api;
    curl_socket_t fd;
    int wanted; /* UV_* */
};

struct api_request {
    LIST_ENTRY(api_request) entry;
    struct api *api;
    CURL *easy; /* NULL: stopped */
    struct curl_slist *headers;
    char *payload; /* cJSON's memory */
    char *what;
    void *context;
    void (*done)(void *context, const struct api_response *response);
    void (*line)(void *context, const char *line, size_t size);
    /* What came: of a stream, from `taken` on it waits for pump(), and there is no newline before `scanned`. */
    char *data;
    size_t size, capacity, taken, scanned;
    size_t head_size; /* bytes of headers and trailers */
    bool has_head;    /* the whole of it */
    bool has_ended, is_cancelled;
    CURLcode code; /* when it has ended */
    char detail[CURL_ERROR_SIZE];
};

struct api {
    struct api_server server;
    uv_loop_t *loop;
    CURLM *multi;
    uv_timer_t timer;
    LIST_HEAD(, api_socket) sockets;
    LIST_HEAD(, api_request) requests;
    struct api_request *busy;
    unsigned handles; /* of libuv, not closed yet */
    bool is_closing;
    void (*on_closed)(void *context);
    void *on_closed_context;
    unsigned warnings;
    size_t warning_texts;
    uint8_t warning_hash[WARNING_TEXTS_MAX][WARNING_HASH_SIZE];
};

static void on_timer(uv_timer_t *timer);
static void on_poll(uv_poll_t *poll, int status, int uv_events);

/* ---- what came ---- */

static bool reserve(struct api_request *request, size_t more)
{
    size_t need = request->size + more + 1, capacity = request->capacity == 0 ? 4096 : request->capacity;
    while (capacity < need)
        capacity *= 2;
    if (capacity == request->capacity)
        return true;
    char *data = kt_realloc(request->data, capacity);
    if (data == NULL)
        return false;
    request->data = data;
    request->capacity = capacity;
    return true;
}

static bool is_success(CURL *easy)
{
    long status = 0;
    (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300;
}

static size_t on_body(char *data, size_t one, size_t size, void *context)
{
    (void)one;
    struct api_request *request = context;
    size_t max = request->line != NULL ? STREAM_BUFFER_MAX : API_BODY_MAX;
    if (size > max - request->size || !reserve(request, size))
        return 0; /* CURLE_WRITE_ERROR */
    memcpy(request->data + request->size, data, size);
    request->size += size;
    request->data[request->size] = '\0';
    return size;
}

/* True once for each text. */
static bool is_new_warning(struct api *api, const char *text, size_t size)
{
    uint8_t hash[WARNING_HASH_SIZE];
    (void)crypto_generichash(hash, sizeof hash, (const uint8_t *)text, size, NULL, 0);
    for (size_t i = 0; i < api->warning_texts; i++) {
        if (sodium_memcmp(api->warning_hash[i], hash, sizeof hash) == 0)
            return false;
    }
    if (api->warning_texts == WARNING_TEXTS_MAX)
        return false;
    memcpy(api->warning_hash[api->warning_texts++], hash, sizeof hash);
    return true;
}

/* RFC 7234, 5.5: "299 - "text""; the date after it is not used by Kubernetes. */
static void take_warning(struct api *api, const char *value, size_t size)
{
    const char *open = memchr(value, '"', size), *close = memrchr(value, '"', size);
    if (open != NULL && close > open) {
        value = open + 1;
        size = (size_t)(close - value);
    }
    api->warnings++;
    char text[512];
    if (is_new_warning(api, value, size))
        log_warning("the API server warns: %s", log_escape(text, sizeof text, value, size));
}

static bool is_text(const char *data, size_t size, const char *text)
{
    return size == strlen(text) && memcmp(data, text, size) == 0;
}

/* libcurl itself sets no limit to trailers and to 1xx answers, and takes an answer that was cut in its head for whole.
 */
static size_t on_header(char *data, size_t one, size_t size, void *context)
{
    (void)one;
    struct api_request *request = context;
    static const char name[] = "warning:";
    size_t skip = sizeof name - 1;
    request->head_size += size;
    if (request->head_size > API_HEAD_MAX)
        return 0; /* CURLE_WRITE_ERROR */
    if (is_text(data, size, "\r\n") || is_text(data, size, "\n"))
        request->has_head = true;
    else if (size > 5 && is_text(data, 5, "HTTP/"))
        request->has_head = false; /* the next one, after a 1xx */
    if (size > skip && strncasecmp(data, name, skip) == 0)
        take_warning(request->api, data + skip, size - skip);
    return size;
}

/* ---- requests ---- */

/* Takes it off libcurl and off the list. What came stays. */
static void stop_request(struct api_request *request)
{
    if (request->easy == NULL)
        return;
    (void)curl_multi_remove_handle(request->api->multi, request->easy);
    curl_easy_cleanup(request->easy);
    request->easy = NULL;
    LIST_REMOVE(request, entry);
}

static void free_request(struct api_request *request)
{
    api_server_free_headers(request->headers);
    cJSON_free(request->payload);
    kt_free(request->what);
    kt_free(request->data);
    kt_free(request);
}

void api_cancel(struct api_request *request)
{
    if (request == NULL)
        return;
    stop_request(request);
    if (request == request->api->busy)
        request->is_cancelled = true;
    else
        free_request(request);
}

static bool add_header(struct api_request *request, const char *line)
{
    struct curl_slist *list = line == NULL ? NULL : curl_slist_append(request->headers, line);
    if (list != NULL)
        request->headers = list;
    return list != NULL;
}

static bool set_headers(struct api_request *request, const struct api_call *call)
{
    const char *host = request->api->server.host_header;
    char type[128];
    (void)snprintf(type, sizeof type, "Content-Type: %s",
                   call->content_type != NULL ? call->content_type : "application/json");
    return add_header(request, "Accept: application/json, */*") && add_header(request, "Expect:") &&
           (host == NULL || add_header(request, host)) && (call->body == NULL || add_header(request, type)) &&
           curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->headers) == CURLE_OK;
}

static bool set_method(struct api_request *request, const struct api_call *call)
{
    CURL *easy = request->easy;
    bool is_get = strcmp(call->method, "GET") == 0;
    if (call->body != NULL && (request->payload = cJSON_PrintUnformatted(call->body)) == NULL)
        return false;
    const char *payload = request->payload != NULL ? request->payload : strcmp(call->method, "POST") == 0 ? "" : NULL;
    if (payload != NULL && (curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(payload)) != CURLE_OK ||
                            curl_easy_setopt(easy, CURLOPT_POSTFIELDS, payload) != CURLE_OK))
        return false;
    return is_get || curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method) == CURLE_OK;
}

static long timeout_ms(const struct api_request *request)
{
    size_t size = request->payload != NULL ? strlen(request->payload) : 0;
    return request->line != NULL ? 0 : API_TIMEOUT_MS + (long)(size / SLOWEST_BYTES_PER_MS);
}

static bool set_options(struct api_request *request)
{
    CURL *easy = request->easy;
    return curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms(request)) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->detail) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEDATA, request) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERDATA, request) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PRIVATE, request) == CURLE_OK;
}

struct api_request *api_send(struct api *api, const struct api_call *call)
{
    struct api_request *request = kt_calloc(1, sizeof *request);
    if (request == NULL)
        return NULL;
    request->api = api;
    request->context = call->context;
    request->done = call->done;
    request->line = call->line;
    request->what = kt_strdup(call->what);
    request->easy = api_server_new_easy(&api->server, call->path, &request->headers);
    if (request->what == NULL || request->easy == NULL || !set_method(request, call) || !set_headers(request, call) ||
        !set_options(request) || curl_multi_add_handle(api->multi, request->easy) != CURLM_OK) {
        curl_easy_cleanup(request->easy);
        free_request(request);
        return NULL;
    }
    LIST_INSERT_HEAD(&api->requests, request, entry);
    return request;
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

static void finish(struct api_request *request)
{
    struct api_response response = {0};
    struct cJSON *json = NULL;
    long status = 0;
    (void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
    if (request->code != CURLE_OK) {
        const struct api_failure failure = {request->easy, (int)request->code, request->detail, request->what};
        (void)api_server_error(&request->api->server, &failure, &response.error);
    } else {
        bool is_stream = request->line != NULL && is_success(request->easy);
        response.status = (int)status;
        response.body = request->data != NULL && !is_stream ? request->data : "";
        response.size = is_stream ? 0 : request->size;
        response.json = json = cJSON_ParseWithLength(response.body, response.size);
        fill_reason(&response);
        if (!is_success(request->easy))
            (void)api_status_error(response.status, response.body, response.size, request->what, &response.error);
    }
    stop_request(request);
    request->is_cancelled = true; /* so that it goes when done() has returned */
    request->done(request->context, &response);
    cJSON_Delete(json);
}

/* Finds the next complete line of a stream; the last one needs no newline when the stream ended in order. */
static bool next_line(struct api_request *request, const char **line, size_t *size)
{
    const char *newline = memchr(request->data + request->scanned, '\n', request->size - request->scanned);
    bool is_last = newline == NULL && request->has_ended && request->code == CURLE_OK && request->taken < request->size;
    request->scanned = request->size;
    if (newline == NULL && !is_last)
        return false;
    size_t end = is_last ? request->size : (size_t)(newline - request->data);
    *line = request->data + request->taken;
    *size = end - request->taken;
    request->taken = request->scanned = is_last ? end : end + 1;
    return true;
}

/* Moves the rest of a stream to the front, once what is complete has been told. False: it is too long for a line. */
static bool tidy(struct api_request *request)
{
    if (request->taken > 0) {
        memmove(request->data, request->data + request->taken, request->size - request->taken);
        request->size -= request->taken;
        request->scanned -= request->taken;
        request->taken = 0;
    }
    return request->size <= API_LINE_MAX;
}

static void tell_lines(struct api_request *request)
{
    const char *line;
    size_t size;
    while (!request->is_cancelled && next_line(request, &line, &size))
        request->line(request->context, line, size);
    if (request->is_cancelled || tidy(request))
        return;
    request->has_ended = true;
    request->code = CURLE_WRITE_ERROR;
}

/* Of a refused stream's body nothing is told as lines: it is the error's text. */
static bool has_lines(const struct api_request *request)
{
    return request->line != NULL && request->size > 0 && is_success(request->easy);
}

static bool has_news(const struct api_request *request)
{
    return request->has_ended || (has_lines(request) && request->scanned < request->size);
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
    while ((message = curl_multi_info_read(api->multi, &left)) != NULL) {
        struct api_request *request = NULL;
        if (message->msg != CURLMSG_DONE ||
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&request) != CURLE_OK)
            continue;
        bool is_cut = message->data.result == CURLE_OK && !request->has_head;
        request->has_ended = true;
        request->code = is_cut ? CURLE_GOT_NOTHING : message->data.result;
    }
}

static void fail_all(struct api *api)
{
    struct api_request *request;
    LIST_FOREACH(request, &api->requests, entry)
    {
        request->has_ended = true;
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
        if (!request->is_cancelled && request->has_ended)
            finish(request);
        api->busy = NULL;
        if (request->is_cancelled)
            free_request(request);
    }
}

/* ---- the loop ---- */

static void act(struct api *api, curl_socket_t fd, int events)
{
    int running;
    if (api->is_closing)
        return;
    if (curl_multi_socket_action(api->multi, fd, events, &running) != CURLM_OK)
        fail_all(api);
    pump(api);
}

static void on_timer(uv_timer_t *timer)
{
    act(KT_CONTAINER_OF(timer, struct api, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void watch_socket(struct api_socket *s, int uv_events)
{
    s->wanted = uv_events;
    (void)uv_poll_start(&s->poll, uv_events, on_poll); /* fails only for a handle that is closing */
}

/* An error is ready for all that is wanted, not CURL_CSELECT_ERR: before it there may be bytes (a TLS alert says why),
 * and libcurl finds the error by itself. */
static void on_poll(uv_poll_t *poll, int status, int uv_events)
{
    struct api_socket *s = KT_CONTAINER_OF(poll, struct api_socket, poll);
    if (status < 0)
        uv_events = s->wanted;
    int events = (uv_events & UV_READABLE ? CURL_CSELECT_IN : 0) | (uv_events & UV_WRITABLE ? CURL_CSELECT_OUT : 0);
    act(s->api, s->fd, events);
    if (status < 0 && !uv_is_closing((uv_handle_t *)poll)) /* libuv has stopped it */
        watch_socket(s, s->wanted);
}

static int on_curl_timer(CURLM *multi, long delay_ms, void *context)
{
    (void)multi;
    struct api *api = context;
    if (delay_ms < 0)
        (void)uv_timer_stop(&api->timer);
    else
        (void)uv_timer_start(&api->timer, on_timer, (uint64_t)delay_ms, 0);
    return 0;
}

static void closed_one(struct api *api)
{
    if (--api->handles > 0)
        return;
    void (*on_closed)(void *context) = api->on_closed;
    void *context = api->on_closed_context;
    kt_free(api);
    if (on_closed != NULL)
        on_closed(context);
}

static void on_socket_closed(uv_handle_t *handle)
{
    struct api_socket *s = KT_CONTAINER_OF((uv_poll_t *)handle, struct api_socket, poll);
    struct api *api = s->api;
    kt_free(s);
    closed_one(api);
}

static void on_timer_closed(uv_handle_t *handle)
{
    closed_one(KT_CONTAINER_OF((uv_timer_t *)handle, struct api, timer));
}

static void close_socket(struct api_socket *s)
{
    LIST_REMOVE(s, entry);
    uv_close((uv_handle_t *)&s->poll, on_socket_closed);
}

static struct api_socket *new_socket(struct api *api, curl_socket_t fd)
{
    struct api_socket *s = kt_calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->api = api;
    s->fd = fd;
    if (uv_poll_init(api->loop, &s->poll, fd) != 0) {
        kt_free(s);
        return NULL;
    }
    api->handles++;
    LIST_INSERT_HEAD(&api->sockets, s, entry);
    (void)curl_multi_assign(api->multi, fd, s); /* fails for an fd that libcurl does not know only */
    return s;
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context)
{
    (void)easy;
    struct api_socket *s = socket_context;
    if (what == CURL_POLL_REMOVE) {
        if (s != NULL)
            close_socket(s);
        return 0;
    }
    if (s == NULL && (s = new_socket(context, fd)) == NULL)
        return -1;
    watch_socket(s, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0));
    return 0;
}

/* ---- life ---- */

static bool open_multi(struct api *api)
{
    api->multi = curl_multi_init();
    return api->multi != NULL && curl_multi_setopt(api->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket) == CURLM_OK &&
           curl_multi_setopt(api->multi, CURLMOPT_SOCKETDATA, api) == CURLM_OK &&
           curl_multi_setopt(api->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer) == CURLM_OK &&
           curl_multi_setopt(api->multi, CURLMOPT_TIMERDATA, api) == CURLM_OK;
}

int api_open(struct api **out, struct uv_loop_s *loop, const struct kubeconfig *config, struct error *error)
{
    struct api *api = kt_calloc(1, sizeof *api);
    if (api == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        kt_free(api);
        return error_set(error, EXIT_CODE_FAILED, -ENOMEM, "no memory");
    }
    api->loop = loop;
    api->handles = 1;
    int rc = api_server_init(&api->server, config, error);
    if (rc != 0 || !open_multi(api)) {
        (void)curl_multi_cleanup(api->multi);
        if (rc == 0) {
            api_server_deinit(&api->server);
            rc = error_set(error, EXIT_CODE_FAILED, -ENOMEM, "no memory");
        }
        kt_free(api);
        curl_global_cleanup();
        return rc;
    }
    (void)uv_timer_init(loop, &api->timer); /* cannot fail */
    *out = api;
    return 0;
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
    /* Before libcurl closes their fds; what it would tell from here on is of no use. */
    (void)curl_multi_setopt(api->multi, CURLMOPT_SOCKETFUNCTION, NULL);
    (void)curl_multi_setopt(api->multi, CURLMOPT_TIMERFUNCTION, NULL);
    while (!LIST_EMPTY(&api->sockets))
        close_socket(LIST_FIRST(&api->sockets));
    (void)curl_multi_cleanup(api->multi);
    api_server_deinit(&api->server);
    curl_global_cleanup();
    uv_close((uv_handle_t *)&api->timer, on_timer_closed);
}

void *api_new_easy(struct api *api, const char *path, struct curl_slist **headers)
{
    return api_server_new_easy(&api->server, path, headers);
}

int api_easy_error(const struct api *api, void *easy, int curl_code, const char *what, struct error *error)
{
    const struct api_failure failure = {easy, curl_code, "", what};
    return api_server_error(&api->server, &failure, error);
}

size_t api_peers(const struct api *api, struct address *out, size_t max)
{
    size_t count = KT_MIN(max, api->server.peers);
    memcpy(out, api->server.peer, count * sizeof out[0]);
    return count;
}

void api_set_device_of(struct api *api, const char *(*device_of)(void *context, const struct address *to),
                       void *context)
{
    api->server.device_of = device_of;
    api->server.device_context = context;
}

struct uv_loop_s *api_loop(const struct api *api)
{
    return api->loop;
}

unsigned api_warnings(const struct api *api)
{
    return api->warnings;
}
