/* The privileged helper with the real kernel, each test in a network namespace of its own. What gives up privileges
 * runs in a forked "holder", which plays `ktvpn up`; the test itself stays root and looks on. */
#include "client/host/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>

#include "client/host/helper_request.h"
#include "client/host/privilege.h"
#include "tests/unit/netns.h"

#define NOBODY 65534
#define WAIT_MS 10000

/* In a holder: cmocka's asserts would jump into the test's own stack. */
#define CHECK(condition) check((condition), #condition, __LINE__)

static void check(bool condition, const char *text, int line)
{
    if (condition)
        return;
    (void)fprintf(stderr, "helper_test.c:%d: %s\n", line, text);
    _exit(99);
}

/* Waits until `is_true`, for at most WAIT_MS. */
static bool eventually(bool (*is_true)(void))
{
    for (int i = 0; i < WAIT_MS; i++) {
        if (is_true())
            return true;
        struct timespec ms = {.tv_nsec = 1000000};
        (void)nanosleep(&ms, NULL);
    }
    return false;
}

static bool device_is_gone(void)
{
    return if_nametoindex("ktvpn0") == 0;
}

struct holder {
    pid_t pid;
    int fd; /* of a socket pair: what the holder tells, and its end */
};

static void hold(struct holder *holder, void (*run_holder)(int fd))
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    (void)unsetenv("SUDO_UID");
    (void)unsetenv("SUDO_GID");
    (void)fflush(NULL);
    holder->pid = fork();
    assert_true(holder->pid >= 0);
    if (holder->pid == 0) {
        (void)close(pair[0]);
        run_holder(pair[1]);
        _exit(0);
    }
    (void)close(pair[1]);
    holder->fd = pair[0];
}

static void tell(int fd, int value)
{
    CHECK(write(fd, &value, sizeof value) == sizeof value);
}

static int told(const struct holder *holder)
{
    int value = -1;
    assert_int_equal(read(holder->fd, &value, sizeof value), sizeof value);
    return value;
}

