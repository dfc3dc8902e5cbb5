/* What this machine's network looks like: its devices' ranges and default gateways (rtnetlink, read only, no
 * privilege), and which way an address leaves. */
#ifndef KTVPN_CLIENT_HOST_NETWORK_H
#define KTVPN_CLIENT_HOST_NETWORK_H

#include <stddef.h>

#include "client/error.h"
#include "common/cidr.h"

#define NETWORK_ROUTES_MAX 512
#define NETWORK_DEVICE_MAX 16
#define NETWORK_ALIAS_MAX 64

struct network_route {
    struct cidr to;
    struct address gateway;          /* ADDRESS_NONE: directly connected */
    char device[NETWORK_DEVICE_MAX]; /* of several next hops: the first one's */
};

struct network {
    struct network_route route[NETWORK_ROUTES_MAX]; /* main table, unicast, both families; loopback left out */
    size_t routes;
};

/* Beyond NETWORK_ROUTES_MAX the table is cut, with a warning in the log. */
KT_MUST_USE int network_read(struct network *network, struct error *error);

/* The alias of a device, as `ip link` shows it; "" without one. */
void network_alias(char out[static NETWORK_ALIAS_MAX], const char *device);

/* The device and gateway by which `to` leaves now (RTM_GETROUTE); "lo" for the machine's own addresses. out->to is `to`
 * alone. -ENETUNREACH. */
KT_MUST_USE int network_egress(struct network_route *out, const struct address *to);

#endif
