#include "client/kube/placement.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/kube/json_path.h"

#define POD "spec.template.spec"
#define LOWER "abcdefghijklmnopqrstuvwxyz0123456789"
#define ALPHANUMERIC LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define NAME_MAX_ 63
#define SUBDOMAIN_MAX 253

static const char too_many[] = "there are too many of them";
static const char no_pair[] = "it has to be KEY=VALUE";
static const char bad_key[] =
    "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName', or 'my.name', or '123-abc') with an optional DNS subdomain prefix and '/' "
    "(e.g. 'example.com/MyName')";
static const char bad_value[] =
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')";
static const char bad_subdomain[] =
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com')";
static const char bad_quantity[] =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
static const char bad_effect[] = "unsupported taint effect: it has to be NoSchedule, PreferNoSchedule or NoExecute";
static const char ours[] = "this key is ktvpn's own";

/* A part of a text. */
struct part {
    const char *text;
    size_t size;
};

static struct part part_of(const char *text, size_t size)
{
    return (struct part){text, size};
}

/* What is before `mark`; *rest gets what is behind it, or NULL text when there is none. */
static struct part cut(struct part from, char mark, struct part *rest)
{
    const char *at = memchr(from.text, mark, from.size);
    *rest = at ? part_of(at + 1, (size_t)(from.text + from.size - at) - 1) : part_of(NULL, 0);
    return at ? part_of(from.text, (size_t)(at - from.text)) : from;
}

static bool consists_of(struct part part, const char *set)
{
    for (size_t i = 0; i < part.size; i++) {
        if (!strchr(set, part.text[i]))
            return false;
    }
    return true;
}

static bool is_name(struct part part, size_t max, const char *ends, const char *inner)
{
    return part.size > 0 && part.size <= max && consists_of(part, inner) && strchr(ends, part.text[0]) &&
           strchr(ends, part.text[part.size - 1]);
}

static bool is_subdomain(struct part part)
{
    return is_name(part, SUBDOMAIN_MAX, LOWER, LOWER "-.") && !memmem(part.text, part.size, "..", 2);
}

static bool is_qualified(struct part key)
{
    struct part name, prefix = cut(key, '/', &name);
    if (!name.text)
        return is_name(key, NAME_MAX_, ALPHANUMERIC, ALPHANUMERIC "-_.");
    return is_subdomain(prefix) && is_name(name, NAME_MAX_, ALPHANUMERIC, ALPHANUMERIC "-_.");
}

static bool is_label_value(struct part value)
{
    return value.size == 0 || is_name(value, NAME_MAX_, ALPHANUMERIC, ALPHANUMERIC "-_.");
}

static bool is_quantity(struct part value)
{
    size_t at = value.size > 0 && strchr("+-", value.text[0]) ? 1 : 0, digits = at;
    while (at < value.size && strchr("0123456789.", value.text[at]))
        at++;
    if (at == digits)
        return false;
    while (at < value.size && strchr("eEinumkKMGTP", value.text[at]))
        at++;
    at += at < value.size && strchr("-+", value.text[at]);
    return consists_of(part_of(value.text + at, value.size - at), "0123456789");
}

static bool is_effect(struct part effect)
{
    static const char *const known[] = {"NoSchedule", "PreferNoSchedule", "NoExecute"};
    for (size_t i = 0; i < KT_ARRAY_LEN(known); i++) {
        if (strlen(known[i]) == effect.size && strncmp(known[i], effect.text, effect.size) == 0)
            return true;
    }
    return false;
}

/* What finds the pod, and keeps meshes off it. */
static bool is_ours(struct part key)
{
    static const char *const keys[] = {"app.kubernetes.io/name", "app.kubernetes.io/managed-by",
                                       "app.kubernetes.io/instance", "app.kubernetes.io/component"};
    for (size_t i = 0; i < KT_ARRAY_LEN(keys); i++) {
        if (strlen(keys[i]) == key.size && strncmp(keys[i], key.text, key.size) == 0)
            return true;
    }
    return false;
}

