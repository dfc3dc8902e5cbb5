/* A list and its watch against a scripted server: what is told must be what is there, whatever happens to the
 * connection. */
#include "fake_api.h"

#include <signal.h>

#include "client/kube/watch.h"

#define WATCH_OF(path, version) \
    "\"GET " path "?watch=1&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion=" version "\""
#define OBJECT(name, version) \
    "{\"metadata\": {\"name\": \"" name "\", \"namespace\": \"ems\", \"resourceVersion\": \"" version "\"}}"
#define EVENT(type, name, version) "{\"type\": \"" type "\", \"object\": " OBJECT(name, version) "}"
#define LIST(version, items) \
    "{\"body\": {\"metadata\": {\"resourceVersion\": \"" version "\"}, \"items\": [" items "]}}"

static struct fake_api fake;

struct scene {
    uv_loop_t loop;
    struct kubeconfig config;
    struct api *api;
    struct watch *watch;
    bool is_closed, is_reached;
    char told[1024]; /* "+a ~b -c | !" : added, modified, deleted, synced, error */
    const char *until;
    const char *close_at; /* told so far */
    struct error error;
};

static void told(struct scene *s, const char *sign, const char *name)
{
    size_t at = strlen(s->told);
    (void)snprintf(s->told + at, sizeof s->told - at, "%s%s%s", at > 0 ? " " : "", sign, name);
    if (s->until != NULL && strstr(s->told, s->until) != NULL)
        s->is_reached = true;
    if (s->close_at != NULL && strcmp(s->told, s->close_at) == 0) {
        watch_close(s->watch);
        s->watch = NULL;
    }
}

static void on_object(void *context, enum watch_event event, const struct cJSON *object)
{
    static const char *const signs[] = {[WATCH_ADDED] = "+", [WATCH_MODIFIED] = "~", [WATCH_DELETED] = "-"};
    told(context, signs[event],
         cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(object, "metadata"), "name")));
}

static void on_synced(void *context)
{
    told(context, "|", "");
}

static void on_error(void *context, const struct error *error)
{
    struct scene *s = context;
    s->error = *error;
    told(s, "!", "");
}

static const struct watch_ops ops = {on_object, on_synced, on_error};

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static void begin(struct scene *s, const char *path, const char *until)
{
    *s = (struct scene){.config = fake_api_config(&fake, "http"), .until = until};
    struct error error;
    (void)uv_loop_init(&s->loop);
    assert_int_equal(api_open(&s->api, &s->loop, &s->config, &error), 0);
    struct watch_options options = {path, "list the Services of namespace ems"};
    assert_int_equal(watch_open(&s->watch, s->api, &options, &ops, s), 0);
}

