/* As k8s.io/client-go does it: a token's file comes before a token, a token before a plugin, a kubeconfig's certificate
 * before a plugin's. */
#include "client/kube/kubeconfig_user.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "client/kube/header.h"
#include "client/kube/yaml_json.h"
#include "common/mem.h"

#define CLUSTER_EXTENSION "client.authentication.k8s.io/exec"

static void set_problem(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                        const struct kubeconfig *config, const char *text)
{
    if (load->rc == 0)
        load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -EINVAL, "user %s of kubeconfig %s %s", config->user,
                             entry->file->path, text);
}

static void refuse(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry, const char *key,
                   const char *what)
{
    const struct yaml_node *node = yaml_tree_get(entry->map, key);
    if (node == NULL || (node->kind == YAML_TEXT && node->size == 0) ||
        (node->kind != YAML_TEXT && node->child == NULL) || load->rc != 0)
        return;
    load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -ENOTSUP,
                         "kubeconfig %s, line %zu: %s (%s) is not supported; use a user with a client certificate, a "
                         "token (kubectl create token) or a credential plugin (exec)",
                         entry->file->path, node->line, what, key);
}

/* ---- token ---- */

static void read_token_file(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry, const char *plain,
                            struct kubeconfig *config)
{
    int rc = kubeconfig_read_token(&config->token, config->token_file);
    if (rc == -ENOMEM) {
        kubeconfig_no_memory(load);
    } else if (rc != 0 && plain != NULL) {
        config->token = kubeconfig_copy(load, plain);
    } else if (rc != 0 && load->rc == 0) {
        load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, rc == -ENOENT ? rc : -EINVAL,
                             "cannot read tokenFile %s, which kubeconfig %s names: %s", config->token_file,
                             entry->file->path, strerror(-rc));
    }
}

static void take_token(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                       struct kubeconfig *config)
{
    const char *plain = kubeconfig_text(load, entry, "token"), *file = kubeconfig_text(load, entry, "tokenFile");
    if (file != NULL)
        config->token_file = kubeconfig_path(load, entry, file);
    if (config->token_file != NULL)
        read_token_file(load, entry, plain, config);
    else
        config->token = kubeconfig_copy(load, plain);
    if (config->token != NULL && !header_is_token(config->token) && load->rc == 0)
        load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -EINVAL,
                             "the token of user %s of kubeconfig %s is empty or has bytes that no token has",
                             config->user, entry->file->path);
}

/* ---- a plugin ---- */

/* "NAME=value" of a list of {name, value}. */
static void take_variables(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                           struct kubeconfig_texts *out)
{
    const struct yaml_node *list = yaml_tree_get(entry->map, "env");
    size_t count = 0;
    if (list == NULL)
        return;
    for (const struct yaml_node *at = list->child; at != NULL; at = at->next)
        count++;
    out->text = kt_calloc(count + 1, sizeof *out->text);
    if (out->text == NULL) {
        kubeconfig_no_memory(load);
        return;
    }
    for (const struct yaml_node *at = list->child; at != NULL && load->rc == 0; at = at->next) {
        struct kubeconfig_entry variable = {.file = entry->file, .map = at};
        const char *name = kubeconfig_text(load, &variable, "name"), *value = kubeconfig_text(load, &variable, "value");
        if (list->kind != YAML_LIST || name == NULL || strchr(name, '=') != NULL) {
            kubeconfig_bad_field(load, entry, at->line, "env must be a list of variables, each with a name");
            return;
        }
        char *text = kt_asprintf("%s=%s", name, value != NULL ? value : "");
        if (text == NULL)
            kubeconfig_no_memory(load);
        else
            out->text[out->count++] = text;
    }
}

static void take_mode(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                      struct kubeconfig *config)
{
    static const char *const names[] = {"Never", "IfAvailable", "Always"};
    struct kubeconfig_exec *exec = config->exec;
    const char *text = kubeconfig_text(load, entry, "interactiveMode");
    exec->mode = KUBECONFIG_EXEC_IF_AVAILABLE;
    if (text == NULL && exec->api_version != NULL && strcmp(exec->api_version, "client.authentication.k8s.io/v1") == 0)
        set_problem(load, entry, config, "needs interactiveMode (Never, IfAvailable or Always) for its plugin");
    for (size_t i = 0; text != NULL && i < KT_ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            exec->mode = (enum kubeconfig_exec_mode)i;
            return;
        }
    }
    if (text != NULL)
        set_problem(load, entry, config, "has an interactiveMode that is none of Never, IfAvailable, Always");
}

