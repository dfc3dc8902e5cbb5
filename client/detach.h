/* --detach: the shell gets its prompt back when the cluster is joined, and the exit code when it could not be.
 *
 * detach_start() forks before anything else exists. The child is a session of its own and does all the work; the parent
 * waits, hands Ctrl-C on, and ends with the child's exit code, or with 0 once the child said that it is ready. */
#ifndef KTVPN_CLIENT_DETACH_H
#define KTVPN_CLIENT_DETACH_H

#include "common/compiler.h"

struct detach {
    int ready_fd; /* -1: not detached */
};

/* Returns in the child only (or, when it fails, -errno in the caller). */
KT_MUST_USE int detach_start(struct detach *detach);
/* The child: lets the parent go; standard input is closed and output goes to `log_path` from now on. Nothing if not
 * detached. */
void detach_ready(struct detach *detach, const char *log_path);

#endif
