/* The user of a kubeconfig: how it logs in, and as whom it acts. Used by kubeconfig.c only. */
#ifndef KTVPN_CLIENT_KUBE_KUBECONFIG_USER_H
#define KTVPN_CLIENT_KUBE_KUBECONFIG_USER_H

#include "client/kube/kubeconfig_fields.h"

/* Fills token, certificate, key, exec and as; what is wrong is in `load`. `cluster` has the plugin's extension. */
void kubeconfig_take_user(struct kubeconfig_load_state *load, const struct kubeconfig_entry *user,
                          const struct kubeconfig_entry *cluster, struct kubeconfig *config);
/* --as and its companions come over the kubeconfig's; then checks that the whole can be sent. */
void kubeconfig_take_impersonation(struct kubeconfig_load_state *load, const struct kubeconfig_choice *choice,
                                   struct kubeconfig *config);
/* By plain HTTP nothing of a user is sent but whom to impersonate, as kubectl does it. */
void kubeconfig_drop_credentials(struct kubeconfig *config);
void kubeconfig_free_user(struct kubeconfig *config);

#endif
