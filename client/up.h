/* `ktvpn up`: joins the cluster's network, and leaves it without a trace.
 *
 *   CHECKING -> LAUNCHING -> DIALLING -> VERIFYING -> READY -> LEAVING
 *
 * Until LAUNCHING nothing is changed anywhere; until VERIFYING nothing on this machine. An error, a signal or `ktvpn
 * down` leads to LEAVING from every state: first the device goes (with it routes), then the session, then what was made
 * in the cluster. */
#ifndef KTVPN_CLIENT_UP_H
#define KTVPN_CLIENT_UP_H

#include "client/detach.h"
#include "client/error.h"
#include "client/host/helper.h"
#include "client/options.h"

/* Returns when it has left: 0, or -errno with `error` (also: why it had to leave). The helper is running and is stopped
 * here. */
KT_MUST_USE int up_run(const struct options *options, struct helper *helper, struct detach *detach,
                       struct error *error);

#endif
