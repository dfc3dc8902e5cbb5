/* Credential plugins that are real programs, a token's file, and the API's requests that wait for them and log in anew
 * after a 401; and busy answers that are asked for once more. */
#include "fake_api.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "client/kube/credential.h"
#include "common/log.h"

#define V1 "client.authentication.k8s.io/v1"
#define ANSWER(token) "{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"status\":{\"token\":\"" token "\"}}"

static struct fake_api fake;
static char folder[64];

struct bed {
    uv_loop_t loop;
    struct kubeconfig config;
    struct kubeconfig_exec exec;
    char command[128];
    struct api *api;
    bool is_closed;
};

struct outcome {
    bool is_done;
    int status;
    struct error error;
};

static void put(const char *name, const char *text, mode_t mode)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *to = fopen(path, "w");
    assert_non_null(to);
    assert_true(fputs(text, to) >= 0);
    assert_int_equal(fclose(to), 0);
    assert_int_equal(chmod(path, mode), 0);
}

/* How often the plugin ran: it appends a byte. */
static long runs(void)
{
    char path[128];
    struct stat about = {0};
    (void)snprintf(path, sizeof path, "%s/runs", folder);
    return stat(path, &about) == 0 ? (long)about.st_size : 0;
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

/* A plugin that is this shell text, run in `folder`. NULL: none. */
static void begin(struct bed *bed, const char *script)
{
    static char version[] = V1;
    struct error error;
    memset(bed, 0, sizeof *bed);
    bed->config = fake_api_config(&fake, "http");
    if (script != NULL) {
        char text[2048], path[128];
        (void)snprintf(path, sizeof path, "%s/runs", folder);
        (void)unlink(path);
        (void)snprintf(text, sizeof text, "#!/bin/sh\ncd %s\nprintf x >>runs\n%s\n", folder, script);
        put("plugin", text, 0700);
        (void)snprintf(bed->command, sizeof bed->command, "%s/plugin", folder);
        bed->exec = (struct kubeconfig_exec){.command = bed->command, .api_version = version};
        bed->config.exec = &bed->exec;
    }
    (void)uv_loop_init(&bed->loop);
    assert_int_equal(api_open(&bed->api, &bed->loop, &bed->config, &error), 0);
}

static void end(struct bed *bed)
{
    api_close(bed->api, on_closed, &bed->is_closed);
    fake_api_run_until(&bed->loop, &bed->is_closed);
    assert_int_equal(uv_run(&bed->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    fake_api_free_config(&bed->config);
}

static void on_done(void *context, const struct api_response *response)
{
    struct outcome *o = context;
    o->is_done = true;
    o->status = response->status;
    o->error = response->error;
}

static struct api_request *send_get(struct bed *bed, const char *path, struct outcome *o)
{
    *o = (struct outcome){0};
    struct api_call call = {.method = "GET", .path = path, .what = "look", .context = o, .done = on_done};
    return api_send(bed->api, &call);
}

static void get(struct bed *bed, const char *path, struct outcome *o)
{
    assert_non_null(send_get(bed, path, o));
    assert_false(o->is_done); /* never inside the call */
    fake_api_run_until(&bed->loop, &o->is_done);
}

static void expect_login(const char *token)
{
    cJSON *seen = fake_api_seen(&fake);
    char want[64];
    (void)snprintf(want, sizeof want, "Bearer %s", token);
    int last = cJSON_GetArraySize(seen) - 1;
    assert_true(last >= 0);
    assert_string_equal(fake_api_header(seen, last, "authorization"), want);
    cJSON_Delete(seen);
}

static void a_plugin_runs_once_for_many(void **state)
{
    (void)state;
    struct bed bed;
    struct outcome o[5];
    fake_api_script(&fake, "{\"GET /ok\": [{\"body\": \"{}\"}]}");
    begin(&bed, "test -t 0 && exit 3; echo '" ANSWER("t1") "'");
    for (size_t i = 0; i < KT_ARRAY_LEN(o); i++)
        assert_non_null(send_get(&bed, "/ok", &o[i]));
    for (size_t i = 0; i < KT_ARRAY_LEN(o); i++) {
        fake_api_run_until(&bed.loop, &o[i].is_done);
        assert_int_equal(o[i].status, 200);
    }
    expect_login("t1");
    get(&bed, "/ok", &o[0]);
    assert_int_equal(o[0].status, 200);
    assert_int_equal(runs(), 1);
    end(&bed);
}

static void a_plugin_knows_what_it_should(void **state)
{
    (void)state;
    struct bed bed;
    struct outcome o;
    static char one[] = "a  b;$(exit)", two[] = "", variable[] = "FROM_CONFIG=x y", home[] = "HOME=/elsewhere";
    char *arguments[] = {one, two}, *env[] = {variable, home};
    assert_int_equal(setenv("FROM_US", "here", 1), 0);
    begin(&bed,
          "[ \"$#\" = 2 ] && [ \"$1\" = 'a  b;$(exit)' ] && [ -z \"$2\" ] && [ \"$FROM_CONFIG\" = 'x y' ] || exit 9\n"
          "[ \"$HOME\" = /elsewhere ] && [ \"$FROM_US\" = here ] || exit 10\n"
          "case $KUBERNETES_EXEC_INFO in *'\"interactive\":false'*) ;; *) exit 11;; esac\n"
          "ls /proc/$$/fd >fds; grep -q '^[3-9]$' fds && exit 12\n"
          "echo '" ANSWER("t2") "'");
    bed.exec.arguments = (struct kubeconfig_texts){arguments, 2};
    bed.exec.env = (struct kubeconfig_texts){env, 2};
    get(&bed, "/ok", &o);
    assert_string_equal(o.error.text, "");
    expect_login("t2");
    end(&bed);
}

static void an_expired_answer_is_asked_for_again(void **state)
{
    (void)state;
    struct bed bed;
    struct outcome o;
    begin(&bed, "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"status\":{\"token\":\"old\","
                "\"expirationTimestamp\":\"'$(date -u -d '+2 seconds' +%Y-%m-%dT%H:%M:%SZ)'\"}}'");
    get(&bed, "/ok", &o);
    assert_int_equal(runs(), 1);
    for (int i = 0; i < 4000 && runs() < 2; i++) {
        get(&bed, "/ok", &o);
        assert_int_equal(o.status, 200);
    }
    assert_int_equal(runs(), 2);
    end(&bed);
}

/* Somebody's clock is wrong: the answer is tried, as kubectl does it, and the plugin does not run without end. */
static void an_answer_that_comes_expired_is_used(void **state)
{
    (void)state;
    struct bed bed;
    struct outcome o;
    begin(&bed, "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"status\":{\"token\":\"late\","
                "\"expirationTimestamp\":\"2020-01-01T00:00:00Z\"}}'");
    for (int i = 0; i < 3; i++) {
        get(&bed, "/ok", &o);
        assert_int_equal(o.status, 200);
    }
    expect_login("late");
    assert_int_equal(runs(), 1);
    end(&bed);
}

static void a_401_asks_the_plugin_once_more(void **state)
{
    (void)state;
    struct bed bed;
    struct outcome o;
    fake_api_script(&fake,
                    "{\"GET /once\": [{\"status\": 401}, {\"body\": \"{}\"}], \"GET /never\": [{\"status\": 401}]}");
    begin(&bed, "echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1
                "\",\"status\":{\"token\":\"n'$(wc -c <runs)'\"}}'");
    get(&bed, "/once", &o);
    assert_int_equal(o.status, 200);
    assert_int_equal(runs(), 2);
    expect_login("n2");
    get(&bed, "/never", &o);
    assert_int_equal(o.status, 401);
    assert_int_equal(o.error.code, EXIT_CODE_UNAUTHORIZED);
    assert_int_equal(runs(), 2); /* it was just asked */
    end(&bed);
}

static void a_static_token_is_not_tried_twice(void **state)
{
    (void)state;
    struct bed bed;
    struct outcome o;
    static char token[] = "static";
    fake_api_script(&fake, "{\"GET /once\": [{\"status\": 401}, {\"body\": \"{}\"}]}");
    begin(&bed, NULL);
    bed.config.token = token;
    get(&bed, "/once", &o);
    assert_int_equal(o.status, 401);
    end(&bed);
}

static void a_tokens_file_is_read_again(void **state)
{
    (void)state;
    struct bed bed;
    struct outcome o;
    char path[128];
    static char first[] = "first";
    (void)snprintf(path, sizeof path, "%s/token", folder);
    fake_api_script(&fake, "{\"GET /once\": [{\"status\": 401}, {\"body\": \"{}\"}]}");
    put("token", "second\n", 0600);
    begin(&bed, NULL);
    bed.config.token = first;
    bed.config.token_file = path;
    get(&bed, "/ok", &o);
    expect_login("first");
    get(&bed, "/once", &o);
    assert_int_equal(o.status, 200);
    expect_login("second");
    (void)unlink(path); /* what cannot be read leaves what we have */
    fake_api_script(&fake, "{\"GET /once\": [{\"status\": 401}]}");
    get(&bed, "/once", &o);
    assert_int_equal(o.status, 401);
    get(&bed, "/ok", &o);
    expect_login("second");
    end(&bed);
}

static void plugins_that_fail_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *script, *says;
    } cases[] = {
        {"exit 3", "failed with exit code 3"},
        {"kill -9 $$", "was ended by signal 9"},
        {"echo nothing", "answered with something that is no JSON"},
        {"echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\"}'", "without a status"},
        {"head -c 2000000 /dev/zero", "wrote more than 1048576 bytes"},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        struct bed bed;
        struct outcome o;
        begin(&bed, cases[i].script);
        get(&bed, "/ok", &o);
        assert_int_equal(o.status, 0);
        assert_int_equal(o.error.code, EXIT_CODE_UNAUTHORIZED);
        if (strstr(o.error.text, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].script, o.error.text);
        get(&bed, "/ok", &o);
        assert_int_equal(runs(), 1); /* not again at once */
        end(&bed);
    }
}

static void a_plugin_that_is_not_there(void **state)
{
    (void)state;
    static char missing[] = "ktvpn-no-such-plugin", hint[] = "apt install it\n\033[1mnow";
    static const enum kubeconfig_exec_mode never = KUBECONFIG_EXEC_NEVER, always = KUBECONFIG_EXEC_ALWAYS;
    struct bed bed;
    struct outcome o;
    begin(&bed, "exit 0");
    bed.exec.command = missing;
    bed.exec.install_hint = hint;
    bed.exec.mode = never;
    get(&bed, "/ok", &o);
    assert_non_null(
        strstr(o.error.text, "plugin ktvpn-no-such-plugin of user test is not installed: apt install it\n?[1mnow"));
    end(&bed);
    int in = dup(0), null = open("/dev/null", O_RDONLY);
    assert_int_equal(dup2(null, 0), 0);
    begin(&bed, "exit 0");
    bed.exec.mode = always;
    get(&bed, "/ok", &o);
    assert_non_null(strstr(o.error.text, "needs a terminal"));
    assert_int_equal(runs(), 0);
    end(&bed);
    (void)dup2(in, 0);
    (void)close(in);
    (void)close(null);
}

/* Closing and cancelling while it runs; the child is gone at once. */
static void nothing_waits_for_a_slow_plugin(void **state)
{
    (void)state;
    struct bed bed;
    struct outcome o;
    char path[128], text[32] = "";
    begin(&bed, "echo $$ >pid.new; mv pid.new pid; exec sleep 100");
    (void)snprintf(path, sizeof path, "%s/pid", folder);
    (void)unlink(path);
    struct api_request *request = send_get(&bed, "/ok", &o);
    while (access(path, R_OK) != 0)
        (void)uv_run(&bed.loop, UV_RUN_NOWAIT);
    api_cancel(request);
    request = send_get(&bed, "/ok", &o);
    assert_non_null(request);
    end(&bed);
    assert_false(o.is_done);
    FILE *from = fopen(path, "r");
    assert_non_null(from);
    assert_non_null(fgets(text, sizeof text, from));
    (void)fclose(from);
    assert_int_equal(kill((pid_t)strtol(text, NULL, 10), 0), -1);
    assert_int_equal(errno, ESRCH);
}

static void a_busy_server_is_asked_again(void **state)
{
    (void)state;
    struct bed bed;
    struct outcome o;
    fake_api_script(&fake,
                    "{\"GET /busy\": [{\"status\": 429, \"headers\": {\"Retry-After\": \"1\"}}, {\"status\": 503, "
                    "\"headers\": {\"Retry-After\": \"1\"}}, {\"body\": \"{}\"}], \"GET /long\": [{\"status\": 503, "
                    "\"headers\": {\"Retry-After\": \"3600\"}}], \"GET /bare\": [{\"status\": 503}]}");
    begin(&bed, NULL);
    get(&bed, "/busy", &o);
    assert_int_equal(o.status, 200);
    get(&bed, "/long", &o);
    assert_int_equal(o.status, 503);
    get(&bed, "/bare", &o);
    assert_int_equal(o.status, 503);
    fake_api_script(&fake, "{\"GET /busy\": [{\"status\": 429, \"headers\": {\"Retry-After\": \"1\"}}]}");
    struct api_request *request = send_get(&bed, "/busy", &o);
    for (int i = 0; i < 20; i++)
        (void)uv_run(&bed.loop, UV_RUN_NOWAIT);
    api_cancel(request);
    request = send_get(&bed, "/busy", &o); /* closed while it waits */
    assert_non_null(request);
    end(&bed);
    assert_false(o.is_done);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    long live = kt_mem_live();
    bool was_whole = false;
    for (unsigned long nth = 1; nth < 120 && !was_whole; nth++) {
        struct bed bed;
        struct outcome o;
        begin(&bed, "echo '" ANSWER("t") "'");
        kt_mem_fail_nth(nth);
        bool is_sent = send_get(&bed, "/ok", &o) != NULL;
        if (is_sent)
            fake_api_run_until(&bed.loop, &o.is_done);
        kt_mem_fail_nth(0);
        was_whole = is_sent && o.status == 200;
        end(&bed);
        assert_int_equal(kt_mem_live(), live);
    }
    assert_true(was_whole);
}

static int start(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(folder, sizeof folder, "/tmp/ktvpn-test-credential-XXXXXX");
    assert_non_null(mkdtemp(folder));
    fake_api_start(&fake);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    static const char *const names[] = {"plugin", "runs", "token", "pid", "fds"};
    for (size_t i = 0; i < KT_ARRAY_LEN(names); i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(folder);
    fake_api_stop(&fake);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plugin_runs_once_for_many),          cmocka_unit_test(a_plugin_knows_what_it_should),
        cmocka_unit_test(an_expired_answer_is_asked_for_again), cmocka_unit_test(an_answer_that_comes_expired_is_used),
        cmocka_unit_test(a_401_asks_the_plugin_once_more),      cmocka_unit_test(a_static_token_is_not_tried_twice),
        cmocka_unit_test(a_tokens_file_is_read_again),          cmocka_unit_test(plugins_that_fail_are_named),
        cmocka_unit_test(a_plugin_that_is_not_there),           cmocka_unit_test(nothing_waits_for_a_slow_plugin),
        cmocka_unit_test(a_busy_server_is_asked_again),         cmocka_unit_test(every_allocation_may_fail),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, start, stop);
}
