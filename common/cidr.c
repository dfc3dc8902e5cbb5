#include "common/cidr.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t full_prefix(const struct address *address)
{
    return (uint8_t)(8 * address_size(address));
}

static bool bit_is_set(const struct address *address, uint8_t bit)
{
    return address->bytes[bit / 8] >> (7 - bit % 8) & 1;
}

static void flip_bit(struct address *address, uint8_t bit)
{
    address->bytes[bit / 8] ^= (uint8_t)(0x80u >> bit % 8);
}

struct cidr cidr_around(const struct address *address, uint8_t prefix)
{
    struct cidr cidr = {.address = *address, .prefix = prefix};
    for (uint8_t bit = prefix; bit < full_prefix(address); bit++) {
        if (bit_is_set(&cidr.address, bit))
            flip_bit(&cidr.address, bit);
    }
    return cidr;
}

struct cidr cidr_of_address(const struct address *address)
{
    return (struct cidr){.address = *address, .prefix = full_prefix(address)};
}

/* Decimal digits only, at most three. */
static int parse_prefix(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 3 || text[digits] != '\0')
        return -EINVAL;
    return (int)strtol(text, NULL, 10);
}

int cidr_parse(struct cidr *out, const char *text)
{
    const char *slash = strchr(text, '/');
    size_t size = slash != NULL ? (size_t)(slash - text) : strlen(text);
    char head[ADDRESS_STRLEN];
    if (size >= sizeof head)
        return -EINVAL;
    memcpy(head, text, size);
    head[size] = '\0';

    struct address address;
    if (address_parse(&address, head) != 0)
        return -EINVAL;
    int prefix = slash != NULL ? parse_prefix(slash + 1) : full_prefix(&address);
    if (prefix < 0 || prefix > full_prefix(&address))
        return -EINVAL;
    struct cidr cidr = cidr_around(&address, (uint8_t)prefix);
    if (!address_equal(&cidr.address, &address))
        return -EINVAL;
    *out = cidr;
    return 0;
}

const char *cidr_print(const struct cidr *cidr, char out[static CIDR_STRLEN])
{
    char text[ADDRESS_STRLEN];
    (void)snprintf(out, CIDR_STRLEN, "%.48s/%u", address_print(&cidr->address, text), cidr->prefix);
    return out;
}

bool cidr_contains(const struct cidr *cidr, const struct address *address)
{
    if (cidr->address.family != address->family)
        return false;
    struct cidr around = cidr_around(address, cidr->prefix);
    return address_equal(&around.address, &cidr->address);
}

/* Two ranges are apart, or one holds the other. */
static bool holds(const struct cidr *outer, const struct cidr *inner)
{
    return outer->prefix <= inner->prefix && cidr_contains(outer, &inner->address);
}

bool cidr_overlaps(const struct cidr *a, const struct cidr *b)
{
    return holds(a, b) || holds(b, a);
}

void cidr_set_init(struct cidr_set *set)
{
    set->count = 0;
}

static void remove_at(struct cidr_set *set, size_t at)
{
    set->count--;
    memmove(&set->range[at], &set->range[at + 1], (set->count - at) * sizeof set->range[0]);
}

/* Keeps the order; the caller has made sure that there is room. */
static size_t insert(struct cidr_set *set, const struct cidr *cidr)
{
    size_t at = set->count;
    while (at > 0 && address_compare(&set->range[at - 1].address, &cidr->address) > 0)
        at--;
    memmove(&set->range[at + 1], &set->range[at], (set->count - at) * sizeof set->range[0]);
    set->range[at] = *cidr;
    set->count++;
    return at;
}

/* The other half of the range that is twice as large. */
static struct cidr sibling(const struct cidr *cidr)
{
    struct cidr other = *cidr;
    flip_bit(&other.address, (uint8_t)(cidr->prefix - 1));
    return other;
}

static size_t find(const struct cidr_set *set, const struct cidr *cidr)
{
    size_t i = 0;
    while (i < set->count &&
           (set->range[i].prefix != cidr->prefix || !address_equal(&set->range[i].address, &cidr->address)))
        i++;
    return i;
}

/* Two halves become the whole, for as long as there is another half. */
static struct cidr merge_siblings(struct cidr_set *set, struct cidr cidr)
{
    while (cidr.prefix > 0) {
        struct cidr other = sibling(&cidr);
        size_t at = find(set, &other);
        if (at == set->count)
            break;
        remove_at(set, at);
        cidr = cidr_around(&cidr.address, (uint8_t)(cidr.prefix - 1));
    }
    return cidr;
}

int cidr_set_add(struct cidr_set *set, const struct cidr *cidr)
{
    for (size_t i = 0; i < set->count; i++) {
        if (holds(&set->range[i], cidr))
            return 0;
    }
    for (size_t i = set->count; i-- > 0;) {
        if (holds(cidr, &set->range[i]))
            remove_at(set, i);
    }
    struct cidr merged = merge_siblings(set, *cidr);
    if (set->count == CIDR_SET_MAX)
        return -E2BIG;
    insert(set, &merged);
    return 0;
}

/* Replaces the range at `at`, which holds `hole`, by the halves beside it: one for each bit between the two prefixes.
 */
static int split_around(struct cidr_set *set, size_t at, const struct cidr *hole)
{
    struct cidr range = set->range[at];
    if (set->count - 1 + (size_t)(hole->prefix - range.prefix) > CIDR_SET_MAX)
        return -E2BIG;
    remove_at(set, at);
    for (uint8_t prefix = (uint8_t)(range.prefix + 1); prefix <= hole->prefix; prefix++) {
        struct cidr towards = cidr_around(&hole->address, prefix);
        struct cidr beside = sibling(&towards);
        insert(set, &beside);
    }
    return 0;
}

int cidr_set_subtract(struct cidr_set *set, const struct cidr *cidr)
{
    for (size_t i = set->count; i-- > 0;) {
        if (holds(cidr, &set->range[i]))
            remove_at(set, i);
        else if (holds(&set->range[i], cidr))
            return split_around(set, i, cidr);
    }
    return 0;
}

bool cidr_set_contains(const struct cidr_set *set, const struct address *address)
{
    struct cidr one = cidr_of_address(address);
    return cidr_set_overlap(set, &one) != NULL;
}

const struct cidr *cidr_set_overlap(const struct cidr_set *set, const struct cidr *cidr)
{
    for (size_t i = 0; i < set->count; i++) {
        if (cidr_overlaps(&set->range[i], cidr))
            return &set->range[i];
    }
    return NULL;
}
