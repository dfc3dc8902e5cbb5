#include "client/host/network.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "client/host/rtnl.h"
#include "common/log.h"

#define DUMP_TRIES 5 /* a table that changes while it is read is read again */

struct dump {
    struct network *network;
    bool is_cut;
};

/* What a route message says, before the device has a name. */
struct raw_route {
    struct address to, gateway;
    uint8_t prefix;
    uint32_t table, device;
};

static enum address_family family_of(uint16_t family)
{
    return family == AF_INET ? ADDRESS_V4 : family == AF_INET6 ? ADDRESS_V6 : ADDRESS_NONE;
}

static void get_address(struct address *out, enum address_family family, const void *data, size_t size)
{
    struct address address = {.family = (uint8_t)family};
    if (family != ADDRESS_NONE && size == address_size(&address))
        *out = address_from_bytes(family, data);
}

static uint32_t get_u32(const struct nlattr *attribute)
{
    return mnl_attr_get_payload_len(attribute) == sizeof(uint32_t) ? mnl_attr_get_u32(attribute) : 0;
}

/* RFC 5549: an IPv4 route by an IPv6 gateway. */
static void get_via(struct raw_route *raw, const struct nlattr *attribute)
{
    const struct rtvia *via = mnl_attr_get_payload(attribute);
    size_t size = mnl_attr_get_payload_len(attribute);
    if (size > sizeof *via)
        get_address(&raw->gateway, family_of(via->rtvia_family), via->rtvia_addr, size - sizeof *via);
}

/* Of several next hops only the first. */
static void get_hop(struct raw_route *raw, const struct nlattr *attribute, enum address_family family)
{
    const struct rtnexthop *hop = mnl_attr_get_payload(attribute);
    size_t size = mnl_attr_get_payload_len(attribute);
    if (size < sizeof *hop || hop->rtnh_len < sizeof *hop || hop->rtnh_len > size)
        return;
    raw->device = (uint32_t)hop->rtnh_ifindex;
    const void *inner = (const char *)hop + RTNH_LENGTH(0);
    const struct nlattr *attr; /* the macro's own name */
    mnl_attr_for_each_payload(inner, hop->rtnh_len - sizeof *hop)
    {
        if (mnl_attr_get_type(attr) == RTA_GATEWAY)
            get_address(&raw->gateway, family, mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));
        else if (mnl_attr_get_type(attr) == RTA_VIA)
            get_via(raw, attr);
    }
}

static void get_attribute(struct raw_route *raw, const struct nlattr *attribute, enum address_family family)
{
    const void *data = mnl_attr_get_payload(attribute);
    size_t size = mnl_attr_get_payload_len(attribute);
    switch (mnl_attr_get_type(attribute)) {
    case RTA_DST:
        get_address(&raw->to, family, data, size);
        break;
    case RTA_GATEWAY:
        get_address(&raw->gateway, family, data, size);
        break;
    case RTA_VIA:
        get_via(raw, attribute);
        break;
    case RTA_OIF:
        raw->device = get_u32(attribute);
        break;
    case RTA_TABLE:
        raw->table = get_u32(attribute);
        break;
    case RTA_MULTIPATH:
        get_hop(raw, attribute, family);
        break;
    default:
        break;
    }
}

/* False: not a route message of a family that we know. */
static bool parse(struct raw_route *raw, const struct nlmsghdr *message)
{
    const struct rtmsg *head = mnl_nlmsg_get_payload(message);
    if (message->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(message) < sizeof *head)
        return false;
    enum address_family family = family_of(head->rtm_family);
    if (family == ADDRESS_NONE)
        return false;
    *raw = (struct raw_route){.to.family = (uint8_t)family, .prefix = head->rtm_dst_len, .table = head->rtm_table};
    const struct nlattr *attribute;
    mnl_attr_for_each(attribute, message, sizeof *head)
    {
        get_attribute(raw, attribute, family);
    }
    return raw->prefix <= 8 * address_size(&raw->to);
}

/* False: the device has just gone. */
static bool name_device(struct network_route *route, const struct raw_route *raw)
{
    char name[IF_NAMESIZE];
    if (raw->device == 0 || if_indextoname(raw->device, name) == NULL)
        return false;
    memcpy(route->device, name, sizeof route->device);
    return true;
}

