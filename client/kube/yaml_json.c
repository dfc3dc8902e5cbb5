#include "client/kube/yaml_json.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

static bool is_one_of(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, words[i]) == 0)
            return true;
    }
    return false;
}

/* A decimal number that JSON can write as it stands. */
static bool is_number(const char *text)
{
    const char *at = text + (*text == '-');
    size_t whole = strspn(at, "0123456789");
    if (whole == 0 || (whole > 1 && at[0] == '0'))
        return false;
    at += whole;
    if (*at == '.') {
        size_t part = strspn(at + 1, "0123456789");
        if (part == 0)
            return false;
        at += 1 + part;
    }
    return *at == '\0';
}

static cJSON *print_text(const struct yaml_node *node)
{
    static const char *const yes[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"};
    static const char *const no[] = {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"};
    if (node->is_null)
        return cJSON_CreateNull();
    if (node->is_plain && is_one_of(node->text, yes, KT_ARRAY_LEN(yes)))
        return cJSON_CreateTrue();
    if (node->is_plain && is_one_of(node->text, no, KT_ARRAY_LEN(no)))
        return cJSON_CreateFalse();
    if (node->is_plain && is_number(node->text))
        return cJSON_CreateRaw(node->text);
    return cJSON_CreateString(node->text);
}

/* Recursion ends at YAML_TREE_DEPTH_MAX. NOLINTNEXTLINE(misc-no-recursion) */
static cJSON *print(const struct yaml_node *node)
{
    if (node->kind == YAML_TEXT)
        return print_text(node);
    cJSON *json = node->kind == YAML_MAP ? cJSON_CreateObject() : cJSON_CreateArray();
    for (const struct yaml_node *at = node->child; json != NULL && at != NULL; at = at->next) {
        cJSON *item = print(at);
        if (node->kind == YAML_MAP)
            cJSON_DeleteItemFromObjectCaseSensitive(json, at->key); /* the last one wins */
        bool ok = item != NULL && (node->kind == YAML_MAP ? cJSON_AddItemToObject(json, at->key, item)
                                                          : cJSON_AddItemToArray(json, item));
        if (!ok) {
            cJSON_Delete(item);
            cJSON_Delete(json);
            return NULL;
        }
    }
    return json;
}

char *yaml_json_print(const struct yaml_node *node)
{
    cJSON *json = print(node);
    char *text = json == NULL ? NULL : cJSON_PrintUnformatted(json), *copy = text == NULL ? NULL : kt_strdup(text);
    cJSON_free(text);
    cJSON_Delete(json);
    return copy;
}
