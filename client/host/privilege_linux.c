#include "client/host/privilege.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NET_ADMIN (1ull << CAP_NET_ADMIN)

static int get_effective(uint64_t *out)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capget, &head, data) != 0)
        return -errno;
    *out = (uint64_t)data[1].effective << 32 | data[0].effective;
    return 0;
}

/* Exactly these: effective and permitted; nothing inheritable, so no ambient ones either. */
static int set_capabilities(uint64_t wanted)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
        {.effective = (uint32_t)wanted, .permitted = (uint32_t)wanted},
        {.effective = (uint32_t)(wanted >> 32), .permitted = (uint32_t)(wanted >> 32)},
    };
    uint64_t now = 0;
    if (syscall(SYS_capset, &head, data) != 0)
        return -errno;
    int rc = get_effective(&now);
    return rc != 0 ? rc : now == wanted ? 0 : -EPERM;
}

bool privilege_has_net_admin(void)
{
    uint64_t effective = 0;
    return get_effective(&effective) == 0 && (effective & NET_ADMIN) != 0;
}

/* Decimal digits only, and not the "no change" of setresuid(2). */
static int parse_id(uint32_t *out, const char *text)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 10 || text[digits] != '\0')
        return -EINVAL;
    unsigned long long value = strtoull(text, NULL, 10);
    if (value >= UINT32_MAX)
        return -EINVAL;
    *out = (uint32_t)value;
    return 0;
}

int privilege_find_user(struct privilege_user *out)
{
    *out = (struct privilege_user){.uid = getuid(), .gid = getgid()};
    const char *uid = getenv("SUDO_UID"), *gid = getenv("SUDO_GID");
    if (out->uid != 0 || uid == NULL || gid == NULL)
        return 0;
    int rc = parse_id(&out->uid, uid);
    return rc != 0 ? rc : parse_id(&out->gid, gid);
}

/* What an execve() as root, or of a file with capabilities, could bring back. Without CAP_SETPCAP there is no root to
 * stay. */
static void empty_bounding_set(void)
{
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
        (void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

static int set_ids(const struct privilege_user *user)
{
    if (setresgid(user->gid, user->gid, user->gid) != 0 || setresuid(user->uid, user->uid, user->uid) != 0)
        return -errno;
    return 0;
}

/* Root's groups must not stay; a process that is the user already has its own. */
static int take_groups(const struct privilege_user *user, const struct passwd *entry)
{
    if (user->uid == getuid())
        return 0;
    int rc = entry != NULL ? initgroups(entry->pw_name, user->gid) : setgroups(1, &user->gid);
    return rc != 0 ? -errno : 0;
}

static int set_environment(const struct passwd *entry)
{
    if (setenv("HOME", entry->pw_dir, 1) != 0 || setenv("USER", entry->pw_name, 1) != 0 ||
        setenv("LOGNAME", entry->pw_name, 1) != 0)
        return -errno;
    return 0;
}

int privilege_drop(const struct privilege_user *user)
{
    bool is_other = user->uid != getuid();
    const struct passwd *entry = is_other ? getpwuid(user->uid) : NULL;
    if (user->uid == 0)
        empty_bounding_set();
    int rc = take_groups(user, entry);
    if (rc == 0 && entry != NULL)
        rc = set_environment(entry);
    if (rc == 0)
        rc = set_ids(user);
    if (rc == 0)
        rc = set_capabilities(0);
    if (rc == 0 && user->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0))
        rc = -EPERM;
    if (rc == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        rc = -errno;
    return rc;
}

int privilege_keep_net_admin(const struct privilege_user *user)
{
    bool is_other = user->uid != getuid();
    empty_bounding_set();
    if (is_other && (setgroups(0, NULL) != 0 || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0))
        return -errno;
    int rc = set_ids(user);
    if (rc == 0)
        rc = set_capabilities(NET_ADMIN);
    if (rc == 0 && (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
                    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0))
        rc = -errno;
    return rc;
}
