/* Who goes on after the start, and what a process still may. That both ends of the helper have what they should is
 * helper_test.c. */
#include "client/host/privilege.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static void the_user_behind_sudo(void **state)
{
    (void)state;
    static const struct {
        const char *uid, *gid;
        int rc;
        uid_t want_uid;
        gid_t want_gid;
    } table[] = {
        {NULL, NULL, 0, 0, 0},
        {"1000", "100", 0, 1000, 100},
        {"1000", NULL, 0, 0, 0},
        {NULL, "100", 0, 0, 0},
        {"0", "0", 0, 0, 0},
        {"4294967294", "1", 0, 4294967294u, 1},
        {"4294967295", "1", -EINVAL, 0, 0},
        {"1", "4294967295", -EINVAL, 0, 0},
        {"", "1", -EINVAL, 0, 0},
        {"-1", "1", -EINVAL, 0, 0},
        {"1 ", "1", -EINVAL, 0, 0},
        {"18446744073709551616", "1", -EINVAL, 0, 0},
    };
    if (getuid() != 0)
        skip();
    for (size_t i = 0; i < KT_ARRAY_LEN(table); i++) {
        struct privilege_user user = {.uid = 7, .gid = 7};
        (void)(table[i].uid != NULL ? setenv("SUDO_UID", table[i].uid, 1) : unsetenv("SUDO_UID"));
        (void)(table[i].gid != NULL ? setenv("SUDO_GID", table[i].gid, 1) : unsetenv("SUDO_GID"));
        assert_int_equal(privilege_find_user(&user), table[i].rc);
        if (table[i].rc != 0)
            continue;
        assert_int_equal(user.uid, table[i].want_uid);
        assert_int_equal(user.gid, table[i].want_gid);
    }
    (void)unsetenv("SUDO_UID");
    (void)unsetenv("SUDO_GID");
}

/* In a child: what is given up here does not come back. */
static int drop_as(uid_t uid)
{
    struct privilege_user user = {.uid = uid, .gid = uid};
    if (!privilege_has_net_admin() || privilege_drop(&user) != 0)
        return 1;
    if (privilege_has_net_admin() || getuid() != uid || getegid() != uid)
        return 2;
    /* What needs a capability: other groups, other users' files, other ids. */
    if (setgroups(0, NULL) == 0 || (uid != 0 && access("/root", R_OK) == 0) || setuid(uid + 1) == 0)
        return 3;
    /* An execve() brings nothing back, not even for root. */
    execlp("sh", "sh", "-c", "grep -q '^CapEff:.0000000000000000$' /proc/self/status", (char *)NULL);
    return 4;
}

static int keep_as(uid_t uid)
{
    struct privilege_user user = {.uid = uid, .gid = uid}, again;
    if (privilege_keep_net_admin(&user) != 0 || !privilege_has_net_admin())
        return 1;
    if (getuid() != uid || setgroups(0, NULL) == 0)
        return 2;
    if (privilege_find_user(&again) != 0 || again.uid != uid)
        return 3;
    return privilege_drop(&user) == 0 && !privilege_has_net_admin() ? 0 : 4;
}

static int in_child(int (*run)(uid_t), uid_t uid)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(run(uid));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void rights_are_given_up_for_good(void **state)
{
    (void)state;
    if (getuid() != 0)
        skip();
    assert_int_equal(in_child(drop_as, 0), 0);
    assert_int_equal(in_child(drop_as, 65534), 0);
    assert_int_equal(in_child(drop_as, 12345), 0); /* no entry in the user database */
    assert_int_equal(in_child(keep_as, 0), 0);
    assert_int_equal(in_child(keep_as, 65534), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_user_behind_sudo),
        cmocka_unit_test(rights_are_given_up_for_good),
    };
    return unit_run(tests);
}