static const char *check_pair(enum placement_kind kind, struct part text)
{
    struct part value, key = cut(text, '=', &value);
    if (!value.text)
        return no_pair;
    if (!is_qualified(key))
        return bad_key;
    if (kind != PLACEMENT_ANNOTATION && !is_label_value(value))
        return bad_value;
    return kind == PLACEMENT_LABEL && is_ours(key) ? ours : NULL;
}

static const char *check_resources(struct part text)
{
    struct part rest = text;
    while (rest.text) {
        struct part value, item = cut(rest, ',', &rest), key = cut(item, '=', &value);
        if (!value.text)
            return no_pair;
        if (!is_qualified(key))
            return bad_key;
        if (!is_quantity(value))
            return bad_quantity;
    }
    return NULL;
}

static const char *check_toleration(struct part text)
{
    struct part effect, value, pair = cut(text, ':', &effect), key = cut(pair, '=', &value);
    if (effect.text && !is_effect(effect))
        return bad_effect;
    if (!is_qualified(key))
        return bad_key;
    return value.text && !is_label_value(value) ? bad_value : NULL;
}

static const char *check(enum placement_kind kind, struct part text)
{
    switch (kind) {
    case PLACEMENT_NODE_SELECTOR:
    case PLACEMENT_LABEL:
    case PLACEMENT_ANNOTATION:
        return check_pair(kind, text);
    case PLACEMENT_TOLERATION:
        return check_toleration(text);
    case PLACEMENT_PULL_SECRET:
        return is_subdomain(text) ? NULL : bad_subdomain;
    case PLACEMENT_REQUESTS:
    case PLACEMENT_LIMITS:
        return check_resources(text);
    case PLACEMENT_KINDS:
        break;
    }
    return no_pair;
}

const char *placement_add(struct placement *placement, enum placement_kind kind, const char *text)
{
    size_t size = strlen(text);
    if (placement->count[kind] == PLACEMENT_MAX || size >= PLACEMENT_TEXT_MAX)
        return too_many;
    const char *why = check(kind, part_of(text, size));
    if (!why)
        placement->text[kind][placement->count[kind]++] = text;
    return why;
}

/* ---- into the Job */

/* Replaces what is there. */
static bool put(cJSON *object, struct part key, struct part value)
{
    char name[PLACEMENT_TEXT_MAX], text[PLACEMENT_TEXT_MAX];
    (void)snprintf(name, sizeof name, "%.*s", (int)key.size, key.text);
    (void)snprintf(text, sizeof text, "%.*s", (int)value.size, value.text);
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    return cJSON_AddStringToObject(object, name, text) != NULL;
}

static bool put_pairs(cJSON *object, const char *text)
{
    struct part rest = part_of(text, strlen(text));
    bool done = object != NULL;
    while (done && rest.text) {
        struct part value, item = cut(rest, ',', &rest), key = cut(item, '=', &value);
        done = put(object, key, value);
    }
    return done;
}

static bool put_one(cJSON *object, const char *text)
{
    struct part value, key = cut(part_of(text, strlen(text)), '=', &value);
    return object != NULL && put(object, key, value);
}

static cJSON *array_at(cJSON *parent, const char *key)
{
    cJSON *array = cJSON_GetObjectItemCaseSensitive(parent, key);
    return array ? array : cJSON_AddArrayToObject(parent, key);
}

/* An empty object at the array's end. */
static cJSON *append(cJSON *array)
{
    cJSON *item = cJSON_CreateObject();
    if (cJSON_AddItemToArray(array, item))
        return item;
    cJSON_Delete(item);
    return NULL;
}

