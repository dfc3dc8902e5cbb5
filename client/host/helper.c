#include "client/host/helper.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/host/helper_child.h"
#include "client/host/helper_request.h"
#include "common/log.h"

#define ANSWER_S 10 /* the kernel answers netlink in microseconds; beyond this the helper is given up */

static int say_file(struct error *error, int rc)
{
    switch (-rc) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return error_set(
            error, EXIT_CODE_MACHINE, rc,
            "this machine has no TUN device (/dev/net/tun: %s): load it with `sudo modprobe tun`, or give it to the "
            "container (--device /dev/net/tun)",
            strerror(-rc));
    case EACCES:
    case EPERM:
        return error_set(error, EXIT_CODE_MACHINE, rc,
                         "/dev/net/tun may not be opened (%s): run `sudo ktvpn up`, or let this user open it "
                         "(`sudo chmod 0666 /dev/net/tun`; in a container: --device /dev/net/tun)",
                         strerror(-rc));
    default:
        return error_set(error, EXIT_CODE_MACHINE, rc, "cannot open /dev/net/tun: %s", strerror(-rc));
    }
}

static int say_no_right(struct error *error)
{
    return error_set(error, EXIT_CODE_MACHINE, -EPERM,
                     "a TUN device needs CAP_NET_ADMIN: run `sudo ktvpn up`, or allow it once with `sudo setcap "
                     "cap_net_admin+ep $(command -v ktvpn)` (in a container: --cap-add NET_ADMIN)");
}

static int say(struct error *error, const struct helper_answer *answer)
{
    int rc = answer->rc;
    switch ((enum helper_step)answer->step) {
    case HELPER_STEP_FILE:
        return say_file(error, rc);
    case HELPER_STEP_CREATE:
        if (rc == -EPERM)
            return say_no_right(error);
        return error_set(error, EXIT_CODE_MACHINE, rc, "cannot make the TUN device: %s", strerror(-rc));
    case HELPER_STEP_IDENTITY:
        return error_set(error, EXIT_CODE_MACHINE, rc, "the helper cannot give up root's rights: %s", strerror(-rc));
    case HELPER_STEP_LINK:
        return error_set(error, EXIT_CODE_MACHINE, rc, "cannot set up the TUN device: %s", strerror(-rc));
    case HELPER_STEP_ADDRESS:
        return error_set(error, EXIT_CODE_MACHINE, rc, "cannot give the TUN device its address: %s", strerror(-rc));
    case HELPER_STEP_ROUTE:
    case HELPER_STEP_REQUEST:
    case HELPER_STEP_NONE:
        break;
    }
    return error_set(error, EXIT_CODE_MACHINE, rc, "the helper refused a request: %s", strerror(-rc));
}

