/* A netstack behind a real TUN device: the kernel's own TCP, UDP and ping on one side, ordinary sockets on loopback on
 * the other.
 *
 *   test's client socket -> 198.19.x.y -> TUN -> netstack -> socket to 127.0.0.1 -> test's server socket
 *
 * All inside a network namespace of this process alone (unshare). The netstack has a loop in a thread of its own, so
 * that tests may use blocking sockets. The owner's side of the TUN is as in the client: checksums are left to the
 * kernel. */
#ifndef KTVPN_TESTS_NETSTACK_FIXTURE_H
#define KTVPN_TESTS_NETSTACK_FIXTURE_H

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "common/mem.h"
#include "common/packet.h"
#include "netstack/netstack.h"

#define FIXTURE_MTU 65000
#define FIXTURE_BATCH 64
#define FIXTURE_TARGET "198.19.0.1" /* reaches 127.0.0.1 */
#define FIXTURE_REFUSED "198.19.0.2"
#define FIXTURE_DROPPED "198.19.0.3"
#define FIXTURE_NO_HOST "198.19.0.4" /* reaches 203.0.113.1, an unreachable route */
#define FIXTURE_NO_NET "198.19.0.5"  /* reaches 192.0.2.1, no route at all */
/* The same over IPv6: ::1; 2001:db8:1::1, unreachable; 2001:db8::1, no route. */
#define FIXTURE_TARGET6 "fd00:198:19::1"
#define FIXTURE_REFUSED6 "fd00:198:19::2"
#define FIXTURE_DROPPED6 "fd00:198:19::3"
#define FIXTURE_NO_HOST6 "fd00:198:19::4"
#define FIXTURE_NO_NET6 "fd00:198:19::5"

struct fixture {
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t async;
    uv_poll_t tun_poll;
    uv_check_t check;
    uv_idle_t idle;
    struct netstack *netstack;
    int tun;
    void (*call)(struct fixture *fixture, void *argument);
    void *argument;
    sem_t ready, done;
    size_t room;    /* bytes that output takes per turn of the loop; 0: as much as comes */
    size_t used;    /* of it, in this turn */
    bool is_cut;    /* packets are lost in both directions, as when a carrier dies */
    bool is_paused; /* output has no room at all */
    bool is_blocked;
    uint8_t catch[128]; /* what output last put out begins with */
    size_t catch_size;
    void (*tap)(const uint8_t *packet, size_t size); /* sees what comes in */
    uint8_t packet[sizeof(struct virtio_net_hdr) + 65536];
};

static inline void fixture_run(const char *command)
{
    if (system(command) != 0) {
        fprintf(stderr, "failed: %s\n", command);
        abort();
    }
}

static inline void fixture_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, text, strlen(text));
    close(fd);
}

/* False: this machine does not let the test make a network namespace or a TUN device. */
static inline bool fixture_enter_namespace(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (unshare(CLONE_NEWNET) != 0 || access("/dev/net/tun", R_OK | W_OK) != 0)
        return false;
    fixture_run("ip link set lo up && ip route add unreachable 203.0.113.0/24 && "
                "ip -6 route add unreachable 2001:db8:1::/48");
    fixture_write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    fixture_write("/proc/sys/net/ipv4/ip_local_port_range", "10000 60999");
    return true;
}

static inline int fixture_open_tun(void)
{
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    strncpy(request.ifr_name, "ktvpn0", IFNAMSIZ - 1);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0 || ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM) != 0) {
        perror("tun");
        abort();
    }
    fixture_run("ip link set ktvpn0 mtu 65000 txqueuelen 4000 up && ip addr add 198.18.0.1/32 dev ktvpn0 && "
                "ip route add 198.19.0.0/16 dev ktvpn0 src 198.18.0.1 && "
                "ip -6 addr add fd6b:7476:706e::5/128 dev ktvpn0 nodad && "
                "ip -6 route add fd00:198:19::/64 dev ktvpn0 src fd6b:7476:706e::5");
    return fd;
}

/* What the client does before the kernel gets a packet: the pseudo-header's sum, and the kernel completes it. */
static inline void fixture_prepare(uint8_t *head, size_t head_size, size_t size, struct virtio_net_hdr *vnet)
{
    struct packet packet;
    uint8_t copy[0x10000];
    memcpy(copy, head, head_size);
    *vnet = (struct virtio_net_hdr){0};
    if (packet_parse(&packet, copy, size) != 0 || packet.is_fragment ||
        (packet.protocol != PACKET_TCP && packet.protocol != PACKET_UDP))
        return;
    size_t offset = packet.protocol == PACKET_TCP ? 16 : 6;
    uint16_t sum = (uint16_t)~packet_checksum(packet_pseudo_sum(&packet, packet.size - packet.head_size));
    head[packet.head_size + offset] = (uint8_t)(sum >> 8);
    head[packet.head_size + offset + 1] = (uint8_t)sum;
    *vnet = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                    .csum_start = (uint16_t)packet.head_size,
                                    .csum_offset = (uint16_t)offset};
}

