/* Whose rights a process has: the user behind sudo, and Linux capabilities (capabilities(7)). Everything here only ever
 * gives up rights, for good; the processes are still single-threaded then. */
#ifndef KTVPN_CLIENT_HOST_PRIVILEGE_H
#define KTVPN_CLIENT_HOST_PRIVILEGE_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/compiler.h"

struct privilege_user {
    uid_t uid;
    gid_t gid;
};

bool privilege_has_net_admin(void);

/* Who shall go on: the real user if that is not root (a program with file capabilities or set-user-ID), else who called
 * sudo (SUDO_UID, SUDO_GID), else root. -EINVAL: SUDO_UID or SUDO_GID is no number. */
KT_MUST_USE int privilege_find_user(struct privilege_user *out);

/* For the process that parses kubeconfig, TLS and frames: becomes `user` with all of its groups and with HOME, USER and
 * LOGNAME from the user database (sudo leaves root's), without any capability. Root stays root, but files of others are
 * closed to it then, and its children get no capabilities either. Not dumpable: it holds the session's keys. On an
 * error: exit. */
KT_MUST_USE int privilege_drop(const struct privilege_user *user);

/* For the helper: becomes `user` without any group, with CAP_NET_ADMIN and nothing else, now and in all that it might
 * execute. */
KT_MUST_USE int privilege_keep_net_admin(const struct privilege_user *user);

#endif
