/* The API's calls and streams against a scripted server: right cases, TLS that must be refused, broken connections, and
 * cancelling and closing inside of every callback. */
#include "fake_api.h"

#include <errno.h>
#include <signal.h>

#include "client/kube/api.h"
#include "common/log.h"

static struct fake_api fake;

struct setup {
    uv_loop_t loop;
    struct kubeconfig config;
    struct api *api;
    bool is_closed;
};

/* What one call came to. */
struct outcome {
    bool is_done, is_cancelled;
    unsigned dones, lines;
    int status;
    char reason[64], body[4096];
    size_t size;
    struct error error;
    char first_line[256], last_line[256];
    unsigned cancel_at; /* line */
    struct api_request *request;
    struct api *api;
    bool close_at_done, close_at_line;
    bool *closed;
};

static void on_closed(void *context)
{
    *(bool *)context = true;
}

static void begin(struct setup *s, const char *listener)
{
    *s = (struct setup){.config = fake_api_config(&fake, listener)};
    (void)uv_loop_init(&s->loop);
    struct error error;
    assert_int_equal(api_open(&s->api, &s->loop, &s->config, &error), 0);
}

static void end(struct setup *s)
{
    if (s->api != NULL)
        api_close(s->api, on_closed, &s->is_closed);
    fake_api_run_until(&s->loop, &s->is_closed);
    assert_int_equal(uv_run(&s->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&s->loop), 0);
    fake_api_free_config(&s->config);
}

static void on_done(void *context, const struct api_response *response)
{
    struct outcome *o = context;
    o->is_done = true;
    o->dones++;
    o->status = response->status;
    o->size = response->size;
    o->error = response->error;
    (void)snprintf(o->reason, sizeof o->reason, "%s", response->reason);
    (void)snprintf(o->body, sizeof o->body, "%s", response->body != NULL ? response->body : "");
    if (o->close_at_done)
        api_close(o->api, on_closed, o->closed);
}

static void on_line(void *context, const char *line, size_t size)
{
    struct outcome *o = context;
    o->lines++;
    (void)snprintf(o->last_line, sizeof o->last_line, "%.*s", (int)size, line);
    if (o->lines == 1)
        (void)snprintf(o->first_line, sizeof o->first_line, "%.*s", (int)size, line);
    if (o->lines == o->cancel_at) {
        api_cancel(o->request);
        o->is_cancelled = true;
    }
    if (o->close_at_line)
        api_close(o->api, on_closed, o->closed);
}

static struct api_call call_of(const char *method, const char *path, struct outcome *o)
{
    return (struct api_call){.method = method, .path = path, .what = "try it", .context = o, .done = on_done};
}

static void get(struct setup *s, const char *path, struct outcome *o)
{
    *o = (struct outcome){0};
    struct api_call call = call_of("GET", path, o);
    o->request = api_send(s->api, &call);
    assert_non_null(o->request);
    assert_false(o->is_done);
    fake_api_run_until(&s->loop, &o->is_done);
}

static void stream(struct setup *s, const char *path, struct outcome *o)
{
    struct api_call call = call_of("GET", path, o);
    call.line = on_line;
    o->request = api_send(s->api, &call);
    assert_non_null(o->request);
}

