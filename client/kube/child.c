/* fork(), then only calls that are safe beside other threads, then execve(). A close-on-exec pipe carries errno when
 * execve() fails; its end says that it went well, so child_open() waits for no longer than the kernel needs.
 *
 * The end is seen by a pidfd: no SIGCHLD handler, so nobody else's children are touched. What a grandchild still holds
 * of the output pipe is not waited for for long. */
#include "client/kube/child.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "common/mem.h"

#define DRAIN_MS 500 /* after the end, for output that a grandchild may still write */
#define FIRST_BYTES 4096

struct child {
    pid_t pid; /* 0: reaped */
    bool is_group, has_exited, has_eof, is_closing;
    uv_loop_t *loop;
    uv_poll_t exit, output;
    uv_timer_t timer;
    int exit_fd, output_fd;
    unsigned handles;
    uint8_t *data;
    size_t size, capacity, max;
    struct child_result result;
    void (*on_end)(void *context, const struct child_result *result);
    void (*on_closed)(void *context);
    void *context;
};

/* ---- in the child ---- */

static void reset_signals(void)
{
    sigset_t none;
    (void)sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int set_descriptors(const struct child_options *options, int output)
{
    int null = options->is_interactive ? STDIN_FILENO : open("/dev/null", O_RDONLY);
    if (null < 0 || (null != STDIN_FILENO && dup2(null, STDIN_FILENO) < 0) || dup2(output, STDOUT_FILENO) < 0)
        return -errno;
    /* Each of ours is O_CLOEXEC; this is the second lock. An old kernel does not know it. */
    (void)syscall(SYS_close_range, STDERR_FILENO + 1u, ~0u, CLOSE_RANGE_CLOEXEC);
    return 0;
}

static void run(const struct child_options *options, pid_t parent, int output, int report)
{
    if (!options->is_interactive)
        (void)setpgid(0, 0);
    int rc = prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 ? 0 : -errno;
    if (getppid() != parent) /* it died before it could be watched */
        _exit(1);
    if (rc == 0)
        rc = set_descriptors(options, output);
    reset_signals();
    if (rc == 0 && execve(options->file, options->argv, options->env) != 0)
        rc = -errno;
    if (write(report, &rc, sizeof rc) != (ssize_t)sizeof rc)
        _exit(126);
    _exit(127);
}

/* ---- its end ---- */

static void kill_it(const struct child *child)
{
    if (child->pid > 0)
        (void)kill(child->is_group ? -child->pid : child->pid, SIGKILL);
}

static void reap(struct child *child, int options)
{
    int status = 0;
    if (child->pid <= 0 || waitpid(child->pid, &status, options) != child->pid)
        return;
    child->pid = 0;
    child->has_exited = true;
    if (child->result.end == CHILD_TOO_LATE || child->result.end == CHILD_TOO_LONG)
        return;
    child->result.end = WIFEXITED(status) ? CHILD_EXITED : CHILD_KILLED;
    child->result.number = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
}

static void end_if_over(struct child *child)
{
    if (child->is_closing || !child->has_exited || !child->has_eof || child->on_end == NULL)
        return;
    void (*on_end)(void *context, const struct child_result *result) = child->on_end;
    child->on_end = NULL;
    (void)uv_timer_stop(&child->timer);
    child->result.output = child->data;
    child->result.size = child->size;
    on_end(child->context, &child->result);
}

static void end_output(struct child *child)
{
    (void)uv_poll_stop(&child->output);
    child->has_eof = true;
}

static void give_up(struct child *child, enum child_end why)
{
    child->result.end = why;
    kill_it(child);
    end_output(child);
    end_if_over(child);
}

static void on_timer(uv_timer_t *timer)
{
    struct child *child = KT_CONTAINER_OF(timer, struct child, timer);
    if (!child->has_exited) {
        give_up(child, CHILD_TOO_LATE);
        return;
    }
    end_output(child);
    end_if_over(child);
}

static void on_exit_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct child *child = KT_CONTAINER_OF(poll, struct child, exit);
    reap(child, WNOHANG);
    if (!child->has_exited)
        return;
    (void)uv_poll_stop(&child->exit);
    (void)uv_timer_start(&child->timer, on_timer, DRAIN_MS, 0);
    end_if_over(child);
}

/* Doubles, and wipes what was: there is a token in it. */
static bool grow(struct child *child)
{
    size_t capacity = KT_MIN(2 * child->capacity, child->max + 1);
    uint8_t *data = kt_calloc(1, capacity);
    if (data == NULL)
        return false;
    memcpy(data, child->data, child->size);
    kt_free_secret(child->data, child->size);
    child->data = data;
    child->capacity = capacity;
    return true;
}