static void take_api_version(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                             struct kubeconfig *config)
{
    static const char group[] = "client.authentication.k8s.io/";
    const char *text = kubeconfig_text(load, entry, "apiVersion"), *version = text;
    config->exec->api_version = kubeconfig_copy(load, text);
    if (text != NULL && strncmp(text, group, sizeof group - 1) == 0)
        version = text + sizeof group - 1;
    if (text == NULL || version == text || (strcmp(version, "v1") != 0 && strcmp(version, "v1beta1") != 0))
        set_problem(load, entry, config,
                    "needs an apiVersion for its plugin: client.authentication.k8s.io/v1 or v1beta1");
}

/* The cluster's extension of that name, as JSON. */
static void take_extension(struct kubeconfig_load_state *load, const struct kubeconfig_entry *cluster,
                           struct kubeconfig_exec *exec)
{
    const struct yaml_node *list = yaml_tree_get(cluster->map, "extensions");
    for (const struct yaml_node *at = list != NULL ? list->child : NULL; at != NULL; at = at->next) {
        const struct yaml_node *name = yaml_tree_get(at, "name"), *value = yaml_tree_get(at, "extension");
        if (name == NULL || name->kind != YAML_TEXT || strcmp(name->text, CLUSTER_EXTENSION) != 0 || value == NULL)
            continue;
        exec->cluster_config = yaml_json_print(value);
        if (exec->cluster_config == NULL)
            kubeconfig_no_memory(load);
        return;
    }
}

static void take_exec(struct kubeconfig_load_state *load, const struct kubeconfig_entry *user,
                      const struct kubeconfig_entry *cluster, struct kubeconfig *config)
{
    const struct yaml_node *map = yaml_tree_get(user->map, "exec");
    if (map == NULL)
        return;
    struct kubeconfig_entry entry = {.file = user->file, .map = map};
    struct kubeconfig_exec *exec = config->exec = kt_calloc(1, sizeof *exec);
    if (exec == NULL) {
        kubeconfig_no_memory(load);
        return;
    }
    const char *command = kubeconfig_text(load, &entry, "command");
    if (command == NULL)
        set_problem(load, user, config, "has a plugin (exec) without a command");
    else if (strchr(command, '/') != NULL)
        exec->command = kubeconfig_path(load, user, command);
    else
        exec->command = kubeconfig_copy(load, command);
    take_api_version(load, &entry, config);
    take_mode(load, &entry, config);
    exec->install_hint = kubeconfig_copy(load, kubeconfig_text(load, &entry, "installHint"));
    exec->wants_cluster = kubeconfig_flag(load, &entry, "provideClusterInfo");
    kubeconfig_texts_of(load, &entry, yaml_tree_get(map, "args"), &exec->arguments);
    take_variables(load, &entry, &exec->env);
    if (exec->wants_cluster)
        take_extension(load, cluster, exec);
}

/* ---- as whom ---- */

static void take_extras(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                        struct kubeconfig_impersonation *as)
{
    const struct yaml_node *map = yaml_tree_get(entry->map, "as-user-extra");
    size_t count = 0;
    if (map == NULL)
        return;
    if (map->kind != YAML_MAP) {
        kubeconfig_bad_field(load, entry, map->line, "as-user-extra must be a map of lists");
        return;
    }
    for (const struct yaml_node *at = map->child; at != NULL; at = at->next)
        count++;
    as->extras = kt_calloc(count + 1, sizeof *as->extras);
    if (as->extras == NULL) {
        kubeconfig_no_memory(load);
        return;
    }
    for (const struct yaml_node *at = map->child; at != NULL && load->rc == 0; at = at->next) {
        struct kubeconfig_extra *extra = &as->extras[as->extras_count++];
        extra->key = kubeconfig_copy(load, at->key);
        kubeconfig_texts_of(load, entry, at->is_null ? NULL : at, &extra->values);
    }
}

static void free_texts(struct kubeconfig_texts *texts)
{
    for (size_t i = 0; i < texts->count; i++)
        kt_free(texts->text[i]);
    kt_free(texts->text);
    *texts = (struct kubeconfig_texts){0};
}

static bool all_can_be_sent(const struct kubeconfig_impersonation *as)
{
    bool ok = (as->user == NULL || header_is_value(as->user)) && (as->uid == NULL || header_is_value(as->uid));
    for (size_t i = 0; i < as->groups.count; i++)
        ok = ok && header_is_value(as->groups.text[i]);
    for (size_t i = 0; i < as->extras_count; i++) {
        for (size_t j = 0; j < as->extras[i].values.count; j++)
            ok = ok && header_is_value(as->extras[i].values.text[j]);
    }
    return ok;
}

