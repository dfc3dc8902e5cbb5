/* A control socket in a runtime folder of the test's own: its loop runs here, and what asks in a thread. */
#ifndef KTVPN_TESTS_CONTROL_FIXTURE_H
#define KTVPN_TESTS_CONTROL_FIXTURE_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "client/control.h"
#include "client/instance.h"
#include "common/mem.h"
#include "tests/unit/unit.h"

static char folder[] = "/tmp/ktvpn-control-XXXXXX";

struct fixture {
    uv_loop_t loop;
    uv_async_t over; /* the asking thread has ended */
    struct control *control;
    struct instance instance;
    pthread_t thread;
    int (*ask)(struct fixture *fixture);
    int asked; /* its result */
    bool is_down;
    struct error error;
    char *printed;
};

static char *on_status(void *context KT_UNUSED)
{
    return kt_strdup(
        "{\"name\":\"kt\",\"state\":\"connected\",\"namespace\":\"ems\",\"cluster\":\"https://192.0.2.1:6443\","
        "\"context\":\"kt\",\"ranges\":[\"10.222.0.0/16\"],\"carriers\":[{\"rtt_ms\":1.5}],\"rtt_ms\":1.5,"
        "\"warnings\":[\"no ping\"]}\n");
}

static void close_control(struct fixture *fixture)
{
    instance_release(&fixture->instance);
    control_close(fixture->control);
    fixture->control = NULL;
}

static void on_down(void *context)
{
    struct fixture *fixture = context;
    fixture->is_down = true;
    close_control(fixture);
}

static void on_over(uv_async_t *async)
{
    struct fixture *fixture = async->data;
    if (fixture->control != NULL)
        close_control(fixture);
    uv_close((uv_handle_t *)async, NULL);
}

static void *thread_main(void *argument)
{
    struct fixture *fixture = argument;
    fixture->asked = fixture->ask(fixture);
    (void)uv_async_send(&fixture->over);
    return NULL;
}

/* Runs `ask` in a thread against a control socket until it has its result. */
static void with_control(struct fixture *fixture, int (*ask)(struct fixture *fixture))
{
    static const struct control_ops ops = {.on_status = on_status, .on_down = on_down};
    *fixture = (struct fixture){.ask = ask};
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    fixture->over.data = fixture;
    assert_int_equal(uv_async_init(&fixture->loop, &fixture->over, on_over), 0);
    assert_int_equal(instance_acquire(&fixture->instance, "kt", &fixture->error), 0);
    assert_int_equal(control_open(&fixture->control, &fixture->loop, fixture->instance.socket_path, &ops, fixture), 0);
    struct stat info;
    assert_int_equal(stat(fixture->instance.socket_path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(pthread_create(&fixture->thread, NULL, thread_main, fixture), 0);
    (void)uv_run(&fixture->loop, UV_RUN_DEFAULT);
    (void)pthread_join(fixture->thread, NULL);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
}

static int set_up(void **state KT_UNUSED)
{
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    return mkdtemp(folder) == NULL || setenv("XDG_RUNTIME_DIR", folder, 1) != 0;
}

static int tear_down(void **state KT_UNUSED)
{
    char path[64];
    (void)snprintf(path, sizeof path, "%s/ktvpn", folder);
    (void)rmdir(path);
    return rmdir(folder);
}

#endif
