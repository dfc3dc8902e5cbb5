/* Merging, as kubectl does it: a cluster, user or context is the first of its name in the order of the files, as a
 * whole; the current context is the first that is not empty. What a name leads to may lie in another file. Relative
 * paths start at the file that has them, and data beats a path.
 *
 * `struct load` carries the first problem, so that fields are read one after the other and asked about once. */
#include "client/kube/kubeconfig.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "client/kube/kubeconfig_files.h"
#include "common/log.h"
#include "common/mem.h"

struct load {
    struct kubeconfig_files files;
    struct error *error;
    int rc;
};

/* A cluster, user or context and the file that has it. */
struct entry {
    const struct kubeconfig_file *file;
    const struct yaml_node *map; /* NULL: it is empty */
};

static void no_memory(struct load *load)
{
    if (load->rc == 0)
        load->rc = error_set(load->error, EXIT_CODE_FAILED, -ENOMEM, "no memory");
}

static void bad(struct load *load, const struct entry *entry, size_t line, const char *text)
{
    if (load->rc == 0)
        load->rc = kubeconfig_bad(load->error, entry->file, line, text);
}

/* ---- fields ---- */

/* NULL: not there, null or empty. */
static const struct yaml_node *text_node(struct load *load, const struct entry *entry, const char *key)
{
    const struct yaml_node *node = yaml_tree_get(entry->map, key);
    char text[64];
    if (node != NULL && node->kind != YAML_TEXT) {
        (void)snprintf(text, sizeof text, "%s must be a text", key);
        bad(load, entry, node->line, text);
        return NULL;
    }
    return node != NULL && node->size > 0 ? node : NULL;
}

static const char *text_of(struct load *load, const struct entry *entry, const char *key)
{
    const struct yaml_node *node = text_node(load, entry, key);
    return node != NULL ? node->text : NULL;
}

static char *copy_of(struct load *load, const char *text)
{
    char *copy = text == NULL ? NULL : kt_strdup(text);
    if (text != NULL && copy == NULL)
        no_memory(load);
    return copy;
}

