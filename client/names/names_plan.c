#include "client/names/names_plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define V4_SUFFIX ".in-addr.arpa"
#define V6_SUFFIX ".ip6.arpa"
#define V6_NIBBLES 32

/* A decimal of at most 255 with no zero in front; moves behind it. -1: none. */
static int get_octet(const char **text)
{
    const char *t = *text;
    int value = 0, digits = 0;
    for (; *t >= '0' && *t <= '9' && digits < 3; t++, digits++)
        value = 10 * value + (*t - '0');
    bool is_plain = digits > 0 && value <= 255 && (digits == 1 || **text != '0');
    *text = t;
    return is_plain ? value : -1;
}

static int reverse_v4(struct address *out, const char *name)
{
    uint8_t bytes[4];
    for (int i = 3; i >= 0; i--) {
        int octet = get_octet(&name);
        if (octet < 0 || *name != '.')
            return -EINVAL;
        bytes[i] = (uint8_t)octet;
        name += i > 0;
    }
    if (strcmp(name, V4_SUFFIX) != 0)
        return -EINVAL;
    *out = address_from_bytes(ADDRESS_V4, bytes);
    return 0;
}

static int nibble_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int reverse_v6(struct address *out, const char *name)
{
    uint8_t bytes[16] = {0};
    if (strlen(name) != 2 * V6_NIBBLES - 1 + strlen(V6_SUFFIX) || strcmp(name + 2 * V6_NIBBLES - 1, V6_SUFFIX) != 0)
        return -EINVAL;
    for (int i = 0; i < V6_NIBBLES; i++) { /* the last nibble of the address comes first */
        int nibble = nibble_of(name[2 * i]);
        if (nibble < 0 || name[2 * i + 1] != '.')
            return -EINVAL;
        bytes[15 - i / 2] |= (uint8_t)(i % 2 ? nibble << 4 : nibble);
    }
    *out = address_from_bytes(ADDRESS_V6, bytes);
    return 0;
}

int names_plan_reverse(struct address *out, const char *name)
{
    return reverse_v4(out, name) == 0 ? 0 : reverse_v6(out, name);
}

/* "NAME.SUFFIX", or NAME alone when SUFFIX is empty. A name that gets too long is left out: it cannot exist. */
static void add(struct names_plan *plan, const char *name, const char *prefix, const char *suffix)
{
    const char *dot = *suffix ? "." : "";
    char *out = plan->candidate[plan->candidates];
    int size = snprintf(out, DNS_NAME_MAX, "%s%s%s%s", name, dot, prefix, suffix);
    plan->candidates += size > 0 && size < DNS_NAME_MAX;
}

static void add_search_list(struct names_plan *plan, const struct names_scope *scope, const char *name)
{
    char prefix[NAMES_LABEL_MAX + 8];
    (void)snprintf(prefix, sizeof prefix, "%.*s.svc.", NAMES_LABEL_MAX, scope->name_space);
    add(plan, name, prefix, scope->domain);
    add(plan, name, "svc.", scope->domain);
    add(plan, name, "", scope->domain);
}

static bool is_namespace(const struct names_scope *scope, const char *label, size_t size)
{
    return (size == strlen(scope->name_space) && memcmp(label, scope->name_space, size) == 0) ||
           names_known_has(scope->namespaces, label, size);
}

/* "10-1-2-3.NAMESPACE.pod". */
static bool is_pod(const struct names_scope *scope, const char *name)
{
    size_t size = strlen(name);
    if (!dns_is_under(name, "pod") || size <= strlen(".pod"))
        return false;
    const char *end = name + size - strlen(".pod"), *label = end;
    while (label > name && label[-1] != '.')
        label--;
    return label > name && is_namespace(scope, label, (size_t)(end - label));
}

/* Its last label is a name that the cluster is known to have. */
static bool is_short(const struct names_scope *scope, const char *name)
{
    const char *dot = strrchr(name, '.'), *last = dot ? dot + 1 : name;
    size_t size = strlen(last);
    return dns_dots(name) < NAMES_NDOTS &&
           (is_namespace(scope, last, size) || names_known_has(scope->services, last, size));
}

void names_plan_make(struct names_plan *plan, const struct names_scope *scope, const char *name)
{
    struct address address;
    plan->candidates = 0;
    plan->then_outside = false;
    if (*name == '\0') { /* the root */
        plan->then_outside = true;
    } else if (dns_is_under(name, scope->domain)) {
        add(plan, name, "", "");
    } else if (dns_is_under(name, "svc") || is_pod(scope, name)) {
        add(plan, name, "", scope->domain);
    } else if (names_plan_reverse(&address, name) == 0 && cidr_set_contains(scope->ranges, &address)) {
        add(plan, name, "", "");
    } else {
        plan->then_outside = true;
        if (is_short(scope, name))
            add_search_list(plan, scope, name);
    }
}
