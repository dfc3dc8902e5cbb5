/* A pod, a list of events and a first log line, each from a server that lies. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "client/kube/agent_status.h"

static void check_text(const char *text, size_t size)
{
    size_t length = strnlen(text, size);
    if (length == size)
        abort();
    for (size_t i = 0; i < length; i++) {
        if (text[i] < ' ' || text[i] > '~')
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agent_status status;
    char reason[AGENT_STATUS_REASON_MAX];
    cJSON *json = cJSON_ParseWithLength((const char *)data, size);
    if (agent_status_read(&status, json) == 0) {
        check_text(status.pod, sizeof status.pod);
        check_text(status.node, sizeof status.node);
        check_text(status.reason, sizeof status.reason);
    }
    if (agent_status_warning(reason, json) == 0)
        check_text(reason, sizeof reason);
    cJSON_Delete(json);

    uint8_t key[WIRE_KEY_SIZE];
    struct error error = {.text = ""};
    if (agent_status_key(key, (const char *)data, size, &error) != 0)
        check_text(error.text, sizeof error.text);
    return 0;
}
