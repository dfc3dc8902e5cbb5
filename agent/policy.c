/* REFUSE, so that the asker learns at once: the pod's loopback (the agent's own port is there, and so may be a
 * sidecar's), link-local (cloud metadata services give credentials to whoever asks from the node), and virtual
 * addresses of sessions. DROP: what no connection can be made to. */
#include "agent/policy.h"

#include <string.h>

#include "common/cidr.h"
#include "common/session.h"

/* An IPv6 address with an IPv4 address in it (RFC 4291, 2.5.5) means that one: the kernel would connect to it. */
static struct address unmapped(const struct address *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t compatible[12] = {0};
    if (address->family != ADDRESS_V6 || address_is_loopback(address) || address_is_unspecified(address))
        return *address;
    if (memcmp(address->bytes, mapped, sizeof mapped) != 0 &&
        memcmp(address->bytes, compatible, sizeof compatible) != 0)
        return *address;
    return address_from_bytes(ADDRESS_V4, address->bytes + sizeof mapped);
}

static bool is_in(const struct address *address, const char *text)
{
    struct cidr range;
    return cidr_parse(&range, text) == 0 && cidr_contains(&range, address);
}

static bool is_unusable(const struct address *address)
{
    if (address->family == ADDRESS_NONE || address_is_unspecified(address) || address_is_multicast(address))
        return true;
    return is_in(address, "0.0.0.0/8") || is_in(address, "240.0.0.0/4"); /* RFC 6890 */
}

static bool is_forbidden(const struct address *address)
{
    if (address_is_loopback(address) || address_is_link_local(address))
        return true;
    return is_in(address, SESSION_RANGE_V4) || is_in(address, SESSION_RANGE_V6);
}

enum netstack_verdict policy_verdict(const struct netstack_flow *flow)
{
    struct address target = unmapped(&flow->target);
    if (is_unusable(&target))
        return NETSTACK_DROP;
    return is_forbidden(&target) ? NETSTACK_REFUSE : NETSTACK_DIAL;
}
