/* Merging, as kubectl does it: a cluster, user or context is the first of its name in the order of the files, as a
 * whole; the current context is the first that is not empty. What a name leads to may lie in another file. Relative
 * paths start at the file that has them, and data beats a path.
 *
 * `struct kubeconfig_load_state` carries the first problem, so that fields are read one after the other and asked about
 * once. */
#include "client/kube/kubeconfig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/kube/kubeconfig_pod.h"
#include "client/kube/kubeconfig_user.h"
#include "client/kube/proxy.h"
#include "common/log.h"
#include "common/mem.h"

/* ---- entries ---- */

/* The first of that name; `inner` is the key of its map. False: there is none. */
static bool find(const struct kubeconfig_load_state *load, const char *lists, const char *inner, const char *name,
                 struct kubeconfig_entry *out)
{
    for (size_t i = 0; i < load->files.count; i++) {
        const struct kubeconfig_file *file = &load->files.file[i];
        const struct yaml_node *list = yaml_tree_get(file->root, lists);
        for (const struct yaml_node *at = list != NULL ? list->child : NULL; at != NULL; at = at->next) {
            if (strcmp(yaml_tree_get(at, "name")->text, name) != 0)
                continue;
            *out = (struct kubeconfig_entry){.file = file, .map = yaml_tree_get(at, inner)};
            return true;
        }
    }
    return false;
}

/* "a, b, c" of the contexts that there are, cut to fit. */
static void name_contexts(const struct kubeconfig_load_state *load, char *out, size_t size)
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

static const char *current_context(struct kubeconfig_load_state *load)
{
    for (size_t i = 0; i < load->files.count; i++) {
        const struct kubeconfig_entry entry = {.file = &load->files.file[i], .map = load->files.file[i].root};
        const char *name = kubeconfig_text(load, &entry, "current-context");
        if (name != NULL)
            return name;
    }
    return NULL;
}

static int find_context(struct kubeconfig_load_state *load, const char *wanted, struct kubeconfig *config,
                        struct kubeconfig_entry *out)
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
    config->context = kubeconfig_copy(load, name);
    return load->rc;
}

/* ---- what a context leads to ---- */

static void take_server(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                        struct kubeconfig *config)
{
    const struct yaml_node *node = kubeconfig_node(load, entry, "server");
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
        kubeconfig_no_memory(load);
        return;
    }
    char *end = config->server + strlen(config->server);
    while (end > config->server && end[-1] == '/')
        *--end = '\0';
    bool is_http = strncmp(config->server, "https://", 8) == 0 || strncmp(config->server, "http://", 7) == 0;
    if (!is_http)
        kubeconfig_bad_field(load, entry, node->line, "the server's URL must begin with https:// or http://");
    for (const char *at = config->server; *at != '\0'; at++) {
        if ((unsigned char)*at <= ' ' || (unsigned char)*at >= 0x7f || strchr("?#@\\", *at) != NULL)
            kubeconfig_bad_field(load, entry, node->line, "the server's URL may hold host, port and path only");
    }
}

/* As k8s.io/apimachinery/pkg/util/net: ParseProxyURL: which schemes there are. */
static void take_proxy(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                       struct kubeconfig *config)
{
    const struct yaml_node *node = kubeconfig_node(load, entry, "proxy-url");
    if (node == NULL)
        return;
    config->proxy_url = kubeconfig_copy(load, node->text);
    if (!proxy_is_url(node->text))
        kubeconfig_bad_field(load, entry, node->line,
                             "proxy-url must begin with http://, https:// or socks5:// and name a host");
}

static void take_cluster(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                         struct kubeconfig *config)
{
    take_proxy(load, entry, config);
    kubeconfig_blob_of(load, &config->ca, entry, "certificate-authority");
    config->insecure = kubeconfig_flag(load, entry, "insecure-skip-tls-verify");
    config->tls_server_name = kubeconfig_copy(load, kubeconfig_text(load, entry, "tls-server-name"));
    if (config->insecure && config->ca.size > 0 && load->rc == 0)
        load->rc = error_set(
            load->error, EXIT_CODE_KUBECONFIG, -EINVAL,
            "cluster %s of kubeconfig %s has both a certificate-authority and insecure-skip-tls-verify; remove "
            "the latter",
            config->cluster, entry->file->path);
    const char *name = config->tls_server_name;
    if (name != NULL &&
        name[strspn(name, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.:")] != '\0')
        kubeconfig_bad_field(load, entry, kubeconfig_node(load, entry, "tls-server-name")->line,
                             "tls-server-name must be a host's name");
}

/* Copies the name of the cluster or user of a context, and finds it. */
static bool follow(struct kubeconfig_load_state *load, const struct kubeconfig_entry *context, const char *key,
                   char **name, struct kubeconfig_entry *out)
{
    char lists[16];
    (void)snprintf(lists, sizeof lists, "%ss", key);
    const char *text = kubeconfig_text(load, context, key);
    *name = kubeconfig_copy(load, text != NULL ? text : "");
    if (load->rc != 0 || text == NULL)
        return false;
    if (find(load, lists, key, text, out))
        return true;
    load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -ENOENT,
                         "the kubeconfig has no %s %s, which its context in %s names", key, text, context->file->path);
    return false;
}

static void resolve(struct kubeconfig_load_state *load, const char *wanted, struct kubeconfig *config)
{
    struct kubeconfig_entry context, cluster, user;
    if (find_context(load, wanted, config, &context) != 0)
        return;
    const char *space = kubeconfig_text(load, &context, "namespace");
    config->name_space = kubeconfig_copy(load, space != NULL ? space : "default");
    bool has_cluster = follow(load, &context, "cluster", &config->cluster, &cluster);
    if (!has_cluster && load->rc == 0)
        load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -EINVAL, "context %s of kubeconfig %s names no cluster",
                             config->context, context.file->path);
    if (has_cluster)
        take_cluster(load, &cluster, config);
    if (has_cluster && follow(load, &context, "user", &config->user, &user)) /* no user: anonymous */
        kubeconfig_take_user(load, &user, &cluster, config);
    if (has_cluster && load->rc == 0)
        take_server(load, &cluster, config);
    if (load->rc == 0 && strncmp(config->server, "http://", 7) == 0)
        kubeconfig_drop_credentials(config);
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
    struct kubeconfig_load_state load = {.error = error};
    struct kubeconfig *config = kt_calloc(1, sizeof *config);
    *out = NULL;
    load.rc = kubeconfig_files_load(&load.files, choice, error);
    if (config == NULL)
        kubeconfig_no_memory(&load);
    bool is_pod = load.rc == -ENOENT && choice->path == NULL && choice->context == NULL && config != NULL &&
                  kubeconfig_pod_is_possible(choice);
    if (is_pod) {
        load.rc = 0;
        kubeconfig_take_pod(&load, choice, config);
    } else if (load.rc == 0) {
        resolve(&load, choice->context, config);
    }
    if (load.rc == 0)
        kubeconfig_take_impersonation(&load, choice, config);
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
    kt_free(config->name_space);
    kt_free(config->server);
    kt_free(config->tls_server_name);
    kt_free(config->ca.data);
    kt_free_secret(config->proxy_url, config->proxy_url != NULL ? strlen(config->proxy_url) : 0);
    kubeconfig_free_user(config);
    kt_free(config);
}
