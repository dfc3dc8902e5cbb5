/* A kubeconfig, merged and resolved to the one context that is used, as kubectl does it
 * (k8s.io/client-go/tools/clientcmd: loader.go, client_config.go).
 *
 * Holds secrets: kubeconfig_free() wipes them. Reads files, never the network. Logs nothing but a warning when the
 * server is not to be verified. */
#ifndef KTVPN_CLIENT_KUBE_KUBECONFIG_H
#define KTVPN_CLIENT_KUBE_KUBECONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/error.h"

#define KUBECONFIG_FILE_MAX (1024 * 1024) /* bytes of one file */
#define KUBECONFIG_ENTRIES_MAX 2048       /* clusters, users or contexts of one file */
#define KUBECONFIG_FILES_MAX 64           /* in KUBECONFIG */

struct kubeconfig_blob {
    uint8_t *data; /* PEM; a NUL follows that `size` does not count */
    size_t size;   /* 0: none */
};

struct kubeconfig_texts {
    char **text;
    size_t count;
};

enum kubeconfig_exec_mode { KUBECONFIG_EXEC_NEVER, KUBECONFIG_EXEC_IF_AVAILABLE, KUBECONFIG_EXEC_ALWAYS };

/* A credential plugin. */
struct kubeconfig_exec {
    char *command; /* a path, or without '/': to be found by PATH */
    char *api_version;
    struct kubeconfig_texts arguments, env; /* env: "NAME=value" */
    enum kubeconfig_exec_mode mode;
    bool wants_cluster;   /* provideClusterInfo */
    char *install_hint;   /* NULL: none */
    char *cluster_config; /* JSON: the cluster's extension for plugins; NULL: none */
};

struct kubeconfig_extra {
    char *key;
    struct kubeconfig_texts values;
};

struct kubeconfig_impersonation {
    char *user; /* NULL: nobody is impersonated */
    char *uid;  /* NULL: none */
    struct kubeconfig_texts groups;
    struct kubeconfig_extra *extras;
    size_t extras_count;
};

struct kubeconfig {
    char *context, *cluster, *user;
    char *name_space;      /* of the context, else "default" */
    char *server;          /* "https://host:port/prefix", no '/' at the end */
    char *tls_server_name; /* NULL: the host of `server` */
    bool insecure;         /* insecure-skip-tls-verify */
    struct kubeconfig_blob ca, certificate, key;
    char *token;                  /* NULL: none. From `tokenFile`, else `token` */
    char *token_file;             /* NULL: none. To be read again */
    struct kubeconfig_exec *exec; /* NULL: none, or a token comes first */
    struct kubeconfig_impersonation as;
    char *proxy_url; /* NULL: the environment decides */
};

struct kubeconfig_choice {
    const char *path;    /* --kubeconfig: must exist. NULL: not given */
    const char *list;    /* KUBECONFIG, parts separated by ':'; NULL or empty: not set */
    const char *home;    /* for ~/.kube/config; NULL: none */
    const char *context; /* --context; NULL: current-context */
    /* --as, --as-uid, --as-group: each replaces the kubeconfig's own */
    const char *as, *as_uid;
    const char *const *as_groups;
    size_t as_groups_count;
    /* A pod's, when there is no kubeconfig at all: KUBERNETES_SERVICE_HOST and _PORT, and the folder of its service
     * account. NULL: none. */
    const char *pod_host, *pod_port, *pod_account;
};

/* 0, -ENOENT (no file, no such context; the text names those that exist), -EINVAL (broken: file and line), -ENOTSUP (an
 * authentication that is refused: which one, and what to do), -ENOMEM. On error *out is NULL and `error` is filled. */
KT_MUST_USE int kubeconfig_load(struct kubeconfig **out, const struct kubeconfig_choice *choice, struct error *error);
void kubeconfig_free(struct kubeconfig *config); /* NULL is fine */

#endif
