#include "common/resolvconf.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct resolvconf conf;
    resolvconf_parse(&conf, (const char *)data, size);
    if (conf.servers == 0 || conf.servers > RESOLVCONF_SERVERS_MAX || conf.searches > RESOLVCONF_SEARCH_MAX)
        abort();
    if (conf.ndots > RESOLVCONF_NDOTS_MAX)
        abort();
    for (size_t i = 0; i < conf.searches; i++) {
        size_t length = strnlen(conf.search[i], RESOLVCONF_NAME_MAX);
        if (length == 0 || length == RESOLVCONF_NAME_MAX)
            abort();
    }
    return 0;
}