static void a_call_carries_what_it_should(void **state)
{
    (void)state;
    struct setup s;
    struct outcome o = {0};
    fake_api_script(&fake, "{\"POST /api/v1/x?y=z\": [{\"status\": 201, \"body\": {\"kind\": \"X\"}}]}");
    begin(&s, "good");
    static char token[] = "secret-token";
    s.config.token = token;
    cJSON_Delete(fake_api_seen(&fake));
    cJSON *body = cJSON_Parse("{\"a\": [1, \"b\"]}");
    struct api_call call = call_of("POST", "/api/v1/x?y=z", &o);
    call.body = body;
    assert_non_null(api_send(s.api, &call));
    cJSON_Delete(body);
    fake_api_run_until(&s.loop, &o.is_done);
    assert_int_equal(o.status, 201);
    assert_string_equal(o.body, "{\"kind\": \"X\"}");
    cJSON *seen = fake_api_seen(&fake);
    assert_int_equal(cJSON_GetArraySize(seen), 1);
    assert_string_equal(fake_api_text(seen, 0, "body"), "{\"a\":[1,\"b\"]}");
    assert_string_equal(fake_api_header(seen, 0, "authorization"), "Bearer secret-token");
    assert_string_equal(fake_api_header(seen, 0, "content-type"), "application/json");
    assert_string_equal(fake_api_header(seen, 0, "user-agent"), "ktvpn/" KTVPN_VERSION);
    assert_null(fake_api_header(seen, 0, "expect"));
    cJSON_Delete(seen);
    struct address peer[4];
    assert_int_equal(api_peers(s.api, peer, 4), 1);
    assert_true(address_is_loopback(&peer[0]));
    end(&s);
}

static void methods_and_content_types(void **state)
{
    (void)state;
    struct setup s;
    begin(&s, "http");
    fake_api_script(
        &fake,
        "{\"PATCH /p\": [{\"body\": \"ok\"}], \"DELETE /p\": [{\"body\": \"ok\"}], \"POST /p\": [{\"body\": \"ok\"}]}");
    cJSON *body = cJSON_Parse("[]");
    struct outcome o[3] = {0};
    struct api_call patch = call_of("PATCH", "/p", &o[0]), drop = call_of("DELETE", "/p", &o[1]),
                    post = call_of("POST", "/p", &o[2]);
    patch.body = body;
    patch.content_type = "application/json-patch+json";
    cJSON_Delete(fake_api_seen(&fake));
    assert_non_null(api_send(s.api, &patch));
    fake_api_run_until(&s.loop, &o[0].is_done);
    assert_non_null(api_send(s.api, &drop));
    fake_api_run_until(&s.loop, &o[1].is_done);
    assert_non_null(api_send(s.api, &post));
    fake_api_run_until(&s.loop, &o[2].is_done);
    cJSON_Delete(body);
    cJSON *seen = fake_api_seen(&fake);
    assert_string_equal(fake_api_text(seen, 0, "method"), "PATCH");
    assert_string_equal(fake_api_header(seen, 0, "content-type"), "application/json-patch+json");
    assert_string_equal(fake_api_text(seen, 1, "method"), "DELETE");
    assert_string_equal(fake_api_text(seen, 1, "body"), "");
    assert_string_equal(fake_api_text(seen, 2, "method"), "POST");
    /* One connection for all, as they came one after the other. */
    assert_int_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(seen, 0), "connection")->valueint,
                     cJSON_GetObjectItem(cJSON_GetArrayItem(seen, 2), "connection")->valueint);
    cJSON_Delete(seen);
    end(&s);
}

static void a_status_is_quoted(void **state)
{
    (void)state;
    struct setup s;
    struct outcome o;
    begin(&s, "http");
    fake_api_script(&fake, "{\"GET /f\": [{\"status\": 403, \"body\": {\"kind\": \"Status\", \"reason\": "
                           "\"Forbidden\", \"message\": \"no \\u001b[31m"
                           "rights\"}}], \"GET /u\": [{\"status\": 401, \"body\": {\"kind\": \"Status\", \"reason\": "
                           "\"Unauthorized\", \"message\": "
                           "\"Unauthorized\"}}], \"GET /t\": [{\"status\": 500, \"body\": \"it broke\\n\"}]}");
    get(&s, "/f", &o);
    assert_int_equal(o.status, 403);
    assert_string_equal(o.reason, "Forbidden");
    assert_int_equal(o.error.code, EXIT_CODE_FORBIDDEN);
    assert_string_equal(o.error.text, "cannot try it: the API server forbids it (403): no \\x1b[31mrights");
    get(&s, "/u", &o);
    assert_int_equal(o.error.code, EXIT_CODE_UNAUTHORIZED);
    get(&s, "/t", &o);
    assert_int_equal(o.status, 500);
    assert_string_equal(o.error.text, "cannot try it: the API server answered 500: it broke");
    get(&s, "/nothing", &o);
    assert_int_equal(o.error.code, EXIT_CODE_NOT_FOUND);
    end(&s);
}

