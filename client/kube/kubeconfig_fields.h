/* The fields of one entry of a kubeconfig, read one after the other: `struct kubeconfig_load_state` carries the first
 * problem, which is asked about once. Used by kubeconfig*.c only. */
#ifndef KTVPN_CLIENT_KUBE_KUBECONFIG_FIELDS_H
#define KTVPN_CLIENT_KUBE_KUBECONFIG_FIELDS_H

#include "client/kube/kubeconfig_files.h"

struct kubeconfig_load_state {
    struct kubeconfig_files files;
    struct error *error;
    int rc;
};

/* A cluster, user or context and the file that has it. */
struct kubeconfig_entry {
    const struct kubeconfig_file *file;
    const struct yaml_node *map; /* NULL: it is empty */
};

/* They set the problem, if there is none yet. */
void kubeconfig_no_memory(struct kubeconfig_load_state *load);
void kubeconfig_bad_field(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry, size_t line,
                          const char *text);

/* NULL: not there, null or empty. */
const struct yaml_node *kubeconfig_node(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                                        const char *key);
const char *kubeconfig_text(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry, const char *key);
/* NULL of NULL. */
char *kubeconfig_copy(struct kubeconfig_load_state *load, const char *text);
bool kubeconfig_flag(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry, const char *key);
/* A list of texts; empty when it is not there. */
void kubeconfig_texts_of(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry,
                         const struct yaml_node *list, struct kubeconfig_texts *out);
/* A path that begins at the entry's file. */
char *kubeconfig_path(struct kubeconfig_load_state *load, const struct kubeconfig_entry *entry, const char *path);
/* KEY-data, or the file that KEY names. */
void kubeconfig_blob_of(struct kubeconfig_load_state *load, struct kubeconfig_blob *out,
                        const struct kubeconfig_entry *entry, const char *key);

#endif
