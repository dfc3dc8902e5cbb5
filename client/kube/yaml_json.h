/* A YAML tree as JSON text, as sigs.k8s.io/yaml makes it: plain words become null, true, false or a number. */
#ifndef KTVPN_CLIENT_KUBE_YAML_JSON_H
#define KTVPN_CLIENT_KUBE_YAML_JSON_H

#include "client/kube/yaml_tree.h"

/* Freed with kt_free(). NULL: no memory. */
KT_MUST_USE char *yaml_json_print(const struct yaml_node *node);

#endif
