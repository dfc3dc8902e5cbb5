/* Kubeconfigs as people have them, merged and resolved; then broken and hostile ones. Each is written into a folder of
 * its own. */
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/kube/kubeconfig.h"
#include "common/log.h"
#include "common/mem.h"

#define CONTEXTS                                                                                                     \
    "contexts:\n- name: dev\n  context: {cluster: c, user: u, namespace: ems}\n- name: other\n  context: {cluster: " \
    "c, user: v}\n"
#define CLUSTERS                                                                                                    \
    "clusters:\n- name: c\n  cluster:\n    server: https://10.0.0.1:6443/prefix/\n    certificate-authority-data: " \
    "Y2E=\n"
#define USERS                                                                                          \
    "users:\n- name: u\n  user: {token: abc}\n- name: v\n  user: {client-certificate-data: Y2VydA==, " \
    "client-key-data: a2V5}\n"
#define WHOLE "apiVersion: v1\nkind: Config\ncurrent-context: dev\n" CONTEXTS CLUSTERS USERS

static char folder[64];

static const char *path_of(const char *name)
{
    static char path[4][256];
    static unsigned turn;
    char *out = path[turn++ % 4];
    (void)snprintf(out, 256, "%s/%s", folder, name);
    return out;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");
    assert_non_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static int load(struct kubeconfig **out, const char *text, const char *context, struct error *error)
{
    put("config", text);
    struct kubeconfig_choice choice = {.path = path_of("config"), .context = context};
    *error = (struct error){0};
    return kubeconfig_load(out, &choice, error);
}

static void expect_error(const char *text, const char *context, int rc, const char *says)
{
    struct kubeconfig *config = NULL;
    struct error error;
    long live = kt_mem_live();
    int got = load(&config, text, context, &error);
    if (got != rc || strstr(error.text, says) == NULL || error.code != EXIT_CODE_KUBECONFIG)
        fail_msg("%d, code %d: \"%s\" instead of %d and \"%s\"", got, (int)error.code, error.text, rc, says);
    assert_null(config);
    assert_int_equal(kt_mem_live(), live);
}

static void a_whole_file(void **state)
{
    (void)state;
    struct kubeconfig *config;
    struct error error;
    assert_int_equal(load(&config, WHOLE, NULL, &error), 0);
    assert_string_equal(config->context, "dev");
    assert_string_equal(config->cluster, "c");
    assert_string_equal(config->user, "u");
    assert_string_equal(config->name_space, "ems");
    assert_string_equal(config->server, "https://10.0.0.1:6443/prefix");
    assert_string_equal((char *)config->ca.data, "ca");
    assert_string_equal(config->token, "abc");
    assert_null(config->tls_server_name);
    assert_false(config->insecure);
    assert_int_equal(config->certificate.size, 0);
    kubeconfig_free(config);
    assert_int_equal(load(&config, WHOLE, "other", &error), 0);
    assert_string_equal(config->name_space, "default");
    assert_string_equal((char *)config->certificate.data, "cert");
    assert_string_equal((char *)config->key.data, "key");
    assert_null(config->token);
    kubeconfig_free(config);
}

static void json_and_odd_yaml(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{\"contexts\": [{\"name\": \"dev\", \"context\": {\"cluster\": \"c\", \"user\": \"u\"}}], "
        "\"current-context\": \"dev\","
        "\"clusters\": [{\"name\": \"c\", \"cluster\": {\"server\": \"https://h\"}}], \"users\": [{\"name\": \"u\", "
        "\"user\": {\"token\": \"abc\"}}]}",
        "current-context: >-\n  dev\nextensions: ~\npreferences: {}\nnobody: [knows, {this: 1}]\n" CONTEXTS CLUSTERS
        "users:\n- name: u\n  user:\n    token: abc\n    exec: null\n    username: \"\"\n    as-groups: []\n",
        "--- # a comment\n" WHOLE "...\n---\n[a second, document]\n",
        WHOLE "current-context: dev\n",
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(texts); i++) {
        struct kubeconfig *config;
        struct error error;
        if (load(&config, texts[i], NULL, &error) != 0)
            fail_msg("%zu: %s", i, error.text);
        assert_string_equal(config->token, "abc");
        kubeconfig_free(config);
    }
}

static void files_are_merged(void **state)
{
    (void)state;
    char list[1024];
    struct error error;
    struct kubeconfig *config;
    put("one", "current-context: \"\"\n" CONTEXTS);
    put("two", "current-context: dev\ncontexts:\n- name: dev\n  context: {cluster: wrong}\n" CLUSTERS);
    put("three", "current-context: other\n" USERS "clusters:\n- name: c\n  cluster: {server: https://wrong}\n");
    put("empty", "");
    (void)snprintf(list, sizeof list, ":%s/none:%s/empty:%s/one::%s/two:%s/three:", folder, folder, folder, folder,
                   folder);
    struct kubeconfig_choice choice = {.list = list, .home = "/nowhere"};
    assert_int_equal(kubeconfig_load(&config, &choice, &error), 0);
    assert_string_equal(config->context, "dev");
    assert_string_equal(config->name_space, "ems");
    assert_string_equal(config->server, "https://10.0.0.1:6443/prefix");
    assert_string_equal(config->token, "abc");
    kubeconfig_free(config);
}

static void where_it_is_looked_for(void **state)
{
    (void)state;
    struct error error;
    struct kubeconfig *config;
    const struct kubeconfig_choice none = {.home = folder};
    assert_int_equal(kubeconfig_load(&config, &none, &error), -ENOENT);
    assert_int_equal(error.code, EXIT_CODE_KUBECONFIG);
    assert_non_null(strstr(error.text, "/.kube/config does not exist"));
    const struct kubeconfig_choice nothing = {0};
    assert_int_equal(kubeconfig_load(&config, &nothing, &error), -ENOENT);
    const struct kubeconfig_choice list = {.list = "/nowhere/a:/nowhere/b", .home = folder};
    assert_int_equal(kubeconfig_load(&config, &list, &error), -ENOENT);
    assert_non_null(strstr(error.text, "/nowhere/a:/nowhere/b"));
    const struct kubeconfig_choice given = {.path = "/nowhere/a", .list = "/nowhere/b"};
    assert_int_equal(kubeconfig_load(&config, &given, &error), -ENOENT);
    assert_string_equal(error.text, "cannot read kubeconfig /nowhere/a: No such file or directory");
    const struct kubeconfig_choice directory = {.path = folder};
    assert_int_equal(kubeconfig_load(&config, &directory, &error), -EINVAL);
    assert_non_null(strstr(error.text, "Is a directory"));
    char kube[128];
    (void)snprintf(kube, sizeof kube, "%s/.kube", folder);
    assert_int_equal(mkdir(kube, 0700), 0);
    put(".kube/config", WHOLE);
    assert_int_equal(kubeconfig_load(&config, &none, &error), 0);
    kubeconfig_free(config);
    (void)unlink(path_of(".kube/config"));
    (void)rmdir(kube);
}

static void relative_paths_start_at_their_file(void **state)
{
    (void)state;
    struct kubeconfig *config;
    struct error error;
    put("ca.pem", "CA");
    put("cert.pem", "CERT");
    put("key.pem", "KEY");
    put("token", " tok\n");
    assert_int_equal(
        load(&config,
             "current-context: d\ncontexts:\n- {name: d, context: {cluster: c, user: u}}\nclusters:\n- name: c\n"
             "  cluster: {server: 'https://[fd00::1]:6443', certificate-authority: ca.pem, tls-server-name: "
             "kubernetes}\n"
             "users:\n- name: u\n  user: {client-certificate: ./cert.pem, client-key: key.pem, client-key-data: "
             "ZGF0YQ==, tokenFile: token}\n",
             NULL, &error),
        0);
    assert_string_equal(config->server, "https://[fd00::1]:6443");
    assert_string_equal(config->tls_server_name, "kubernetes");
    assert_string_equal((char *)config->ca.data, "CA");
    assert_string_equal((char *)config->certificate.data, "CERT");
    assert_string_equal((char *)config->key.data, "data");
    assert_string_equal(config->token, "tok");
    kubeconfig_free(config);
}

static const char *one_of(const char *cluster, const char *user)
{
    static char text[2048];
    (void)snprintf(text, sizeof text,
                   "current-context: d\ncontexts:\n- {name: d, context: {cluster: c, user: u}}\nclusters:\n- name: c\n "
                   " cluster: {%s}\nusers:\n- name: u\n  user: {%s}\n",
                   cluster, user);
    return text;
}

static void to_nowhere(void *context, enum log_level level, const char *line)
{
    (void)line;
    *(unsigned *)context += level == LOG_LEVEL_WARNING;
}

static void servers(void **state)
{
    (void)state;
    static const struct {
        const char *cluster, *server;
    } good[] = {
        {"server: https://a.example/x//", "https://a.example/x"},
        {"server: 'http://127.0.0.1:8080'", "http://127.0.0.1:8080"},
        {"server: 'localhost:8080'", "http://localhost:8080"},
        {"server: 'localhost:8080', certificate-authority-data: Y2E=", "https://localhost:8080"},
        {"server: https://a, insecure-skip-tls-verify: true", "https://a"},
    };
    unsigned warnings = 0;
    log_open(to_nowhere, &warnings, LOG_LEVEL_INFO);
    for (size_t i = 0; i < KT_ARRAY_LEN(good); i++) {
        struct kubeconfig *config;
        struct error error;
        assert_int_equal(load(&config, one_of(good[i].cluster, "token: t"), NULL, &error), 0);
        assert_string_equal(config->server, good[i].server);
        assert_true((config->token != NULL) == (strncmp(config->server, "https://", 8) == 0));
        kubeconfig_free(config);
    }
    log_open(NULL, NULL, LOG_LEVEL_INFO);
    assert_int_equal(warnings, 1);
    static const char *const wrong[] = {
        "server: 'ftp://a'",     "server: 'https://u:p@a'",         "server: 'https://a/?x'",
        "server: 'https://a b'", "server: \"https://a\\r\\nX: y\"", "server: 'https://a#b'",
        "server: {a: b}"};
    for (size_t i = 0; i < KT_ARRAY_LEN(wrong); i++)
        expect_error(one_of(wrong[i], "token: t"), NULL, -EINVAL, "config, line 6: ");
    expect_error(one_of("", "token: t"), NULL, -EINVAL, "cluster c of kubeconfig");
    expect_error(one_of("server: https://a, certificate-authority-data: Y2E=, insecure-skip-tls-verify: true", ""),
                 NULL, -EINVAL, "has both a certificate-authority and insecure-skip-tls-verify");
    expect_error(one_of("server: https://a, insecure-skip-tls-verify: maybe", ""), NULL, -EINVAL,
                 "insecure-skip-tls-verify must be true or false");
    expect_error(one_of("server: https://a, insecure-skip-tls-verify: \"true\"", ""), NULL, -EINVAL,
                 "must be true or false");
    expect_error(one_of("server: https://a, tls-server-name: 'a/b'", ""), NULL, -EINVAL, "tls-server-name must be");
    expect_error(one_of("server: https://a, proxy-url: 'ftp://p'", ""), NULL, -EINVAL, "proxy-url must begin");
}

static void refused_ways_to_log_in(void **state)
{
    (void)state;
    static const struct {
        const char *user, *says;
    } cases[] = {
        {"auth-provider: {name: gcp}", "an authentication provider (auth-provider) is not supported;"},
        {"username: a, password: b", "a password (username) is not supported;"},
        {"token: t, password: b", "a password (password) is not supported;"},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++)
        expect_error(one_of("server: https://a", cases[i].user), NULL, -ENOTSUP, cases[i].says);
    expect_error(one_of("server: https://a", "client-certificate-data: Y2E="), NULL, -EINVAL,
                 "needs both client-certificate and client-key");
    expect_error(one_of("server: https://a", "client-key-data: Y2E="), NULL, -EINVAL,
                 "needs both client-certificate and client-key");
    expect_error(one_of("server: https://a", "client-key: none.pem"), NULL, -ENOENT, "/none.pem, which kubeconfig");
    expect_error(one_of("server: https://a", "token: \"a\\r\\nb: c\""), NULL, -EINVAL, "the token of user u");
    expect_error(one_of("server: https://a", "tokenFile: /dev/null"), NULL, -EINVAL, "the token of user u");
    expect_error(one_of("server: https://a", "client-certificate-data: '!!!'"), NULL, -EINVAL,
                 "line 9: this is no base64");
    expect_error(one_of("server: https://a", "client-certificate-data: Y2E"), NULL, -EINVAL, "this is no base64");
}

#define V1 "apiVersion: client.authentication.k8s.io/v1"

static void credential_plugins(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"exec: {command: aws, interactiveMode: Never}", "needs an apiVersion for its plugin"},
        {"exec: {command: aws, interactiveMode: Never, apiVersion: v1}", "needs an apiVersion for its plugin"},
        {"exec: {command: aws, interactiveMode: Never, apiVersion: client.authentication.k8s.io/v1alpha1}",
         "needs an apiVersion for its plugin"},
        {"exec: {command: aws, " V1 "}", "needs interactiveMode"},
        {"exec: {command: aws, interactiveMode: Maybe, " V1 "}", "none of Never, IfAvailable, Always"},
        {"exec: {interactiveMode: Never, " V1 "}", "without a command"},
        {"exec: {command: aws, interactiveMode: Never, args: x, " V1 "}", "must be a list of texts"},
        {"exec: {command: aws, interactiveMode: Never, args: [[a]], " V1 "}", "must be a list of texts"},
        {"exec: {command: aws, interactiveMode: Never, env: [{value: x}], " V1 "}", "each with a name"},
        {"exec: {command: aws, interactiveMode: Never, env: [{name: a=b}], " V1 "}", "each with a name"},
        {"exec: {command: aws, interactiveMode: Never, env: [x], " V1 "}", "each with a name"},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(wrong); i++)
        expect_error(one_of("server: https://a", wrong[i][0]), NULL, -EINVAL, wrong[i][1]);
    struct kubeconfig *config;
    struct error error;
    const char *text =
        one_of("server: https://a, extensions: [{name: client.authentication.k8s.io/exec, extension: {a: 1, "
               "b: [x, ~, yes, \"yes\", 01, 1.5, -3]}}]",
               "exec: {command: bin/aws, args: [a, ''], env: [{name: A, value: b=c}, {name: B}], "
               "provideClusterInfo: true, installHint: get it, apiVersion: "
               "client.authentication.k8s.io/v1beta1}");
    assert_int_equal(load(&config, text, NULL, &error), 0);
    const struct kubeconfig_exec *exec = config->exec;
    assert_true(exec->command[0] == '/');
    assert_non_null(strstr(exec->command, "/bin/aws"));
    assert_int_equal(exec->arguments.count, 2);
    assert_string_equal(exec->arguments.text[1], "");
    assert_string_equal(exec->env.text[0], "A=b=c");
    assert_string_equal(exec->env.text[1], "B=");
    assert_int_equal(exec->mode, KUBECONFIG_EXEC_IF_AVAILABLE);
    assert_string_equal(exec->cluster_config, "{\"a\":1,\"b\":[\"x\",null,true,\"yes\",\"01\",1.5,-3]}");
    assert_string_equal(exec->install_hint, "get it");
    kubeconfig_free(config);
    text = one_of("server: https://a", "token: t, exec: {command: aws, interactiveMode: Never, " V1 "}");
    assert_int_equal(load(&config, text, NULL, &error), 0);
    assert_null(config->exec); /* the token comes first */
    kubeconfig_free(config);
}

