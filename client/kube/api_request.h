/* One request to the API server and its tries, as api.c keeps it in its list. Used by api.c only. */
#ifndef KTVPN_CLIENT_KUBE_API_REQUEST_H
#define KTVPN_CLIENT_KUBE_API_REQUEST_H

#include <curl/curl.h>
#include <sys/queue.h>

#include "client/kube/api.h"
#include "client/kube/api_server.h"
#include "client/kube/body.h"
#include "client/kube/credential.h"
#include "client/kube/multi.h"
#include "client/kube/warnings.h"

/* What all requests of an api share. */
struct api_parts {
    struct api_server server;
    struct multi *multi;
    struct credential *credential;
    struct warnings warnings;
};

enum request_state {
    REQUEST_WAITING, /* for a credential */
    REQUEST_DELAYED, /* until due_ms */
    REQUEST_RUNNING, /* `easy` is libcurl's */
    REQUEST_ENDED,   /* to be told: `code`, or `error` when it has_error */
    REQUEST_STOPPED  /* off the list */
};

struct api_request {
    LIST_ENTRY(api_request) entry;
    enum request_state state;
    struct api *api;
    struct api_parts *parts;
    CURL *easy; /* RUNNING and ENDED; NULL in ENDED: it was never sent */
    struct curl_slist *headers;
    /* The call, kept for another try. */
    char *method, *path, *content_type, *what;
    char *payload; /* cJSON's memory */
    void *context;
    void (*done)(void *context, const struct api_response *response);
    void (*line)(void *context, const char *line, size_t size);
    /* The tries. */
    bool was_refused; /* by 401 */
    bool was_cut_off; /* with the connection that it shared */
    unsigned generation, tries;
    uint64_t due_ms;
    /* What came; of a stream its lines wait for pump(). */
    struct body body;
    size_t head_size; /* bytes of headers and trailers */
    bool has_head;    /* the whole of it */
    bool is_cancelled, has_error;
    CURLcode code;
    struct error error;
    char detail[CURL_ERROR_SIZE];
};

/* Copies the call. False: no memory; free it. */
KT_MUST_USE bool api_request_copy(struct api_request *request, const struct api_call *call);
/* One try: RUNNING. -EAGAIN: there is no credential now. -ENOMEM. */
KT_MUST_USE int api_request_start(struct api_request *request);
/* Forgets a try and what came, so that it can be started anew. */
void api_request_clear(struct api_request *request);
/* Takes it off libcurl and off its list: STOPPED. What came stays. */
void api_request_stop(struct api_request *request);
void api_request_free(struct api_request *request);
/* The answer's status is 2xx. */
bool api_request_is_success(const struct api_request *request);

#endif
