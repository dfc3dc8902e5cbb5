/* The way of this machine's packets, with a real TUN in a network namespace of the test's own. The tunnel is in its
 * place here and takes notes.
 *
 *   test's sockets -- kernel -- ktvpn0 -- datapath --+-- to 192.0.2.53 (the name server), port 53 -- 127.0.0.1:names
 *                                                    +-- to 192.0.2.53, other ports -- by ktt0, to the other namespace
 *                                                    +-- all else -- tunnel_send()
 *
 * The real 192.0.2.53 is in a second namespace, behind the veth pair ktt0, ktt1. */
#include "client/datapath.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <uv.h>

#include "client/host/device.h"
#include "common/mem.h"
#include "common/packet.h"
#include "common/wire.h"
#include "tests/unit/netns.h"

#define WAIT_MS 10000
#define SERVER "192.0.2.53"
#define CLUSTER "10.222.0.7"

struct bed {
    struct netns netns;
    uv_loop_t loop;
    struct rtnl rtnl;
    char name[DEVICE_NAME_MAX];
    struct datapath *datapath;
    int names_udp, names_tcp; /* on 127.0.0.1, one port */
    int host_tcp, host_udp;
    int tun_fd;

    int packets, flushes, failed, error;
    int full; /* so many packets find no room */
    uint8_t last[2048];
    size_t last_size;
};

static struct bed *bed;

/* --- in place of tunnel.c --- */

int tunnel_send(struct tunnel *tunnel, const struct carrier_part *parts, int count)
{
    assert_ptr_equal(tunnel, bed);
    assert_int_equal(count, 1);
    if (bed->full > 0) {
        bed->full--;
        return -ENOBUFS;
    }
    bed->packets++;
    bed->last_size = KT_MIN(parts[0].size, sizeof bed->last);
    memcpy(bed->last, parts[0].data, bed->last_size);
    return 0;
}

void tunnel_flush(struct tunnel *tunnel)
{
    assert_ptr_equal(tunnel, bed);
    bed->flushes++;
}

/* --- */

static void on_failed(void *context, int error)
{
    assert_ptr_equal(context, bed);
    bed->failed++;
    bed->error = error;
    datapath_close(bed->datapath); /* as its owner does */
    bed->datapath = NULL;
}

#define WAIT(condition)                                                 \
    do {                                                                \
        for (int turn_ = 0; turn_ < WAIT_MS && !(condition); turn_++) { \
            struct timespec ms_ = {.tv_nsec = 1000000};                 \
            (void)uv_run(&bed->loop, UV_RUN_NOWAIT);                    \
            (void)nanosleep(&ms_, NULL);                                \
        }                                                               \
        assert_true(condition);                                         \
    } while (0)

static struct sockaddr_in at(const char *address, uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    assert_int_equal(inet_pton(AF_INET, address, &to.sin_addr), 1);
    return to;
}

static int open_socket(int type, const char *address, uint16_t port)
{
    struct sockaddr_in local = at(address, port);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&local, sizeof local), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static int dial(int type, const char *address, uint16_t port)
{
    struct sockaddr_in to = at(address, port);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    int rc = connect(fd, (const struct sockaddr *)&to, sizeof to);
    assert_true(rc == 0 || errno == EINPROGRESS);
    return fd;
}

static bool is_ready(int fd, short events)
{
    struct pollfd item = {.fd = fd, .events = events};
    return poll(&item, 1, 0) > 0;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_in local;
    socklen_t size = sizeof local;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&local, &size), 0);
    return ntohs(local.sin_port);
}

/* A child in a namespace of its own; it sleeps. */
static pid_t start_host(void)
{
    int ends[2];
    char byte;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (unshare(CLONE_NEWNET) == 0 && write(ends[1], "1", 1) == 1)
            (void)pause();
        _exit(1);
    }
    (void)close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    (void)close(ends[0]);
    return pid;
}

