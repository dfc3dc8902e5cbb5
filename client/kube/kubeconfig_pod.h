/* The configuration of a program inside a pod, by its service account (k8s.io/client-go/rest: InClusterConfig). */
#ifndef KTVPN_CLIENT_KUBE_KUBECONFIG_POD_H
#define KTVPN_CLIENT_KUBE_KUBECONFIG_POD_H

#include "client/kube/kubeconfig_fields.h"

/* Are we in a pod that has one? */
bool kubeconfig_pod_is_possible(const struct kubeconfig_choice *choice);
void kubeconfig_take_pod(struct kubeconfig_load_state *load, const struct kubeconfig_choice *choice,
                         struct kubeconfig *config);

#endif