static void on_route(void *context, const struct nlmsghdr *message)
{
    struct dump *dump = context;
    struct raw_route raw;
    if (!parse(&raw, message))
        return;
    const struct rtmsg *head = mnl_nlmsg_get_payload(message);
    if (raw.table != RT_TABLE_MAIN || head->rtm_type != RTN_UNICAST ||
        (head->rtm_flags & (RTM_F_CLONED | RTNH_F_DEAD)) != 0)
        return;
    struct network_route route = {.to = cidr_around(&raw.to, raw.prefix), .gateway = raw.gateway};
    if (!name_device(&route, &raw) || strcmp(route.device, "lo") == 0)
        return;
    if (dump->network->routes == NETWORK_ROUTES_MAX)
        dump->is_cut = true;
    else
        dump->network->route[dump->network->routes++] = route;
}

static int dump_once(struct dump *dump, uint8_t family)
{
    struct rtnl rtnl;
    int rc = rtnl_open(&rtnl);
    if (rc != 0)
        return rc;
    struct rtnl_message message;
    struct rtmsg *head = rtnl_begin(&message, RTM_GETROUTE, NLM_F_DUMP, sizeof *head);
    head->rtm_family = family;
    rc = rtnl_call(&rtnl, &message, on_route, dump);
    rtnl_close(&rtnl);
    return rc;
}

static int dump_family(struct dump *dump, uint8_t family)
{
    size_t before = dump->network->routes;
    int rc = -EINTR;
    for (int try = 0; try < DUMP_TRIES && rc == -EINTR; try++) {
        dump->network->routes = before;
        rc = dump_once(dump, family);
    }
    return rc == -EAFNOSUPPORT || rc == -EOPNOTSUPP ? 0 : rc; /* a kernel without IPv6 */
}

int network_read(struct network *network, struct error *error)
{
    struct dump dump = {.network = network};
    network->routes = 0;
    int rc = dump_family(&dump, AF_INET);
    if (rc == 0)
        rc = dump_family(&dump, AF_INET6);
    if (dump.is_cut)
        log_warning("network: more than %d routes: overlaps with the others are not seen", NETWORK_ROUTES_MAX);
    return rc == 0 ? 0
                   : error_set(error, EXIT_CODE_MACHINE, rc, "cannot read this machine's routes: %s", strerror(-rc));
}

static void on_link(void *context, const struct nlmsghdr *message)
{
    char *alias = context;
    const struct nlattr *attribute;
    if (message->nlmsg_type != RTM_NEWLINK || mnl_nlmsg_get_payload_len(message) < sizeof(struct ifinfomsg))
        return;
    mnl_attr_for_each(attribute, message, sizeof(struct ifinfomsg))
    {
        if (mnl_attr_get_type(attribute) == IFLA_IFALIAS && mnl_attr_get_payload_len(attribute) > 0)
            (void)snprintf(alias, NETWORK_ALIAS_MAX, "%.*s", (int)mnl_attr_get_payload_len(attribute),
                           (const char *)mnl_attr_get_payload(attribute));
    }
}

void network_alias(char out[static NETWORK_ALIAS_MAX], const char *device)
{
    struct rtnl rtnl;
    struct rtnl_message message;
    out[0] = '\0';
    unsigned index = if_nametoindex(device);
    if (index == 0 || rtnl_open(&rtnl) != 0)
        return;
    struct ifinfomsg *head = rtnl_begin(&message, RTM_GETLINK, 0, sizeof *head);
    head->ifi_index = (int)index;
    int rc = rtnl_call(&rtnl, &message, on_link, out);
    rtnl_close(&rtnl);
    if (rc != 0)
        out[0] = '\0';
}

static void on_egress(void *context, const struct nlmsghdr *message)
{
    struct raw_route *raw = context, parsed;
    if (parse(&parsed, message))
        *raw = parsed;
}

static int ask_egress(struct raw_route *raw, const struct address *to)
{
    struct rtnl rtnl;
    int rc = rtnl_open(&rtnl);
    if (rc != 0)
        return rc;
    struct rtnl_message message;
    struct rtmsg *head = rtnl_begin(&message, RTM_GETROUTE, 0, sizeof *head);
    head->rtm_family = to->family == ADDRESS_V6 ? AF_INET6 : AF_INET;
    head->rtm_dst_len = (unsigned char)(8 * address_size(to));
    rtnl_put(&message, RTA_DST, to->bytes, address_size(to));
    rc = rtnl_call(&rtnl, &message, on_egress, raw);
    rtnl_close(&rtnl);
    return rc;
}

int network_egress(struct network_route *out, const struct address *to)
{
    struct raw_route raw = {.device = 0};
    if (to->family == ADDRESS_NONE || ask_egress(&raw, to) != 0)
        return -ENETUNREACH; /* also for routes of type unreachable, prohibit, blackhole */
    struct network_route route = {.to = cidr_of_address(to), .gateway = raw.gateway};
    if (!name_device(&route, &raw))
        return -ENETUNREACH;
    *out = route;
    return 0;
}