/* The name server's host with two services of its own. Its namespace lives as long as their sockets. */
static void make_host(void)
{
    char text[256];
    pid_t pid = start_host();
    (void)snprintf(text, sizeof text,
                   "ip link add ktt0 type veth peer name ktt1 netns %d && ip addr add 192.0.2.2/24 dev ktt0 && "
                   "ip link set ktt0 up",
                   (int)pid);
    netns_run(text);
    int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    (void)snprintf(text, sizeof text, "/proc/%d/ns/net", (int)pid);
    int there = open(text, O_RDONLY | O_CLOEXEC);
    assert_int_equal(setns(there, CLONE_NEWNET), 0);
    netns_run("ip addr add " SERVER "/24 dev ktt1 && ip link set ktt1 up");
    bed->host_tcp = open_socket(SOCK_STREAM, SERVER, 8080);
    bed->host_udp = open_socket(SOCK_DGRAM, SERVER, 9000);
    assert_int_equal(setns(here, CLONE_NEWNET), 0);
    (void)close(here);
    (void)close(there);
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void make_device(void)
{
    struct address v4 = address_v4(0xc6120005);
    unsigned index;
    struct cidr to;
    bed->tun_fd = device_open_file();
    assert_true(bed->tun_fd >= 0);
    assert_int_equal(device_create(bed->tun_fd, bed->name, &index), 0);
    assert_int_equal(device_bring_up(&bed->rtnl, index, WIRE_MTU), 0);
    assert_int_equal(device_add_address(&bed->rtnl, index, &v4), 0);
    assert_int_equal(cidr_parse(&to, "10.222.0.0/16"), 0);
    assert_int_equal(device_add_route(&bed->rtnl, index, &to, &v4), 0);
    assert_int_equal(cidr_parse(&to, SERVER "/32"), 0);
    assert_int_equal(device_add_route(&bed->rtnl, index, &to, &v4), 0);
}

static int open_datapath(size_t servers)
{
    struct datapath_server server = {.address = address_v4(0xc0000235), .device = "ktt0"};
    struct datapath_options options = {.tun_fd = bed->tun_fd,
                                       .mtu = WIRE_MTU,
                                       .server = &server,
                                       .servers = servers,
                                       .names_port = port_of(bed->names_udp)};
    return datapath_open(&bed->datapath, &bed->loop, (struct tunnel *)(void *)bed, &options, on_failed, bed);
}

static int set_up(void **state KT_UNUSED)
{
    bed = test_calloc(1, sizeof *bed);
    netns_enter(&bed->netns);
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    assert_int_equal(rtnl_open(&bed->rtnl), 0);
    make_host();
    make_device();
    bed->names_udp = open_socket(SOCK_DGRAM, "127.0.0.1", 0);
    bed->names_tcp = open_socket(SOCK_STREAM, "127.0.0.1", port_of(bed->names_udp));
    return 0;
}

static int tear_down(void **state KT_UNUSED)
{
    datapath_close(bed->datapath);
    datapath_close(NULL);
    assert_int_equal(netns_lines_with("ktvpn"), 0); /* at once */
    assert_int_equal(uv_run(&bed->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    const int fds[] = {bed->names_udp, bed->names_tcp, bed->host_tcp, bed->host_udp};
    for (size_t i = 0; i < KT_ARRAY_LEN(fds); i++)
        (void)close(fds[i]);
    rtnl_close(&bed->rtnl);
    netns_leave(&bed->netns);
    test_free(bed);
    return 0;
}

/* --- the cluster --- */

static void test_cluster_packets_go_to_the_tunnel(void **state KT_UNUSED)
{
    static const uint8_t target[] = {10, 222, 0, 7};
    struct tun_stats stats;
    assert_int_equal(open_datapath(1), 0);
    int fd = dial(SOCK_DGRAM, CLUSTER, 7);
    assert_int_equal(send(fd, "hello", 5, 0), 5);
    WAIT(bed->packets == 1);
    assert_int_equal(bed->last_size, 33);
    assert_memory_equal(bed->last + 16, target, 4);
    assert_memory_equal(bed->last + 28, "hello", 5);
    assert_int_equal(bed->flushes, 1);
    datapath_stats(bed->datapath, &stats);
    assert_int_equal(stats.packets_in, 1);
    (void)close(fd);
}

/* Nobody in the cluster hears a broadcast: it is counted, and does not go. */
static void test_broadcasts_stay_here(void **state KT_UNUSED)
{
    struct tun_stats stats;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = INADDR_BROADCAST};
    const int on = 1;
    assert_int_equal(open_datapath(1), 0);
    int fd = open_socket(SOCK_DGRAM, "0.0.0.0", 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof on), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, bed->name, sizeof bed->name), 0);
    assert_int_equal(sendto(fd, "hello", 5, 0, (const struct sockaddr *)&to, sizeof to), 5);
    int other = dial(SOCK_DGRAM, CLUSTER, 7);
    assert_int_equal(send(other, "hello", 5, 0), 5);
    WAIT(bed->packets == 1);
    datapath_stats(bed->datapath, &stats);
    assert_int_equal(stats.ignored, 1);
    assert_int_equal(stats.packets_in, 2);
    (void)close(fd);
    (void)close(other);
}

