/* CIDR ranges and sets of them: what goes into the tunnel, and what must stay outside.
 *
 * A set is kept sorted and minimal: no range of it holds or touches another one that could be merged with it.
 * Subtracting an address splits the range around it, so a set can grow by up to 32 (IPv4) or 128 (IPv6) entries. */
#ifndef KTVPN_COMMON_CIDR_H
#define KTVPN_COMMON_CIDR_H

#include "common/address.h"

#define CIDR_STRLEN 64
#define CIDR_SET_MAX 1024 /* ranges in one set: 64 Services' /32 split around a few holes are far below it */

struct cidr {
    struct address address; /* host bits are zero */
    uint8_t prefix;         /* 0..32 or 0..128 */
};

struct cidr_set {
    struct cidr range[CIDR_SET_MAX];
    size_t count;
};

/* "10.0.0.0/8", or an address alone, which is a /32 or /128. Host bits that are set, prefixes out of range and
 * leading or trailing bytes are -EINVAL. */
KT_MUST_USE int cidr_parse(struct cidr *out, const char *text);
const char *cidr_print(const struct cidr *cidr, char out[static CIDR_STRLEN]);

/* The /32 or /128 of one address; the range of `prefix` bits that holds it. */
struct cidr cidr_of_address(const struct address *address);
struct cidr cidr_around(const struct address *address, uint8_t prefix);

bool cidr_contains(const struct cidr *cidr, const struct address *address);
bool cidr_overlaps(const struct cidr *a, const struct cidr *b);

void cidr_set_init(struct cidr_set *set);

/* Both: 0, or -E2BIG when the result would need more than CIDR_SET_MAX ranges (the set is then as before). */
KT_MUST_USE int cidr_set_add(struct cidr_set *set, const struct cidr *cidr);
KT_MUST_USE int cidr_set_subtract(struct cidr_set *set, const struct cidr *cidr);

bool cidr_set_contains(const struct cidr_set *set, const struct address *address);

/* The first range of the set that overlaps `cidr`; NULL if none does. */
const struct cidr *cidr_set_overlap(const struct cidr_set *set, const struct cidr *cidr);

#endif