/* The descriptor in an answer, or -1. The kernel has closed what did not fit. */
static int fd_of(struct msghdr *head)
{
    int fd = -1;
    const struct cmsghdr *rights = CMSG_FIRSTHDR(head);
    if (rights != NULL && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS &&
        rights->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    return fd;
}

static int receive(int from, struct helper_answer *answer, int *fd)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct iovec vector = {.iov_base = answer, .iov_len = sizeof *answer};
    struct msghdr head = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t got;
    do {
        got = recvmsg(from, &head, MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    *fd = fd_of(&head);
    if (got == sizeof *answer)
        return 0;
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
    return -EPIPE;
}

/* A helper that did not answer is not asked again: a late answer would be taken for another one's. */
static int give_up(struct helper *helper, int rc, struct error *error)
{
    helper_stop(helper);
    return error_set(error, EXIT_CODE_MACHINE, -EPIPE, "the privileged helper is gone: %s", strerror(-rc));
}

/* 0, and answer->rc says how it went. `fd` is -1 unless one came. */
static int ask(struct helper *helper, const struct helper_request *request, struct helper_answer *answer, int *fd,
               struct error *error)
{
    *fd = -1;
    if (helper->fd < 0)
        return error_set(error, EXIT_CODE_MACHINE, -EPIPE, "the privileged helper is not running");
    int rc = send(helper->fd, request, sizeof *request, MSG_NOSIGNAL) < 0 ? -errno : 0;
    if (rc == 0)
        rc = receive(helper->fd, answer, fd);
    return rc != 0 ? give_up(helper, rc, error) : 0;
}

static int spawn(struct helper *helper, const struct privilege_user *user)
{
    int pair[2];
    struct timeval timeout = {.tv_sec = ANSWER_S};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        helper_child_run(pair[1], user);
    int rc = pid < 0 ? -errno : 0;
    (void)close(pair[1]);
    if (rc == 0 && setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0)
        rc = -errno;
    *helper = (struct helper){.fd = pair[0], .pid = pid};
    if (rc != 0)
        helper_stop(helper);
    return rc;
}

/* The child's first answer: it has made the device and given up its other rights. */
static int await_ready(struct helper *helper, struct error *error)
{
    struct helper_answer answer;
    int fd;
    int rc = receive(helper->fd, &answer, &fd);
    if (rc != 0)
        return give_up(helper, rc, error);
    if (answer.rc != 0) {
        helper_stop(helper);
        return say(error, &answer);
    }
    return 0;
}

int helper_start(struct helper *helper, struct error *error)
{
    struct privilege_user user;
    *helper = (struct helper){.fd = -1};
    int rc = privilege_find_user(&user);
    if (rc != 0)
        return error_set(error, EXIT_CODE_MACHINE, rc, "SUDO_UID or SUDO_GID in the environment is no number");
    if (!privilege_has_net_admin())
        return say_no_right(error);
    struct resolved resolved;
    if (resolved_start(&resolved) != 0) /* names will not resolve, and machine.h says why */
        log_debug("helper: no process for systemd-resolved");
    rc = spawn(helper, &user);
    helper->resolved = resolved;
    if (rc != 0)
        helper_stop(helper);
    if (rc != 0)
        return error_set(error, EXIT_CODE_MACHINE, rc, "cannot start the privileged helper: %s", strerror(-rc));
    rc = await_ready(helper, error);
    if (rc != 0)
        return rc;
    rc = privilege_drop(&user);
    if (rc != 0) {
        helper_stop(helper);
        return error_set(error, EXIT_CODE_MACHINE, rc, "cannot give up root's rights to become user %u: %s", user.uid,
                         strerror(-rc));
    }
    log_debug("helper %d: created", helper->pid);
    return 0;
}

void helper_stop(struct helper *helper)
{
    if (helper->fd >= 0)
        (void)close(helper->fd);
    if (helper->pid > 0) {
        (void)kill(helper->pid, SIGKILL); /* EOF would do, if nothing held it up */
        while (waitpid(helper->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        log_debug("helper %d: destroyed", helper->pid);
    }
    resolved_stop(&helper->resolved);
    *helper = (struct helper){.fd = -1};
}

int helper_open_tun(struct helper *helper, struct helper_device *device, const struct helper_tun *tun,
                    struct error *error)
{
    struct helper_request request = {.operation = HELPER_OPEN_TUN, .mtu = tun->mtu, .v4 = tun->v4, .v6 = tun->v6};
    struct helper_answer answer = {.rc = -EPIPE};
    int fd;
    (void)snprintf(request.alias, sizeof request.alias, "%s", tun->alias);
    int rc = ask(helper, &request, &answer, &fd, error);
    if (rc != 0)
        return rc;
    if (answer.rc != 0)
        return say(error, &answer);
    if (fd < 0)
        return give_up(helper, -EPIPE, error);
    *device = (struct helper_device){.fd = fd, .index = answer.index, .has_v6 = answer.has_v6 != 0};
    memcpy(device->name, answer.name, sizeof device->name - 1);
    return 0;
}

int helper_restore_tun(struct helper *helper, struct error *error)
{
    struct helper_request request = {.operation = HELPER_RESTORE_TUN};
    struct helper_answer answer = {.rc = -EPIPE};
    int fd;
    int rc = ask(helper, &request, &answer, &fd, error);
    return rc != 0 || answer.rc == 0 ? rc : say(error, &answer);
}

static int change_route(struct helper *helper, enum helper_operation operation, const struct cidr *to,
                        struct error *error)
{
    struct helper_request request = {.operation = operation, .to = *to};
    struct helper_answer answer = {.rc = -EPIPE};
    int fd;
    int rc = ask(helper, &request, &answer, &fd, error);
    if (rc != 0 || answer.rc == 0)
        return rc;
    char text[CIDR_STRLEN];
    if (answer.rc == -EEXIST)
        return error_set(
            error, EXIT_CODE_CONFLICT, answer.rc,
            "a route to %s was there already: keep the range out of the tunnel with --exclude %s, or remove that route",
            cidr_print(to, text), text);
    return error_set(error, EXIT_CODE_MACHINE, answer.rc, "cannot %s the route to %s: %s",
                     operation == HELPER_ADD_ROUTE ? "add" : "remove", cidr_print(to, text), strerror(-answer.rc));
}

int helper_add_route(struct helper *helper, const struct cidr *to, struct error *error)
{
    return change_route(helper, HELPER_ADD_ROUTE, to, error);
}

int helper_remove_route(struct helper *helper, const struct cidr *to, struct error *error)
{
    return change_route(helper, HELPER_REMOVE_ROUTE, to, error);
}
