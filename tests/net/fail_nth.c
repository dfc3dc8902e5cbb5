/* Preloaded into a program: the Nth call of one kind fails, as the kernel or the C library could make it fail.
 *
 *   FAIL_KIND   memory, read, write, open (whatever makes a descriptor) or set (setsockopt, ioctl, bind, connect)
 *   FAIL_NTH    0: none
 *   FAIL_LOG    where the number of calls is written when the program ends
 *
 * Calls that libuv makes for itself (its event descriptor, its tables) are left alone: it aborts by design, and nobody
 * can do anything about it. So are calls on pipes and event descriptors. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static struct {
    const char *kind;
    unsigned long nth, count;
    pid_t pid; /* 0: not told yet */
} fail;

__attribute__((constructor)) static void begin(void)
{
    const char *nth = getenv("FAIL_NTH"), *kind = getenv("FAIL_KIND");
    fail.nth = nth == NULL ? 0 : strtoul(nth, NULL, 10);
    fail.kind = kind == NULL ? "" : kind;
    fail.pid = getpid();
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FAIL_LOG");
    unsigned long count = fail.count;
    fail.nth = 0;
    FILE *log = path == NULL || getpid() != fail.pid ? NULL : fopen(path, "w");
    if (log == NULL)
        return;
    (void)fprintf(log, "%lu\n", count);
    (void)fclose(log);
}

static bool is_libuv(void *caller)
{
    static _Thread_local bool is_asking; /* dladdr() may allocate */
    Dl_info info;
    if (is_asking)
        return true;
    is_asking = true;
    bool is_it = dladdr(caller, &info) == 0 || info.dli_fname == NULL || strstr(info.dli_fname, "libuv") != NULL ||
                 strstr(info.dli_fname, "ld-linux") != NULL;
    is_asking = false;
    return is_it;
}

static bool now(const char *kind, void *caller)
{
    if (fail.pid == 0 || strcmp(kind, fail.kind) != 0 || is_libuv(caller))
        return false;
    return __atomic_add_fetch(&fail.count, 1, __ATOMIC_RELAXED) == fail.nth;
}

static bool now_on(const char *kind, int fd, void *caller)
{
    struct stat about;
    if (fail.pid == 0 || strcmp(kind, fail.kind) != 0 || fd <= STDERR_FILENO || fstat(fd, &about) != 0)
        return false;
    return (S_ISSOCK(about.st_mode) || S_ISREG(about.st_mode) || S_ISCHR(about.st_mode)) && now(kind, caller);
}

#define CALLER __builtin_return_address(0)
#define NEXT(type, name) ((type)(__INTPTR_TYPE__)dlsym(RTLD_NEXT, name))
#define FAIL_WITH(number, result) \
    do {                          \
        errno = number;           \
        return result;            \
    } while (0)

void *malloc(size_t size)
{
    if (now("memory", CALLER))
        FAIL_WITH(ENOMEM, NULL);
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    if (now("memory", CALLER))
        FAIL_WITH(ENOMEM, NULL);
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    if (now("memory", CALLER))
        FAIL_WITH(ENOMEM, NULL);
    return __libc_realloc(memory, size);
}

#define WRAP_IO(kind, number, type, name, parameters, arguments) \
    type name parameters                                         \
    {                                                            \
        if (now_on(kind, fd, CALLER))                            \
            FAIL_WITH(number, -1);                               \
        return NEXT(type(*) parameters, #name) arguments;        \
    }

WRAP_IO("read", EIO, ssize_t, read, (int fd, void *out, size_t size), (fd, out, size))
WRAP_IO("read", EIO, ssize_t, readv, (int fd, const struct iovec *to, int count), (fd, to, count))
WRAP_IO("read", ECONNRESET, ssize_t, recv, (int fd, void *out, size_t size, int flags), (fd, out, size, flags))
WRAP_IO("read", ECONNRESET, ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
WRAP_IO("write", EIO, ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
WRAP_IO("write", EIO, ssize_t, writev, (int fd, const struct iovec *from, int count), (fd, from, count))
WRAP_IO("write", EPIPE, ssize_t, send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
WRAP_IO("write", EPIPE, ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
WRAP_IO("set", ENOPROTOOPT, int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
        (fd, level, name, value, size))
WRAP_IO("set", EADDRINUSE, int, bind, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size))
WRAP_IO("set", ENETUNREACH, int, connect, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size))

int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (now_on("set", fd, CALLER))
        FAIL_WITH(EIO, -1);
    return NEXT(int (*)(int, unsigned long, void *), "ioctl")(fd, request, argument);
}

int socket(int family, int type, int protocol)
{
    if (now("open", CALLER))
        FAIL_WITH(EMFILE, -1);
    return NEXT(int (*)(int, int, int), "socket")(family, type, protocol);
}

int socketpair(int family, int type, int protocol, int out[2])
{
    if (now("open", CALLER))
        FAIL_WITH(EMFILE, -1);
    return NEXT(int (*)(int, int, int, int *), "socketpair")(family, type, protocol, out);
}

int open(const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    if (now("open", CALLER))
        FAIL_WITH(EMFILE, -1);
    return NEXT(int (*)(const char *, int, mode_t), "open")(path, flags, mode);
}

FILE *fopen(const char *path, const char *mode)
{
    if (now("open", CALLER))
        FAIL_WITH(EMFILE, NULL);
    return NEXT(FILE * (*)(const char *, const char *), "fopen")(path, mode);
}
