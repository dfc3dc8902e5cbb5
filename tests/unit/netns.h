/* A network namespace for a test: what it does to devices and routes never reaches the machine's own. Needs root;
 * netns_enter() skips the test without. */
#ifndef KTVPN_TESTS_NETNS_H
#define KTVPN_TESTS_NETNS_H

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"

struct netns {
    int before; /* the namespace that was left */
    int lines;  /* that named a ktvpn device there */
};

/* Devices and IPv4 and IPv6 routes of the current namespace that name `word`. */
KT_UNUSED static int netns_lines_with(const char *word)
{
    static const char *const files[] = {"/proc/thread-self/net/dev", "/proc/thread-self/net/route",
                                        "/proc/thread-self/net/ipv6_route"};
    char line[512];
    int lines = 0;
    for (size_t i = 0; i < KT_ARRAY_LEN(files); i++) {
        FILE *file = fopen(files[i], "re");
        while (file != NULL && fgets(line, sizeof line, file) != NULL)
            lines += strstr(line, word) != NULL;
        if (file != NULL)
            assert_int_equal(fclose(file), 0);
    }
    return lines;
}

KT_UNUSED static void netns_up(const char *device)
{
    struct ifreq request = {.ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    (void)snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    (void)close(fd);
}

/* Runs a shell's command, which must succeed. */
KT_UNUSED static void netns_run(const char *command)
{
    assert_int_equal(system(command), 0);
}

/* Is `word` in a line of what the command prints? */
KT_UNUSED static bool netns_says(const char *command, const char *word)
{
    char line[1024];
    bool found = false;
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    while (fgets(line, sizeof line, pipe) != NULL)
        found = found || strstr(line, word) != NULL;
    (void)pclose(pipe);
    return found;
}

/* A network like a developer's: ktt0 with 192.0.2.2/24, and its other end ktt1. */
KT_UNUSED static void netns_make_lan(void)
{
    netns_run(
        "ip link add ktt0 type veth peer name ktt1 && ip link set ktt1 up && ip addr add 192.0.2.2/24 dev ktt0 && "
        "ip link set ktt0 up");
}

KT_UNUSED static void netns_enter(struct netns *netns)
{
    if (geteuid() != 0)
        skip();
    netns->lines = netns_lines_with("ktvpn");
    netns->before = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    assert_true(netns->before >= 0);
    assert_int_equal(unshare(CLONE_NEWNET), 0);
    assert_int_equal(netns_lines_with("ktvpn"), 0);
    netns_up("lo");
}

/* Back, and nothing of the test's is there. */
KT_UNUSED static void netns_leave(struct netns *netns)
{
    assert_int_equal(setns(netns->before, CLONE_NEWNET), 0);
    assert_int_equal(close(netns->before), 0);
    assert_int_equal(netns_lines_with("ktvpn"), netns->lines);
}

#endif