static void read_output(struct child *child)
{
    for (;;) {
        if (child->size == child->max || (child->size + 1 == child->capacity && !grow(child))) {
            give_up(child, CHILD_TOO_LONG);
            return;
        }
        ssize_t n = read(child->output_fd, child->data + child->size, child->capacity - 1 - child->size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            end_output(child);
            end_if_over(child);
            return;
        }
        child->size += (size_t)n;
    }
}

static void on_output(uv_poll_t *poll, int status, int events)
{
    (void)status; /* reading finds out */
    (void)events;
    read_output(KT_CONTAINER_OF(poll, struct child, output));
}

/* ---- life ---- */

static void free_all(struct child *child)
{
    if (child->exit_fd >= 0)
        (void)close(child->exit_fd);
    if (child->output_fd >= 0)
        (void)close(child->output_fd);
    kt_free_secret(child->data, child->size);
    kt_free(child);
}

static void closed_one(struct child *child)
{
    if (--child->handles > 0)
        return;
    void (*on_closed)(void *context) = child->on_closed;
    void *context = child->context;
    free_all(child);
    on_closed(context);
}

static void on_poll_closed(uv_handle_t *handle)
{
    closed_one(handle->data);
}

/* 0, or what execve() said. */
static int read_report(int fd)
{
    int rc = 0;
    ssize_t n;
    do
        n = read(fd, &rc, sizeof rc);
    while (n < 0 && errno == EINTR);
    return n == 0 ? 0 : n == (ssize_t)sizeof rc ? rc : -EIO;
}

static int start(struct child *child, const struct child_options *options)
{
    int output[2], report[2];
    if (pipe2(output, O_CLOEXEC) != 0)
        return -errno;
    if (pipe2(report, O_CLOEXEC) != 0) {
        int rc = -errno;
        (void)close(output[0]);
        (void)close(output[1]);
        return rc;
    }
    pid_t parent = getpid();
    child->pid = fork();
    int rc = child->pid < 0 ? -errno : 0;
    if (child->pid == 0)
        run(options, parent, output[1], report[1]);
    (void)close(output[1]);
    (void)close(report[1]);
    if (rc == 0)
        rc = read_report(report[0]);
    (void)close(report[0]);
    child->output_fd = output[0];
    (void)fcntl(child->output_fd, F_SETFL, O_NONBLOCK);
    return rc;
}

static int watch(struct child *child, unsigned limit_ms)
{
    child->exit_fd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    if (child->exit_fd < 0)
        return -errno;
    int rc = uv_poll_init(child->loop, &child->exit, child->exit_fd);
    if (rc != 0)
        return rc;
    /* Neither of the following can fail once epoll took the first one. */
    (void)uv_poll_init(child->loop, &child->output, child->output_fd);
    (void)uv_timer_init(child->loop, &child->timer);
    child->exit.data = child->output.data = child->timer.data = child;
    child->handles = 3;
    (void)uv_poll_start(&child->exit, UV_READABLE, on_exit_poll);
    (void)uv_poll_start(&child->output, UV_READABLE, on_output);
    (void)uv_timer_start(&child->timer, on_timer, limit_ms, 0);
    return 0;
}

int child_open(struct child **out, struct uv_loop_s *loop, const struct child_options *options,
               void (*on_end)(void *context, const struct child_result *result), void *context)
{
    struct child *child = kt_calloc(1, sizeof *child);
    if (child == NULL)
        return -ENOMEM;
    *child = (struct child){.loop = loop,
                            .exit_fd = -1,
                            .output_fd = -1,
                            .capacity = FIRST_BYTES,
                            .max = KT_MAX(options->output_max, (size_t)FIRST_BYTES),
                            .is_group = !options->is_interactive,
                            .on_end = on_end,
                            .context = context};
    child->data = kt_calloc(1, child->capacity);
    int rc = child->data == NULL ? -ENOMEM : start(child, options);
    if (rc == 0)
        rc = watch(child, options->limit_ms);
    if (rc == 0) {
        *out = child;
        return 0;
    }
    kill_it(child);
    reap(child, 0);
    free_all(child);
    return rc;
}

/* Waits for its death, which SIGKILL makes short. */
void child_close(struct child *child, void (*on_closed)(void *context))
{
    if (child->is_closing)
        return;
    child->is_closing = true;
    child->on_closed = on_closed;
    kill_it(child);
    reap(child, 0);
    uv_close((uv_handle_t *)&child->exit, on_poll_closed);
    uv_close((uv_handle_t *)&child->output, on_poll_closed);
    uv_close((uv_handle_t *)&child->timer, on_poll_closed);
}