static inline int fixture_output(void *context, const struct carrier_part *parts, int count)
{
    struct fixture *fixture = context;
    struct virtio_net_hdr vnet;
    struct iovec iov[20] = {{&vnet, sizeof vnet}};
    uint8_t head[128];
    size_t size = 0, head_size = KT_MIN(parts[0].size, sizeof head);
    for (int i = 0; i < count; i++)
        size += parts[i].size;
    if (fixture->is_paused || (fixture->room > 0 && fixture->used >= fixture->room)) {
        fixture->is_blocked = true;
        return -ENOBUFS;
    }
    fixture->used += size;
    if (fixture->is_cut)
        return 0;
    memcpy(head, parts[0].data, head_size);
    fixture_prepare(head, head_size, size, &vnet);
    iov[1] = (struct iovec){head, head_size};
    iov[2] = (struct iovec){(char *)(uintptr_t)parts[0].data + head_size, parts[0].size - head_size};
    for (int i = 1; i < count; i++)
        iov[i + 2] = (struct iovec){(void *)(uintptr_t)parts[i].data, parts[i].size};
    fixture->catch_size = 0;
    for (int i = 0; i < count && fixture->catch_size < sizeof fixture->catch; i++) {
        size_t part = KT_MIN(parts[i].size, sizeof fixture->catch - fixture->catch_size);
        memcpy(fixture->catch + fixture->catch_size, parts[i].data, part);
        fixture->catch_size += part;
    }
    if (writev(fixture->tun, iov, count + 2) < 0)
        perror("tun write");
    return 0;
}

static inline enum netstack_verdict fixture_route(void *context, const struct netstack_flow *flow,
                                                  struct netstack_route *route)
{
    (void)context;
    bool is_v6 = flow->target.family == ADDRESS_V6;
    const char *to = is_v6 ? "::1" : "127.0.0.1";
    switch (flow->target.bytes[is_v6 ? 14 : 2] << 8 | flow->target.bytes[is_v6 ? 15 : 3]) {
    case 2:
        return NETSTACK_REFUSE;
    case 3:
        return NETSTACK_DROP;
    case 4:
        to = is_v6 ? "2001:db8:1::1" : "203.0.113.1";
        break;
    case 5:
        to = is_v6 ? "2001:db8::1" : "192.0.2.1";
        break;
    default:
        break;
    }
    return address_parse(&route->address, to) == 0 ? NETSTACK_DIAL : NETSTACK_DROP;
}

static inline void fixture_on_tun(uv_poll_t *poll, int status, int events)
{
    struct fixture *fixture = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < FIXTURE_BATCH; i++) {
        ssize_t n = read(fixture->tun, fixture->packet, sizeof fixture->packet);
        if (n <= (ssize_t)sizeof(struct virtio_net_hdr))
            break;
        if (fixture->tap != NULL)
            fixture->tap(fixture->packet + sizeof(struct virtio_net_hdr), (size_t)n - sizeof(struct virtio_net_hdr));
        if (!fixture->is_cut)
            netstack_input(fixture->netstack, fixture->packet + sizeof(struct virtio_net_hdr),
                           (size_t)n - sizeof(struct virtio_net_hdr));
    }
    netstack_input_done(fixture->netstack);
}

static inline void fixture_on_idle(uv_idle_t *idle)
{
    (void)idle;
}

/* Every turn of the loop the "carrier" has sent what it took. */
static inline void fixture_on_check(uv_check_t *check)
{
    struct fixture *fixture = check->data;
    fixture->used = 0;
    if (!fixture->is_blocked || fixture->is_paused)
        return;
    fixture->is_blocked = false;
    netstack_resume(fixture->netstack);
}

static inline void fixture_on_async(uv_async_t *async)
{
    struct fixture *fixture = async->data;
    if (fixture->call == NULL)
        return;
    fixture->call(fixture, fixture->argument);
    fixture->call = NULL;
    sem_post(&fixture->done);
}

/* Runs `call` in the netstack's thread and waits for it. */
static inline void fixture_call(struct fixture *fixture, void (*call)(struct fixture *, void *), void *argument)
{
    fixture->argument = argument;
    fixture->call = call;
    uv_async_send(&fixture->async);
    sem_wait(&fixture->done);
}

