/* Whether a busy API server is asked once more, and when: as k8s.io/client-go/rest/with_retry.go does, but bounded. */
#ifndef KTVPN_CLIENT_KUBE_RETRY_H
#define KTVPN_CLIENT_KUBE_RETRY_H

#include <stdint.h>

#define RETRY_TRIES_MAX 5        /* after the first */
#define RETRY_DELAY_MAX_MS 20000 /* a server that asks for more is told of at once */

/* `retry_after_s`: the header's value; 0: there is none, and the server has not asked for another try. `tries`: those
 * that there were after the first. -1: no other try. */
int64_t retry_delay_ms(int status, int64_t retry_after_s, unsigned tries);

#endif
