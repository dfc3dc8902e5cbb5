#include "client/host/helper_request.h"

#include <errno.h>
#include <string.h>

/* Bytes beyond the family's size are zero, as everywhere. */
static bool is_well_formed(const struct address *address)
{
    static const uint8_t zero[16];
    size_t size = address_size(address);
    return size != 0 && memcmp(address->bytes + size, zero, sizeof zero - size) == 0;
}

/* May be an address of a device of ours. */
static bool is_own_address(const struct address *address, enum address_family family)
{
    if (address->family == ADDRESS_NONE)
        return true;
    return address->family == family && is_well_formed(address) && !address_is_loopback(address) &&
           !address_is_multicast(address) && !address_is_unspecified(address);
}

static bool is_range(const struct cidr *cidr)
{
    if (!is_well_formed(&cidr->address) || cidr->prefix > 8 * address_size(&cidr->address))
        return false;
    struct cidr around = cidr_around(&cidr->address, cidr->prefix);
    return address_equal(&around.address, &cidr->address);
}

/* A ktvpn's name, and zeros to the end. */
static bool is_alias(const char alias[static HELPER_ALIAS_MAX])
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t size = strnlen(alias, HELPER_ALIAS_MAX);
    if (size == HELPER_ALIAS_MAX || strspn(alias, allowed) != size)
        return false;
    while (size < HELPER_ALIAS_MAX && alias[size] == '\0')
        size++;
    return size == HELPER_ALIAS_MAX;
}

int helper_request_check(struct helper_request *out, const void *data, size_t size)
{
    struct helper_request request;
    if (size != sizeof request)
        return -EBADMSG;
    memcpy(&request, data, sizeof request);
    bool is_valid = false;
    if (request.operation == HELPER_OPEN_TUN)
        is_valid = request.mtu >= HELPER_MTU_MIN && is_own_address(&request.v4, ADDRESS_V4) &&
                   is_own_address(&request.v6, ADDRESS_V6) && is_alias(request.alias);
    else if (request.operation == HELPER_RESTORE_TUN)
        is_valid = true;
    else if (request.operation == HELPER_ADD_ROUTE || request.operation == HELPER_REMOVE_ROUTE)
        is_valid = is_range(&request.to);
    if (!is_valid)
        return -EBADMSG;
    *out = request;
    return 0;
}
