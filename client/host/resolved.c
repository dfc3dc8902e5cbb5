#include "client/host/resolved.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/host/privilege.h"
#include "common/log.h"

#define RUNS "/run/systemd/resolve/stub-resolv.conf"
#define PARENT_FD 3
#define FAILED 127
#define WORDS 3 /* resolvectl, its verb, the device */

static const char *find_program(void)
{
    static const char *const paths[] = {"/usr/bin/resolvectl", "/bin/resolvectl"};
    for (size_t i = 0; i < KT_ARRAY_LEN(paths); i++) {
        if (access(paths[i], X_OK) == 0)
            return paths[i];
    }
    return NULL;
}

bool resolved_is_asked(const struct resolvconf *conf)
{
    bool is_stub = false;
    for (size_t i = 0; i < conf->servers; i++) {
        const struct address stub = address_v4(0x7f000035), plain = address_v4(0x7f000036);
        is_stub = is_stub || address_equal(&conf->server[i], &stub) || address_equal(&conf->server[i], &plain);
    }
    return is_stub && access(RUNS, F_OK) == 0;
}

/* --- the child ---------------------------------------------------------------------------------------------------- */

static void close_others(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, PARENT_FD + 1);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < PARENT_FD && null >= 0; i++)
        (void)dup2(null, i);
    (void)dup3(high, PARENT_FD, O_CLOEXEC);
    (void)close_range(PARENT_FD + 1, ~0u, 0);
}

static void execute(const char *program, char *const argv[])
{
    static char *const nothing[] = {NULL};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 1; i < NSIG; i++)
        (void)signal(i, SIG_DFL);
    (void)execve(program, argv, nothing);
    _exit(FAILED);
}

static int run(const char *program, const char *verb, const struct resolved_request *request, char *const *words,
               size_t count)
{
    char *argv[WORDS + RESOLVED_DOMAINS_MAX + 1] = {(char *)(uintptr_t)program, (char *)(uintptr_t)verb,
                                                    (char *)(uintptr_t)request->device};
    memcpy(argv + WORDS, words, count * sizeof *words);
    pid_t pid = fork();
    if (pid == 0)
        execute(program, argv);
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid < 0)
        return -errno;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EREMOTEIO;
}

/* The domains first: a server without domains might be asked for everything for a moment. */
static int set(const char *program, struct resolved_request *request)
{
    char server[ADDRESS_STRLEN], no[] = "no";
    char *domain[RESOLVED_DOMAINS_MAX], *servers[] = {server}, *off[] = {no};
    for (uint32_t i = 0; i < request->domains; i++)
        domain[i] = request->domain[i];
    (void)address_print(&request->server, server);
    int rc = run(program, "default-route", request, off, 1);
    if (rc == 0)
        rc = run(program, "domain", request, domain, request->domains);
    return rc != 0 ? rc : run(program, "dns", request, servers, 1);
}

static void serve(const char *program)
{
    struct resolved_request request;
    char data[sizeof request + 1]; /* one byte more: a longer request shows */
    for (;;) {
        ssize_t got = recv(PARENT_FD, data, sizeof data, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return;
        int rc = resolved_request_check(&request, data, (size_t)got);
        int32_t result = rc != 0 ? rc : set(program, &request);
        if (send(PARENT_FD, &result, sizeof result, MSG_NOSIGNAL) < 0)
            return;
    }
}

/* root's id is all that systemd-resolved looks at. */
KT_NORETURN static void child_run(int fd, const char *program)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    const struct privilege_user root = {0};
    (void)prctl(PR_SET_NAME, "ktvpn-resolved", 0, 0, 0);
    for (size_t i = 0; i < KT_ARRAY_LEN(ignored); i++)
        (void)signal(ignored[i], SIG_IGN);
    close_others(fd);
    if (privilege_drop(&root) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && chdir("/") == 0)
        serve(program);
    _exit(0);
}

/* --- the parent --------------------------------------------------------------------------------------------------- */

int resolved_start(struct resolved *resolved)
{
    int pair[2];
    const char *program = find_program();
    *resolved = (struct resolved){.fd = -1};
    if (geteuid() != 0 || program == NULL || access(RUNS, F_OK) != 0)
        return 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        child_run(pair[1], program);
    int rc = pid < 0 ? -errno : 0;
    (void)close(pair[1]);
    if (rc == 0)
        *resolved = (struct resolved){.fd = pair[0], .pid = pid};
    else
        (void)close(pair[0]);
    return rc;
}

/* Root's process is not ours to kill once we are not root; it ends when the socket does, and is not waited for then. */
void resolved_stop(struct resolved *resolved)
{
    if (resolved->pid > 0) {
        (void)close(resolved->fd);
        bool is_killed = kill(resolved->pid, SIGKILL) == 0;
        while (waitpid(resolved->pid, NULL, is_killed ? 0 : WNOHANG) < 0 && errno == EINTR)
            ;
    }
    *resolved = (struct resolved){.fd = -1};
}

int resolved_set(struct resolved *resolved, const struct resolved_request *request)
{
    if (resolved->pid <= 0)
        return -EPERM;
    ssize_t sent = send(resolved->fd, request, sizeof *request, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? -errno : 0;
}

int resolved_result(struct resolved *resolved)
{
    int32_t result = 0;
    ssize_t got = resolved->pid > 0 ? recv(resolved->fd, &result, sizeof result, MSG_DONTWAIT) : 0;
    if (got < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    return got == sizeof result ? result : -EPIPE;
}
