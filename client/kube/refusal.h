/* Why there is no port-forward, for the user: what the API server, a proxy in front of it, or the container runtime
 * said instead of yes. Decides only; `what` is what was tried ("forward a port to pod NS/POD"). */
#ifndef KTVPN_CLIENT_KUBE_REFUSAL_H
#define KTVPN_CLIENT_KUBE_REFUSAL_H

#include <stddef.h>

#include "client/error.h"

/* The upgrade was answered with this status, no 101, and this body. Sets `error`; its negative errno: -ENOENT: the pod
 * is gone; -EACCES: forbidden. */
int refusal_of_answer(int status, const char *body, size_t size, const char *what, struct error *error);
/* Text came on the error channel; any bytes. -ECONNREFUSED: nothing listens in the pod; -ECONNRESET: anything else. */
int refusal_of_text(const char *text, size_t size, const char *what, struct error *error);

#endif
