/* The helper's own side: what runs in the privileged child. It never returns to the program that it was forked from. */
#ifndef KTVPN_CLIENT_HOST_HELPER_CHILD_H
#define KTVPN_CLIENT_HOST_HELPER_CHILD_H

#include "client/host/privilege.h"
#include "common/compiler.h"

/* Makes the device, gives up every other right, sends one answer (rc 0: ready), then serves requests from `fd` until
 * its end. */
KT_NORETURN void helper_child_run(int fd, const struct privilege_user *user);

#endif
