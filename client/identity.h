/* Who joins what: the kubeconfig's context, the namespace, the user's name for others to see, and this ktvpn's own
 * name, which it holds. Nothing of it changes later. */
#ifndef KTVPN_CLIENT_IDENTITY_H
#define KTVPN_CLIENT_IDENTITY_H

#include "client/instance.h"
#include "client/kube/kubeconfig.h"
#include "client/options.h"
#include "common/noise.h"

#define IDENTITY_NAMESPACE_MAX 64 /* a label of RFC 1123, and NUL */

struct identity {
    struct kubeconfig *config; /* NULL with --agent */
    char name_space[IDENTITY_NAMESPACE_MAX];
    char owner[WIRE_NAME_MAX + 1]; /* "user@host" */
    struct instance instance;
    struct noise_keypair keys; /* of a key file; wiped by identity_forget_keys() */
    bool has_keys;
};

/* Reads the key file (--key; with --agent tcp:// also the default one, if it is there) and the kubeconfig (KUBECONFIG
 * and HOME of the environment) unless --agent was given, and takes the name. 0, or -errno with `error`;
 * identity_release() is fine after both. */
KT_MUST_USE int identity_find(struct identity *identity, const struct options *options, struct error *error);
/* Wipes the secret key; it is the session's now. */
void identity_forget_keys(struct identity *identity);
/* Once more is fine. */
void identity_release(struct identity *identity);

#endif