struct tls_case {
    const char *listener, *ca, *tls_server_name, *client;
    enum exit_code code;
    const char *text;
};

static void expect_tls(const struct tls_case *c)
{
    struct setup s = {.config = fake_api_config(&fake, c->listener)};
    struct outcome o = {0};
    struct error error;
    char file[64];
    (void)uv_loop_init(&s.loop);
    if (c->ca != NULL) {
        kt_free(s.config.ca.data);
        s.config.ca = c->ca[0] == '\0' ? (struct kubeconfig_blob){0} : fake_api_pem(&fake, c->ca);
    }
    char *name = c->tls_server_name != NULL ? kt_strdup(c->tls_server_name) : NULL;
    s.config.tls_server_name = name;
    if (c->client != NULL) {
        (void)snprintf(file, sizeof file, "%s.crt", c->client);
        s.config.certificate = fake_api_pem(&fake, file);
        (void)snprintf(file, sizeof file, "%s.key", c->client);
        s.config.key = fake_api_pem(&fake, file);
    }
    assert_int_equal(api_open(&s.api, &s.loop, &s.config, &error), 0);
    cJSON_Delete(fake_api_seen(&fake));
    get(&s, "/ok", &o);
    if (c->text == NULL && o.status != 200)
        fail_msg("%s: %s", c->listener, o.error.text);
    cJSON *seen = fake_api_seen(&fake);
    if (c->text != NULL) {
        assert_int_equal(o.status, 0);
        assert_int_equal(cJSON_GetArraySize(seen), 0);
        if (o.error.code != c->code)
            fail_msg("%s: code %d: %s", c->listener, (int)o.error.code, o.error.text);
        if (strstr(o.error.text, c->text) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", o.error.text, c->text);
    } else if (c->tls_server_name != NULL) {
        assert_string_equal(fake_api_header(seen, 0, "host"), s.config.server + strlen("https://"));
    }
    cJSON_Delete(seen);
    end(&s);
    kt_free(name);
}

static void tls_is_verified(void **state)
{
    (void)state;
    fake_api_script(&fake, "{\"GET /ok\": [{\"body\": \"{}\"}]}");
    static const struct tls_case cases[] = {
        {"good", NULL, NULL, NULL, EXIT_CODE_OK, NULL},
        {"good", "otherca.crt", NULL, NULL, EXIT_CODE_TLS, "is not signed by the CA that the kubeconfig names"},
        {"good", "", NULL, NULL, EXIT_CODE_TLS, "is not signed by a CA that this machine trusts"},
        {"expired", NULL, NULL, NULL, EXIT_CODE_TLS, "has expired"},
        {"othername", NULL, NULL, NULL, EXIT_CODE_TLS, "is for another name"},
        {"othername", NULL, "kubernetes.example", NULL, EXIT_CODE_OK, NULL},
        {"good", NULL, "localhost", NULL, EXIT_CODE_OK, NULL},
        {"good", NULL, "kubernetes.example", NULL, EXIT_CODE_TLS,
         "is for another name than tls-server-name kubernetes.example"},
        {"mtls", NULL, NULL, "client", EXIT_CODE_OK, NULL},
        {"mtls", NULL, NULL, NULL, EXIT_CODE_TLS, "refused our client certificate"},
        {"mtls", NULL, NULL, "otherclient", EXIT_CODE_TLS, "refused our client certificate"},
        {"good", "ca.key", NULL, NULL, EXIT_CODE_KUBECONFIG, "certificate-authority of cluster test cannot be used"},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++)
        expect_tls(&cases[i]);
}

static void insecure_is_obeyed(void **state)
{
    (void)state;
    fake_api_script(&fake, "{\"GET /ok\": [{\"body\": \"{}\"}]}");
    struct setup s = {.config = fake_api_config(&fake, "othername")};
    struct error error;
    struct outcome o;
    (void)uv_loop_init(&s.loop);
    kt_free(s.config.ca.data);
    s.config.ca = (struct kubeconfig_blob){0};
    s.config.insecure = true;
    assert_int_equal(api_open(&s.api, &s.loop, &s.config, &error), 0);
    get(&s, "/ok", &o);
    assert_int_equal(o.status, 200);
    end(&s);
}

static void unreachable_servers_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *server, *text;
        enum exit_code code;
    } cases[] = {
        {"https://127.0.0.1:1", "https://127.0.0.1:1 refuses the connection", EXIT_CODE_UNREACHABLE},
        {"https://no-such-host.invalid:6443", "does not resolve", EXIT_CODE_UNREACHABLE},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        char server[64], name[] = "c";
        (void)snprintf(server, sizeof server, "%s", cases[i].server);
        struct setup s = {.config = {.server = server, .cluster = name, .user = name}};
        struct error error;
        struct outcome o;
        (void)uv_loop_init(&s.loop);
        assert_int_equal(api_open(&s.api, &s.loop, &s.config, &error), 0);
        get(&s, "/", &o);
        assert_int_equal(o.status, 0);
        assert_int_equal(o.error.code, cases[i].code);
        if (strstr(o.error.text, cases[i].text) == NULL)
            fail_msg("%s", o.error.text);
        s.config = (struct kubeconfig){0};
        end(&s);
    }
    /* TLS spoken to a server that does not. */
    struct setup s = {.config = fake_api_config(&fake, "http")};
    struct outcome o;
    struct error error;
    kt_free(s.config.server);
    s.config.server = kt_asprintf("https://127.0.0.1:%d", fake_api_port(&fake, "http"));
    (void)uv_loop_init(&s.loop);
    assert_int_equal(api_open(&s.api, &s.loop, &s.config, &error), 0);
    get(&s, "/", &o);
    assert_int_equal(o.error.code, EXIT_CODE_TLS);
    assert_non_null(strstr(o.error.text, "does not speak TLS"));
    end(&s);
}

