/* The API server's `Warning:` headers: counted, and each text logged once. */
#ifndef KTVPN_CLIENT_KUBE_WARNINGS_H
#define KTVPN_CLIENT_KUBE_WARNINGS_H

#include <stddef.h>
#include <stdint.h>

#define WARNINGS_TEXTS_MAX 64 /* different ones that are logged */
#define WARNINGS_HASH_SIZE 16

/* Zero-initialise. */
struct warnings {
    unsigned count;
    size_t texts;
    uint8_t hash[WARNINGS_TEXTS_MAX][WARNINGS_HASH_SIZE];
};

/* Looks at one header line of an answer, of whatever name. */
void warnings_take_header(struct warnings *warnings, const char *line, size_t size);

#endif