/* YAML 1.1's words for true and false. */
static bool flag_of(struct load *load, const struct entry *entry, const char *key)
{
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"};
    static const char *const no[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N"};
    const struct yaml_node *node = yaml_tree_get(entry->map, key);
    if (node == NULL)
        return false;
    for (size_t i = 0; node->kind == YAML_TEXT && node->is_plain && i < KT_ARRAY_LEN(yes); i++) {
        if (strcmp(node->text, yes[i]) == 0)
            return true;
        if (strcmp(node->text, no[i]) == 0)
            return false;
    }
    char text[64];
    (void)snprintf(text, sizeof text, "%s must be true or false", key);
    bad(load, entry, node->line, text);
    return false;
}

static char *path_of(struct load *load, const struct entry *entry, const char *path)
{
    const char *slash = strrchr(entry->file->path, '/');
    int size = slash != NULL ? (int)(slash - entry->file->path) + 1 : 0;
    char *full = path[0] == '/' ? kt_strdup(path) : kt_asprintf("%.*s%s", size, entry->file->path, path);
    if (full == NULL)
        no_memory(load);
    return full;
}

static void read_path(struct load *load, struct kubeconfig_blob *out, const struct entry *entry, const char *key)
{
    const char *name = text_of(load, entry, key);
    char *path = name == NULL ? NULL : path_of(load, entry, name);
    if (path == NULL)
        return;
    int rc = kubeconfig_read_file(out, path);
    if (rc == -ENOMEM)
        no_memory(load);
    else if (rc != 0 && load->rc == 0)
        load->rc =
            error_set(load->error, EXIT_CODE_KUBECONFIG, rc == -ENOENT ? rc : -EINVAL,
                      "cannot read %s %s, which kubeconfig %s names: %s", key, path, entry->file->path, strerror(-rc));
    kt_free(path);
}

/* Go's base64.StdEncoding: padded, newlines are skipped. */
static void decode(struct load *load, struct kubeconfig_blob *out, const struct entry *entry,
                   const struct yaml_node *node)
{
    out->data = kt_calloc(1, node->size + 1);
    if (out->data == NULL) {
        no_memory(load);
        return;
    }
    const char *end = NULL;
    if (sodium_base642bin(out->data, node->size, node->text, node->size, "\r\n", &out->size, &end,
                          sodium_base64_VARIANT_ORIGINAL) == 0 &&
        end == node->text + node->size)
        return;
    kt_free_secret(out->data, node->size);
    *out = (struct kubeconfig_blob){0};
    bad(load, entry, node->line, "this is no base64");
}

static void read_blob(struct load *load, struct kubeconfig_blob *out, const struct entry *entry, const char *key)
{
    char data_key[64];
    (void)snprintf(data_key, sizeof data_key, "%s-data", key);
    const struct yaml_node *data = text_node(load, entry, data_key);
    if (data != NULL)
        decode(load, out, entry, data);
    else
        read_path(load, out, entry, key);
}

/* ---- entries ---- */

/* The first of that name; `inner` is the key of its map. False: there is none. */
static bool find(const struct load *load, const char *lists, const char *inner, const char *name, struct entry *out)
{
    for (size_t i = 0; i < load->files.count; i++) {
        const struct kubeconfig_file *file = &load->files.file[i];
        const struct yaml_node *list = yaml_tree_get(file->root, lists);
        for (const struct yaml_node *at = list != NULL ? list->child : NULL; at != NULL; at = at->next) {
            if (strcmp(yaml_tree_get(at, "name")->text, name) != 0)
                continue;
            *out = (struct entry){.file = file, .map = yaml_tree_get(at, inner)};
            return true;
        }
    }
    return false;
}

/* "a, b, c" of the contexts that there are, cut to fit. */
static void name_contexts(const struct load *load, char *out, size_t size)
{
    size_t at = 0;
    (void)snprintf(out, size, "none");
    for (size_t i = 0; i < load->files.count; i++) {
        const struct yaml_node *list = yaml_tree_get(load->files.file[i].root, "contexts");
        for (const struct yaml_node *entry = list != NULL ? list->child : NULL; entry != NULL && at < size;
             entry = entry->next)
            at += (size_t)snprintf(out + at, size - at, "%s%s", at > 0 ? ", " : "", yaml_tree_get(entry, "name")->text);
    }
}

static const char *current_context(struct load *load)
{
    for (size_t i = 0; i < load->files.count; i++) {
        const struct entry entry = {.file = &load->files.file[i], .map = load->files.file[i].root};
        const char *name = text_of(load, &entry, "current-context");
        if (name != NULL)
            return name;
    }
    return NULL;
}

static int find_context(struct load *load, const char *wanted, struct kubeconfig *config, struct entry *out)
{
    char names[600];
    const char *current = current_context(load), *name = wanted != NULL ? wanted : current;
    name_contexts(load, names, sizeof names);
    if (load->rc != 0)
        return load->rc;
    if (name == NULL)
        return load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -ENOENT,
                                    "the kubeconfig has no current context; choose one with --context: %s", names);
    if (!find(load, "contexts", "context", name, out))
        return load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -ENOENT,
                                    "the kubeconfig has no context %s; it has: %s", name, names);
    config->context = copy_of(load, name);
    return load->rc;
}

/* ---- what a context leads to ---- */