static void impersonation(void **state)
{
    (void)state;
    struct kubeconfig *config;
    struct error error;
    static const char *const groups[] = {"x", "y"};
    const char *text = one_of("server: https://a", "token: t, as: jane, as-uid: '7', as-groups: [a, b], "
                                                   "as-user-extra: {k: [v, w], l: []}");
    assert_int_equal(load(&config, text, NULL, &error), 0);
    assert_string_equal(config->as.user, "jane");
    assert_string_equal(config->as.uid, "7");
    assert_int_equal(config->as.groups.count, 2);
    assert_int_equal(config->as.extras_count, 2);
    assert_string_equal(config->as.extras[0].values.text[1], "w");
    kubeconfig_free(config);
    char path[300];
    (void)snprintf(path, sizeof path, "%s/config", folder);
    struct kubeconfig_choice choice = {.path = path, .as = "joe", .as_groups = groups, .as_groups_count = 2};
    assert_int_equal(kubeconfig_load(&config, &choice, &error), 0);
    assert_string_equal(config->as.user, "joe");
    assert_string_equal(config->as.uid, "7");
    assert_string_equal(config->as.groups.text[0], "x");
    kubeconfig_free(config);
    expect_error(one_of("server: https://a", "token: t, as-groups: [a]"), NULL, -EINVAL, "but no user; give --as");
    expect_error(one_of("server: https://a", "token: t, as-uid: a"), NULL, -EINVAL, "but no user");
    expect_error(one_of("server: https://a", "token: t, as-user-extra: {a: [b]}"), NULL, -EINVAL, "but no user");
    expect_error(one_of("server: https://a", "token: t, as: \"a\\r\\nX: y\""), NULL, -EINVAL, "line breaks");
    expect_error(one_of("server: https://a", "token: t, as: a, as-groups: [\"b\\n\"]"), NULL, -EINVAL, "line breaks");
    expect_error(one_of("server: https://a", "token: t, as: a, as-user-extra: {k: [\"b\\n\"]}"), NULL, -EINVAL,
                 "line breaks");
    expect_error(one_of("server: https://a", "token: t, as: a, as-user-extra: [k]"), NULL, -EINVAL, "a map of lists");
}

