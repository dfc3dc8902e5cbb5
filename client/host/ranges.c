#include "client/host/ranges.h"

#include <errno.h>
#include <string.h>

#include "client/host/device.h"

static const struct cidr never[] = {
    {.address = {.family = ADDRESS_V4, .bytes = {127}}, .prefix = 8},
    {.address = {.family = ADDRESS_V4, .bytes = {169, 254}}, .prefix = 16},
    {.address = {.family = ADDRESS_V4, .bytes = {224}}, .prefix = 4},
    {.address = {.family = ADDRESS_V4, .bytes = {255, 255, 255, 255}}, .prefix = 32},
    {.address = {.family = ADDRESS_V6, .bytes = {[15] = 1}}, .prefix = 128},
    {.address = {.family = ADDRESS_V6, .bytes = {0xfe, 0x80}}, .prefix = 10},
    {.address = {.family = ADDRESS_V6, .bytes = {0xff}}, .prefix = 8},
};

static int add_all(struct cidr_set *set, const struct cidr_set *others)
{
    int rc = 0;
    for (size_t i = 0; others != NULL && i < others->count && rc == 0; i++)
        rc = cidr_set_add(set, &others->range[i]);
    return rc;
}

static int subtract_all(struct cidr_set *set, const struct cidr_set *others)
{
    int rc = 0;
    for (size_t i = 0; others != NULL && i < others->count && rc == 0; i++)
        rc = cidr_set_subtract(set, &others->range[i]);
    return rc;
}

static int subtract_never(struct cidr_set *set)
{
    int rc = 0;
    for (size_t i = 0; i < KT_ARRAY_LEN(never) && rc == 0; i++)
        rc = cidr_set_subtract(set, &never[i]);
    return rc;
}

static int subtract_outside(struct cidr_set *set, const struct ranges_wish *wish)
{
    int rc = wish->outside_count > RANGES_OUTSIDE_MAX ? -E2BIG : 0;
    for (size_t i = 0; i < wish->outside_count && rc == 0; i++) {
        struct cidr one = cidr_of_address(&wish->outside[i]);
        if (wish->outside[i].family != ADDRESS_NONE)
            rc = cidr_set_subtract(set, &one);
    }
    return rc;
}

/* A host route to what stays outside anyway: VPNs have one to their own server. */
static bool is_to_outside(const struct network_route *route, const struct ranges_wish *wish)
{
    bool is = false;
    for (size_t i = 0; i < wish->outside_count && route->to.prefix == 8 * address_size(&route->to.address); i++)
        is = is || address_equal(&wish->outside[i], &route->to.address);
    return is;
}

/* Also as two halves, which is how some VPNs write it. */
static bool is_default(const struct network_route *route)
{
    return route->to.prefix <= 1;
}

static bool is_other_ktvpn(const struct network_route *route)
{
    return strncmp(route->device, DEVICE_PREFIX, strlen(DEVICE_PREFIX)) == 0;
}

/* The table in the header. `range` and the route overlap, so one holds the other. */
static bool is_refused(const struct cidr *range, const struct network_route *route, bool is_named)
{
    if (is_other_ktvpn(route) || route->to.prefix >= range->prefix)
        return true;
    return route->gateway.family == ADDRESS_NONE && !is_named;
}

static const struct cidr *find_refused(const struct cidr_set *set, const struct network_route *route, bool is_named)
{
    for (size_t i = 0; i < set->count; i++) {
        if (cidr_overlaps(&set->range[i], &route->to) && is_refused(&set->range[i], route, is_named))
            return &set->range[i];
    }
    return NULL;
}

/* The range as the user or the cluster wrote it: `piece` is what was left of it around holes. */
static const char *name_range(const struct cidr *piece, const struct ranges_wish *wish, const struct cidr **range)
{
    *range = wish->also != NULL ? cidr_set_overlap(wish->also, piece) : NULL;
    if (*range != NULL)
        return "the range of --also";
    *range = cidr_set_overlap(wish->services, piece);
    if (*range != NULL)
        return "the cluster's service range";
    *range = cidr_set_overlap(wish->pods, piece);
    if (*range == NULL)
        *range = piece;
    return "the cluster's pod range";
}

