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

struct kubeconfig {
    char *context, *cluster, *user;
    char *name_space;      /* of the context, else "default" */
    char *server;          /* "https://host:port/prefix", no '/' at the end */
    char *tls_server_name; /* NULL: the host of `server` */
    bool insecure;         /* insecure-skip-tls-verify */
    struct kubeconfig_blob ca, certificate, key;
    char *token; /* NULL: none. From `token`, or read from `tokenFile` */
};

struct kubeconfig_choice {
    const char *path;    /* --kubeconfig: must exist. NULL: not given */
    const char *list;    /* KUBECONFIG, parts separated by ':'; NULL or empty: not set */
    const char *home;    /* for ~/.kube/config; NULL: none */
    const char *context; /* --context; NULL: current-context */
};

/* 0, -ENOENT (no file, no such context; the text names those that exist), -EINVAL (broken: file and line), -ENOTSUP (an
 * authentication that is refused: which one, and what to do), -ENOMEM. On error *out is NULL and `error` is filled. */
KT_MUST_USE int kubeconfig_load(struct kubeconfig **out, const struct kubeconfig_choice *choice, struct error *error);
void kubeconfig_free(struct kubeconfig *config); /* NULL is fine */

#endif
