/* The privileged child.
 *
 *   start   /dev/null on 0-2, every descriptor but the parent's closed; open /dev/net/tun and make the device, still
 *           with the rights it was forked with, because the file may be root's alone; then CAP_NET_ADMIN only
 *   serve   OPEN_TUN once: set up, hand over the descriptor, close the own copy: the device's life is the parent's
 *           ADD_ROUTE, REMOVE_ROUTE: on that device
 *   end     EOF: the parent is gone. No PR_SET_PDEATHSIG: a parent that detaches goes on as another process
 *
 * The device is made at the start, not when it is asked for: what this machine lacks is then known before anything was
 * done to a cluster. INT, TERM and HUP are ignored: Ctrl-C reaches the whole terminal group, and the parent is the one
 * that decides when to leave. */
#include "client/host/helper_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/host/device.h"
#include "client/host/helper_request.h"

#define PARENT_FD 3
#define KEPT_FDS 4

struct child {
    struct rtnl rtnl;
    int tun; /* -1: handed over */
    char name[DEVICE_NAME_MAX];
    unsigned index;
    uint16_t mtu;
    struct address v4, v6; /* that the device was given */
    size_t routes;
};

static void close_others(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, KEPT_FDS); /* it may be one of the four itself */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < PARENT_FD && null >= 0; i++)
        (void)dup2(null, i);
    (void)dup2(high, PARENT_FD);
    if (close_range(KEPT_FDS, ~0u, 0) == 0)
        return;
    struct rlimit limit = {.rlim_cur = 1024}; /* a kernel before 5.9 */
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    for (int i = KEPT_FDS; i < (int)KT_MIN(limit.rlim_cur, 1u << 20); i++)
        (void)close(i);
}

static void ignore_signals(void)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < KT_ARRAY_LEN(ignored); i++)
        (void)signal(ignored[i], SIG_IGN);
}