static inline void *fixture_thread(void *argument)
{
    struct fixture *fixture = argument;
    const struct netstack_ops ops = {.output = fixture_output, .route = fixture_route};
    uv_loop_init(&fixture->loop);
    uv_async_init(&fixture->loop, &fixture->async, fixture_on_async);
    uv_poll_init(&fixture->loop, &fixture->tun_poll, fixture->tun);
    uv_check_init(&fixture->loop, &fixture->check);
    uv_idle_init(&fixture->loop, &fixture->idle);
    fixture->async.data = fixture->tun_poll.data = fixture->check.data = fixture->idle.data = fixture;
    if (netstack_open(&fixture->netstack, &fixture->loop, FIXTURE_MTU, &ops, fixture) != 0)
        abort();
    uv_poll_start(&fixture->tun_poll, UV_READABLE, fixture_on_tun);
    uv_check_start(&fixture->check, fixture_on_check);
    sem_post(&fixture->ready);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    uv_loop_close(&fixture->loop);
    return NULL;
}

static inline void fixture_do_stop(struct fixture *fixture, void *argument)
{
    (void)argument;
    netstack_close(fixture->netstack, NULL);
    uv_close((uv_handle_t *)&fixture->async, NULL);
    uv_close((uv_handle_t *)&fixture->tun_poll, NULL);
    uv_close((uv_handle_t *)&fixture->check, NULL);
    uv_close((uv_handle_t *)&fixture->idle, NULL);
}

static inline struct fixture *fixture_start(void)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    sem_init(&fixture->ready, 0, 0);
    sem_init(&fixture->done, 0, 0);
    fixture->tun = fixture_open_tun();
    pthread_create(&fixture->thread, NULL, fixture_thread, fixture);
    sem_wait(&fixture->ready);
    return fixture;
}

static inline void fixture_stop(struct fixture *fixture)
{
    fixture_call(fixture, fixture_do_stop, NULL);
    pthread_join(fixture->thread, NULL);
    close(fixture->tun);
    free(fixture);
}

static inline void fixture_do_stats(struct fixture *fixture, void *argument)
{
    netstack_stats(fixture->netstack, argument);
}

static inline struct netstack_stats fixture_stats(struct fixture *fixture)
{
    struct netstack_stats stats;
    fixture_call(fixture, fixture_do_stats, &stats);
    return stats;
}

/* ---- sockets ---- */

static inline struct sockaddr_in fixture_address(const char *text, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, text, &address.sin_addr);
    return address;
}

/* Of either family; its size is returned. */
static inline socklen_t fixture_sockaddr(struct sockaddr_storage *out, const char *text, uint16_t port)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in v4 = fixture_address(text, port);
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET6, text, &v6.sin6_addr) != 1) {
        memcpy(out, &v4, sizeof v4);
        return sizeof v4;
    }
    memcpy(out, &v6, sizeof v6);
    return sizeof v6;
}

/* A socket bound to 127.0.0.1 and a port that the kernel picks; UDP: with room for all that the tests send. */
static inline int fixture_serve_at(int type, const char *text, uint16_t *port)
{
    struct sockaddr_storage address;
    socklen_t size = fixture_sockaddr(&address, text, 0);
    const struct timeval limit = {.tv_sec = 20};
    const int space = 32 << 20;
    int fd = socket(address.ss_family, type | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (type == SOCK_DGRAM)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof space);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || (type == SOCK_STREAM && listen(fd, 4096) != 0) ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        abort();
    *port = ntohs(((struct sockaddr_in *)&address)->sin_port); /* at the same place in both families */
    return fd;
}

static inline int fixture_serve(int type, uint16_t *port)
{
    return fixture_serve_at(type, "127.0.0.1", port);
}

/* A socket connected to `text`; -errno. Reads and writes give up after 20 s, so that a fault ends the test. */
static inline int fixture_connect(int type, const char *text, uint16_t port)
{
    const struct timeval limit = {.tv_sec = 20};
    struct sockaddr_storage address;
    socklen_t size = fixture_sockaddr(&address, text, port);
    int fd = socket(address.ss_family, type | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&address, size) == 0)
        return fd;
    int error = -errno;
    close(fd);
    return error;
}

static inline int fixture_accept(int listener)
{
    const struct timeval limit = {.tv_sec = 20};
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    return fd;
}

static inline void fixture_close_with_reset(int fd)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

static inline uint64_t fixture_now_us(void)
{
    return uv_hrtime() / 1000;
}

#endif