/* What the tunnel brings reaches the socket that asked. The answer is the question, turned round. */
static void test_tunnel_packets_come_to_the_machine(void **state KT_UNUSED)
{
    char answer[16];
    assert_int_equal(open_datapath(1), 0);
    int fd = dial(SOCK_DGRAM, CLUSTER, 7);
    assert_int_equal(send(fd, "hello", 5, 0), 5);
    WAIT(bed->packets == 1);
    uint8_t turned[64];
    memcpy(turned, bed->last, bed->last_size);
    memcpy(turned + 12, bed->last + 16, 4), memcpy(turned + 16, bed->last + 12, 4);
    memcpy(turned + 20, bed->last + 22, 2), memcpy(turned + 22, bed->last + 20, 2);
    datapath_on_packet(bed->datapath, turned, bed->last_size);
    WAIT(is_ready(fd, POLLIN));
    assert_int_equal(recv(fd, answer, sizeof answer, 0), 5);
    assert_memory_equal(answer, "hello", 5);
    (void)close(fd);
}

static void test_no_room_in_the_tunnel(void **state KT_UNUSED)
{
    assert_int_equal(open_datapath(1), 0);
    bed->full = 1;
    int fd = dial(SOCK_DGRAM, CLUSTER, 7);
    assert_int_equal(send(fd, "one", 3, 0), 3);
    assert_int_equal(send(fd, "two", 3, 0), 3);
    WAIT(bed->full == 0);
    assert_int_equal(bed->packets, 0);
    datapath_on_room(bed->datapath);
    WAIT(bed->packets == 2);
    assert_memory_equal(bed->last + 28, "two", 3);
    (void)close(fd);
}

/* --- the name server's host --- */

static void test_queries_go_to_names(void **state KT_UNUSED)
{
    char text[16];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    assert_int_equal(open_datapath(1), 0);
    int fd = dial(SOCK_DGRAM, SERVER, 53);
    assert_int_equal(send(fd, "query", 5, 0), 5);
    WAIT(is_ready(bed->names_udp, POLLIN));
    assert_int_equal(recvfrom(bed->names_udp, text, sizeof text, 0, (struct sockaddr *)&from, &size), 5);
    assert_int_equal(sendto(bed->names_udp, "answer", 6, 0, (const struct sockaddr *)&from, size), 6);
    WAIT(is_ready(fd, POLLIN)); /* it is connected: only an answer of the server's is let in */
    assert_int_equal(recv(fd, text, sizeof text, 0), 6);
    assert_int_equal(bed->packets, 0);
    (void)close(fd);
}