static void inside_a_pod(void **state)
{
    (void)state;
    struct kubeconfig *config;
    struct error error;
    struct kubeconfig_choice choice = {.pod_host = "10.0.0.1", .pod_port = "443", .pod_account = folder};
    put("token", "tok\n");
    put("ca.crt", "CA");
    put("namespace", "ems");
    assert_int_equal(kubeconfig_load(&config, &choice, &error), 0);
    assert_string_equal(config->server, "https://10.0.0.1:443");
    assert_string_equal(config->name_space, "ems");
    assert_string_equal(config->token, "tok");
    assert_string_equal((char *)config->ca.data, "CA");
    assert_non_null(config->token_file);
    kubeconfig_free(config);
    choice.pod_host = "fd00::1";
    assert_int_equal(kubeconfig_load(&config, &choice, &error), 0);
    assert_string_equal(config->server, "https://[fd00::1]:443");
    kubeconfig_free(config);
    put("token", "");
    assert_int_equal(kubeconfig_load(&config, &choice, &error), -EINVAL);
    choice.pod_port = "";
    (void)unlink(path_of("ca.crt"));
    (void)unlink(path_of("namespace"));
    assert_int_equal(kubeconfig_load(&config, &choice, &error), -ENOENT);
}

static void names_that_lead_nowhere(void **state)
{
    (void)state;
    expect_error(WHOLE, "nope", -ENOENT, "has no context nope; it has: dev, other");
    expect_error(CONTEXTS CLUSTERS USERS, NULL, -ENOENT, "choose one with --context: dev, other");
    expect_error("{}", NULL, -ENOENT, "--context: none");
    expect_error("", "x", -ENOENT, "has no context x; it has: none");
    expect_error("current-context: dev\n" CONTEXTS USERS, NULL, -ENOENT, "has no cluster c, which its context in");
    expect_error("current-context: dev\n" CONTEXTS CLUSTERS, NULL, -ENOENT, "has no user u, which its context in");
    expect_error("current-context: d\ncontexts: [{name: d}]", NULL, -EINVAL, "names no cluster");
}

