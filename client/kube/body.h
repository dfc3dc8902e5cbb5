/* An answer's body as it comes: bounded, a NUL behind it, and readable line by line. */
#ifndef KTVPN_CLIENT_KUBE_BODY_H
#define KTVPN_CLIENT_KUBE_BODY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/compiler.h"

/* Zero-initialise. */
struct body {
    char *data; /* NULL: nothing came yet */
    size_t size, capacity;
    size_t taken, scanned; /* lines before `taken` were given; there is no newline before `scanned` */
};

/* False: it would be longer than `max`, or there is no memory. */
KT_MUST_USE bool body_append(struct body *body, const void *data, size_t size, size_t max);
/* The next complete line, without its newline; valid until the next append or tidy. is_whole: nothing more comes, and
 * the last line needs no newline. */
KT_MUST_USE bool body_next_line(struct body *body, bool is_whole, const char **line, size_t *size);
/* Bytes came since body_next_line() looked last. */
bool body_has_news(const struct body *body);
/* Forgets the lines that were given. */
void body_tidy(struct body *body);
void body_deinit(struct body *body); /* it is empty then, and of use again */

#endif
