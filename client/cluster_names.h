/* The names that are short in a pod of the namespace: its Services, and the namespaces, told as they come and go.
 *
 * Belongs to a cluster. Who may not list them has the long names only. */
#ifndef KTVPN_CLIENT_CLUSTER_NAMES_H
#define KTVPN_CLIENT_CLUSTER_NAMES_H

#include "client/kube/watch.h"
#include "client/names.h"

struct cluster_names_options {
    /* A Service, or a namespace, that is there (or not any more). */
    void (*on_name)(void *context, enum names_kind kind, const char *name, bool is_there);
    /* The Services that there are have been told, or cannot be had: once. */
    void (*on_known)(void *context);
    void *context;
    bool sees_namespaces; /* the user may list them */
};

struct cluster_names {
    struct cluster_names_options options;
    struct watch *services, *namespaces;
    bool are_known;
};

/* Zero-initialise before. 0, or -ENOMEM: no callback comes. */
KT_MUST_USE int cluster_names_open(struct cluster_names *names, struct api *api, const char *name_space,
                                   const struct cluster_names_options *options);
/* Also fine when it was never opened. */
void cluster_names_close(struct cluster_names *names);

#endif