static void replace(struct kubeconfig_load_state *load, char **text, const char *by)
{
    if (by == NULL || by[0] == '\0')
        return;
    kt_free(*text);
    *text = kubeconfig_copy(load, by);
}

static void replace_groups(struct kubeconfig_load_state *load, const struct kubeconfig_choice *choice,
                           struct kubeconfig_texts *groups)
{
    if (choice->as_groups_count == 0)
        return;
    free_texts(groups);
    groups->text = kt_calloc(choice->as_groups_count, sizeof *groups->text);
    if (groups->text == NULL) {
        kubeconfig_no_memory(load);
        return;
    }
    for (size_t i = 0; i < choice->as_groups_count && load->rc == 0; i++) {
        char *copy = kubeconfig_copy(load, choice->as_groups[i]);
        if (copy != NULL)
            groups->text[groups->count++] = copy;
    }
}

void kubeconfig_take_impersonation(struct kubeconfig_load_state *load, const struct kubeconfig_choice *choice,
                                   struct kubeconfig *config)
{
    struct kubeconfig_impersonation *as = &config->as;
    replace(load, &as->user, choice->as);
    replace(load, &as->uid, choice->as_uid);
    replace_groups(load, choice, &as->groups);
    if (load->rc != 0)
        return;
    if (as->user == NULL && (as->uid != NULL || as->groups.count > 0 || as->extras_count > 0))
        load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -EINVAL,
                             "a uid, groups or extra values are to be impersonated, but no user; give --as, or `as` in "
                             "the kubeconfig");
    else if (!all_can_be_sent(as))
        load->rc = error_set(load->error, EXIT_CODE_KUBECONFIG, -EINVAL,
                             "who is to be impersonated has line breaks or control characters in a name");
}

/* ---- the whole ---- */

static void free_exec(struct kubeconfig_exec *exec)
{
    if (exec == NULL)
        return;
    for (size_t i = 0; i < exec->env.count; i++) /* there may be secrets in it */
        sodium_memzero(exec->env.text[i], strlen(exec->env.text[i]));
    free_texts(&exec->arguments);
    free_texts(&exec->env);
    kt_free(exec->command);
    kt_free(exec->api_version);
    kt_free(exec->install_hint);
    kt_free(exec->cluster_config);
    kt_free(exec);
}

void kubeconfig_take_user(struct kubeconfig_load_state *load, const struct kubeconfig_entry *user,
                          const struct kubeconfig_entry *cluster, struct kubeconfig *config)
{
    refuse(load, user, "auth-provider", "an authentication provider");
    refuse(load, user, "username", "a password");
    refuse(load, user, "password", "a password");
    take_token(load, user, config);
    kubeconfig_blob_of(load, &config->certificate, user, "client-certificate");
    kubeconfig_blob_of(load, &config->key, user, "client-key");
    if ((config->certificate.size > 0) != (config->key.size > 0))
        set_problem(load, user, config, "needs both client-certificate and client-key");
    take_exec(load, user, cluster, config);
    if (config->token != NULL) {
        free_exec(config->exec);
        config->exec = NULL;
    }
    config->as.user = kubeconfig_copy(load, kubeconfig_text(load, user, "as"));
    config->as.uid = kubeconfig_copy(load, kubeconfig_text(load, user, "as-uid"));
    kubeconfig_texts_of(load, user, yaml_tree_get(user->map, "as-groups"), &config->as.groups);
    take_extras(load, user, &config->as);
}

void kubeconfig_drop_credentials(struct kubeconfig *config)
{
    kt_free(config->certificate.data);
    kt_free_secret(config->key.data, config->key.size);
    kt_free_secret(config->token, config->token != NULL ? strlen(config->token) : 0);
    kt_free(config->token_file);
    free_exec(config->exec);
    config->certificate = config->key = (struct kubeconfig_blob){0};
    config->token = config->token_file = NULL;
    config->exec = NULL;
}

void kubeconfig_free_user(struct kubeconfig *config)
{
    struct kubeconfig_impersonation *as = &config->as;
    kt_free(config->user);
    kubeconfig_drop_credentials(config);
    kt_free(as->user);
    kt_free(as->uid);
    free_texts(&as->groups);
    for (size_t i = 0; i < as->extras_count; i++) {
        kt_free(as->extras[i].key);
        free_texts(&as->extras[i].values);
    }
    kt_free(as->extras);
}
