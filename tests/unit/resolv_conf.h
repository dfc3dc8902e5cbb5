/* A test's own /etc/resolv.conf, in a mount namespace of the test's process. Needs root. */
#ifndef KTVPN_TESTS_RESOLV_CONF_H
#define KTVPN_TESTS_RESOLV_CONF_H

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "tests/unit/unit.h"

KT_UNUSED static void resolv_conf_write(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* `path` is what everybody here sees as /etc/resolv.conf from now on; it may be written anew. */
KT_UNUSED static void resolv_conf_enter(const char *path)
{
    resolv_conf_write(path, "");
    assert_int_equal(unshare(CLONE_NEWNS), 0);
    assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    assert_int_equal(mount(path, "/etc/resolv.conf", NULL, MS_BIND, NULL), 0);
}

KT_UNUSED static void resolv_conf_leave(const char *path)
{
    assert_int_equal(umount2("/etc/resolv.conf", MNT_DETACH), 0);
    assert_int_equal(unlink(path), 0);
}

#endif
