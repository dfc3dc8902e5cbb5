#include "client/kube/refusal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/kube/api.h"
#include "client/kube/channels.h"
#include "common/log.h"

static bool has_words(const char *text, size_t size, const char *words)
{
    return memmem(text, size, words, strlen(words)) != NULL;
}

/* What the runtime says when nothing listens; a sandboxed runtime says it although something does. */
static const char *advice_for(const char *text, size_t size)
{
    return has_words(text, size, "failed to connect to localhost")
               ? " (a pod under gVisor or Kata needs a plain runtimeClass)"
               : "";
}

int refusal_of_answer(int status, const char *body, size_t size, const char *what, struct error *error)
{
    if (status == 403 && size == 0)
        return error_set(error, EXIT_CODE_FORBIDDEN, -EACCES,
                         "cannot %s: the API server, or a proxy in front of it, refused the WebSocket "
                         "sub-protocols " CHANNELS_OFFER " (403 without a text)",
                         what);
    if (status == 400 && has_words(body, size, "Upgrade request required"))
        return error_set(error, EXIT_CODE_UNREACHABLE, -EPROTO,
                         "cannot %s: a proxy on the way to the API server takes the Upgrade header away; it has to "
                         "let WebSockets pass",
                         what);
    int rc = api_status_error(status, body, size, what, error);
    size_t used = strlen(error->text);
    (void)snprintf(error->text + used, sizeof error->text - used, "%s", advice_for(body, size));
    return rc;
}

int refusal_of_text(const char *text, size_t size, const char *what, struct error *error)
{
    char escaped[ERROR_TEXT_MAX];
    int rc = has_words(text, size, "connection refused") ? -ECONNREFUSED : -ECONNRESET;
    (void)log_escape(escaped, sizeof escaped, text, size);
    return error_set(error, EXIT_CODE_AGENT, rc, "cannot %s: %s%s", what, escaped, advice_for(text, size));
}
