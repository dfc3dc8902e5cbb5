/* An IP address of either family: parsing, printing, comparing.
 *
 * The one type for addresses in ktvpn. Nothing here resolves names. */
#ifndef KTVPN_COMMON_ADDRESS_H
#define KTVPN_COMMON_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

/* "[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535" and its NUL fit. */
#define ADDRESS_STRLEN 64

enum address_family { ADDRESS_NONE = 0, ADDRESS_V4 = 4, ADDRESS_V6 = 6 };

/* Network byte order. For IPv4 bytes[0..3] count and the rest is zero, so that memcmp() of two structs is equality. */
struct address {
    uint8_t family; /* enum address_family */
    uint8_t bytes[16];
};

/* 4 or 16; 0 for ADDRESS_NONE. */
size_t address_size(const struct address *address);

struct address address_v4(uint32_t host_order);
struct address address_from_bytes(enum address_family family, const uint8_t *bytes);

/* "10.1.2.3" or "fd00::1", without brackets, port or zone. -EINVAL on anything else. */
KT_MUST_USE int address_parse(struct address *out, const char *text);

/* Writes the canonical text form (RFC 5952 for IPv6) and returns `out`. */
const char *address_print(const struct address *address, char out[static ADDRESS_STRLEN]);

/* "10.1.2.3:80" or "[fd00::1]:80"; returns `out`. */
const char *address_print_port(const struct address *address, uint16_t port, char out[static ADDRESS_STRLEN]);

bool address_equal(const struct address *a, const struct address *b);

/* Orders by family, then by value: <0, 0, >0. */
int address_compare(const struct address *a, const struct address *b);

bool address_is_loopback(const struct address *address);
bool address_is_link_local(const struct address *address);
bool address_is_multicast(const struct address *address); /* and the IPv4 broadcast address */
bool address_is_unspecified(const struct address *address);

#endif