/* Lets it end by itself. */
static void release(struct holder *holder)
{
    int status;
    (void)shutdown(holder->fd, SHUT_RDWR);
    assert_int_equal(waitpid(holder->pid, &status, 0), holder->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    (void)close(holder->fd);
}

static void wait_for_release(int fd)
{
    char byte;
    CHECK(read(fd, &byte, 1) == 0);
}

static struct address v4_of(const char *text)
{
    struct address address;
    CHECK(address_parse(&address, text) == 0);
    return address;
}

static struct cidr cidr_of(const char *text)
{
    struct cidr cidr;
    CHECK(cidr_parse(&cidr, text) == 0);
    return cidr;
}

static void start(struct helper *helper)
{
    struct error error = {.text = ""};
    int rc = helper_start(helper, &error);
    if (rc != 0)
        (void)fprintf(stderr, "%d: %s\n", rc, error.text);
    CHECK(rc == 0);
    CHECK(helper->fd >= 0 && helper->pid > 0);
}

static void open_tun(struct helper *helper, struct helper_device *device)
{
    struct helper_tun tun = {.mtu = 65000, .v4 = v4_of("198.18.0.2"), .v6 = v4_of("fd00::2"), .alias = "kt.1"};
    struct error error = {.text = ""};
    int rc = helper_open_tun(helper, device, &tun, &error);
    if (rc != 0)
        (void)fprintf(stderr, "%d: %s\n", rc, error.text);
    CHECK(rc == 0);
}

static void route(struct helper *helper, const char *range, int want)
{
    struct cidr to = cidr_of(range);
    struct error error = {.text = ""};
    CHECK(helper_add_route(helper, &to, &error) == want);
    CHECK(want == 0 || strstr(error.text, range) != NULL || want == -EPIPE);
}

/* As `up` does it: tells the helper's pid, then the descriptor's flags, and holds. */
static void hold_device(int fd)
{
    struct helper helper;
    struct helper_device device;
    start(&helper);
    open_tun(&helper, &device);
    CHECK(strcmp(device.name, "ktvpn0") == 0);
    CHECK(device.index == if_nametoindex("ktvpn0"));
    CHECK((fcntl(device.fd, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(device.fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((fcntl(helper.fd, F_GETFD) & FD_CLOEXEC) != 0);
    route(&helper, "10.222.0.0/16", 0);
    route(&helper, "fd12::/64", 0);
    tell(fd, helper.pid);
    wait_for_release(fd);
    helper_stop(&helper);
    helper_stop(&helper);
    CHECK(helper.fd == -1);
    (void)close(device.fd);
}

static void device_addresses_and_routes_are_there(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    hold(&holder, hold_device);
    (void)told(&holder);
    assert_true(netns_says("ip link show dev ktvpn0", "mtu 65000"));
    assert_true(netns_says("ip link show dev ktvpn0", "qlen 4096"));
    assert_true(netns_says("ip link show dev ktvpn0", ",UP"));
    assert_true(netns_says("ip addr show dev ktvpn0", "198.18.0.2/32"));
    assert_true(netns_says("ip addr show dev ktvpn0", "fd00::2/128"));
    assert_false(netns_says("ip addr show dev ktvpn0", "fe80:")); /* so there are no router solicitations */
    assert_false(netns_says("ip addr show dev ktvpn0", "tentative"));
    assert_true(netns_says("ip route show table main", "10.222.0.0/16 dev ktvpn0"));
    assert_true(netns_says("ip -6 route show table main", "fd12::/64 dev ktvpn0"));
    assert_true(netns_says("ip route get 10.222.7.7", "src 198.18.0.2"));
    assert_true(netns_says("ip -6 route get fd12::7", "src fd00::2"));
    assert_false(netns_says("ip rule", "ktvpn"));
    release(&holder);
    assert_true(device_is_gone());
    assert_int_equal(netns_lines_with("ktvpn"), 0);
    netns_leave(&netns);
}

static void all_is_gone_after_kill_9(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    hold(&holder, hold_device);
    int helper = told(&holder);
    assert_int_equal(kill(holder.pid, SIGKILL), 0);
    assert_int_equal(waitpid(holder.pid, NULL, 0), holder.pid);
    assert_int_equal(waitpid(helper, NULL, 0), helper); /* ended, and was handed to us */
    assert_true(eventually(device_is_gone));
    assert_int_equal(netns_lines_with("ktvpn"), 0);
    (void)close(holder.fd);
    netns_leave(&netns);
}

static void hold_device_and_run_a_plugin(int fd)
{
    struct helper helper;
    struct helper_device device;
    start(&helper);
    open_tun(&helper, &device);
    pid_t plugin = fork();
    if (plugin == 0) {
        execlp("sleep", "sleep", "60", (char *)NULL);
        _exit(99);
    }
    char name[64], program[64] = "";
    (void)snprintf(name, sizeof name, "/proc/%d/comm", plugin);
    while (strstr(program, "sleep") == NULL) { /* until its execve() */
        FILE *file = fopen(name, "re");
        CHECK(file != NULL && fgets(program, sizeof program, file) != NULL && fclose(file) == 0);
    }
    tell(fd, helper.pid);
    tell(fd, plugin);
    wait_for_release(fd);
}

static void k2_a_living_child_does_not_hold_the_device(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    hold(&holder, hold_device_and_run_a_plugin);
    int helper = told(&holder), plugin = told(&holder);
    assert_int_equal(kill(holder.pid, SIGKILL), 0);
    assert_int_equal(waitpid(holder.pid, NULL, 0), holder.pid);
    assert_int_equal(waitpid(helper, NULL, 0), helper);
    assert_true(eventually(device_is_gone));
    assert_int_equal(waitpid(plugin, NULL, WNOHANG), 0); /* it lives on */
    assert_int_equal(kill(plugin, SIGKILL), 0);
    assert_int_equal(waitpid(plugin, NULL, 0), plugin);
    (void)close(holder.fd);
    netns_leave(&netns);
}

/* The value of a line of /proc/PID/status, or "". */
static const char *status_of(pid_t pid, const char *field)
{
    static char value[256];
    char name[64], line[256];
    (void)snprintf(name, sizeof name, "/proc/%d/status", pid);
    FILE *file = fopen(name, "re");
    value[0] = '\0';
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0 && line[strlen(field)] == ':')
            (void)snprintf(value, sizeof value, "%s", line + strlen(field) + 2);
    }
    if (file != NULL)
        (void)fclose(file);
    value[strcspn(value, "\n")] = '\0';
    return value;
}

#define NO_CAPS "0000000000000000"
#define NET_ADMIN_ONLY "0000000000001000"

static void expect_rights(pid_t parent, pid_t helper, const char *ids)
{
    static const char *const sets[] = {"CapEff", "CapPrm", "CapInh", "CapAmb"};
    for (size_t i = 0; i < KT_ARRAY_LEN(sets); i++) {
        assert_string_equal(status_of(parent, sets[i]), NO_CAPS);
        assert_string_equal(status_of(helper, sets[i]), i < 2 ? NET_ADMIN_ONLY : NO_CAPS);
    }
    assert_string_equal(status_of(helper, "NoNewPrivs"), "1");
    assert_string_equal(status_of(helper, "Name"), "ktvpn-helper");
    assert_string_equal(status_of(parent, "Uid"), ids);
    assert_string_equal(status_of(helper, "Uid"), ids);
    assert_string_equal(status_of(parent, "Gid"), ids);
    assert_string_equal(status_of(helper, "Gid"), ids);
}

static void root_without_sudo_loses_all_capabilities(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    hold(&holder, hold_device);
    int helper = told(&holder);
    expect_rights(holder.pid, helper, "0\t0\t0\t0");
    assert_string_equal(status_of(holder.pid, "CapBnd"), NO_CAPS); /* an execve() as root brings nothing back */
    assert_string_equal(status_of(helper, "CapBnd"), NO_CAPS);

    char command[128];
    (void)snprintf(command, sizeof command, "ls -l /proc/%d/fd", helper);
    assert_true(netns_says(command, "/dev/null"));
    assert_false(netns_says(command, "/dev/net/tun")); /* handed over, not kept */
    assert_false(netns_says(command, " 6 ->"));        /* 0-2, the parent, netlink */
    release(&holder);
    netns_leave(&netns);
}

static void hold_device_by_sudo(int fd)
{
    static const gid_t of_root[] = {0, 4, 27};
    CHECK(setgroups(KT_ARRAY_LEN(of_root), of_root) == 0);
    CHECK(setenv("SUDO_UID", "65534", 1) == 0 && setenv("SUDO_GID", "65534", 1) == 0 &&
          setenv("HOME", "/root", 1) == 0);
    hold_device(fd);
    CHECK(strcmp(getenv("HOME"), "/root") != 0);
    CHECK(strcmp(getenv("USER"), "nobody") == 0);
    CHECK(setuid(0) != 0 && seteuid(0) != 0 && setgid(0) != 0 && setgroups(0, NULL) != 0);
    gid_t group[8];
    CHECK(getgroups(KT_ARRAY_LEN(group), group) == 1 && group[0] == NOBODY);
    CHECK(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
}

static void sudo_makes_both_the_user(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    hold(&holder, hold_device_by_sudo);
    int helper = told(&holder);
    expect_rights(holder.pid, helper, "65534\t65534\t65534\t65534");
    assert_string_equal(status_of(helper, "Groups"), " ");
    release(&holder);
    netns_leave(&netns);
}

static void start_with_bad_sudo_ids(int fd)
{
    static const char *const bad[] = {"", "-1", "+5", "1x", " 1", "4294967295", "99999999999", "0x10"};
    struct helper helper;
    struct error error;
    (void)fd;
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++) {
        CHECK(setenv("SUDO_UID", bad[i], 1) == 0 && setenv("SUDO_GID", "1", 1) == 0);
        CHECK(helper_start(&helper, &error) == -EINVAL);
        CHECK(setenv("SUDO_UID", "1", 1) == 0 && setenv("SUDO_GID", bad[i], 1) == 0);
        CHECK(helper_start(&helper, &error) == -EINVAL);
        CHECK(error.code == EXIT_CODE_MACHINE && helper.fd == -1);
    }
    CHECK(geteuid() == 0 && privilege_has_net_admin());
}

static void bad_sudo_ids_are_refused(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    hold(&holder, start_with_bad_sudo_ids);
    release(&holder);
    netns_leave(&netns);
}

static int raw(const struct helper *helper, const void *data, size_t size)
{
    struct helper_answer answer = {.rc = 1};
    CHECK(send(helper->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size);
    CHECK(recv(helper->fd, &answer, sizeof answer, 0) == sizeof answer);
    return answer.rc;
}

/* Somebody else sets the device down in between. */
static void be_set_down(int fd)
{
    struct helper helper;
    struct helper_device device;
    struct error error;
    int answer;
    start(&helper);
    open_tun(&helper, &device);
    route(&helper, "10.222.0.0/16", 0);
    tell(fd, 0);
    CHECK(read(fd, &answer, sizeof answer) == sizeof answer);
    CHECK(helper_restore_tun(&helper, &error) == 0);
    route(&helper, "10.222.0.0/16", 0);
    route(&helper, "fd00:222::/112", 0);
    CHECK(helper_restore_tun(&helper, &error) == 0); /* nothing was wrong: nothing changes */
    tell(fd, 0);
    wait_for_release(fd);
    helper_stop(&helper);
    (void)close(device.fd);
}

static void is_restored_after_it_was_set_down(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    int go = 1;
    netns_enter(&netns);
    hold(&holder, be_set_down);
    assert_int_equal(told(&holder), 0);
    assert_true(netns_says("ip link show dev ktvpn0", "alias kt.1"));
    netns_run("ip link set ktvpn0 down");
    assert_false(netns_says("ip route", "ktvpn0"));
    assert_int_equal(write(holder.fd, &go, sizeof go), sizeof go);
    assert_int_equal(told(&holder), 0);
    assert_true(netns_says("ip route", "10.222.0.0/16 dev ktvpn0"));
    assert_true(netns_says("ip -6 route get fd00:222::1", "src fd00::2"));
    assert_true(netns_says("ip -4 addr show dev ktvpn0", "198.18.0.2/32"));
    release(&holder);
    netns_leave(&netns);
}

static void be_hostile(int fd)
{
    static uint8_t junk[9000];
    struct helper helper;
    struct helper_device device, second;
    struct error error;
    (void)fd;
    start(&helper);
    struct helper_request early = {.operation = HELPER_ADD_ROUTE, .to = cidr_of("10.222.0.0/16")};
    CHECK(raw(&helper, &early, sizeof early) == -ENODEV);
    for (size_t size = 1; size < 300; size++) {
        if (size != sizeof early)
            CHECK(raw(&helper, junk, size) == -EBADMSG);
    }
    CHECK(raw(&helper, junk, sizeof junk) == -EBADMSG);
    for (int i = 0; i < 2000; i++) {
        memset(junk, 0, sizeof early);
        for (size_t k = 0; k < sizeof early; k++)
            junk[k] = (uint8_t)rand();
        CHECK(raw(&helper, junk, sizeof early) == -EBADMSG);
    }
    struct helper_tun tun = {.mtu = 100, .v4 = v4_of("198.18.0.2"), .alias = ""};
    CHECK(helper_restore_tun(&helper, &error) == -ENODEV);
    CHECK(helper_open_tun(&helper, &device, &tun, &error) == -EBADMSG);
    tun.mtu = 65000, tun.alias = "no name";
    CHECK(helper_open_tun(&helper, &device, &tun, &error) == -EBADMSG);
    open_tun(&helper, &device);
    tun.alias = "";
    CHECK(helper_open_tun(&helper, &second, &tun, &error) == -EBUSY);
    route(&helper, "10.222.0.0/16", 0);
    route(&helper, "10.222.0.0/16", -EEXIST);
    route(&helper, "10.223.0.0/16", 0);
    struct cidr to = cidr_of("10.223.0.0/16");
    CHECK(helper_remove_route(&helper, &to, &error) == 0);
    CHECK(helper_remove_route(&helper, &to, &error) == -ESRCH);
    /* A route of another device is not ours to hide or to remove. */
    route(&helper, "10.99.0.0/16", -EEXIST);
    to = cidr_of("10.99.0.0/16");
    CHECK(helper_remove_route(&helper, &to, &error) == -ESRCH);
    helper_stop(&helper);
    (void)close(device.fd);
}

static void hostile_requests_change_nothing(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    netns_run("ip link add lan0 type veth peer name lan1 && ip link set lan0 up && ip link set lan1 up");
    netns_run("ip route add 10.99.0.0/16 dev lan0");
    hold(&holder, be_hostile);
    release(&holder);
    assert_true(netns_says("ip route", "10.99.0.0/16 dev lan0"));
    assert_true(device_is_gone());
    netns_leave(&netns);
}

static void hold_device_without_v6(int fd)
{
    struct helper helper;
    struct helper_device device;
    start(&helper);
    open_tun(&helper, &device);
    CHECK(!device.has_v6);
    route(&helper, "10.222.0.0/16", 0);
    route(&helper, "fd12::/64", -EAFNOSUPPORT);
    tell(fd, helper.pid);
    wait_for_release(fd);
}

static void a_machine_without_ipv6_is_fine(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    netns_run(
        "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
    hold(&holder, hold_device_without_v6);
    (void)told(&holder);
    assert_true(netns_says("ip route get 10.222.7.7", "src 198.18.0.2"));
    release(&holder);
    netns_leave(&netns);
}

static void fill_the_table(int fd)
{
    struct helper helper;
    struct helper_device device;
    struct error error = {.text = ""};
    (void)fd;
    start(&helper);
    open_tun(&helper, &device);
    CHECK(device.has_v6);
    for (uint32_t i = 0; i < HELPER_ROUTES_MAX; i++) {
        struct address address = address_v4(0x0a000000u + i);
        struct cidr to = cidr_of_address(&address);
        CHECK(helper_add_route(&helper, &to, &error) == 0);
    }
    route(&helper, "10.222.0.0/16", -E2BIG);
    struct cidr to = cidr_of("10.0.0.7/32");
    CHECK(helper_remove_route(&helper, &to, &error) == 0);
    route(&helper, "10.222.0.0/16", 0);
}

static void routes_have_a_ceiling(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    hold(&holder, fill_the_table);
    release(&holder);
    netns_leave(&netns);
}

static void lose_the_helper(int fd)
{
    struct helper helper;
    struct helper_device device;
    (void)fd;
    start(&helper);
    open_tun(&helper, &device);
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < KT_ARRAY_LEN(ignored); i++)
        CHECK(kill(helper.pid, ignored[i]) == 0);
    route(&helper, "10.222.0.0/16", 0);
    CHECK(kill(helper.pid, SIGKILL) == 0);
    route(&helper, "10.223.0.0/16", -EPIPE);
    CHECK(helper.fd == -1 && helper.pid <= 0);
    route(&helper, "10.223.0.0/16", -EPIPE);
    CHECK(if_nametoindex("ktvpn0") != 0); /* the device is the parent's */
    (void)close(device.fd);
}

static void only_kill_9_ends_the_helper_and_it_is_noticed(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    hold(&holder, lose_the_helper);
    release(&holder);
    assert_true(eventually(device_is_gone));
    netns_leave(&netns);
}

static void two_at_once(int fd)
{
    struct helper helper[2];
    struct helper_device device[2];
    (void)fd;
    pid_t other = fork(); /* each drops its privileges, so each is its own process */
    if (other == 0) {
        start(&helper[1]);
        open_tun(&helper[1], &device[1]);
        CHECK(strncmp(device[1].name, "ktvpn", 5) == 0);
        _exit(strcmp(device[1].name, "ktvpn0") == 0 ? 10 : 11);
    }
    start(&helper[0]);
    open_tun(&helper[0], &device[0]);
    int status;
    CHECK(waitpid(other, &status, 0) == other && WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 10 || WEXITSTATUS(status) == 11);
    helper_stop(&helper[0]);
}

static void two_in_one_namespace_have_two_names(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    hold(&holder, two_at_once);
    release(&holder);
    netns_leave(&netns);
}

/* A /dev/net of this process alone. */
static void own_dev_net(int mode)
{
    CHECK(unshare(CLONE_NEWNS) == 0);
    CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    CHECK(mount("tmpfs", "/dev/net", "tmpfs", 0, NULL) == 0);
    (void)umask(0);
    if (mode >= 0)
        CHECK(mknod("/dev/net/tun", (mode_t)(S_IFCHR | mode), makedev(10, 200)) == 0);
}

static void expect_failure(int want)
{
    struct helper helper;
    struct error error = {.text = ""};
    CHECK(helper_start(&helper, &error) == want);
    CHECK(error.code == EXIT_CODE_MACHINE);
    CHECK(helper.fd == -1 && helper.pid <= 0);
    CHECK(strstr(error.text, "sudo ") != NULL && strstr(error.text, "container") != NULL);
    CHECK(strlen(error.text) < ERROR_TEXT_MAX - 1);
    CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

static void x5_without_the_file(int fd)
{
    (void)fd;
    own_dev_net(-1);
    expect_failure(-ENOENT);
}

static void x5_without_the_right(int fd)
{
    (void)fd;
    CHECK(setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0);
    expect_failure(-EPERM);
}

/* A program with file capabilities is the user from the start, and holds CAP_NET_ADMIN alone. */
static void become_file_capability_user(void)
{
    struct privilege_user nobody = {.uid = NOBODY, .gid = NOBODY};
    CHECK(privilege_keep_net_admin(&nobody) == 0);
}

static void x5_file_of_root(int fd)
{
    (void)fd;
    own_dev_net(0600);
    become_file_capability_user();
    expect_failure(-EACCES);
}

static void file_capability(int fd)
{
    own_dev_net(0666);
    become_file_capability_user();
    CHECK(setenv("SUDO_UID", "1", 1) == 0 && setenv("SUDO_GID", "1", 1) == 0); /* not believed: this user is not root */
    hold_device(fd);
}

static void x5_each_lack_is_told(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    void (*const holders[])(int fd) = {x5_without_the_file, x5_without_the_right, x5_file_of_root};
    for (size_t i = 0; i < KT_ARRAY_LEN(holders); i++) {
        hold(&holder, holders[i]);
        release(&holder);
        assert_int_equal(netns_lines_with("ktvpn"), 0);
    }
    netns_leave(&netns);
}

static void file_capabilities_are_enough(void **state)
{
    (void)state;
    struct netns netns;
    struct holder holder;
    netns_enter(&netns);
    hold(&holder, file_capability);
    int helper = told(&holder);
    expect_rights(holder.pid, helper, "65534\t65534\t65534\t65534");
    release(&holder);
    netns_leave(&netns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_addresses_and_routes_are_there),
        cmocka_unit_test(all_is_gone_after_kill_9),
        cmocka_unit_test(k2_a_living_child_does_not_hold_the_device),
        cmocka_unit_test(root_without_sudo_loses_all_capabilities),
        cmocka_unit_test(sudo_makes_both_the_user),
        cmocka_unit_test(bad_sudo_ids_are_refused),
        cmocka_unit_test(is_restored_after_it_was_set_down),
        cmocka_unit_test(hostile_requests_change_nothing),
        cmocka_unit_test(a_machine_without_ipv6_is_fine),
        cmocka_unit_test(routes_have_a_ceiling),
        cmocka_unit_test(only_kill_9_ends_the_helper_and_it_is_noticed),
        cmocka_unit_test(two_in_one_namespace_have_two_names),
        cmocka_unit_test(x5_each_lack_is_told),
        cmocka_unit_test(file_capabilities_are_enough),
    };
    return unit_run(tests);
}
