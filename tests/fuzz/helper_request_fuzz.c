/* Any bytes as a request to the privileged helper: what it takes is in its range. */
#include <stdlib.h>
#include <string.h>

#include "client/host/helper_request.h"

static void check_address(const struct address *address, enum address_family family)
{
    if (address->family != ADDRESS_NONE && (address->family != family || address_is_loopback(address)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct helper_request request;
    if (helper_request_check(&request, data, size) != 0)
        return 0;
    if (size != sizeof request)
        abort();
    if (request.operation == HELPER_OPEN_TUN) {
        check_address(&request.v4, ADDRESS_V4);
        check_address(&request.v6, ADDRESS_V6);
        if (request.mtu < HELPER_MTU_MIN || memchr(request.alias, '\0', sizeof request.alias) == NULL)
            abort();
        return 0;
    }
    if (request.operation == HELPER_RESTORE_TUN) /* says nothing more */
        return 0;
    char text[CIDR_STRLEN];
    struct cidr again;
    /* Only a range that has a text form, which reads back as itself. */
    if (cidr_parse(&again, cidr_print(&request.to, text)) != 0 || again.prefix != request.to.prefix ||
        !address_equal(&again.address, &request.to.address))
        abort();
    return 0;
}
