#include "client/names/names_rebind.h"

#include <string.h>

/* ::1 and :: are IPv4-compatible ones too, of 0.0.0.0/8. */
static bool is_v4_inside(const struct address *address)
{
    static const uint8_t compatible[12], mapped[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address->bytes, compatible, sizeof compatible) == 0 ||
           memcmp(address->bytes, mapped, sizeof mapped) == 0;
}

bool names_rebind_is_local(const struct address *address)
{
    struct address own = *address;
    if (own.family == ADDRESS_V6 && is_v4_inside(&own))
        own = address_from_bytes(ADDRESS_V4, address->bytes + 12);
    bool is_this_host = own.family == ADDRESS_V4 && own.bytes[0] == 0;
    return is_this_host || address_is_loopback(&own) || address_is_link_local(&own) || address_is_unspecified(&own);
}
