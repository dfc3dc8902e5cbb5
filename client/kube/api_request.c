#include "client/kube/api_request.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <string.h>

#include "client/kube/header.h"
#include "common/mem.h"

#define STREAM_BUFFER_MAX (4 * API_LINE_MAX) /* complete lines that came in one turn included */
#define SLOWEST_BYTES_PER_MS 8               /* a request's body adds to its time-out: 64 kbit/s */

/* ---- what came ---- */

bool api_request_is_success(const struct api_request *request)
{
    long status = 0;
    if (request->easy != NULL)
        (void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
    return status >= 200 && status < 300;
}

static size_t on_body(char *data, size_t one, size_t size, void *context)
{
    (void)one;
    struct api_request *request = context;
    size_t max = request->line != NULL ? STREAM_BUFFER_MAX : API_BODY_MAX;
    return body_append(&request->body, data, size, max) ? size : 0; /* 0: CURLE_WRITE_ERROR */
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
    request->head_size += size;
    if (request->head_size > API_HEAD_MAX)
        return 0; /* CURLE_WRITE_ERROR */
    if (is_text(data, size, "\r\n") || is_text(data, size, "\n"))
        request->has_head = true;
    else if (size > 5 && is_text(data, 5, "HTTP/"))
        request->has_head = false; /* the next one, after a 1xx */
    warnings_take_header(&request->parts->warnings, data, size);
    return size;
}

/* ---- requests ---- */

/* Takes it off libcurl. What came stays. */
static void drop_easy(struct api_request *request)
{
    if (request->easy == NULL)
        return;
    (void)curl_multi_remove_handle(multi_handle(request->parts->multi), request->easy);
    curl_easy_cleanup(request->easy);
    request->easy = NULL;
}

void api_request_stop(struct api_request *request)
{
    if (request->state == REQUEST_STOPPED)
        return;
    drop_easy(request);
    request->state = REQUEST_STOPPED;
    LIST_REMOVE(request, entry);
}

void api_request_free(struct api_request *request)
{
    header_free_all(request->headers);
    cJSON_free(request->payload);
    kt_free(request->method);
    kt_free(request->path);
    kt_free(request->content_type);
    kt_free(request->what);
    body_deinit(&request->body);
    kt_free(request);
}

static bool add_line(struct api_request *request, const char *line)
{
    struct curl_slist *list = line == NULL ? NULL : curl_slist_append(request->headers, line);
    if (list != NULL)
        request->headers = list;
    return list != NULL;
}

static bool set_headers(struct api_request *request)
{
    const char *host = request->parts->server.host_header;
    return add_line(request, "Accept: application/json, */*") && add_line(request, "Expect:") &&
           (host == NULL || add_line(request, host)) &&
           (request->payload == NULL || header_add(&request->headers, "Content-Type", request->content_type)) &&
           curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->headers) == CURLE_OK;
}

static bool set_method(struct api_request *request)
{
    CURL *easy = request->easy;
    bool is_get = strcmp(request->method, "GET") == 0, is_post = strcmp(request->method, "POST") == 0;
    const char *payload = request->payload != NULL ? request->payload : is_post ? "" : NULL;
    if (payload != NULL && (curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(payload)) != CURLE_OK ||
                            curl_easy_setopt(easy, CURLOPT_POSTFIELDS, payload) != CURLE_OK))
        return false;
    return is_get || curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method) == CURLE_OK;
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
           curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, (long)request->was_cut_off) ==
               CURLE_OK && /* not shared again */
           curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, (long)request->was_cut_off) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, timeout_ms(request)) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->detail) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_WRITEDATA, request) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HEADERDATA, request) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PRIVATE, request) == CURLE_OK;
}

/* One try. -EAGAIN: there is no credential now. */
int api_request_start(struct api_request *request)
{
    struct api_parts *api = request->parts;
    struct credential_value login;
    if (!credential_get(api->credential, &login))
        return -EAGAIN;
    CURL *easy = api_server_new_easy(&api->server, &login, request->path, &request->headers);
    if (easy == NULL)
        return -ENOMEM;
    request->easy = easy;
    request->generation = login.generation;
    if (!set_method(request) || !set_headers(request) || !set_options(request) ||
        curl_multi_add_handle(multi_handle(api->multi), easy) != CURLM_OK) {
        curl_easy_cleanup(easy);
        request->easy = NULL;
        return -ENOMEM;
    }
    request->state = REQUEST_RUNNING;
    return 0;
}

bool api_request_copy(struct api_request *request, const struct api_call *call)
{
    request->context = call->context;
    request->done = call->done;
    request->line = call->line;
    request->method = kt_strdup(call->method);
    request->path = kt_strdup(call->path);
    request->what = kt_strdup(call->what);
    request->content_type = kt_strdup(call->content_type != NULL ? call->content_type : "application/json");
    return request->method != NULL && request->path != NULL && request->what != NULL && request->content_type != NULL &&
           (call->body == NULL || (request->payload = cJSON_PrintUnformatted(call->body)) != NULL);
}

void api_request_clear(struct api_request *request)
{
    drop_easy(request);
    header_free_all(request->headers);
    request->headers = NULL;
    body_deinit(&request->body);
    request->code = CURLE_OK;
    request->detail[0] = '\0';
    request->head_size = 0;
    request->has_head = false;
}
