/* Which image can run the agent when there is none of ours: any that a node already has. The agent is a static binary
 * from a ConfigMap, so the image gives it nothing but a root folder.
 *
 * Pure: from lists of the API to a choice. The lists are not trusted: what does not look like an image or a node is
 * left out. */
#ifndef KTVPN_CLIENT_KUBE_IMAGE_PICK_H
#define KTVPN_CLIENT_KUBE_IMAGE_PICK_H

#include <stdbool.h>
#include <stddef.h>

#include "client/kube/placement.h"

#define IMAGE_PICK_NAME_MAX 512 /* an image's name, with NUL */
#define IMAGE_PICK_NODE_MAX 254
#define IMAGE_PICK_ARCH_MAX 32
#define IMAGE_PICK_NODES_MAX 8   /* that are known to have the image */
#define IMAGE_PICK_SECRETS_MAX 4 /* to pull it with; the kubelet asks for them even when the image is there */

struct cJSON;

struct image_pick {
    char image[IMAGE_PICK_NAME_MAX];
    char arch[IMAGE_PICK_ARCH_MAX]; /* as in the node's label kubernetes.io/arch */
    char node[IMAGE_PICK_NODES_MAX][IMAGE_PICK_NODE_MAX];
    size_t nodes;
    char secret[IMAGE_PICK_SECRETS_MAX][IMAGE_PICK_NODE_MAX];
    size_t secrets;
};

/* The pause image of a Ready node that takes new pods, ours as placed, from a NodeList. `is_carried` says whether the
 * client has an agent for that architecture. -ENOENT when there is none. */
KT_MUST_USE int image_pick_from_nodes(struct image_pick *out, const struct cJSON *list,
                                      const struct placement *placement, bool (*is_carried)(const char *arch));

/* The image of a running container, from a PodList: for users who may not list nodes. Nobody tells the node's
 * architecture, so it has to be `arch`. -ENOENT when nothing runs. */
KT_MUST_USE int image_pick_from_pods(struct image_pick *out, const struct cJSON *list, const char *arch);

#endif
