/* Asks beforehand whether the user holds the rights that ktvpn needs (SelfSubjectAccessReview), and prints what is
 * missing as rules of a Role. */
#ifndef KTVPN_CLIENT_KUBE_ACCESS_H
#define KTVPN_CLIENT_KUBE_ACCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "client/kube/api.h"

#define ACCESS_NEEDS_MAX 32

struct access_need {
    const char *group;    /* "" is the core group */
    const char *resource; /* "pods/portforward" names a subresource */
    const char *verb;
    bool is_granted; /* the answer */
};

struct access;

/* Asks for all needs of `name_space` at once; `needs` (at most ACCESS_NEEDS_MAX) must live until done(). done() gets
 * NULL when the review itself worked (see is_granted), else the error. NULL: no memory. */
KT_MUST_USE struct access *access_start(struct api *api, const char *name_space, struct access_need *needs,
                                        size_t count, void (*done)(void *context, const struct error *error),
                                        void *context);
void access_cancel(struct access *access);

/* Fills `error` (EXIT_CODE_FORBIDDEN) with verb, resource and namespace of what is missing and the Role rules to add,
 * and returns -EACCES; 0 when nothing is missing. */
KT_MUST_USE int access_missing(const struct access_need *needs, size_t count, const char *name_space,
                               struct error *error);

#endif
