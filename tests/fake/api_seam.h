/* In place of client/kube/api.c: api_send() and api_cancel() that only take notes, so that a test is the API server,
 * with no socket and no waiting; and uv_now() with a time that the test sets. A test program that includes this (one
 * file each) links neither the real api.c nor, for our code, libuv's uv_now(). */
#ifndef KTVPN_TESTS_FAKE_API_SEAM_H
#define KTVPN_TESTS_FAKE_API_SEAM_H

#include "tests/unit/unit.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "client/kube/api.h"

#define SEAM_MAX 128
#define SEAM_TURNS_MAX 5000

struct seam_request {
    char method[8], path[512];
    char *body; /* of cJSON; NULL: none */
    bool is_open;
    void *context;
    void (*done)(void *context, const struct api_response *response);
    void (*line)(void *context, const char *line, size_t size);
};

static struct {
    struct seam_request request[SEAM_MAX];
    size_t count;
    size_t fail_nth; /* this request from now gets no memory; 0: none */
    uint64_t now_ms;
} seam;

static void seam_reset(void)
{
    for (size_t i = 0; i < seam.count; i++)
        cJSON_free(seam.request[i].body);
    memset(&seam, 0, sizeof seam);
    seam.now_ms = 1000000;
}

uint64_t uv_now(const uv_loop_t *loop)
{
    (void)loop;
    return seam.now_ms;
}

struct api_request *api_send(struct api *api, const struct api_call *call)
{
    (void)api;
    if (seam.fail_nth > 0 && --seam.fail_nth == 0)
        return NULL;
    assert_true(seam.count < SEAM_MAX);
    assert_non_null(call->what);
    struct seam_request *request = &seam.request[seam.count++];
    (void)snprintf(request->method, sizeof request->method, "%s", call->method);
    (void)snprintf(request->path, sizeof request->path, "%s", call->path);
    request->body = call->body ? cJSON_PrintUnformatted(call->body) : NULL;
    request->is_open = true;
    request->context = call->context;
    request->done = call->done;
    request->line = call->line;
    return (struct api_request *)(void *)request;
}

void api_cancel(struct api_request *request)
{
    struct seam_request *mine = (struct seam_request *)(void *)request;
    if (mine == NULL)
        return;
    assert_true(mine->is_open); /* twice, or after done() */
    mine->is_open = false;
}

/* The open request whose path begins so; NULL: none. */
static struct seam_request *seam_find(const char *method, const char *path)
{
    for (size_t i = 0; i < seam.count; i++) {
        struct seam_request *request = &seam.request[i];
        if (request->is_open && strcmp(request->method, method) == 0 && strncmp(request->path, path, strlen(path)) == 0)
            return request;
    }
    return NULL;
}

KT_UNUSED static size_t seam_open_count(void)
{
    size_t count = 0;
    for (size_t i = 0; i < seam.count; i++)
        count += seam.request[i].is_open;
    return count;
}

/* Turns the loop until there is such a request, and returns it. */
KT_UNUSED static struct seam_request *seam_await(uv_loop_t *loop, const char *method, const char *path)
{
    for (int turn = 0; turn < SEAM_TURNS_MAX; turn++) {
        struct seam_request *request = seam_find(method, path);
        if (request)
            return request;
        (void)uv_run(loop, UV_RUN_ONCE);
    }
    fail_msg("no request %s %s", method, path);
    return NULL;
}

/* Answers and ends it. A status that is no success gets an error text. `body` may be NULL. */
KT_UNUSED static void seam_reply(struct seam_request *request, int status, const char *body)
{
    assert_non_null(request);
    assert_true(request->is_open);
    cJSON *json = body ? cJSON_Parse(body) : NULL;
    struct api_response response = {.status = status, .json = json, .body = body ? body : ""};
    response.size = strlen(response.body);
    if (status < 200 || status > 299)
        (void)error_set(&response.error, EXIT_CODE_FAILED, 0, "the server says %d", status);
    request->is_open = false;
    request->done(request->context, &response);
    cJSON_Delete(json);
}

KT_UNUSED static void seam_line(struct seam_request *request, const char *line)
{
    assert_non_null(request);
    assert_true(request->is_open && request->line != NULL);
    request->line(request->context, line, strlen(line));
}

#endif
