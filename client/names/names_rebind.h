/* Addresses that an answer from the cluster must not hold: this machine's own. A name that whoever controls a Service,
 * or a zone that the cluster asks, lets lead here would bring a browser's page to what listens on this machine only
 * (DNS rebinding). */
#ifndef KTVPN_CLIENT_NAMES_REBIND_H
#define KTVPN_CLIENT_NAMES_REBIND_H

#include <stdbool.h>

#include "common/address.h"

/* Loopback, link-local, unspecified ("this host", 0.0.0.0/8), and IPv6 addresses that stand for one of these:
 * IPv4-mapped and IPv4-compatible (RFC 4291, 2.5.5). */
bool names_rebind_is_local(const struct address *address);

#endif
