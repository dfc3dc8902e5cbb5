/* The scripted API server of tests/fake/api_server.py, as a child of a unit test. */
#ifndef KTVPN_TESTS_FAKE_API_H
#define KTVPN_TESTS_FAKE_API_H

#include "unit.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "client/kube/api.h"
#include "common/mem.h"

#define FAKE_LISTENERS 8

struct fake_api {
    pid_t pid;
    int in; /* the server ends with it */
    struct {
        char name[32];
        int port;
    } listener[FAKE_LISTENERS];
    size_t listeners;
    char certs[256];
};

static KT_UNUSED void fake_api_start(struct fake_api *fake)
{
    extern char **environ;
    *fake = (struct fake_api){.in = -1};
    char path[512] = TEST_DATA "/../fake/api_server.py", python[] = "python3";
    char *argv[] = {python, path, NULL};
    int in[2], out[2];
    assert_int_equal(pipe(in) | pipe(out), 0);
    posix_spawn_file_actions_t actions;
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    (void)posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    (void)posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    for (int i = 0; i < 2; i++) {
        (void)posix_spawn_file_actions_addclose(&actions, in[i]);
        (void)posix_spawn_file_actions_addclose(&actions, out[i]);
    }
    assert_int_equal(posix_spawnp(&fake->pid, python, &actions, NULL, argv, environ), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(in[0]);
    (void)close(out[1]);
    fake->in = in[1];
    FILE *from = fdopen(out[0], "r");
    char name[32], value[256];
    while (fscanf(from, "%31s", name) == 1 && strcmp(name, "ready") != 0) {
        assert_int_equal(fscanf(from, "%255s", value), 1);
        if (strcmp(name, "certs") == 0) {
            (void)snprintf(fake->certs, sizeof fake->certs, "%s", value);
            continue;
        }
        assert_true(fake->listeners < FAKE_LISTENERS);
        (void)snprintf(fake->listener[fake->listeners].name, sizeof fake->listener[0].name, "%s", name);
        fake->listener[fake->listeners++].port = (int)strtol(value, NULL, 10);
    }
    (void)fclose(from);
    assert_true(fake->listeners > 0);
}

static KT_UNUSED void fake_api_stop(struct fake_api *fake)
{
    (void)close(fake->in);
    (void)waitpid(fake->pid, NULL, 0);
}

static KT_UNUSED int fake_api_port(const struct fake_api *fake, const char *name)
{
    for (size_t i = 0; i < fake->listeners; i++) {
        if (strcmp(fake->listener[i].name, name) == 0)
            return fake->listener[i].port;
    }
    fail_msg("no listener %s", name);
    return 0;
}

struct fake_text {
    char *data;
    size_t size;
};

static KT_UNUSED size_t fake_api_append(char *data, size_t one, size_t size, void *context)
{
    (void)one;
    struct fake_text *text = context;
    text->data = realloc(text->data, text->size + size + 1);
    memcpy(text->data + text->size, data, size);
    text->size += size;
    text->data[text->size] = '\0';
    return size;
}

/* The control calls block: the test's loop does not run meanwhile. */
static KT_UNUSED char *fake_api_control(const struct fake_api *fake, const char *path, const char *post)
{
    struct fake_text text = {0};
    char url[128];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d%s", fake_api_port(fake, "http"), path);
    CURL *easy = curl_easy_init();
    (void)curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, fake_api_append);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, &text);
    if (post != NULL)
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, post);
    assert_int_equal(curl_easy_perform(easy), CURLE_OK);
    curl_easy_cleanup(easy);
    return text.data;
}

static KT_UNUSED void fake_api_script(const struct fake_api *fake, const char *script)
{
    free(fake_api_control(fake, "/_script", script));
}

/* The requests since the last call; the caller deletes it. */
static KT_UNUSED cJSON *fake_api_seen(const struct fake_api *fake)
{
    char *text = fake_api_control(fake, "/_seen", NULL);
    cJSON *seen = cJSON_Parse(text);
    free(text);
    assert_non_null(seen);
    return seen;
}

static KT_UNUSED const char *fake_api_text(const cJSON *seen, int at, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetArrayItem(seen, at), key));
}

static KT_UNUSED const char *fake_api_header(const cJSON *seen, int at, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(cJSON_GetArrayItem(seen, at), "headers"), key));
}

static KT_UNUSED struct kubeconfig_blob fake_api_pem(const struct fake_api *fake, const char *file)
{
    char path[320];
    (void)snprintf(path, sizeof path, "%s/%s", fake->certs, file);
    FILE *from = fopen(path, "r");
    assert_non_null(from);
    struct kubeconfig_blob blob = {.data = kt_calloc(1, 16384)};
    blob.size = fread(blob.data, 1, 16383, from);
    (void)fclose(from);
    return blob;
}

/* A configuration for that listener; strings are the test's. Free with fake_api_free_config(). */
static KT_UNUSED struct kubeconfig fake_api_config(const struct fake_api *fake, const char *listener)
{
    static char name[] = "test", space[] = "default";
    bool is_plain = strcmp(listener, "http") == 0;
    struct kubeconfig config = {.context = name, .cluster = name, .user = name, .name_space = space};
    config.server = kt_asprintf("%s://127.0.0.1:%d", is_plain ? "http" : "https", fake_api_port(fake, listener));
    if (!is_plain)
        config.ca = fake_api_pem(fake, "ca.crt");
    return config;
}

static KT_UNUSED void fake_api_free_config(struct kubeconfig *config)
{
    kt_free(config->server);
    kt_free(config->ca.data);
    kt_free(config->certificate.data);
    kt_free(config->key.data);
}

static KT_UNUSED void fake_api_on_tick(uv_timer_t *timer)
{
    ++*(unsigned *)timer->data;
}

/* Runs the loop until *flag, or fails after 20 s. The tick is there because UV_RUN_ONCE may set the flag by a timer and
 * then block in poll. */
static KT_UNUSED void fake_api_run_until(uv_loop_t *loop, const bool *flag)
{
    uv_timer_t timer;
    unsigned ticks = 0;
    (void)uv_timer_init(loop, &timer);
    timer.data = &ticks;
    (void)uv_timer_start(&timer, fake_api_on_tick, 5, 5);
    while (!*flag && ticks < 4000)
        (void)uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    (void)uv_run(loop, UV_RUN_NOWAIT);
    assert_true(*flag);
}

#endif
