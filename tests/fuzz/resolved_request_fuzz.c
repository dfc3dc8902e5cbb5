/* What the process for systemd-resolved takes from the other, larger one: what passes has text with an end, and no
 * domain or device that could be an option. */
#include "client/host/resolved_request.h"

#include <stdlib.h>
#include <string.h>

static void require(bool is_true)
{
    if (!is_true)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct resolved_request in, out;
    memset(&in, 0, sizeof in);
    memcpy(&in, data, size < sizeof in ? size : sizeof in);
    if (resolved_request_check(&out, &in, sizeof in) != 0)
        return 0;
    require(strncmp(out.device, "ktvpn", 5) == 0 && memchr(out.device, '\0', sizeof out.device) != NULL);
    for (uint32_t i = 0; i < out.domains; i++)
        require(memchr(out.domain[i], '\0', sizeof out.domain[i]) != NULL && out.domain[i][0] != '-');
    return 0;
}
