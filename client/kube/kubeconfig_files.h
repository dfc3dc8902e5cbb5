/* The files that make up a kubeconfig, in order of precedence: found, read, parsed and checked for shape. Used by
 * kubeconfig.c only. */
#ifndef KTVPN_CLIENT_KUBE_KUBECONFIG_FILES_H
#define KTVPN_CLIENT_KUBE_KUBECONFIG_FILES_H

#include "client/kube/kubeconfig.h"
#include "client/kube/yaml_tree.h"

struct kubeconfig_file {
    char *path;
    struct yaml_node *root; /* NULL: empty */
};

struct kubeconfig_files {
    struct kubeconfig_file file[KUBECONFIG_FILES_MAX];
    size_t count;
};

/* 0, or as kubeconfig_load(); deinit in any case. */
KT_MUST_USE int kubeconfig_files_load(struct kubeconfig_files *files, const struct kubeconfig_choice *choice,
                                      struct error *error);
void kubeconfig_files_deinit(struct kubeconfig_files *files);

/* The bytes of a file, at most KUBECONFIG_FILE_MAX, a NUL after them. 0, -ENOMEM, -EFBIG, or what the kernel said. */
KT_MUST_USE int kubeconfig_read_file(struct kubeconfig_blob *out, const char *path);

/* The same as a token: without the blanks around it. A new text; kt_free_secret(). */
KT_MUST_USE int kubeconfig_read_token(char **out, const char *path);

/* "kubeconfig PATH, line N: ..." -EINVAL. */
int kubeconfig_bad(struct error *error, const struct kubeconfig_file *file, size_t line, const char *text);

#endif