static void wrong_urls_are_refused(void **state)
{
    (void)state;
    char name[] = "c";
    static const char *const urls[] = {"https://", "https://host:99999", "https://ho st", "htt ps://x", ""};
    for (size_t i = 0; i < KT_ARRAY_LEN(urls); i++) {
        char server[64];
        (void)snprintf(server, sizeof server, "%s", urls[i]);
        struct kubeconfig config = {.server = server, .cluster = name, .user = name};
        struct error error;
        struct api *api = NULL;
        uv_loop_t loop;
        (void)uv_loop_init(&loop);
        assert_int_equal(api_open(&api, &loop, &config, &error), -EINVAL);
        assert_int_equal(error.code, EXIT_CODE_KUBECONFIG);
        assert_int_equal(uv_loop_close(&loop), 0);
    }
}

static void connections_that_break(void **state)
{
    (void)state;
    struct setup s;
    struct outcome o;
    begin(&s, "good");
    fake_api_script(&fake,
                    "{\"GET /drop\": [{\"end\": \"drop\"}], \"GET /cut\": [{\"lines\": [\"abc\"], \"end\": \"cut\"}]}");
    get(&s, "/drop", &o);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.error.code, EXIT_CODE_UNREACHABLE);
    get(&s, "/cut", &o);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.size, 0);
    assert_int_equal(o.error.code, EXIT_CODE_UNREACHABLE);
    end(&s);
}

