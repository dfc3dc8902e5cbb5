/* Any bytes as the agent's command line: words end at NUL. */
#include "agent/settings.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), error[SETTINGS_ERROR_MAX] = "", program[] = "ktvpn-agent";
    char *argv[WORDS_MAX + 2] = {program};
    int argc = 1;
    struct settings settings;
    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    for (size_t at = 0; at < size && argc <= WORDS_MAX; at += strlen(text + at) + 1)
        argv[argc++] = text + at;
    if (settings_parse(&settings, argc, argv, error) != 0) {
        if (error[0] == '\0' || strnlen(error, sizeof error) == sizeof error)
            abort();
    } else if (settings.action == SETTINGS_RUN && (settings.listens == 0 || settings.listens > SETTINGS_LISTENS_MAX)) {
        abort();
    }
    free(text);
    return 0;
}
