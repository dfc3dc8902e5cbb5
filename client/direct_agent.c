#include "client/direct_agent.h"

#include <errno.h>
#include <string.h>

const struct error *direct_agent_error(const struct options *options, int rc, struct error *error)
{
    bool is_silent = rc == -ECONNREFUSED || rc == -ETIMEDOUT || rc == -EHOSTUNREACH || rc == -ENETUNREACH;
    char text[ADDRESS_STRLEN];
    (void)address_print_port(&options->agent, options->agent_port, text);
    if (is_silent)
        (void)error_set(error, EXIT_CODE_AGENT, rc, "no agent answers at %s: %s", text, strerror(-rc));
    else
        (void)error_set(error, EXIT_CODE_AGENT, rc,
                        "what answers at %s is not the agent of this --agent-key: its key is the first line of its log",
                        text);
    return error;
}
