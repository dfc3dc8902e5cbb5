#include "client/kube/warnings.h"

#include <sodium.h>
#include <string.h>
#include <strings.h>

#include "common/log.h"

/* True once for each text. */
static bool is_new(struct warnings *warnings, const char *text, size_t size)
{
    uint8_t hash[WARNINGS_HASH_SIZE];
    (void)crypto_generichash(hash, sizeof hash, (const uint8_t *)text, size, NULL, 0);
    for (size_t i = 0; i < warnings->texts; i++) {
        if (sodium_memcmp(warnings->hash[i], hash, sizeof hash) == 0)
            return false;
    }
    if (warnings->texts == WARNINGS_TEXTS_MAX)
        return false;
    memcpy(warnings->hash[warnings->texts++], hash, sizeof hash);
    return true;
}

/* RFC 7234, 5.5: "299 - "text""; the date after it is not used by Kubernetes. */
static void take(struct warnings *warnings, const char *value, size_t size)
{
    const char *open = memchr(value, '"', size), *close = memrchr(value, '"', size);
    if (open != NULL && close > open) {
        value = open + 1;
        size = (size_t)(close - value);
    }
    warnings->count++;
    char text[512];
    if (is_new(warnings, value, size))
        log_warning("the API server warns: %s", log_escape(text, sizeof text, value, size));
}

void warnings_take_header(struct warnings *warnings, const char *line, size_t size)
{
    static const char name[] = "warning:";
    size_t skip = sizeof name - 1;
    if (size > skip && strncasecmp(line, name, skip) == 0)
        take(warnings, line + skip, size - skip);
}