static void broken_files_are_named_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"a: b\nc: [d\n", "config, line 3: "},
        {"a: b\n\tc: d\n", "config, line 2: "},
        {"a: \"\n", "config, line 2: "},
        {"a: &x {b: c}\nd: {<<: *x}\n", "line 2: merge keys (<<) are not supported"},
        {"? [a]\n: b\n", "line 1: a key must be a plain text"},
        {"just a text", "line 1: this is no kubeconfig"},
        {"- a\n", "line 1: this is no kubeconfig"},
        {"kind: Pod\n", "line 1: this is no kubeconfig: its kind is not Config"},
        {"kind: Config\napiVersion: v2\n", "line 2: this is no kubeconfig: its apiVersion is not v1"},
        {"clusters: {}\n", "line 1: clusters, users and contexts must be lists"},
        {"users:\n- a\n", "line 2: an entry needs a name"},
        {"users:\n- {user: {}}\n", "line 2: an entry needs a name"},
        {"contexts:\n- name: a\n- name: b\n- name: a\n", "line 4: another entry has the same name"},
        {"current-context: [a]\n", "line 1: current-context must be a text"},
        {"a: \xc3(\n", "config, line "},
        {"a: \x01\n", "config, line "},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++)
        expect_error(cases[i].text, "x", -EINVAL, cases[i].says);
}

