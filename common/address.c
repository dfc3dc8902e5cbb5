#include "common/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

size_t address_size(const struct address *address)
{
    return address->family == ADDRESS_V4 ? 4 : address->family == ADDRESS_V6 ? 16 : 0;
}

struct address address_v4(uint32_t host_order)
{
    return (struct address){.family = ADDRESS_V4,
                            .bytes = {(uint8_t)(host_order >> 24), (uint8_t)(host_order >> 16),
                                      (uint8_t)(host_order >> 8), (uint8_t)host_order}};
}

struct address address_from_bytes(enum address_family family, const uint8_t *bytes)
{
    struct address address = {.family = (uint8_t)family};
    memcpy(address.bytes, bytes, address_size(&address));
    return address;
}

int address_parse(struct address *out, const char *text)
{
    struct address address = {.family = strchr(text, ':') != NULL ? ADDRESS_V6 : ADDRESS_V4};
    int family = address.family == ADDRESS_V6 ? AF_INET6 : AF_INET;
    if (inet_pton(family, text, address.bytes) != 1)
        return -EINVAL;
    *out = address;
    return 0;
}

const char *address_print(const struct address *address, char out[static ADDRESS_STRLEN])
{
    int family = address->family == ADDRESS_V6 ? AF_INET6 : AF_INET;
    if (address->family == ADDRESS_NONE || inet_ntop(family, address->bytes, out, ADDRESS_STRLEN) == NULL)
        (void)snprintf(out, ADDRESS_STRLEN, "-");
    return out;
}

const char *address_print_port(const struct address *address, uint16_t port, char out[static ADDRESS_STRLEN])
{
    char text[ADDRESS_STRLEN];
    bool is_v6 = address->family == ADDRESS_V6;
    (void)snprintf(out, ADDRESS_STRLEN, "%s%.48s%s:%u", is_v6 ? "[" : "", address_print(address, text),
                   is_v6 ? "]" : "", port);
    return out;
}

bool address_equal(const struct address *a, const struct address *b)
{
    return address_compare(a, b) == 0;
}

int address_compare(const struct address *a, const struct address *b)
{
    return a->family != b->family ? a->family - b->family : memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

bool address_is_loopback(const struct address *address)
{
    static const uint8_t loopback6[16] = {[15] = 1};
    return address->family == ADDRESS_V6 ? memcmp(address->bytes, loopback6, 16) == 0 : address->bytes[0] == 127;
}

bool address_is_link_local(const struct address *address)
{
    const uint8_t *b = address->bytes;
    return address->family == ADDRESS_V6 ? b[0] == 0xfe && (b[1] & 0xc0) == 0x80 : b[0] == 169 && b[1] == 254;
}

bool address_is_multicast(const struct address *address)
{
    static const uint8_t broadcast[4] = {255, 255, 255, 255};
    if (address->family == ADDRESS_V6)
        return address->bytes[0] == 0xff;
    return (address->bytes[0] & 0xf0) == 0xe0 || memcmp(address->bytes, broadcast, 4) == 0;
}

bool address_is_unspecified(const struct address *address)
{
    static const uint8_t zero[16];
    return memcmp(address->bytes, zero, sizeof zero) == 0;
}