/* Connects, and says "hello" to whoever listens at `listener`. */
static void talk(uint16_t port, int listener)
{
    char text[16];
    int fd = dial(SOCK_STREAM, SERVER, port);
    WAIT(is_ready(listener, POLLIN));
    int other = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(other >= 0);
    WAIT(is_ready(fd, POLLOUT));
    assert_int_equal(send(fd, "hello", 5, MSG_NOSIGNAL), 5);
    WAIT(is_ready(other, POLLIN));
    assert_int_equal(recv(other, text, sizeof text, 0), 5);
    assert_int_equal(bed->packets, 0);
    (void)close(fd);
    (void)close(other);
}

static void test_tcp_queries_go_to_names(void **state KT_UNUSED)
{
    assert_int_equal(open_datapath(1), 0);
    talk(53, bed->names_tcp);
}

/* Whatever else the host serves is reached as before, by the device that led there before. */
static void test_other_services_of_the_host(void **state KT_UNUSED)
{
    char text[16];
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    assert_int_equal(open_datapath(1), 0);
    talk(8080, bed->host_tcp);
    int fd = dial(SOCK_DGRAM, SERVER, 9000);
    assert_int_equal(send(fd, "hello", 5, 0), 5);
    WAIT(is_ready(bed->host_udp, POLLIN));
    assert_int_equal(recvfrom(bed->host_udp, text, sizeof text, 0, (struct sockaddr *)&from, &size), 5);
    assert_int_equal(from.sin_addr.s_addr, at("192.0.2.2", 0).sin_addr.s_addr); /* this machine's address there */
    (void)close(fd);
}

static void test_without_a_server(void **state KT_UNUSED)
{
    assert_int_equal(open_datapath(0), 0);
    int fd = dial(SOCK_DGRAM, SERVER, 53);
    assert_int_equal(send(fd, "query", 5, 0), 5);
    WAIT(bed->packets == 1);
    (void)close(fd);
}

/* --- ends --- */

static void test_closes_with_open_flows(void **state KT_UNUSED)
{
    assert_int_equal(open_datapath(1), 0);
    int fd = dial(SOCK_STREAM, SERVER, 8080);
    WAIT(is_ready(bed->host_tcp, POLLIN));
    datapath_close(bed->datapath);
    bed->datapath = NULL;
    (void)uv_run(&bed->loop, UV_RUN_DEFAULT);
    (void)close(fd);
}

static void test_device_is_deleted(void **state KT_UNUSED)
{
    assert_int_equal(open_datapath(1), 0);
    netns_run("ip link del ktvpn0");
    WAIT(bed->failed == 1);
    assert_int_equal(bed->error, -ENODEV);
    assert_null(bed->datapath);
}

static void test_no_memory(void **state KT_UNUSED)
{
    int rc = -1;
    unsigned long nth = 0;
    while (rc != 0 && nth < 100) {
        kt_mem_fail_nth(++nth);
        rc = open_datapath(1);
        kt_mem_fail_nth(0);
        if (rc != 0)
            (void)uv_run(&bed->loop, UV_RUN_DEFAULT);
        assert_true(rc == 0 || rc == -ENOMEM);
        assert_true(fcntl(bed->tun_fd, F_GETFD) >= 0); /* the caller's until it is open */
    }
    assert_int_equal(rc, 0);
    assert_true(nth > 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cluster_packets_go_to_the_tunnel),
        TEST(test_broadcasts_stay_here),
        TEST(test_tunnel_packets_come_to_the_machine),
        TEST(test_no_room_in_the_tunnel),
        TEST(test_queries_go_to_names),
        TEST(test_tcp_queries_go_to_names),
        TEST(test_other_services_of_the_host),
        TEST(test_without_a_server),
        TEST(test_closes_with_open_flows),
        TEST(test_device_is_deleted),
        TEST(test_no_memory),
    };
    return unit_run(tests);
}