static bool add_toleration(cJSON *pod, const char *text)
{
    struct part effect, value, pair = cut(part_of(text, strlen(text)), ':', &effect), key = cut(pair, '=', &value);
    cJSON *item = append(array_at(pod, "tolerations"));
    return item && put(item, part_of("key", 3), key) &&
           cJSON_AddStringToObject(item, "operator", value.text ? "Equal" : "Exists") &&
           (!value.text || put(item, part_of("value", 5), value)) &&
           (!effect.text || put(item, part_of("effect", 6), effect));
}

static bool add_secret(cJSON *pod, const char *text)
{
    cJSON *item = append(array_at(pod, "imagePullSecrets"));
    return item && cJSON_AddStringToObject(item, "name", text);
}

static bool apply_one(enum placement_kind kind, const char *text, cJSON *job)
{
    cJSON *pod = json_path_get(job, POD);
    switch (kind) {
    case PLACEMENT_NODE_SELECTOR:
        return put_one(json_path_get(pod, "nodeSelector"), text);
    case PLACEMENT_TOLERATION:
        return add_toleration(pod, text);
    case PLACEMENT_PULL_SECRET:
        return add_secret(pod, text);
    case PLACEMENT_REQUESTS:
        return put_pairs(json_path_get(pod, "containers.0.resources.requests"), text);
    case PLACEMENT_LIMITS:
        return put_pairs(json_path_get(pod, "containers.0.resources.limits"), text);
    case PLACEMENT_LABEL:
        return put_one(json_path_get(job, "metadata.labels"), text) &&
               put_one(json_path_get(job, "spec.template.metadata.labels"), text);
    case PLACEMENT_ANNOTATION:
        return put_one(json_path_get(job, "metadata.annotations"), text) &&
               put_one(json_path_get(job, "spec.template.metadata.annotations"), text);
    case PLACEMENT_KINDS:
        break;
    }
    return false;
}

int placement_apply(const struct placement *placement, struct cJSON *job)
{
    for (enum placement_kind kind = 0; kind < PLACEMENT_KINDS; kind++) {
        for (size_t i = 0; i < placement->count[kind]; i++) {
            if (!apply_one(kind, placement->text[kind][i], job))
                return -ENOMEM;
        }
    }
    return 0;
}

/* ---- against a node */

static bool is_text(struct part part, const char *text)
{
    return strlen(text) == part.size && strncmp(text, part.text, part.size) == 0;
}

static bool has_label(const cJSON *node, const char *text)
{
    char name[PLACEMENT_TEXT_MAX];
    struct part value, key = cut(part_of(text, strlen(text)), '=', &value);
    (void)snprintf(name, sizeof name, "%.*s", (int)key.size, key.text);
    const cJSON *label = cJSON_GetObjectItemCaseSensitive(json_path_get(node, "metadata.labels"), name);
    return cJSON_IsString(label) && is_text(value, label->valuestring);
}

static bool is_tolerated(const struct placement *placement, const cJSON *taint)
{
    for (size_t i = 0; i < placement->count[PLACEMENT_TOLERATION]; i++) {
        const char *text = placement->text[PLACEMENT_TOLERATION][i];
        struct part effect, value, pair = cut(part_of(text, strlen(text)), ':', &effect), key = cut(pair, '=', &value);
        if (is_text(key, json_path_text(taint, "key")) &&
            (!value.text || is_text(value, json_path_text(taint, "value"))) &&
            (!effect.text || is_text(effect, json_path_text(taint, "effect"))))
            return true;
    }
    return false;
}

bool placement_fits(const struct placement *placement, const struct cJSON *node)
{
    const cJSON *taint;
    cJSON_ArrayForEach(taint, json_path_get(node, "spec.taints"))
    {
        if (strcmp(json_path_text(taint, "effect"), "PreferNoSchedule") != 0 && !is_tolerated(placement, taint))
            return false;
    }
    for (size_t i = 0; i < placement->count[PLACEMENT_NODE_SELECTOR]; i++) {
        if (!has_label(node, placement->text[PLACEMENT_NODE_SELECTOR][i]))
            return false;
    }
    return true;
}