/* libcurl takes an answer that ends within its head for whole. */
static void an_answer_cut_anywhere_is_none(void **state)
{
    (void)state;
    static const char whole[] = "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 2\r\n\r\n{}",
                      chunked[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    static const char *const answers[] = {whole, chunked};
    struct setup s;
    struct outcome o;
    begin(&s, "http");
    for (size_t i = 0; i < KT_ARRAY_LEN(answers); i++) {
        for (size_t size = 0; size <= strlen(answers[i]); size++) {
            char *raw = kt_strndup(answers[i], size);
            cJSON *script = cJSON_CreateObject();
            cJSON *answer = cJSON_CreateObject();
            (void)cJSON_AddItemToArray(cJSON_AddArrayToObject(script, "GET /raw"), answer);
            (void)cJSON_AddStringToObject(answer, "raw", raw);
            char *text = cJSON_PrintUnformatted(script);
            fake_api_script(&fake, text);
            get(&s, "/raw", &o);
            bool is_whole =
                size == strlen(answers[i]) || (i == 1 && size + 1 == strlen(answers[i])); /* but a newline */
            assert_int_equal(o.status, is_whole ? 200 : 0);
            cJSON_free(text);
            cJSON_Delete(script);
            kt_free(raw);
        }
    }
    end(&s);
}

static void heads_are_bounded(void **state)
{
    (void)state;
    struct setup s;
    struct outcome o;
    begin(&s, "http");
    fake_api_script(&fake,
                    "{\"GET /1xx\": [{\"raw\": \"HTTP/1.1 100 X\\r\\nA: bcdefghijklmnopqrst\\r\\n\\r\\n\", \"times\": "
                    "20000}]}");
    get(&s, "/1xx", &o);
    assert_int_equal(o.status, 0);
    assert_non_null(strstr(o.error.text, "too large"));
    end(&s);
}

static void bodies_are_bounded(void **state)
{
    (void)state;
    struct setup s;
    struct outcome o;
    begin(&s, "http");
    fake_api_script(&fake, "{\"GET /big\": [{\"body\": \"0123456789abcdef\", \"times\": 1048577}],"
                           " \"GET /fits\": [{\"body\": \"0123456789abcdef\", \"times\": 1048576}]}");
    get(&s, "/big", &o);
    assert_int_equal(o.status, 0);
    assert_non_null(strstr(o.error.text, "too large"));
    get(&s, "/fits", &o);
    assert_int_equal(o.status, 200);
    assert_int_equal(o.size, API_BODY_MAX);
    end(&s);
}

struct sink {
    unsigned lines;
    char last[LOG_LINE_MAX];
};

static void to_sink(void *context, enum log_level level, const char *line)
{
    struct sink *sink = context;
    if (level != LOG_LEVEL_WARNING)
        return;
    sink->lines++;
    (void)snprintf(sink->last, sizeof sink->last, "%s", line);
}

static void warnings_are_logged_once_and_counted(void **state)
{
    (void)state;
    struct setup s;
    struct outcome o;
    struct sink sink = {0};
    begin(&s, "http");
    log_open(to_sink, &sink, LOG_LEVEL_INFO);
    fake_api_script(
        &fake,
        "{\"GET /w\": [{\"headers\": {\"Warning\": \"299 - \\\"would violate PodSecurity\\\"\"}, \"body\": \"{}\"}],"
        " \"GET /v\": [{\"headers\": {\"warning\": [\"299 - \\\"one\\\"\", \"299 - \\\"two\\\"\", \"\"]}, \"body\": "
        "\"{}\"}]}");
    get(&s, "/w", &o);
    get(&s, "/w", &o);
    assert_int_equal(sink.lines, 1);
    assert_string_equal(sink.last, "the API server warns: would violate PodSecurity");
    assert_int_equal(api_warnings(s.api), 2);
    get(&s, "/v", &o);
    log_open(NULL, NULL, LOG_LEVEL_INFO);
    assert_int_equal(api_warnings(s.api), 5);
    end(&s);
}

static void streams_come_line_by_line(void **state)
{
    (void)state;
    struct setup s;
    begin(&s, "good");
    fake_api_script(
        &fake, "{\"GET /s\": [{\"lines\": [\"one\\ntw\", \"o\\n\\nthree\"]}], \"GET /cut\": [{\"lines\": "
               "[\"whole\\nha\"], \"end\": \"cut\"}],"
               " \"GET /no\": [{\"status\": 403, \"body\": {\"kind\": \"Status\", \"message\": \"no\\nrights\"}}]}");
    struct outcome o = {0};
    stream(&s, "/s", &o);
    fake_api_run_until(&s.loop, &o.is_done);
    assert_int_equal(o.status, 200);
    assert_int_equal(o.size, 0);
    assert_int_equal(o.lines, 4);
    assert_string_equal(o.first_line, "one");
    assert_string_equal(o.last_line, "three");
    o = (struct outcome){0};
    stream(&s, "/cut", &o);
    fake_api_run_until(&s.loop, &o.is_done);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.lines, 1);
    assert_string_equal(o.last_line, "whole");
    o = (struct outcome){0};
    stream(&s, "/no", &o);
    fake_api_run_until(&s.loop, &o.is_done);
    assert_int_equal(o.status, 403);
    assert_int_equal(o.lines, 0);
    assert_non_null(strstr(o.error.text, "no\\x0arights"));
    end(&s);
}

