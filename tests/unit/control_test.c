/* The control socket, and `status` and `down` that use it: a real loop on one side, a thread that asks on the other. */
#include "client/control.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "client/instance.h"
#include "client/status.h"
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

static int print_status(struct fixture *fixture, const char *output, const char *name)
{
    size_t size = 0;
    struct options options = {.command = OPTIONS_STATUS, .output = output, .name = name};
    FILE *out = open_memstream(&fixture->printed, &size);
    int rc = status_run(&options, out, &fixture->error);
    (void)fclose(out);
    return rc;
}

static int ask_table(struct fixture *fixture)
{
    return print_status(fixture, NULL, NULL);
}

static int ask_json(struct fixture *fixture)
{
    return print_status(fixture, "json", NULL);
}

static int ask_unknown(struct fixture *fixture)
{
    return print_status(fixture, NULL, "another");
}

static int ask_down(struct fixture *fixture)
{
    size_t size = 0;
    struct options options = {.command = OPTIONS_DOWN};
    FILE *out = open_memstream(&fixture->printed, &size);
    int rc = down_run(&options, out, &fixture->error);
    (void)fclose(out);
    return rc;
}

static void test_status(void **state KT_UNUSED)
{
    struct fixture fixture;
    with_control(&fixture, ask_table);
    assert_int_equal(fixture.asked, 0);
    static const char *const wanted[] = {"kt: connected", "https://192.0.2.1:6443", "ems", "10.222.0.0/16", "1.5 ms",
                                         "no ping"};
    for (size_t i = 0; i < KT_ARRAY_LEN(wanted); i++)
        assert_non_null(strstr(fixture.printed, wanted[i]));
    free(fixture.printed);
    with_control(&fixture, ask_json);
    assert_int_equal(fixture.asked, 0);
    assert_non_null(strstr(fixture.printed, "\"items\""));
    assert_non_null(strstr(fixture.printed, "\"connected\""));
    free(fixture.printed);
}

static void test_unknown_name(void **state KT_UNUSED)
{
    struct fixture fixture;
    with_control(&fixture, ask_unknown);
    assert_int_equal(fixture.asked, -ENOENT);
    assert_int_equal(fixture.error.code, EXIT_CODE_NOT_RUNNING);
    free(fixture.printed);
}

static void test_down_waits_for_the_end(void **state KT_UNUSED)
{
    struct fixture fixture;
    with_control(&fixture, ask_down);
    assert_int_equal(fixture.asked, 0);
    assert_true(fixture.is_down);
    assert_string_equal(fixture.printed, "kt: left\n");
    free(fixture.printed);
}

static void test_nobody(void **state KT_UNUSED)
{
    struct fixture fixture = {0};
    char *answer = NULL;
    assert_int_equal(control_ask("/nowhere/at.all", "status", 100, &answer), -ECONNREFUSED);
    assert_int_equal(ask_down(&fixture), -ENOENT);
    assert_int_equal(fixture.error.code, EXIT_CODE_NOT_RUNNING);
    free(fixture.printed);
    assert_int_equal(ask_json(&fixture), -ENOENT);
    assert_non_null(strstr(fixture.printed, "\"items\""));
    free(fixture.printed);
}

static int connect_raw(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Nonsense, an endless line, many silent peers: each is closed, and a good asker is still answered. */
static int ask_hostile(struct fixture *fixture)
{
    static const char *const nonsense[] = {"\n", "fly\n", "status status\n",
                                           "0123456789012345678901234567890123456789012345678901234567890123456789"};
    for (size_t i = 0; i < KT_ARRAY_LEN(nonsense); i++) {
        int fd = connect_raw(fixture->instance.socket_path);
        char byte;
        (void)send(fd, nonsense[i], strlen(nonsense[i]), MSG_NOSIGNAL);
        ssize_t size = read(fd, &byte, 1);
        (void)close(fd);
        if (size > 0)
            return -1;
    }
    int silent[CONTROL_PEERS_MAX - 1];
    for (size_t i = 0; i < KT_ARRAY_LEN(silent); i++)
        silent[i] = connect_raw(fixture->instance.socket_path);
    int rc = print_status(fixture, NULL, NULL);
    for (size_t i = 0; i < KT_ARRAY_LEN(silent); i++)
        (void)close(silent[i]);
    return rc != 0 ? rc : strstr(fixture->printed, "connected") != NULL ? 0 : -2;
}

static void test_hostile_peers(void **state KT_UNUSED)
{
    struct fixture fixture;
    with_control(&fixture, ask_hostile);
    assert_int_equal(fixture.asked, 0);
    free(fixture.printed);
}

static void test_no_memory(void **state KT_UNUSED)
{
    static const struct control_ops ops = {.on_status = on_status, .on_down = on_down};
    uv_loop_t loop;
    struct control *control = NULL;
    assert_int_equal(uv_loop_init(&loop), 0);
    kt_mem_fail_nth(1);
    assert_int_equal(control_open(&control, &loop, "/nowhere/at.all", &ops, NULL), -ENOMEM);
    assert_true(control_open(&control, &loop, "/nowhere/at.all", &ops, NULL) < 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(kt_mem_live(), 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unknown_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_down_waits_for_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hostile_peers, set_up, tear_down),
        cmocka_unit_test(test_no_memory),
    };
    return unit_run(tests);
}
