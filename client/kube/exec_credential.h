/* What ktvpn and a credential plugin say to each other: the ExecCredential of KUBERNETES_EXEC_INFO and that of the
 * plugin's standard output (k8s.io/client-go/pkg/apis/clientauthentication/v1 and v1beta1). Text in, text out. */
#ifndef KTVPN_CLIENT_KUBE_EXEC_CREDENTIAL_H
#define KTVPN_CLIENT_KUBE_EXEC_CREDENTIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/kube/kubeconfig.h"

#define EXEC_CREDENTIAL_MAX (1024 * 1024) /* bytes of a plugin's answer */

struct exec_credential {
    char *token;                             /* NULL: none */
    struct kubeconfig_blob certificate, key; /* PEM; both or none */
    bool expires;
    int64_t expires_s; /* since 1970, when `expires` */
};

/* Takes an answer apart. 0, -ENOMEM, or -EBADMSG and *why (a text for "the credential plugin ..."). */
KT_MUST_USE int exec_credential_parse(struct exec_credential *out, const char *text, size_t size,
                                      const char *api_version, const char **why);
void exec_credential_deinit(struct exec_credential *credential); /* wipes; a zeroed one is fine */

/* The value of KUBERNETES_EXEC_INFO; freed with kt_free(). NULL: no memory. */
KT_MUST_USE char *exec_credential_info(const struct kubeconfig *config, bool is_interactive);

/* RFC 3339 as Go reads it. 0 or -EBADMSG. */
KT_MUST_USE int exec_credential_time(int64_t *out_s, const char *text);

#endif
