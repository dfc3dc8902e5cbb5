/* Who the user is to the API server, now: a client certificate, a token, a token's file (read again every minute) or a
 * credential plugin's answer (kept until it expires).
 *
 *   EMPTY ─► RUNNING ─► READY        only a plugin is ever EMPTY or RUNNING
 *     ▲         │ fails   │ expires, or is refused (401)
 *     └─────────┴─────────┘
 *
 * Holds secrets, and wipes them. No callback runs inside the call that asked for it. */
#ifndef KTVPN_CLIENT_KUBE_CREDENTIAL_H
#define KTVPN_CLIENT_KUBE_CREDENTIAL_H

#include <stdbool.h>
#include <sys/queue.h>

#include "client/error.h"
#include "client/kube/kubeconfig.h"

#define CREDENTIAL_FILE_MS 60000 /* a token's file is read again after it */
/* A plugin that failed, whose fresh answer was refused, or had expired when it came, is not run again before it. */
#define CREDENTIAL_HOLD_MS 5000

struct uv_loop_s;
struct credential;

/* Valid until the next turn of the loop. `generation` changes with each change. */
struct credential_value {
    const char *token; /* NULL: none */
    const struct kubeconfig_blob *certificate, *key;
    unsigned generation;
};

/* Zeroed but for on_ready and context; the caller's. */
struct credential_wait {
    LIST_ENTRY(credential_wait) entry;
    /* Once: NULL, and credential_get() works now; or why it does not. */
    void (*on_ready)(void *context, const struct error *error);
    void *context;
    bool is_waiting;
};

/* `config` must outlive it. 0 or -ENOMEM. */
KT_MUST_USE int credential_open(struct credential **out, struct uv_loop_s *loop, const struct kubeconfig *config);
/* Kills a plugin that runs; who waits is not told any more. on_closed comes on the loop. */
void credential_close(struct credential *credential, void (*on_closed)(void *context), void *context);

/* False: there is none now; credential_await() makes that there is. */
KT_MUST_USE bool credential_get(struct credential *credential, struct credential_value *out);
/* on_ready comes later. A second call for the same wait does nothing. */
void credential_await(struct credential *credential, struct credential_wait *wait);
/* on_ready does not come any more. Fine if it has, or was never awaited. */
void credential_forget(struct credential_wait *wait);

/* The server answered 401 to a value. True: there is, or will be, another one; get or await it, and try once more. */
KT_MUST_USE bool credential_refused(struct credential *credential, unsigned generation);

#endif
