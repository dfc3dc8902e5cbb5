#include "client/agent_binary.h"

#include <string.h>

#include "common/compiler.h"

extern const uint8_t agent_binary_amd64[], agent_binary_amd64_end[];

const struct agent_binary *agent_binary_find(const char *arch)
{
    static struct agent_binary binaries[] = {{.arch = "amd64", .data = agent_binary_amd64}};
    for (size_t i = 0; i < KT_ARRAY_LEN(binaries); i++) {
        if (strcmp(binaries[i].arch, arch) != 0)
            continue;
        /* cppcheck-suppress comparePointers ; they are the ends of one object, see agent_binary_data.S */
        binaries[i].size = (size_t)(agent_binary_amd64_end - agent_binary_amd64);
        return &binaries[i];
    }
    return NULL;
}

const char *agent_binary_first_arch(void)
{
    return "amd64";
}
