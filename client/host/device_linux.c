#include "client/host/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int device_open_file(void)
{
    int fd = open(DEVICE_FILE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int device_create(int fd, char name[static DEVICE_NAME_MAX], unsigned *index)
{
    struct ifreq request = {.ifr_name = DEVICE_PREFIX "%d", .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    if (ioctl(fd, TUNSETIFF, &request) != 0)
        return -errno;
    /* Checksums only: with an MTU near 64 KiB there is nothing for segmentation offload to join. */
    if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)TUN_F_CSUM) != 0)
        return -errno;
    memcpy(name, request.ifr_name, DEVICE_NAME_MAX);
    name[DEVICE_NAME_MAX - 1] = '\0';
    *index = if_nametoindex(name);
    return *index == 0 ? -errno : 0;
}

static struct ifinfomsg *begin_link(struct rtnl_message *message, unsigned index)
{
    struct ifinfomsg *head = rtnl_begin(message, RTM_NEWLINK, 0, sizeof *head);
    head->ifi_family = AF_UNSPEC;
    head->ifi_index = (int)index;
    return head;
}

/* Fails where the kernel has no IPv6: then there is nothing to switch off. */
static void be_quiet(struct rtnl *rtnl, unsigned index)
{
    struct rtnl_message message;
    uint8_t mode = IN6_ADDR_GEN_MODE_NONE;
    (void)begin_link(&message, index);
    void *families = rtnl_nest(&message, IFLA_AF_SPEC);
    void *inet6 = rtnl_nest(&message, AF_INET6);
    rtnl_put(&message, IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof mode);
    rtnl_nest_end(&message, inet6);
    rtnl_nest_end(&message, families);
    int rc = rtnl_call(rtnl, &message, NULL, NULL);
    (void)rc;
}

int device_bring_up(struct rtnl *rtnl, unsigned index, uint16_t mtu)
{
    be_quiet(rtnl, index);
    struct rtnl_message message;
    struct ifinfomsg *head = begin_link(&message, index);
    head->ifi_flags = head->ifi_change = IFF_UP;
    rtnl_put_u32(&message, IFLA_MTU, mtu);
    rtnl_put_u32(&message, IFLA_TXQLEN, DEVICE_QUEUE);
    return rtnl_call(rtnl, &message, NULL, NULL);
}

int device_set_alias(struct rtnl *rtnl, unsigned index, const char *alias)
{
    struct rtnl_message message;
    if (alias[0] == '\0')
        return 0;
    (void)begin_link(&message, index);
    rtnl_put(&message, IFLA_IFALIAS, alias, strlen(alias));
    return rtnl_call(rtnl, &message, NULL, NULL);
}

int device_add_address(struct rtnl *rtnl, unsigned index, const struct address *address)
{
    struct rtnl_message message;
    size_t size = address_size(address);
    struct ifaddrmsg *head = rtnl_begin(&message, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof *head);
    head->ifa_family = address->family == ADDRESS_V6 ? AF_INET6 : AF_INET;
    head->ifa_prefixlen = (uint8_t)(8 * size);
    head->ifa_index = index;
    rtnl_put(&message, IFA_LOCAL, address->bytes, size);
    rtnl_put(&message, IFA_ADDRESS, address->bytes, size);
    if (address->family == ADDRESS_V6) /* at once: a tentative address can be no route's source */
        rtnl_put_u32(&message, IFA_FLAGS, IFA_F_NODAD);
    return rtnl_call(rtnl, &message, NULL, NULL);
}

static void begin_route(struct rtnl_message *message, uint16_t type, uint16_t flags, unsigned index,
                        const struct cidr *to)
{
    struct rtmsg *head = rtnl_begin(message, type, flags, sizeof *head);
    head->rtm_family = to->address.family == ADDRESS_V6 ? AF_INET6 : AF_INET;
    head->rtm_dst_len = to->prefix;
    head->rtm_table = RT_TABLE_MAIN;
    head->rtm_protocol = RTPROT_STATIC;
    head->rtm_scope = to->address.family == ADDRESS_V6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
    head->rtm_type = RTN_UNICAST;
    rtnl_put(message, RTA_DST, to->address.bytes, address_size(&to->address));
    rtnl_put_u32(message, RTA_OIF, index);
}

int device_add_route(struct rtnl *rtnl, unsigned index, const struct cidr *to, const struct address *source)
{
    struct rtnl_message message;
    begin_route(&message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, index, to);
    if (source->family == to->address.family)
        rtnl_put(&message, RTA_PREFSRC, source->bytes, address_size(source));
    return rtnl_call(rtnl, &message, NULL, NULL);
}

int device_remove_route(struct rtnl *rtnl, unsigned index, const struct cidr *to)
{
    struct rtnl_message message;
    begin_route(&message, RTM_DELROUTE, 0, index, to);
    return rtnl_call(rtnl, &message, NULL, NULL);
}