static void end(struct scene *s)
{
    watch_close(s->watch);
    api_close(s->api, on_closed, &s->is_closed);
    fake_api_run_until(&s->loop, &s->is_closed);
    (void)uv_run(&s->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    fake_api_free_config(&s->config);
}

static void expect(const char *path, const char *until, const char *all)
{
    struct scene s;
    long live = kt_mem_live();
    begin(&s, path, until);
    fake_api_run_until(&s.loop, &s.is_reached);
    assert_string_equal(s.told, all);
    end(&s);
    assert_int_equal(kt_mem_live(), live);
}

static void a_list_then_its_changes(void **state)
{
    (void)state;
    fake_api_script(
        &fake,
        "{\"GET /a\": [" LIST("5", OBJECT("x", "1") "," OBJECT("y", "2")) "], " WATCH_OF(
            "/a",
            "5") ": [{\"end\": \"hold\", \"lines\": [" EVENT("ADDED", "z",
                                                             "6") "," EVENT("MODIFIED", "x",
                                                                            "7") ","
                                                                                 "{\"type\": \"BOOKMARK\", \"object\": "
                                                                                 "{\"metadata\": {\"resourceVersion\": "
                                                                                 "\"9\"}}}," EVENT(
                                                                                     "INVENTED", "q",
                                                                                     "9") "," EVENT("DELETED", "y",
                                                                                                    "10") "]}]}");
    expect("/a", "-y", "+x +y | +z ~x -y");
}

static void a_watch_that_ends_or_breaks_goes_on(void **state)
{
    (void)state;
    fake_api_script(
        &fake,
        "{\"GET /b\": [" LIST("5", OBJECT("x", "1")) "], " WATCH_OF("/b", "5") ": [{\"lines\": [" EVENT(
            "ADDED", "y",
            "6") "]}], " WATCH_OF("/b",
                                  "6") ": [{\"end\": \"cut\", \"lines\": [" EVENT("ADDED", "z",
                                                                                  "7") "]}], " WATCH_OF("/b",
                                                                                                        "7") ": "
                                                                                                             "[{"
                                                                                                             "\"end\": "
                                                                                                             "\"hold\","
                                                                                                             " "
                                                                                                             "\"lines\""
                                                                                                             ": "
                                                                                                             "[" EVENT(
                                                                                                                 "DELET"
                                                                                                                 "ED",
                                                                                                                 "z",
                                                                                                                 "8") "]}]"
                                                                                                                      "}");
    expect("/b", "-z", "+x | +y +z ! -z");
}

static void gone_lists_again_and_tells_what_vanished(void **state)
{
    (void)state;
    fake_api_script(
        &fake,
        "{\"GET /c\": [" LIST("5", OBJECT("x", "1") "," OBJECT("y", "2") "," OBJECT("w", "2")) "," LIST(
            "20", OBJECT("y", "11") "," OBJECT(
                      "z", "12")) "], " WATCH_OF("/c",
                                                 "5") ": [{\"lines\": [{\"type\": \"ERROR\", \"object\": {\"kind\": "
                                                      "\"Status\", \"code\": 410, \"message\": \"too "
                                                      "old\"}}]}], " WATCH_OF(
                                                          "/c", "20") ": [{\"end\": \"hold\", \"lines\": "
                                                                      "[" EVENT("MODIFIED", "z", "21") "]}]}");
    expect("/c", "~z", "+x +y +w | ~y +z -w -x | ~z");
    /* The same when 410 is the answer itself. */
    fake_api_script(&fake,
                    "{\"GET /d\": [" LIST("5", OBJECT("x", "1")) "," LIST("20", "") "], " WATCH_OF(
                        "/d", "5") ": [{\"status\": 410, \"body\": {\"kind\": \"Status\", \"reason\": "
                                   "\"Expired\"}}], " WATCH_OF("/d", "20") ": [{\"end\": \"hold\", \"lines\": []}]}");
    expect("/d", "-x |", "+x | -x |");
}

static void errors_are_told_and_tried_again(void **state)
{
    (void)state;
    fake_api_script(
        &fake,
        "{\"GET /e\": [{\"status\": 403, \"body\": {\"kind\": \"Status\", \"message\": \"no\"}}, {\"status\": 500},"
        "{\"body\": \"[]\"}, {\"body\": {\"items\": []}}, {\"body\": {\"items\": [], \"metadata\": "
        "{\"resourceVersion\": \"1&x\"}}}," LIST("5", OBJECT("x", "1")) "]}");
    expect("/e", "|", "! ! ! ! ! +x |");
}

static void nonsense_in_a_watch_lists_again(void **state)
{
    (void)state;
    fake_api_script(
        &fake,
        "{\"GET /f\": [" LIST("5", "") "," LIST("6", "") "," LIST("7", "") "," LIST(
            "8", "{}, 7, {\"metadata\": {\"name\": 3}}") "], " WATCH_OF("/f",
                                                                        "5") ": [{\"end\": \"hold\", \"lines\": "
                                                                             "[\"}{\\n\"]}], " WATCH_OF(
                                                                                 "/f",
                                                                                 "6") ": [{\"end\": "
                                                                                      "\"hold\", "
                                                                                      "\"lines\": "
                                                                                      "[{\"type\": "
                                                                                      "\"ADDED\", "
                                                                                      "\"object\": "
                                                                                      "[]}]}],"
                                                                                      " " WATCH_OF(
                                                                                          "/"
                                                                                          "f",
                                                                                          "7") ": [{\"end\": \"hold\", "
                                                                                               "\"lines\": [{\"type\": "
                                                                                               "\"ERROR\"}]}],"
                                                                                               " " WATCH_OF("/f",
                                                                                                            "8") ": "
                                                                                                                 "[{"
                                                                                                                 "\"end"
                                                                                                                 "\": "
                                                                                                                 "\"sil"
                                                                                                                 "ent\""
                                                                                                                 "}]}");
    struct scene s;
    begin(&s, "/f", "| ! | ! | ! |");
    fake_api_run_until(&s.loop, &s.is_reached);
    assert_string_equal(s.told, "| ! | ! | ! |");
    end(&s);
}

static void close_inside_callbacks(void **state)
{
    (void)state;
    fake_api_script(
        &fake, "{\"GET /g\": [" LIST("5", OBJECT("x", "1") "," OBJECT("y", "1")) "], " WATCH_OF(
                   "/g", "5") ": [{\"end\": \"hold\", \"lines\": [" EVENT("ADDED", "z",
                                                                          "6") "," EVENT("ADDED", "w",
                                                                                         "7") "]}], \"GET /h\": "
                                                                                              "[{\"status\": 403}]}");
    static const char *const moments[] = {"+x", "+x +y", "+x +y |", "+x +y | +z", "!"};
    for (size_t i = 0; i < KT_ARRAY_LEN(moments); i++) {
        struct scene s;
        begin(&s, i == 4 ? "/h" : "/g", moments[i]);
        s.close_at = moments[i];
        fake_api_run_until(&s.loop, &s.is_reached);
        end(&s);
        assert_string_equal(s.told, moments[i]);
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    fake_api_script(&fake, "{\"GET /i\": [" LIST("5", OBJECT("x", "1")) "], " WATCH_OF(
                               "/i", "5") ": [{\"end\": \"hold\", \"lines\": [" EVENT("ADDED", "y", "6") "]}]}");
    long live = kt_mem_live();
    unsigned whole = 0;
    for (unsigned long nth = 1; nth < 200 && whole < 3; nth++) {
        struct scene s = {.config = fake_api_config(&fake, "http"), .until = "+y"};
        struct error error;
        struct watch_options options = {"/i", "list"};
        (void)uv_loop_init(&s.loop);
        assert_int_equal(api_open(&s.api, &s.loop, &s.config, &error), 0);
        kt_mem_fail_nth(nth);
        int rc = watch_open(&s.watch, s.api, &options, &ops, &s);
        if (rc == 0)
            fake_api_run_until(&s.loop, &s.is_reached);
        kt_mem_fail_nth(0);
        whole = strcmp(s.told, "+x | +y") == 0 ? whole + 1 : 0;
        end(&s);
        assert_int_equal(kt_mem_live(), live);
    }
    assert_int_equal(whole, 3);
}

static int start(void **state)
{
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    fake_api_start(&fake);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fake_api_stop(&fake);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_then_its_changes),
        cmocka_unit_test(a_watch_that_ends_or_breaks_goes_on),
        cmocka_unit_test(gone_lists_again_and_tells_what_vanished),
        cmocka_unit_test(errors_are_told_and_tried_again),
        cmocka_unit_test(nonsense_in_a_watch_lists_again),
        cmocka_unit_test(close_inside_callbacks),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, start, stop);
}