static void a_line_without_end_is_refused(void **state)
{
    (void)state;
    struct setup s;
    begin(&s, "http");
    fake_api_script(&fake, "{\"GET /long\": [{\"body\": \"0123456789abcdef\", \"times\": 262144}]}");
    struct outcome o = {0};
    stream(&s, "/long", &o);
    fake_api_run_until(&s.loop, &o.is_done);
    assert_int_equal(o.status, 0);
    assert_int_equal(o.lines, 0);
    assert_non_null(strstr(o.error.text, "too large"));
    end(&s);
}

static bool has_first_line(void *context)
{
    return ((struct outcome *)context)->lines > 0;
}

static void run_while_not(struct setup *s, bool (*is)(void *context), void *context)
{
    for (int i = 0; i < 10000 && !is(context); i++)
        (void)uv_run(&s->loop, UV_RUN_ONCE);
    assert_true(is(context));
}

static void cancel_anywhere(void **state)
{
    (void)state;
    struct setup s;
    begin(&s, "good");
    fake_api_script(&fake, "{\"GET /hold\": [{\"lines\": [\"a\\nb\\nc\\n\"], \"end\": \"hold\"}], \"GET /silent\": "
                           "[{\"end\": \"silent\"}],"
                           " \"GET /ok\": [{\"body\": \"{}\"}]}");
    /* Before anything was sent; while it waits; between lines; inside a line. */
    struct outcome o[4] = {0};
    for (int i = 0; i < 2; i++) {
        struct api_call call = call_of("GET", "/silent", &o[i]);
        o[i].request = api_send(s.api, &call);
    }
    api_cancel(o[0].request);
    o[3].cancel_at = 2;
    stream(&s, "/hold", &o[2]);
    stream(&s, "/hold", &o[3]);
    run_while_not(&s, has_first_line, &o[2]);
    run_while_not(&s, has_first_line, &o[3]);
    api_cancel(o[1].request);
    api_cancel(o[2].request);
    assert_int_equal(o[2].lines, 3);
    assert_int_equal(o[3].lines, 2);
    struct outcome last;
    get(&s, "/ok", &last);
    assert_int_equal(last.status, 200);
    for (int i = 0; i < 4; i++)
        assert_int_equal(o[i].dones, 0);
    end(&s);
}

static void close_inside_callbacks(void **state)
{
    (void)state;
    fake_api_script(
        &fake, "{\"GET /hold\": [{\"lines\": [\"a\\nb\\n\"], \"end\": \"hold\"}], \"GET /ok\": [{\"body\": \"{}\"}]}");
    struct setup s;
    begin(&s, "good");
    struct outcome o[2] = {{.api = s.api, .closed = &s.is_closed, .close_at_done = true}, {0}};
    struct api_call call = call_of("GET", "/ok", &o[0]);
    assert_non_null(api_send(s.api, &call));
    stream(&s, "/hold", &o[1]);
    fake_api_run_until(&s.loop, &s.is_closed);
    assert_int_equal(o[0].dones, 1);
    assert_int_equal(o[1].dones, 0);
    s.api = NULL;
    end(&s);
    begin(&s, "http");
    o[0] = (struct outcome){.api = s.api, .closed = &s.is_closed, .close_at_line = true};
    stream(&s, "/hold", &o[0]);
    fake_api_run_until(&s.loop, &s.is_closed);
    assert_int_equal(o[0].lines, 1);
    assert_int_equal(o[0].dones, 0);
    s.api = NULL;
    end(&s);
}