static void take_server(struct load *load, const struct entry *entry, struct kubeconfig *config)
{
    const struct yaml_node *node = text_node(load, entry, "server");
    if (node == NULL) {
        if (load->rc == 0)
            load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -EINVAL,
                                 "cluster %s of kubeconfig %s has no server", config->cluster, entry->file->path);
        return;
    }
    /* Without a scheme kubectl takes https when there is a reason to (k8s.io/client-go/rest: DefaultServerURL). */
    bool has_tls = config->insecure || config->ca.size > 0 || config->certificate.size > 0;
    const char *scheme = strstr(node->text, "://") != NULL ? "" : has_tls ? "https://" : "http://";
    config->server = kt_asprintf("%s%s", scheme, node->text);
    if (config->server == NULL) {
        no_memory(load);
        return;
    }
    char *end = config->server + strlen(config->server);
    while (end > config->server && end[-1] == '/')
        *--end = '\0';
    bool is_http = strncmp(config->server, "https://", 8) == 0 || strncmp(config->server, "http://", 7) == 0;
    if (!is_http)
        bad(load, entry, node->line, "the server's URL must begin with https:// or http://");
    for (const char *at = config->server; *at != '\0'; at++) {
        if ((unsigned char)*at <= ' ' || (unsigned char)*at >= 0x7f || strchr("?#@\\", *at) != NULL)
            bad(load, entry, node->line, "the server's URL may hold host, port and path only");
    }
}

static void refuse(struct load *load, const struct entry *entry, const char *key, const char *what, const char *instead)
{
    const struct yaml_node *node = yaml_tree_get(entry->map, key);
    if (node == NULL || (node->kind == YAML_TEXT && node->size == 0) ||
        (node->kind != YAML_TEXT && node->child == NULL) || load->rc != 0)
        return;
    load->rc =
        error_set(load->error, EXIT_CODE_KUBECONFIG, -ENOTSUP, "kubeconfig %s, line %zu: %s (%s) is not supported%s",
                  entry->file->path, node->line, what, key, instead);
}

static void take_cluster(struct load *load, const struct entry *entry, struct kubeconfig *config)
{
    refuse(load, entry, "proxy-url", "a proxy of the cluster's own", " yet; set HTTPS_PROXY instead");
    read_blob(load, &config->ca, entry, "certificate-authority");
    config->insecure = flag_of(load, entry, "insecure-skip-tls-verify");
    config->tls_server_name = copy_of(load, text_of(load, entry, "tls-server-name"));
    if (config->insecure && config->ca.size > 0 && load->rc == 0)
        load->rc = error_set(
            load->error, EXIT_CODE_KUBECONFIG, -EINVAL,
            "cluster %s of kubeconfig %s has both a certificate-authority and insecure-skip-tls-verify; remove "
            "the latter",
            config->cluster, entry->file->path);
    const char *name = config->tls_server_name;
    if (name != NULL &&
        name[strspn(name, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.:")] != '\0')
        bad(load, entry, text_node(load, entry, "tls-server-name")->line, "tls-server-name must be a host's name");
}

/* It goes into a header. */
static bool is_token(const char *text)
{
    while ((unsigned char)*text > ' ' && (unsigned char)*text < 0x7f)
        text++;
    return *text == '\0';
}

static char *trimmed(char *text)
{
    text += strspn(text, " \t\r\n");
    size_t size = strlen(text);
    while (size > 0 && strchr(" \t\r\n", text[size - 1]) != NULL)
        text[--size] = '\0';
    return text;
}

static void take_token(struct load *load, const struct entry *entry, struct kubeconfig *config)
{
    const char *plain = text_of(load, entry, "token");
    struct kubeconfig_blob file = {0};
    if (plain == NULL)
        read_path(load, &file, entry, "tokenFile");
    const char *token = plain != NULL ? plain : file.size > 0 ? trimmed((char *)file.data) : NULL;
    config->token = copy_of(load, token);
    bool is_bad = (token != NULL && (token[0] == '\0' || !is_token(token))) || (file.data != NULL && file.size == 0);
    kt_free_secret(file.data, file.size);
    if (is_bad && load->rc == 0)
        load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -EINVAL,
                             "the token of user %s of kubeconfig %s is empty or has bytes that no token has",
                             config->user, entry->file->path);
}

static void take_user(struct load *load, const struct entry *entry, struct kubeconfig *config)
{
    static const char instead[] = "; use a user with a client certificate or a token (kubectl create token)";
    static const char later[] = " yet; use a user with a client certificate or a token (kubectl create token)";
    refuse(load, entry, "exec", "a credential plugin", later);
    refuse(load, entry, "auth-provider", "an authentication provider", instead);
    refuse(load, entry, "username", "a password", instead);
    refuse(load, entry, "password", "a password", instead);
    refuse(load, entry, "as", "impersonation", " yet; choose another context");
    refuse(load, entry, "as-uid", "impersonation", " yet; choose another context");
    refuse(load, entry, "as-groups", "impersonation", " yet; choose another context");
    refuse(load, entry, "as-user-extra", "impersonation", " yet; choose another context");
    take_token(load, entry, config);
    read_blob(load, &config->certificate, entry, "client-certificate");
    read_blob(load, &config->key, entry, "client-key");
    if ((config->certificate.size > 0) != (config->key.size > 0) && load->rc == 0)
        load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -EINVAL,
                             "user %s of kubeconfig %s needs both client-certificate and client-key", config->user,
                             entry->file->path);
}

/* Copies the name of the cluster or user of a context, and finds it. */
static bool follow(struct load *load, const struct entry *context, const char *key, char **name, struct entry *out)
{
    char lists[16];
    (void)snprintf(lists, sizeof lists, "%ss", key);
    const char *text = text_of(load, context, key);
    *name = copy_of(load, text != NULL ? text : "");
    if (load->rc != 0 || text == NULL)
        return false;
    if (find(load, lists, key, text, out))
        return true;
    load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -ENOENT,
                         "the kubeconfig has no %s %s, which its context in %s names", key, text, context->file->path);
    return false;
}