/* As kubectl does it: no secret goes over the network by plain HTTP, and no plugin runs for it. */
static void nothing_secret_by_http(void **state)
{
    (void)state;
    struct kubeconfig *config;
    struct error error;
    static const char server[] = "server: 'http://a', certificate-authority-data: Y2E=";
    static const char user[] = "token: t, client-certificate-data: Y2E=, client-key-data: Y2E=, as: jane";
    static const char plugin[] = "exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: x}";
    assert_int_equal(load(&config, one_of(server, user), NULL, &error), 0);
    assert_null(config->token);
    assert_int_equal(config->certificate.size + config->key.size, 0);
    assert_string_equal(config->as.user, "jane");
    kubeconfig_free(config);
    assert_int_equal(load(&config, one_of(server, plugin), NULL, &error), 0);
    assert_null(config->exec);
    kubeconfig_free(config);
}

static void hostile_files_are_bounded(void **state)
{
    (void)state;
    char *text = calloc(1, KUBECONFIG_FILE_MAX + 16);
    memset(text, '[', 1000);
    expect_error(text, NULL, -EINVAL, "nested too deeply");
    memset(text, 0, 1001);
    for (int i = 0; i < 70000; i++)
        memcpy(text + 3 * i, "- \n", 3);
    expect_error(text, NULL, -EINVAL, "too many entries");
    memset(text, '#', KUBECONFIG_FILE_MAX + 1);
    expect_error(text, NULL, -EINVAL, "File too large");
    free(text);
    expect_error("contexts: [{name: \"\\e[31mred\"}]\n", "a", -ENOENT, "it has: ?[31mred");
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct kubeconfig *config;
    struct error error;
    long live = kt_mem_live();
    int rc = -ENOMEM;
    for (unsigned long nth = 1; nth < 1000 && rc != 0; nth++) {
        kt_mem_fail_nth(nth);
        rc = load(&config, WHOLE, "other", &error);
        kt_mem_fail_nth(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        if (rc == 0)
            kubeconfig_free(config);
        assert_int_equal(kt_mem_live(), live);
    }
    assert_int_equal(rc, 0);
}

static int start(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/ktvpn-test-kubeconfig-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int stop(void **state)
{
    (void)state;
    static const char *const names[] = {"config", "one",      "two",     "three", "empty",
                                        "ca.pem", "cert.pem", "key.pem", "token"};
    for (size_t i = 0; i < KT_ARRAY_LEN(names); i++)
        (void)unlink(path_of(names[i]));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_file),
        cmocka_unit_test(json_and_odd_yaml),
        cmocka_unit_test(files_are_merged),
        cmocka_unit_test(where_it_is_looked_for),
        cmocka_unit_test(relative_paths_start_at_their_file),
        cmocka_unit_test(servers),
        cmocka_unit_test(refused_ways_to_log_in),
        cmocka_unit_test(credential_plugins),
        cmocka_unit_test(impersonation),
        cmocka_unit_test(inside_a_pod),
        cmocka_unit_test(names_that_lead_nowhere),
        cmocka_unit_test(broken_files_are_named_with_their_line),
        cmocka_unit_test(nothing_secret_by_http),
        cmocka_unit_test(hostile_files_are_bounded),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, start, stop);
}
