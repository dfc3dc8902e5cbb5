/* One YAML document as a tree, by libyaml's events, bounded in depth and size. Knows nothing of kubeconfig.
 *
 * An alias becomes a copy of what its anchor names; the copies are bounded, since they are how a small file becomes a
 * large tree. Merge keys (<<) are refused. Later documents of the same file are not read, as kubectl does it. Freeing
 * wipes the texts: there may be secrets. */
#ifndef KTVPN_CLIENT_KUBE_YAML_TREE_H
#define KTVPN_CLIENT_KUBE_YAML_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

#define YAML_TREE_DEPTH_MAX 64
#define YAML_TREE_NODES_MAX 65536
#define YAML_TREE_ANCHORS_MAX 64
#define YAML_TREE_COPIES_MAX (4 * 1024 * 1024) /* bytes of text in the copies that aliases stand for */
#define YAML_TREE_PROBLEM_MAX 128

enum yaml_kind { YAML_TEXT, YAML_MAP, YAML_LIST };

struct yaml_node {
    enum yaml_kind kind;
    bool is_null;  /* a text that is null: nothing, ~ or null without quotes */
    bool is_plain; /* a text without quotes */
    size_t line;   /* from 1 */
    size_t size;   /* of text */
    char *key;     /* of a map's child; else NULL */
    char *text;    /* of YAML_TEXT, without NUL in it */
    struct yaml_node *child, *last, *next;
};

struct yaml_problem {
    size_t line;
    char text[YAML_TREE_PROBLEM_MAX];
};

/* 0 and the root (NULL: the document is empty), -EBADMSG with `problem`, -ENOMEM. */
KT_MUST_USE int yaml_tree_parse(struct yaml_node **out, const uint8_t *data, size_t size, struct yaml_problem *problem);
void yaml_tree_free(struct yaml_node *root); /* NULL is fine */

/* A map's child of that name, the last one if there are several; NULL: none, it is null, or `map` is no map (or NULL).
 */
const struct yaml_node *yaml_tree_get(const struct yaml_node *map, const char *key);

#endif