static void resolve(struct load *load, const char *wanted, struct kubeconfig *config)
{
    struct entry context, cluster, user;
    if (find_context(load, wanted, config, &context) != 0)
        return;
    const char *space = text_of(load, &context, "namespace");
    config->name_space = copy_of(load, space != NULL ? space : "default");
    bool has_cluster = follow(load, &context, "cluster", &config->cluster, &cluster);
    if (!has_cluster && load->rc == 0)
        load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -EINVAL, "context %s of kubeconfig %s names no cluster",
                             config->context, context.file->path);
    if (has_cluster)
        take_cluster(load, &cluster, config);
    if (follow(load, &context, "user", &config->user, &user)) /* no user: anonymous */
        take_user(load, &user, config);
    if (has_cluster && load->rc == 0)
        take_server(load, &cluster, config);
    if (load->rc == 0 && config->insecure)
        log_warning("cluster %s: its certificate is not verified (insecure-skip-tls-verify); anybody in between can "
                    "read and change "
                    "what is sent",
                    config->cluster);
}

/* Names come from files that somebody may have been sent: no escape sequences for the terminal. */
static void clean(struct error *error)
{
    for (char *at = error->text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
    }
}

int kubeconfig_load(struct kubeconfig **out, const struct kubeconfig_choice *choice, struct error *error)
{
    struct load load = {.error = error};
    struct kubeconfig *config = kt_calloc(1, sizeof *config);
    *out = NULL;
    load.rc = kubeconfig_files_load(&load.files, choice, error);
    if (config == NULL)
        no_memory(&load);
    if (load.rc == 0)
        resolve(&load, choice->context, config);
    kubeconfig_files_deinit(&load.files);
    if (load.rc == 0) {
        *out = config;
        return 0;
    }
    clean(error);
    kubeconfig_free(config);
    return load.rc;
}

void kubeconfig_free(struct kubeconfig *config)
{
    if (config == NULL)
        return;
    kt_free(config->context);
    kt_free(config->cluster);
    kt_free(config->user);
    kt_free(config->name_space);
    kt_free(config->server);
    kt_free(config->tls_server_name);
    kt_free(config->ca.data);
    kt_free(config->certificate.data);
    kt_free_secret(config->key.data, config->key.size);
    kt_free_secret(config->token, config->token != NULL ? strlen(config->token) : 0);
    kt_free(config);
}
