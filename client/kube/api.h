/* The Kubernetes API: HTTP requests by libcurl's multi interface in the libuv loop.
 *
 * One struct api is one server and one user. No callback runs inside the call that asked for it. Bodies are bounded.
 * Where there is no credential yet, a request waits for it; a 401 refreshes it once and asks once more; a 429 or 503
 * that names a time (Retry-After) is waited for, in bounds. Tokens are never logged. A `Warning:` header is logged once
 * for each text and counted. The program ignores SIGPIPE.
 */
#ifndef KTVPN_CLIENT_KUBE_API_H
#define KTVPN_CLIENT_KUBE_API_H

#include <stdint.h>

#include "client/error.h"
#include "client/kube/kubeconfig.h"
#include "common/address.h"

#define API_BODY_MAX (16 * 1024 * 1024) /* of one answer */
#define API_HEAD_MAX (256 * 1024)       /* of its headers and trailers */
#define API_LINE_MAX (2 * 1024 * 1024)  /* of one event of a watch */
#define API_TIMEOUT_MS 30000            /* of a call that is no stream */
#define API_CONNECT_MS 10000            /* to the TLS handshake's end */

struct uv_loop_s;
struct cJSON;
struct api;
struct api_request;

struct api_response {
    int status;               /* of HTTP; 0: there was none, or the connection broke before its end: error says why */
    const struct cJSON *json; /* the body, NULL when it is not JSON; both are valid during the callback only */
    const char *body;
    size_t size;
    char reason[64];    /* of a Status: "NotFound", "Forbidden", "AlreadyExists", ...; else empty */
    struct error error; /* filled when `status` is not 2xx: the API's own message, with an exit code that fits */
};

struct api_call {
    const char *method;       /* "GET", "POST", "PATCH", "DELETE" */
    const char *path;         /* "/api/v1/...?..." below the server's prefix, already percent-encoded */
    const struct cJSON *body; /* NULL: none; serialised inside the call */
    const char *content_type; /* NULL: application/json */
    const char *what;         /* for errors: "create the agent's Job in namespace ems" */
    void *context;
    /* Once, at the end: also of a stream (then the body is empty when the status is 2xx), but not after api_cancel().
     */
    void (*done)(void *context, const struct api_response *response);
    /* Not NULL: the answer is a stream, given line by line (a watch's events; a log's lines), without the newline. */
    void (*line)(void *context, const char *line, size_t size);
};

/* 0, -ENOMEM, -EINVAL (a server URL or PEM that libcurl does not take). `config` must outlive the api. */
KT_MUST_USE int api_open(struct api **out, struct uv_loop_s *loop, const struct kubeconfig *config,
                         struct error *error);
/* Cancels what runs; `on_closed` (may be NULL) comes later on the loop, after which all memory is gone. May be called
 * in any callback. NULL: only on_closed is not called. */
void api_close(struct api *api, void (*on_closed)(void *context), void *context);

/* NULL: no memory. What `call` points to is copied. The request is the api's; it is gone after done(). */
KT_MUST_USE struct api_request *api_send(struct api *api, const struct api_call *call);
/* done() will not be called. The request is invalid afterwards. May be called in any callback, its own too. NULL is
 * fine. */
void api_cancel(struct api_request *request);

/* Who the user is now: to be awaited before api_new_easy(), and asked when the server refuses it. The api's. */
struct credential;
struct credential *api_credential(struct api *api);
/* A new CURL easy handle with this server's URL and `path`, TLS, authentication, proxy and time-outs set, HTTP/1.1
 * only: for the port-forward's own connection. The caller cleans it up. NULL: no memory, or no credential. *headers
 * gets the request's header list (Authorization, ...; no Host), which the caller extends, sets and frees (struct
 * curl_slist). */
struct curl_slist;
void *api_new_easy(struct api *api, const char *path, struct curl_slist **headers, unsigned *generation);
/* What a failed CURLcode of such a handle means to the user. `what` as in struct api_call. Returns a negative errno. */
int api_easy_error(const struct api *api, void *easy, int curl_code, const char *what, struct error *error);
/* Fills `error` from an HTTP answer that is no success (a Status JSON or plain text). Returns a negative errno. */
int api_status_error(int status, const char *body, size_t size, const char *what, struct error *error);

/* The addresses that were dialled for the server so far, at most `max`: they must stay out of the tunnel. */
size_t api_peers(const struct api *api, struct address *out, size_t max);
/* A device for connections to an address, or NULL, before each is dialled. */
void api_set_device_of(struct api *api, const char *(*device_of)(void *context, const struct address *to),
                       void *context);
/* The loop that it was opened with. */
struct uv_loop_s *api_loop(const struct api *api);
/* `Warning:` headers seen. */
unsigned api_warnings(const struct api *api);

#endif
