/* `ktvpn status` and `ktvpn down`: ask the running ktvpns of this user by their control sockets. */
#ifndef KTVPN_CLIENT_STATUS_H
#define KTVPN_CLIENT_STATUS_H

#include <stdio.h>

#include "client/error.h"
#include "client/options.h"

/* Both: 0, or -errno with `error`. None running, or none of that name: EXIT_CODE_NOT_RUNNING. status_run() prints a
 * table, or with -o json the object of the one that was named, else {"items": [...]}. */
KT_MUST_USE int status_run(const struct options *options, FILE *out, struct error *error);
KT_MUST_USE int down_run(const struct options *options, FILE *out, struct error *error);

#endif
