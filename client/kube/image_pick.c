/* From nodes: every node has run a pod, so its runtime has the pause image, which is tiny, public and there for good;
 * but a node reports 50 images at most, the largest first, so it may be missing in the list. Then, as without the right
 * to list nodes, an image of a pod of the namespace: that one may be private, so its pull secrets are taken along.
 *
 * The choice names the nodes that have the image, and the pod is bound to those: nothing is pulled. */
#include "client/kube/image_pick.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/kube/json_path.h"

/* Copies what is made of `allowed` and letters and digits only, and fits. */
static bool copy_name(char *out, size_t size, const char *name, const char *allowed)
{
    size_t length = strnlen(name, size);
    if (length == 0 || length == size)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = name[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_plain && !strchr(allowed, c))
            return false;
    }
    memcpy(out, name, length + 1);
    return true;
}

static bool copy_image(char out[static IMAGE_PICK_NAME_MAX], const char *name)
{
    return copy_name(out, IMAGE_PICK_NAME_MAX, name, "._-/:@"); /* so "<none>@<none>" is none */
}

static bool copy_node(char out[static IMAGE_PICK_NODE_MAX], const char *name)
{
    return copy_name(out, IMAGE_PICK_NODE_MAX, name, ".-");
}

static bool add_node(struct image_pick *pick, const char *name)
{
    for (size_t i = 0; i < pick->nodes; i++) {
        if (strcmp(pick->node[i], name) == 0)
            return true;
    }
    if (pick->nodes == IMAGE_PICK_NODES_MAX || !copy_node(pick->node[pick->nodes], name))
        return false;
    pick->nodes++;
    return true;
}

static bool is_ready(const cJSON *node)
{
    const cJSON *condition;
    cJSON_ArrayForEach(condition, json_path_get(node, "status.conditions"))
    {
        if (strcmp(json_path_text(condition, "type"), "Ready") == 0)
            return strcmp(json_path_text(condition, "status"), "True") == 0;
    }
    return false;
}

/* The keys of labels hold dots, so no path names them. */
static const char *label(const cJSON *node, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json_path_get(node, "metadata.labels"), key);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static bool takes_pods(const cJSON *node, const struct placement *placement)
{
    const char *os = label(node, "kubernetes.io/os");
    return is_ready(node) && placement_fits(placement, node) && !json_path_is_true(node, "spec.unschedulable") &&
           (*os == '\0' || strcmp(os, "linux") == 0);
}

/* "registry.example/pause:3.9", "rancher/mirrored-pause:3.6", "pause-amd64@sha256:..." */
static bool is_pause(const char *name)
{
    const char *slash = strrchr(name, '/');
    const char *last = slash ? slash + 1 : name;
    const char *found = strstr(last, "pause");
    return found && found < last + strcspn(last, ":@");
}

static bool has_image(const cJSON *node, const char *image)
{
    const cJSON *entry, *name;
    cJSON_ArrayForEach(entry, json_path_get(node, "status.images"))
    {
        cJSON_ArrayForEach(name, json_path_get(entry, "names"))
        {
            if (cJSON_IsString(name) && strcmp(name->valuestring, image) == 0)
                return true;
        }
    }
    return false;
}

/* Prefers a tag: a digest may name an image that only this node's runtime knows by it. */
static bool find_pause(char out[static IMAGE_PICK_NAME_MAX], const cJSON *node)
{
    bool found = false;
    const cJSON *entry, *name;
    cJSON_ArrayForEach(entry, json_path_get(node, "status.images"))
    {
        cJSON_ArrayForEach(name, json_path_get(entry, "names"))
        {
            if (!cJSON_IsString(name) || !is_pause(name->valuestring))
                continue;
            bool is_tag = strchr(name->valuestring, '@') == NULL;
            if ((found && !is_tag) || !copy_image(out, name->valuestring))
                continue;
            found = true;
            if (is_tag)
                return true;
        }
    }
    return found;
}

int image_pick_from_nodes(struct image_pick *out, const struct cJSON *list, const struct placement *placement,
                          bool (*is_carried)(const char *arch))
{
    *out = (struct image_pick){0};
    const cJSON *node;
    cJSON_ArrayForEach(node, json_path_get(list, "items"))
    {
        const char *arch = label(node, "kubernetes.io/arch");
        if (!takes_pods(node, placement) || !is_carried(arch))
            continue;
        if (out->nodes > 0) {
            if (strcmp(arch, out->arch) == 0 && has_image(node, out->image))
                (void)add_node(out, json_path_text(node, "metadata.name"));
            continue;
        }
        if (find_pause(out->image, node) && copy_name(out->arch, sizeof out->arch, arch, "._-"))
            (void)add_node(out, json_path_text(node, "metadata.name"));
    }
    return out->nodes > 0 ? 0 : -ENOENT;
}

static const char *image_of(const cJSON *pod, const char *container)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, json_path_get(pod, "spec.containers"))
    {
        if (strcmp(json_path_text(item, "name"), container) == 0)
            return json_path_text(item, "image");
    }
    return "";
}

/* The image of the first container that really runs: others of the pod may still wait for theirs. */
static const char *running_image(const cJSON *pod)
{
    if (json_path_get(pod, "metadata.deletionTimestamp") || strcmp(json_path_text(pod, "spec.os.name"), "windows") == 0)
        return "";
    const cJSON *status;
    cJSON_ArrayForEach(status, json_path_get(pod, "status.containerStatuses"))
    {
        if (json_path_get(status, "state.running"))
            return image_of(pod, json_path_text(status, "name"));
    }
    return "";
}

static void copy_secrets(struct image_pick *out, const cJSON *pod)
{
    const cJSON *secret;
    cJSON_ArrayForEach(secret, json_path_get(pod, "spec.imagePullSecrets"))
    {
        if (out->secrets < IMAGE_PICK_SECRETS_MAX &&
            copy_node(out->secret[out->secrets], json_path_text(secret, "name")))
            out->secrets++;
    }
}

int image_pick_from_pods(struct image_pick *out, const struct cJSON *list, const char *arch)
{
    *out = (struct image_pick){0};
    (void)snprintf(out->arch, sizeof out->arch, "%s", arch);
    const cJSON *pod;
    cJSON_ArrayForEach(pod, json_path_get(list, "items"))
    {
        const char *image = running_image(pod), *node = json_path_text(pod, "spec.nodeName");
        if (out->nodes > 0) {
            if (strcmp(image, out->image) == 0)
                (void)add_node(out, node);
            continue;
        }
        if (copy_image(out->image, image) && add_node(out, node))
            copy_secrets(out, pod);
    }
    return out->nodes > 0 ? 0 : -ENOENT;
}
