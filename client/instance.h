/* One running ktvpn of this user: its name, its lock and where its control socket is.
 *
 * The runtime folder is $XDG_RUNTIME_DIR/ktvpn, /run/user/UID/ktvpn, /run/ktvpn for root, else /tmp/ktvpn-UID; 0700 and
 * ours, or it is refused. NAME.lock is held by flock() for as long as the process lives, so there are no stale locks
 * and no PID files; a stale NAME.sock is unlinked by the next holder of the lock. */
#ifndef KTVPN_CLIENT_INSTANCE_H
#define KTVPN_CLIENT_INSTANCE_H

#include <stdbool.h>

#include "client/error.h"

#define INSTANCE_NAME_MAX 64
#define INSTANCE_PATH_MAX 108 /* sun_path */
#define INSTANCES_MAX 64

struct instance {
    char name[INSTANCE_NAME_MAX];
    char socket_path[INSTANCE_PATH_MAX], lock_path[INSTANCE_PATH_MAX], log_path[INSTANCE_PATH_MAX];
    int lock_fd; /* -1: not held */
};

/* A context's name ("kubernetes-admin@kt") as an instance's: what is no letter, digit, '-', '_' or '.' becomes '-'. */
void instance_name_of(char out[static INSTANCE_NAME_MAX], const char *text);

/* 0, -EBUSY (another ktvpn holds the name: EXIT_CODE_CONFLICT), or the error of the runtime folder. */
KT_MUST_USE int instance_acquire(struct instance *instance, const char *name, struct error *error);
/* Removes socket and lock. Fine when not held. */
void instance_release(struct instance *instance);

/* The running instances (their locks are held), at most INSTANCES_MAX, sorted by name. Returns the count, or -errno. */
KT_MUST_USE int instance_list(struct instance *out, int max, struct error *error);

#endif
