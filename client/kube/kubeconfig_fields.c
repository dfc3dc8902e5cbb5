#include "client/kube/kubeconfig_fields.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"

void kubeconfig_no_memory(struct kubeconfig_load_state *load)
{
    if (load->rc == 0)
        load->rc = error_set(load->error, EXIT_CODE_FAILED, -ENOMEM, "no memory");
}

void kubeconfig_bad_field(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry, size_t line,
                          const char *text)
{
    if (load->rc == 0)
        load->rc = kubeconfig_bad(load->error, entry->file, line, text);
}

/* ---- fields ---- */

/* NULL: not there, null or empty. */
const struct yaml_node *kubeconfig_node(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                                        const char *key)
{
    const struct yaml_node *node = yaml_tree_get(entry->map, key);
    char text[64];
    if (node != NULL && node->kind != YAML_TEXT) {
        (void)snprintf(text, sizeof text, "%s must be a text", key);
        kubeconfig_bad_field(load, entry, node->line, text);
        return NULL;
    }
    return node != NULL && node->size > 0 ? node : NULL;
}

const char *kubeconfig_text(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry, const char *key)
{
    const struct yaml_node *node = kubeconfig_node(load, entry, key);
    return node != NULL ? node->text : NULL;
}

char *kubeconfig_copy(struct kubeconfig_load_state *load, const char *text)
{
    char *copy = text == NULL ? NULL : kt_strdup(text);
    if (text != NULL && copy == NULL)
        kubeconfig_no_memory(load);
    return copy;
}

/* YAML 1.1's words for true and false. */
bool kubeconfig_flag(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry, const char *key)
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
    kubeconfig_bad_field(load, entry, node->line, text);
    return false;
}

char *kubeconfig_path(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry, const char *path)
{
    const char *slash = strrchr(entry->file->path, '/');
    int size = slash != NULL ? (int)(slash - entry->file->path) + 1 : 0;
    char *full = path[0] == '/' ? kt_strdup(path) : kt_asprintf("%.*s%s", size, entry->file->path, path);
    if (full == NULL)
        kubeconfig_no_memory(load);
    return full;
}

static void read_path(struct kubeconfig_load_state *load, struct kubeconfig_blob *out,
                      const struct kubeconfig_entry *entry, const char *key)
{
    const char *name = kubeconfig_text(load, entry, key);
    char *path = name == NULL ? NULL : kubeconfig_path(load, entry, name);
    if (path == NULL)
        return;
    int rc = kubeconfig_read_file(out, path);
    if (rc == -ENOMEM)
        kubeconfig_no_memory(load);
    else if (rc != 0 && load->rc == 0)
        load->rc =
            error_set(load->error, EXIT_CODE_KUBECONFIG, rc == -ENOENT ? rc : -EINVAL,
                      "cannot read %s %s, which kubeconfig %s names: %s", key, path, entry->file->path, strerror(-rc));
    kt_free(path);
}

/* Go's base64.StdEncoding: padded, newlines are skipped. */
static void decode(struct kubeconfig_load_state *load, struct kubeconfig_blob *out,
                   const struct kubeconfig_entry *entry, const struct yaml_node *node)
{
    out->data = kt_calloc(1, node->size + 1);
    if (out->data == NULL) {
        kubeconfig_no_memory(load);
        return;
    }
    const char *end = NULL;
    if (sodium_base642bin(out->data, node->size, node->text, node->size, "\r\n", &out->size, &end,
                          sodium_base64_VARIANT_ORIGINAL) == 0 &&
        end == node->text + node->size)
        return;
    kt_free_secret(out->data, node->size);
    *out = (struct kubeconfig_blob){0};
    kubeconfig_bad_field(load, entry, node->line, "this is no base64");
}

void kubeconfig_blob_of(struct kubeconfig_load_state *load, struct kubeconfig_blob *out,
                        const struct kubeconfig_entry *entry, const char *key)
{
    char data_key[64];
    (void)snprintf(data_key, sizeof data_key, "%s-data", key);
    const struct yaml_node *data = kubeconfig_node(load, entry, data_key);
    if (data != NULL)
        decode(load, out, entry, data);
    else
        read_path(load, out, entry, key);
}

static bool is_text_list(const struct yaml_node *list)
{
    if (list->kind != YAML_LIST)
        return false;
    for (const struct yaml_node *at = list->child; at != NULL; at = at->next) {
        if (at->kind != YAML_TEXT)
            return false;
    }
    return true;
}

void kubeconfig_texts_of(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                         const struct yaml_node *list, struct kubeconfig_texts *out)
{
    size_t count = 0;
    if (list == NULL)
        return;
    if (!is_text_list(list)) {
        kubeconfig_bad_field(load, entry, list->line, "this must be a list of texts");
        return;
    }
    for (const struct yaml_node *at = list->child; at != NULL; at = at->next)
        count++;
    out->text = kt_calloc(count + 1, sizeof *out->text);
    if (out->text == NULL) {
        kubeconfig_no_memory(load);
        return;
    }
    for (const struct yaml_node *at = list->child; at != NULL; at = at->next) {
        char *copy = kubeconfig_copy(load, at->is_null ? "" : at->text);
        if (copy == NULL)
            return;
        out->text[out->count++] = copy;
    }
}
