#include "client/kube/json_path.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>

#define PART_MAX 64 /* of our own paths */

static cJSON *child(const cJSON *parent, const char *part)
{
    if (!cJSON_IsArray(parent))
        return cJSON_GetObjectItemCaseSensitive(parent, part);
    if (!*part)
        return NULL;
    int index = 0;
    for (const char *digit = part; *digit; digit++) {
        if (*digit < '0' || *digit > '9' || index > INT_MAX / 10 - 1)
            return NULL;
        index = 10 * index + (*digit - '0');
    }
    return cJSON_GetArrayItem(parent, index);
}

struct cJSON *json_path_get(const struct cJSON *root, const char *path)
{
    char part[PART_MAX];
    cJSON *at = (cJSON *)root;
    while (at && *path) {
        size_t size = strcspn(path, ".");
        if (size >= sizeof part)
            return NULL;
        memcpy(part, path, size);
        part[size] = '\0';
        at = child(at, part);
        path += size + (path[size] == '.');
    }
    return at;
}

const char *json_path_text(const struct cJSON *root, const char *path)
{
    const cJSON *item = json_path_get(root, path);
    return cJSON_IsString(item) ? item->valuestring : "";
}

int json_path_int(const struct cJSON *root, const char *path, int otherwise)
{
    const cJSON *item = json_path_get(root, path);
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= INT_MIN && item->valuedouble <= INT_MAX))
        return otherwise;
    return (int)item->valuedouble;
}

bool json_path_is_true(const struct cJSON *root, const char *path)
{
    return cJSON_IsTrue(json_path_get(root, path));
}
