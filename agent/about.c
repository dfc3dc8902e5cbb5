#include "agent/about.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netstack/netstack.h"

/* Is it an address by which other machines know this pod? */
static bool is_global(const struct address *address)
{
    return address->family != ADDRESS_NONE && !address_is_loopback(address) && !address_is_link_local(address) &&
           !address_is_unspecified(address);
}

static struct address from_sockaddr(const struct sockaddr *in)
{
    if (in != NULL && in->sa_family == AF_INET)
        return address_from_bytes(ADDRESS_V4,
                                  (const uint8_t *)&((const struct sockaddr_in *)(const void *)in)->sin_addr);
    if (in != NULL && in->sa_family == AF_INET6)
        return address_from_bytes(ADDRESS_V6,
                                  (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)in)->sin6_addr);
    return (struct address){.family = ADDRESS_NONE};
}

/* The first global address of an interface that is up, of the family. */
static struct address first_address(const struct ifaddrs *list, enum address_family family)
{
    for (const struct ifaddrs *entry = list; entry != NULL; entry = entry->ifa_next) {
        struct address address = from_sockaddr(entry->ifa_addr);
        if ((entry->ifa_flags & IFF_UP) && address.family == family && is_global(&address))
            return address;
    }
    return (struct address){.family = ADDRESS_NONE};
}

/* The address from which the kernel would talk to `to`: right also where a pod has several interfaces. Sends nothing.
 */
static struct address address_towards(const struct address *to)
{
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(53)};
    struct sockaddr_in6 peer6 = {.sin6_family = AF_INET6, .sin6_port = htons(53)};
    struct sockaddr_storage here = {0};
    socklen_t size = sizeof here;
    bool is_v4 = to->family == ADDRESS_V4;
    memcpy(is_v4 ? (void *)&peer.sin_addr : (void *)&peer6.sin6_addr, to->bytes, address_size(to));
    int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return (struct address){.family = ADDRESS_NONE};
    int rc = is_v4 ? connect(fd, (const struct sockaddr *)&peer, sizeof peer)
                   : connect(fd, (const struct sockaddr *)&peer6, sizeof peer6);
    bool is_known = rc == 0 && getsockname(fd, (struct sockaddr *)&here, &size) == 0;
    (void)close(fd);
    return is_known ? from_sockaddr((const struct sockaddr *)&here) : (struct address){.family = ADDRESS_NONE};
}

static void fill_addresses(struct wire_accept *accept)
{
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) != 0)
        list = NULL;
    struct address v6 = first_address(list, ADDRESS_V6);
    if (accept->servers > 0)
        accept->pod = address_towards(&accept->server[0]);
    if (!is_global(&accept->pod))
        accept->pod = first_address(list, ADDRESS_V4);
    if (!is_global(&accept->pod))
        accept->pod = v6;
    accept->abilities |= v6.family == ADDRESS_V6 ? WIRE_CAN_IPV6 : 0;
    if (list != NULL)
        freeifaddrs(list);
}

void about_fill(struct wire_accept *accept, const struct resolvconf *conf)
{
    *accept = (struct wire_accept){0};
    for (size_t i = 0; i < conf->servers && i < WIRE_SERVERS_MAX; i++)
        accept->server[accept->servers++] = conf->server[i];
    for (size_t i = 0; i < conf->searches && i < WIRE_SEARCH_MAX; i++)
        (void)snprintf(accept->search[accept->searches++], sizeof accept->search[0], "%s", conf->search[i]);
    fill_addresses(accept);
    accept->abilities |= netstack_can_ping(ADDRESS_V4) ? WIRE_CAN_PING_V4 : 0;
    accept->abilities |= netstack_can_ping(ADDRESS_V6) ? WIRE_CAN_PING_V6 : 0;
}
