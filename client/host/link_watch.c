#include "client/host/link_watch.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <uv.h>

#include "common/mem.h"

#define TURN_MESSAGES 32 /* then others on the loop have their turn */

struct link_watch {
    uv_poll_t poll;
    struct mnl_socket *socket;
    char device[IF_NAMESIZE];
    void (*on_down)(void *context);
    void *context;
};

/* What the messages tell may be history, and some may be lost (ENOBUFS): they only say when to look. */
static bool is_down(const struct link_watch *watch)
{
    struct ifreq request = {.ifr_flags = 0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    (void)snprintf(request.ifr_name, sizeof request.ifr_name, "%s", watch->device);
    int rc = ioctl(fd, SIOCGIFFLAGS, &request);
    (void)close(fd);
    return rc == 0 && (request.ifr_flags & IFF_UP) == 0;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct link_watch *watch = poll->data;
    char message[8192];
    (void)status;
    (void)events;
    for (int i = 0; i < TURN_MESSAGES; i++) {
        if (mnl_socket_recvfrom(watch->socket, message, sizeof message) < 0 && errno == EAGAIN)
            break;
    }
    if (is_down(watch))
        watch->on_down(watch->context);
}

static int open_socket(struct link_watch *watch)
{
    watch->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (watch->socket == NULL)
        return -errno;
    return mnl_socket_bind(watch->socket, RTMGRP_LINK, MNL_SOCKET_AUTOPID) != 0 ? -errno : 0;
}

static void release(struct link_watch *watch)
{
    if (watch->socket != NULL)
        (void)mnl_socket_close(watch->socket);
    kt_free(watch);
}

static void on_close(uv_handle_t *handle)
{
    release(handle->data);
}

int link_watch_open(struct link_watch **out, struct uv_loop_s *loop, const char *device, void (*on_down)(void *context),
                    void *context)
{
    struct link_watch *watch = kt_calloc(1, sizeof *watch);
    if (watch == NULL)
        return -ENOMEM;
    (void)snprintf(watch->device, sizeof watch->device, "%s", device);
    watch->on_down = on_down;
    watch->context = context;
    int rc = open_socket(watch);
    if (rc == 0)
        rc = uv_poll_init(loop, &watch->poll, mnl_socket_get_fd(watch->socket));
    if (rc != 0) {
        release(watch);
        return rc;
    }
    watch->poll.data = watch;
    rc = uv_poll_start(&watch->poll, UV_READABLE, on_readable);
    if (rc != 0) {
        link_watch_close(watch);
        return rc;
    }
    *out = watch;
    return 0;
}

void link_watch_close(struct link_watch *watch)
{
    if (watch == NULL || uv_is_closing((const uv_handle_t *)&watch->poll))
        return;
    uv_close((uv_handle_t *)&watch->poll, on_close);
}
