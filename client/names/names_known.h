/* A set of DNS labels: the names of Services or namespaces that the watches tell. */
#ifndef KTVPN_CLIENT_NAMES_KNOWN_H
#define KTVPN_CLIENT_NAMES_KNOWN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/compiler.h"

#define NAMES_LABEL_MAX 63

struct names_known {
    char **name; /* sorted */
    size_t count, capacity;
};

/* All zero is an empty set. */
void names_known_deinit(struct names_known *known);
/* 0 (also when it is there already), -EINVAL (no DNS label: RFC 1123), -E2BIG (`max` are there), -ENOMEM. */
KT_MUST_USE int names_known_add(struct names_known *known, const char *name, size_t max);
void names_known_remove(struct names_known *known, const char *name);
/* `name` has `size` bytes. */
bool names_known_has(const struct names_known *known, const char *name, size_t size);

#endif