/* `tun` < 0: no descriptor to hand over. */
static int answer(const struct helper_answer *message, int tun)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec vector = {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof *message};
    struct msghdr head = {.msg_iov = &vector, .msg_iovlen = 1};
    if (tun >= 0) {
        head.msg_control = control;
        head.msg_controllen = sizeof control;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&head);
        *rights =
            (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(rights), &tun, sizeof tun);
    }
    return sendmsg(PARENT_FD, &head, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static struct helper_answer failed(enum helper_step step, int rc)
{
    return (struct helper_answer){.rc = rc, .step = rc == 0 ? HELPER_STEP_NONE : step};
}

static struct helper_answer start(struct child *child, const struct privilege_user *user)
{
    child->tun = device_open_file();
    if (child->tun < 0)
        return failed(HELPER_STEP_FILE, child->tun);
    int rc = device_create(child->tun, child->name, &child->index);
    if (rc == 0)
        rc = rtnl_open(&child->rtnl);
    if (rc != 0)
        return failed(HELPER_STEP_CREATE, rc);
    return failed(HELPER_STEP_IDENTITY, privilege_keep_net_admin(user));
}

/* net.ipv6.conf.*.disable_ipv6, or a kernel without it: no reason to go without IPv4. */
static bool is_without_v6(int rc)
{
    return rc == -EACCES || rc == -EAFNOSUPPORT || rc == -EOPNOTSUPP;
}

static int add_addresses(struct child *child, const struct helper_request *request)
{
    int rc = request->v4.family != ADDRESS_NONE ? device_add_address(&child->rtnl, child->index, &request->v4) : 0;
    if (rc != 0)
        return rc;
    child->v4 = request->v4;
    if (request->v6.family == ADDRESS_NONE)
        return 0;
    rc = device_add_address(&child->rtnl, child->index, &request->v6);
    if (rc == 0)
        child->v6 = request->v6;
    return is_without_v6(rc) ? 0 : rc;
}

static struct helper_answer open_tun(struct child *child, const struct helper_request *request)
{
    if (child->tun < 0)
        return failed(HELPER_STEP_LINK, -EBUSY);
    int rc = device_set_alias(&child->rtnl, child->index, request->alias);
    if (rc == 0)
        rc = device_bring_up(&child->rtnl, child->index, request->mtu);
    if (rc != 0)
        return failed(HELPER_STEP_LINK, rc);
    rc = add_addresses(child, request);
    if (rc != 0)
        return failed(HELPER_STEP_ADDRESS, rc);
    child->mtu = request->mtu;
    struct helper_answer done = {.index = child->index, .has_v6 = child->v6.family == ADDRESS_V6};
    memcpy(done.name, child->name, sizeof done.name);
    return done;
}

/* IPv4 addresses outlive a device that is set down, IPv6 addresses and all routes do not. */
static struct helper_answer restore_tun(struct child *child)
{
    if (child->tun >= 0)
        return failed(HELPER_STEP_LINK, -ENODEV);
    int rc = device_bring_up(&child->rtnl, child->index, child->mtu);
    if (rc != 0)
        return failed(HELPER_STEP_LINK, rc);
    child->routes = 0;
    if (child->v6.family == ADDRESS_V6)
        rc = device_add_address(&child->rtnl, child->index, &child->v6);
    return failed(HELPER_STEP_ADDRESS, rc == -EEXIST ? 0 : rc);
}

/* The device is the parent's now, has an address of the family, and room for one route more. */
static int check_route(const struct child *child, const struct address *source)
{
    if (child->tun >= 0)
        return -ENODEV;
    if (source->family == ADDRESS_NONE)
        return -EAFNOSUPPORT;
    return child->routes == HELPER_ROUTES_MAX ? -E2BIG : 0;
}

static struct helper_answer add_route(struct child *child, const struct cidr *to)
{
    const struct address *source = to->address.family == ADDRESS_V6 ? &child->v6 : &child->v4;
    int rc = check_route(child, source);
    if (rc != 0)
        return failed(HELPER_STEP_ROUTE, rc);
    rc = device_add_route(&child->rtnl, child->index, to, source);
    child->routes += rc == 0;
    return failed(HELPER_STEP_ROUTE, rc);
}

static struct helper_answer remove_route(struct child *child, const struct cidr *to)
{
    if (child->tun >= 0)
        return failed(HELPER_STEP_ROUTE, -ENODEV);
    int rc = device_remove_route(&child->rtnl, child->index, to);
    child->routes -= rc == 0 && child->routes > 0;
    return failed(HELPER_STEP_ROUTE, rc);
}

static int serve(struct child *child, const void *data, size_t size)
{
    struct helper_request request;
    struct helper_answer result;
    if (helper_request_check(&request, data, size) != 0) {
        result = failed(HELPER_STEP_REQUEST, -EBADMSG);
        return answer(&result, -1);
    }
    if (request.operation == HELPER_OPEN_TUN) {
        result = open_tun(child, &request);
        int rc = answer(&result, result.rc == 0 ? child->tun : -1);
        if (result.rc == 0) {
            (void)close(child->tun);
            child->tun = -1;
        }
        return rc;
    }
    if (request.operation == HELPER_RESTORE_TUN)
        result = restore_tun(child);
    else if (request.operation == HELPER_ADD_ROUTE)
        result = add_route(child, &request.to);
    else
        result = remove_route(child, &request.to);
    return answer(&result, -1);
}

void helper_child_run(int fd, const struct privilege_user *user)
{
    struct child child = {.tun = -1};
    uint8_t data[sizeof(struct helper_request) + 1]; /* one byte more: a longer request shows */
    (void)prctl(PR_SET_NAME, "ktvpn-helper", 0, 0, 0);
    ignore_signals();
    close_others(fd);
    struct helper_answer ready = start(&child, user);
    int rc = answer(&ready, -1);
    ssize_t got = ready.rc == 0 ? 1 : 0;
    while (rc == 0 && got > 0) {
        do {
            got = recv(PARENT_FD, data, sizeof data, 0);
        } while (got < 0 && errno == EINTR);
        if (got > 0)
            rc = serve(&child, data, (size_t)got);
    }
    _exit(0);
}