static int refuse_other_ktvpn(const char *whose, const char *ours, const struct network_route *route, const char *part,
                              const struct ranges_wish *wish, struct error *error)
{
    char theirs[CIDR_STRLEN], other[NETWORK_ALIAS_MAX] = "";
    cidr_print(&route->to, theirs);
    if (wish->name_of != NULL)
        wish->name_of(other, route->device);
    bool is_known = other[0] != '\0';
    return error_set(
        error, EXIT_CODE_CONFLICT, -EADDRINUSE,
        "%s %s overlaps %s, which another ktvpn%s%s%s holds (device %s): end that one with `ktvpn down%s%s`, "
        "or keep the range out of %s%s%s with --exclude %s",
        whose, ours, theirs, is_known ? ", '" : "", other, is_known ? "'," : "", route->device, is_known ? " " : "",
        other, wish->name != NULL ? "'" : "this one", wish->name != NULL ? wish->name : "",
        wish->name != NULL ? "'" : "", part);
}

static int refuse(const struct cidr *piece, const struct network_route *route, const struct ranges_wish *wish,
                  bool is_named, struct error *error)
{
    char ours[CIDR_STRLEN], theirs[CIDR_STRLEN], part[CIDR_STRLEN], gateway[ADDRESS_STRLEN];
    const struct cidr *range;
    const char *whose = name_range(piece, wish, &range);
    /* What --exclude has to name: the smaller one of the two. */
    cidr_print(range->prefix > route->to.prefix ? range : &route->to, part);
    cidr_print(range, ours);
    cidr_print(&route->to, theirs);
    address_print(&route->gateway, gateway);
    if (is_other_ktvpn(route))
        return refuse_other_ktvpn(whose, ours, route, part, wish, error);
    bool is_connected = route->gateway.family == ADDRESS_NONE;
    bool may_be_named = !is_named && route->to.prefix < range->prefix;
    return error_set(error, EXIT_CODE_CONFLICT, -EADDRINUSE,
                     "%s %s overlaps %s, %s%s (device %s): keep it out of the tunnel with --exclude %s%s%s", whose,
                     ours, theirs, is_connected ? "a network of this machine" : "a route of this machine by ",
                     is_connected ? "" : gateway, route->device, part,
                     may_be_named ? ", or take it into the tunnel with --also " : "", may_be_named ? ours : "");
}

static int check(const struct cidr_set *set, const struct ranges_wish *wish, const struct network *network,
                 bool is_named, struct error *error)
{
    for (size_t i = 0; i < network->routes; i++) {
        const struct network_route *route = &network->route[i];
        const struct cidr *piece = find_refused(set, route, is_named);
        if (piece != NULL && !is_default(route) && !is_to_outside(route, wish))
            return refuse(piece, route, wish, is_named, error);
    }
    return 0;
}

/* `also` is what the user named, `cluster` the rest, both without --exclude. */
static int collect(struct cidr_set *cluster, struct cidr_set *also, const struct ranges_wish *wish)
{
    cidr_set_init(cluster);
    cidr_set_init(also);
    int rc = add_all(cluster, wish->services);
    if (rc == 0)
        rc = add_all(cluster, wish->pods);
    if (rc == 0)
        rc = add_all(also, wish->also);
    if (rc == 0)
        rc = subtract_all(cluster, wish->also);
    struct cidr_set *both[] = {cluster, also};
    for (size_t i = 0; i < KT_ARRAY_LEN(both) && rc == 0; i++) {
        rc = subtract_all(both[i], wish->exclude);
        if (rc == 0)
            rc = subtract_never(both[i]);
    }
    return rc;
}

static int too_many(struct error *error)
{
    return error_set(error, EXIT_CODE_CONFLICT, -E2BIG,
                     "more than %d ranges would go into the tunnel: give fewer --also and --exclude, or wider ones",
                     CIDR_SET_MAX);
}

/* What stays outside is cut out last: the pieces around it would look like small parts of a network that is taken
 * whole. */
int ranges_plan(struct cidr_set *out, const struct ranges_wish *wish, const struct network *network,
                struct error *error)
{
    struct cidr_set also;
    if (collect(out, &also, wish) != 0)
        return too_many(error);
    int rc = check(out, wish, network, false, error);
    if (rc == 0)
        rc = check(&also, wish, network, true, error);
    if (rc != 0)
        return rc;
    if (add_all(out, &also) != 0 || subtract_outside(out, wish) != 0)
        return too_many(error);
    return 0;
}
