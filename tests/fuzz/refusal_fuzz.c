/* Any bytes as what a server says when it refuses: a body with a status, and the error channel's text. What is made of
 * it is one line that a terminal can be given. */
#include "client/kube/refusal.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/error.h"
#include "client/kube/api.h"

static void require_printable(const struct error *error, int rc)
{
    if (rc >= 0 || error->text[0] == '\0' || strnlen(error->text, sizeof error->text) == sizeof error->text)
        abort();
    for (const char *at = error->text; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~')
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int statuses[] = {400, 401, 403, 404, 409, 422, 429, 500, 503, 504};
    if (size == 0)
        return 0;
    struct error error;
    int status = statuses[data[0] % KT_ARRAY_LEN(statuses)];
    char *body = malloc(size - 1 + (size == 1)); /* without NUL, so that a read past its end is seen */
    if (body == NULL)
        abort();
    memcpy(body, data + 1, size - 1);
    require_printable(&error, api_status_error(status, body, size - 1, "try it", &error));
    require_printable(&error, refusal_of_answer(status, body, size - 1, "try it", &error));
    require_printable(&error, refusal_of_text(body, size - 1, "try it", &error));
    free(body);
    return 0;
}