/* libcurl 7.88.1 crashes in curl_easy_recv() when ALPN picked h2. */
static void the_port_forwards_handle_speaks_http_1_only(void **state)
{
    (void)state;
    struct setup s;
    begin(&s, "h2");
    static char token[] = "secret-token";
    s.config.token = token;
    struct curl_slist *headers = NULL;
    unsigned generation = 0;
    CURL *easy = api_new_easy(s.api, "/a/path?x", &headers, &generation);
    assert_non_null(easy);
    assert_string_equal(headers->data, "Authorization: Bearer secret-token");
    curl_slist_free_all(headers);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    assert_int_equal(curl_easy_perform(easy), CURLE_OK);
    static const char request[] = "GET /alpn HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    char answer[512];
    size_t n = 0;
    cJSON_Delete(fake_api_seen(&fake));
    assert_int_equal(curl_easy_send(easy, request, sizeof request - 1, &n), CURLE_OK);
    curl_socket_t fd;
    assert_int_equal(curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd), CURLE_OK);
    CURLcode code;
    while ((code = curl_easy_recv(easy, answer, sizeof answer, &n)) == CURLE_AGAIN) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fd, &set);
        assert_true(select(fd + 1, &set, NULL, NULL, &(struct timeval){.tv_sec = 10}) > 0);
    }
    assert_int_equal(code, CURLE_OK);
    cJSON *seen = fake_api_seen(&fake);
    assert_string_equal(fake_api_text(seen, 0, "alpn"), "http/1.1");
    cJSON_Delete(seen);
    curl_easy_cleanup(easy);
    end(&s);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    fake_api_script(&fake, "{\"GET /ok\": [{\"body\": \"{}\"}], \"GET /s\": [{\"lines\": [\"a\\n\"]}]}");
    long live = kt_mem_live();
    bool was_whole = false;
    for (unsigned long nth = 1; nth < 100 && !was_whole; nth++) {
        struct setup s = {.config = fake_api_config(&fake, "good")};
        struct error error;
        struct outcome o = {0};
        (void)uv_loop_init(&s.loop);
        kt_mem_fail_nth(nth);
        int rc = api_open(&s.api, &s.loop, &s.config, &error);
        struct api_call call = call_of("GET", "/s", &o);
        call.line = on_line;
        bool is_sent = rc == 0 && api_send(s.api, &call) != NULL;
        if (is_sent)
            fake_api_run_until(&s.loop, &o.is_done);
        kt_mem_fail_nth(0);
        was_whole = is_sent && o.status == 200;
        assert_true(rc == 0 || rc == -ENOMEM);
        if (rc != 0)
            s.is_closed = true;
        end(&s);
        assert_int_equal(kt_mem_live(), live);
    }
    assert_true(was_whole);
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
        cmocka_unit_test(a_call_carries_what_it_should),
        cmocka_unit_test(methods_and_content_types),
        cmocka_unit_test(a_status_is_quoted),
        cmocka_unit_test(tls_is_verified),
        cmocka_unit_test(insecure_is_obeyed),
        cmocka_unit_test(unreachable_servers_are_named),
        cmocka_unit_test(wrong_urls_are_refused),
        cmocka_unit_test(connections_that_break),
        cmocka_unit_test(an_answer_cut_anywhere_is_none),
        cmocka_unit_test(heads_are_bounded),
        cmocka_unit_test(bodies_are_bounded),
        cmocka_unit_test(warnings_are_logged_once_and_counted),
        cmocka_unit_test(streams_come_line_by_line),
        cmocka_unit_test(a_line_without_end_is_refused),
        cmocka_unit_test(cancel_anywhere),
        cmocka_unit_test(close_inside_callbacks),
        cmocka_unit_test(the_port_forwards_handle_speaks_http_1_only),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, start, stop);
}
