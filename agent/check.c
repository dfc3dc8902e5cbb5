#include "agent/check.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* A connected socket, or -errno. An agent that listens everywhere is asked on loopback. */
static int dial(const struct settings_listen *listen)
{
    bool is_v4 = listen->address.family == ADDRESS_V4, is_any = address_is_unspecified(&listen->address);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(listen->port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(listen->port)};
    memcpy(&in.sin_addr, listen->address.bytes, 4);
    memcpy(&in6.sin6_addr, listen->address.bytes, 16);
    if (is_any) {
        in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        in6.sin6_addr = in6addr_loopback;
    }
    int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    struct timeval timeout = {.tv_sec = CHECK_TIMEOUT_MS / 1000, .tv_usec = CHECK_TIMEOUT_MS % 1000 * 1000};
    bool is_ok = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0 &&
                 setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0; /* also bounds connect() */
    if (is_ok && is_v4)
        is_ok = connect(fd, (struct sockaddr *)&in, sizeof in) == 0;
    else if (is_ok)
        is_ok = connect(fd, (struct sockaddr *)&in6, sizeof in6) == 0;
    if (is_ok)
        return fd;
    int error = errno;
    (void)close(fd);
    return -error;
}

static int read_hello(int fd)
{
    uint8_t bytes[WIRE_HELLO_SIZE];
    size_t size = 0;
    while (size < sizeof bytes) {
        ssize_t n = recv(fd, bytes + size, sizeof bytes - size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EPROTO;
        size += (size_t)n;
    }
    struct wire_hello hello;
    return wire_get_hello(&hello, bytes);
}

int check_agent(const struct settings *settings)
{
    int fd = dial(&settings->listen[0]);
    if (fd < 0)
        return fd;
    int rc = read_hello(fd);
    (void)close(fd);
    return rc;
}
