/* The TUN descriptor on the loop. A socket pair plays the device where the test wants to be the kernel; a real one
 * carries kernel TCP and UDP between two network namespaces of the test's own. */
#include "client/host/tun.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <uv.h>

#include "client/host/device.h"
#include "client/host/vnet.h"
#include "common/mem.h"
#include "common/packet.h"
#include "tests/unit/netns.h"

#define MTU 65000

struct taker {
    struct tun *tun;
    int packets, batches, fails, error;
    int refuse_every; /* 0: never */
    int offers;
    bool closes; /* at the first packet */
    int answer;  /* to it */
    size_t last_size;
    uint8_t last[256];
};

static int on_packet(void *context, uint8_t *packet, size_t size)
{
    struct taker *taker = context;
    assert_int_equal((uintptr_t)packet % 4, 0);
    if (taker->refuse_every > 0 && ++taker->offers % taker->refuse_every == 0)
        return -ENOBUFS;
    taker->packets++;
    taker->last_size = size;
    memcpy(taker->last, packet, KT_MIN(size, sizeof taker->last));
    if (taker->closes)
        tun_close(taker->tun);
    return taker->answer;
}

static void on_batch(void *context)
{
    struct taker *taker = context;
    taker->batches++;
}

static void on_failed(void *context, int error)
{
    struct taker *taker = context;
    taker->fails++;
    taker->error = error;
}

static const struct tun_ops ops = {.on_packet = on_packet, .on_batch = on_batch, .on_failed = on_failed};

struct fixture {
    uv_loop_t loop;
    int kernel; /* the other end */
    struct taker taker;
};

static void set_up(struct fixture *f)
{
    int pair[2];
    *f = (struct fixture){.kernel = -1};
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    f->kernel = pair[1];
    assert_int_equal(tun_open(&f->taker.tun, &f->loop, pair[0], MTU, &ops, &f->taker), 0);
}

static void tear_down(struct fixture *f)
{
    tun_close(f->taker.tun);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    (void)close(f->kernel);
    assert_int_equal(kt_mem_live(), 0);
}

/* An IPv4 UDP packet of `size` bytes. */
static void make_udp(uint8_t *p, size_t size)
{
    memset(p, 0, size);
    for (size_t i = 28; i < size; i++)
        p[i] = (uint8_t)(i * 7);
    p[0] = 0x45, p[2] = (uint8_t)(size >> 8), p[3] = (uint8_t)size, p[8] = 64, p[9] = PACKET_UDP;
    memcpy(p + 12, "\xc6\x12\x00\x02\x0a\xde\x00\x01", 8);
    p[20] = 1, p[21] = 2, p[22] = 3, p[23] = 4;
    p[24] = (uint8_t)((size - 20) >> 8), p[25] = (uint8_t)(size - 20);
    uint16_t sum = packet_checksum(packet_sum(p, 20, 0));
    p[10] = (uint8_t)(sum >> 8), p[11] = (uint8_t)sum;
}

static int inject(struct fixture *f, uint8_t gso, size_t size)
{
    uint8_t data[VNET_SIZE + 2000] = {0};
    data[1] = gso;
    if (size >= 28)
        make_udp(data + VNET_SIZE, size);
    return send(f->kernel, data, VNET_SIZE + size, 0) < 0 ? -errno : 0;
}

static void run_until(struct fixture *f, const int *count, int want)
{
    for (int i = 0; i < 10000 && *count < want; i++)
        (void)uv_run(&f->loop, UV_RUN_ONCE);
    assert_int_equal(*count, want);
}

static void packets_are_taken_in_batches(void **state)
{
    (void)state;
    struct fixture f;
    struct tun_stats stats;
    set_up(&f);
    int sent = 0;
    while (sent < 100 && inject(&f, 0, 100) == 0)
        sent++;
    run_until(&f, &f.taker.packets, sent);
    assert_in_range(f.taker.batches, 1, 3);
    assert_int_equal(f.taker.last_size, 100);
    assert_int_equal(f.taker.last[0], 0x45);
    tun_stats(f.taker.tun, &stats);
    assert_int_equal(stats.packets_in, sent);
    assert_int_equal(stats.dropped, 0);
    tear_down(&f);
}

static void what_finds_no_room_is_offered_again(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    f.taker.refuse_every = 2;
    int want = 0;
    for (size_t size = 30; size < 50; size++)
        want += inject(&f, 0, size) == 0;
    for (int i = 0; i < 1000 && f.taker.packets < want; i++) {
        int before = f.taker.packets;
        (void)uv_run(&f.loop, UV_RUN_NOWAIT);
        (void)uv_run(&f.loop, UV_RUN_NOWAIT); /* without tun_resume() nothing more comes */
        assert_true(f.taker.packets <= before + 2);
        int offers = f.taker.offers;
        tun_resume(f.taker.tun);
        tun_resume(f.taker.tun);
        assert_int_equal(f.taker.offers, offers); /* not inside the call */
    }
    assert_int_equal(f.taker.packets, want);
    assert_int_equal(f.taker.last_size, 49);
    tear_down(&f);
}

static void hostile_input_is_counted_and_dropped(void **state)
{
    (void)state;
    struct fixture f;
    struct tun_stats stats;
    set_up(&f);
    assert_int_equal(inject(&f, VIRTIO_NET_HDR_GSO_TCPV4, 100), 0);
    assert_int_equal(inject(&f, VIRTIO_NET_HDR_GSO_UDP, 100), 0);
    assert_int_equal(inject(&f, 0xff, 100), 0);
    assert_int_equal(inject(&f, 0, 0), 0);
    assert_int_equal(send(f.kernel, "x", 1, 0), 1);
    assert_int_equal(inject(&f, 0, 28), 0);
    run_until(&f, &f.taker.packets, 1);
    tun_stats(f.taker.tun, &stats);
    assert_int_equal(stats.packets_in, 1);
    assert_int_equal(stats.dropped, 5);
    tear_down(&f);
}

static void it_may_be_closed_in_a_callback(void **state)
{
    (void)state;
    for (int answer = -ENOBUFS; answer <= 0; answer += ENOBUFS) {
        struct fixture f;
        set_up(&f);
        f.taker.closes = true;
        f.taker.answer = answer;
        assert_int_equal(inject(&f, 0, 100), 0);
        assert_int_equal(inject(&f, 0, 100), 0);
        run_until(&f, &f.taker.packets, 1);
        assert_int_equal(f.taker.batches, 0);
        assert_int_equal(f.taker.fails, 0);
        f.taker.tun = NULL;
        tear_down(&f);
        assert_int_equal(f.taker.packets, 1);
    }
}

/* One packet in one part, and in many: the same bytes reach the kernel. */
static void parts_are_put_together(void **state)
{
    (void)state;
    static uint8_t packet[3000], one[4000], many[4000];
    static struct carrier_part parts[3000];
    struct fixture f;
    set_up(&f);
    make_udp(packet, sizeof packet);
    struct carrier_part whole = {.data = packet, .size = sizeof packet};
    assert_int_equal(tun_write(f.taker.tun, &whole, 1), 0);
    ssize_t size = recv(f.kernel, one, sizeof one, 0);
    assert_int_equal(size, VNET_SIZE + sizeof packet);
    for (size_t step = 1; step < 200; step += 17) {
        int count = 0;
        for (size_t at = 0; at < sizeof packet; at += step)
            parts[count++] = (struct carrier_part){.data = packet + at, .size = KT_MIN(step, sizeof packet - at)};
        assert_int_equal(tun_write(f.taker.tun, parts, count), 0);
        assert_int_equal(recv(f.kernel, many, sizeof many, 0), size);
        assert_memory_equal(one, many, size);
    }
    struct virtio_net_hdr header;
    memcpy(&header, one, sizeof header);
    assert_int_equal(header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    assert_int_equal(header.csum_start, 20);
    assert_int_equal(header.csum_offset, 6);
    assert_memory_equal(one + VNET_SIZE + 28, packet + 28, sizeof packet - 28);
    tear_down(&f);
}

static void bad_packets_are_not_written(void **state)
{
    (void)state;
    static uint8_t packet[MTU + 1];
    struct fixture f;
    struct tun_stats stats;
    set_up(&f);
    make_udp(packet, 100);
    struct carrier_part parts[3] = {{packet, 99}, {packet, 0}, {packet, MTU}};
    assert_int_equal(tun_write(f.taker.tun, parts, 1), -EBADMSG);
    assert_int_equal(tun_write(f.taker.tun, parts, 0), -EBADMSG);
    assert_int_equal(tun_write(f.taker.tun, parts, 2), -EBADMSG);
    assert_int_equal(tun_write(f.taker.tun, parts, 3), -EBADMSG);
    parts[0] = (struct carrier_part){packet, MTU + 1};
    assert_int_equal(tun_write(f.taker.tun, parts, 1), -EBADMSG);
    tun_stats(f.taker.tun, &stats);
    assert_int_equal(stats.dropped, 5);
    assert_int_equal(stats.packets_out, 0);
    tear_down(&f);
}

static void a_full_kernel_drops(void **state)
{
    (void)state;
    static uint8_t packet[20000];
    struct fixture f;
    struct tun_stats stats;
    set_up(&f);
    make_udp(packet, sizeof packet);
    struct carrier_part part = {packet, sizeof packet};
    int rc = 0, written = 0;
    for (; rc == 0 && written < 10000; written += rc == 0)
        rc = tun_write(f.taker.tun, &part, 1);
    assert_int_equal(rc, -EAGAIN);
    tun_stats(f.taker.tun, &stats);
    assert_int_equal(stats.packets_out, written);
    assert_int_equal(stats.dropped, 1);
    tear_down(&f);
}

static void no_memory_leaves_the_descriptor(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct tun *tun;
    int pair[2];
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    kt_mem_fail_nth(1);
    assert_int_equal(tun_open(&tun, &loop, pair[0], MTU, &ops, NULL), -ENOMEM);
    kt_mem_fail_nth(0);
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC); /* nothing that can be polled */
    assert_true(file >= 0);
    assert_int_not_equal(tun_open(&tun, &loop, file, MTU, &ops, NULL), 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(close(file), 0);
    assert_int_equal(close(pair[0]), 0);
    assert_int_equal(close(pair[1]), 0);
    assert_int_equal(kt_mem_live(), 0);
}

/* ---- a real device ---- */

static struct address address_of(const char *text)
{
    struct address address;
    assert_int_equal(address_parse(&address, text), 0);
    return address;
}

/* In the current namespace: a device with two addresses and a route to the other side's. */
static int make_device(const char *v4, const char *v6, const char *to4, const char *to6)
{
    struct rtnl rtnl;
    char name[DEVICE_NAME_MAX];
    unsigned index;
    struct address four = address_of(v4), six = address_of(v6);
    struct cidr routes[2];
    int fd = device_open_file();
    assert_true(fd >= 0);
    assert_int_equal(device_create(fd, name, &index), 0);
    assert_int_equal(rtnl_open(&rtnl), 0);
    assert_int_equal(device_bring_up(&rtnl, index, MTU), 0);
    assert_int_equal(device_add_address(&rtnl, index, &four), 0);
    assert_int_equal(device_add_address(&rtnl, index, &six), 0);
    assert_int_equal(cidr_parse(&routes[0], to4), 0);
    assert_int_equal(cidr_parse(&routes[1], to6), 0);
    assert_int_equal(device_add_route(&rtnl, index, &routes[0], &four), 0);
    assert_int_equal(device_add_route(&rtnl, index, &routes[1], &six), 0);
    rtnl_close(&rtnl);
    return fd;
}

/* Two devices in two namespaces; what one gives the other one takes. */
struct side {
    struct side *other;
    struct tun *tun;
    uv_timer_t later; /* a pause of the reader now and then */
    unsigned offers;
    int ns, dropped;
};

static void on_later(uv_timer_t *timer)
{
    struct side *side = timer->data;
    tun_resume(side->tun);
}

static int on_crossing(void *context, uint8_t *packet, size_t size)
{
    struct side *side = context;
    struct carrier_part parts[2] = {{packet, KT_MIN(size, 30u)},
                                    {packet + KT_MIN(size, 30u), size - KT_MIN(size, 30u)}};
    if (++side->offers % 13 == 0) {
        assert_int_equal(uv_timer_start(&side->later, on_later, 1, 0), 0);
        return -ENOBUFS;
    }
    struct packet parsed;
    if (packet_parse(&parsed, packet, size) == 0 && parsed.protocol != PACKET_ICMP &&
        parsed.protocol != PACKET_ICMPV6) {
        /* As the wire says: TCP and UDP checksums are not valid there. */
        size_t field = parsed.head_size + (parsed.protocol == PACKET_TCP ? 16 : 6);
        if (!parsed.is_fragment && size >= field + 2)
            packet[field] ^= 0x55;
    }
    side->dropped += tun_write(side->other->tun, parts, side->offers % 2 == 0 ? 2 : 1 + (size > 30)) != 0;
    return 0;
}

static void on_broken(void *context, int error)
{
    (void)context;
    fail_msg("the device failed: %d", error);
}

static const struct tun_ops crossing = {.on_packet = on_crossing, .on_failed = on_broken};

#define CHECK(condition) check((condition), #condition, __LINE__)
static void check(bool condition, const char *text, int line)
{
    if (condition)
        return;
    (void)fprintf(stderr, "tun_test.c:%d: %s: %s\n", line, text, strerror(errno));
    _exit(99);
}

#define BULK (8 * 1024 * 1024)
#define PORT 7000

static struct sockaddr_in6 name_of(const char *text, int port)
{
    struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct in_addr four;
    if (inet_pton(AF_INET, text, &four) == 1) { /* ::ffff:a.b.c.d: IPv4 by the same socket */
        name.sin6_addr.s6_addr[10] = name.sin6_addr.s6_addr[11] = 0xff;
        memcpy(name.sin6_addr.s6_addr + 12, &four, 4);
    } else {
        CHECK(inet_pton(AF_INET6, text, &name.sin6_addr) == 1);
    }
    return name;
}

static int bound_socket(int type, const char *text, int port)
{
    struct sockaddr_in6 name = name_of(text, port);
    int off = 0, big = 4 * 1024 * 1024;
    int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof big) == 0);
    CHECK(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
    return fd;
}

static uint8_t pattern(size_t at)
{
    return (uint8_t)(at * 31 + at / 251);
}

/* Echoes all that one connection sends. */
static void tcp_server(int listener)
{
    static uint8_t buffer[100000];
    int fd = accept(listener, NULL, NULL);
    CHECK(fd >= 0);
    for (;;) {
        ssize_t got = read(fd, buffer, sizeof buffer);
        CHECK(got >= 0);
        if (got == 0)
            _exit(0);
        for (ssize_t at = 0, put; at < got; at += put)
            CHECK((put = write(fd, buffer + at, (size_t)(got - at))) > 0);
    }
}

/* Sends BULK bytes and reads them back at the same time. */
static void tcp_client(const char *from, const char *to)
{
    static uint8_t out[BULK], in[BULK];
    struct sockaddr_in6 name = name_of(to, PORT);
    int fd = bound_socket(SOCK_STREAM, from, 0);
    CHECK(connect(fd, (struct sockaddr *)&name, sizeof name) == 0);
    CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    for (size_t i = 0; i < BULK; i++)
        out[i] = pattern(i);
    size_t sent = 0, got = 0;
    while (got < BULK) {
        struct pollfd wait = {.fd = fd, .events = (short)(POLLIN | (sent < BULK ? POLLOUT : 0))};
        CHECK(poll(&wait, 1, 20000) == 1);
        ssize_t put = sent < BULK ? write(fd, out + sent, BULK - sent) : 0;
        CHECK(put >= 0 || errno == EAGAIN);
        sent += put > 0 ? (size_t)put : 0;
        ssize_t took = read(fd, in + got, BULK - got);
        CHECK(took > 0 || (took < 0 && errno == EAGAIN));
        got += took > 0 ? (size_t)took : 0;
    }
    CHECK(memcmp(in, out, BULK) == 0);
    _exit(0);
}

static const size_t sizes[] = {0, 1, 2, 3, 100, 1472, 1473, 9000, 60000, 64952};

static void udp_server(int fd)
{
    static uint8_t buffer[65536];
    for (size_t i = 0; i < KT_ARRAY_LEN(sizes); i++) {
        struct sockaddr_in6 from;
        socklen_t length = sizeof from;
        ssize_t got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length);
        CHECK(got >= 0);
        CHECK(sendto(fd, buffer, (size_t)got, 0, (struct sockaddr *)&from, length) == got);
    }
    _exit(0);
}

static void udp_client(const char *from, const char *to)
{
    static uint8_t out[65536], in[65536];
    struct sockaddr_in6 name = name_of(to, PORT);
    int fd = bound_socket(SOCK_DGRAM, from, 0);
    CHECK(connect(fd, (struct sockaddr *)&name, sizeof name) == 0);
    for (size_t i = 0; i < KT_ARRAY_LEN(sizes); i++) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        for (size_t k = 0; k < sizes[i]; k++)
            out[k] = pattern(k + i);
        CHECK(send(fd, out, sizes[i], 0) == (ssize_t)sizes[i]);
        CHECK(poll(&wait, 1, 20000) == 1);
        CHECK(recv(fd, in, sizeof in, 0) == (ssize_t)sizes[i]);
        CHECK(memcmp(in, out, sizes[i]) == 0);
    }
    _exit(0);
}

struct crossing_test {
    uv_loop_t loop;
    struct netns netns;
    struct side side[2];
};

static void open_sides(struct crossing_test *t)
{
    static const char *const names[2][4] = {{"198.18.0.2", "fd00::2", "10.222.0.0/16", "fd12::/64"},
                                            {"10.222.0.1", "fd12::1", "198.18.0.0/15", "fd00::/64"}};
    netns_enter(&t->netns);
    assert_int_equal(uv_loop_init(&t->loop), 0);
    for (int i = 0; i < 2; i++) {
        struct side *side = &t->side[i];
        if (i == 1) {
            assert_int_equal(unshare(CLONE_NEWNET), 0);
            netns_up("lo");
        }
        *side = (struct side){.other = &t->side[1 - i]};
        side->ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        int fd = make_device(names[i][0], names[i][1], names[i][2], names[i][3]);
        assert_int_equal(tun_open(&side->tun, &t->loop, fd, MTU, &crossing, side), 0);
        assert_int_equal(uv_timer_init(&t->loop, &side->later), 0);
        side->later.data = side;
    }
}

static void close_sides(struct crossing_test *t)
{
    for (int i = 0; i < 2; i++) {
        struct tun_stats stats;
        tun_stats(t->side[i].tun, &stats);
        assert_int_equal(t->side[i].dropped, 0);
        assert_int_equal(stats.dropped, 0);
        assert_true(stats.packets_in > 0 && stats.packets_out > 0);
        tun_close(t->side[i].tun);
        uv_close((uv_handle_t *)&t->side[i].later, NULL);
        (void)close(t->side[i].ns);
    }
    (void)uv_run(&t->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&t->loop), 0);
    assert_int_equal(netns_lines_with("ktvpn"), 0);
    netns_leave(&t->netns);
    assert_int_equal(kt_mem_live(), 0);
}

/* Forks `run` in a side's namespace. */
static pid_t fork_in(const struct side *side, void (*run)(void *), void *argument)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    CHECK(setns(side->ns, CLONE_NEWNET) == 0);
    (void)alarm(60);
    run(argument);
    _exit(99);
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void wait_for(struct crossing_test *t, pid_t pid)
{
    int status = 0;
    uv_timer_t tick; /* so that UV_RUN_ONCE comes back */
    assert_int_equal(uv_timer_init(&t->loop, &tick), 0);
    assert_int_equal(uv_timer_start(&tick, on_tick, 2, 2), 0);
    while (waitpid(pid, &status, WNOHANG) == 0)
        (void)uv_run(&t->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&tick, NULL);
    (void)uv_run(&t->loop, UV_RUN_NOWAIT);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

struct endpoint {
    bool is_tcp;
    const char *from, *to;
    int server; /* the socket */
};

static void run_server(void *argument)
{
    const struct endpoint *endpoint = argument;
    (endpoint->is_tcp ? tcp_server : udp_server)(endpoint->server);
}

static void run_client(void *argument)
{
    const struct endpoint *endpoint = argument;
    (endpoint->is_tcp ? tcp_client : udp_client)(endpoint->from, endpoint->to);
}

/* `from` is the first side's, `to` the second one's, where the test itself is. */
static void cross(struct crossing_test *t, bool is_tcp, const char *from, const char *to)
{
    struct endpoint endpoint = {.is_tcp = is_tcp, .from = from, .to = to};
    endpoint.server = bound_socket(is_tcp ? SOCK_STREAM : SOCK_DGRAM, to, PORT);
    if (is_tcp)
        assert_int_equal(listen(endpoint.server, 1), 0);
    pid_t server = fork_in(&t->side[1], run_server, &endpoint);
    pid_t client = fork_in(&t->side[0], run_client, &endpoint);
    assert_int_equal(close(endpoint.server), 0);
    wait_for(t, client);
    wait_for(t, server);
}

static void kernel_tcp_crosses(void **state)
{
    (void)state;
    static struct crossing_test t;
    open_sides(&t);
    cross(&t, true, "198.18.0.2", "10.222.0.1");
    cross(&t, true, "fd00::2", "fd12::1");
    close_sides(&t);
}

static void kernel_udp_crosses(void **state)
{
    (void)state;
    static struct crossing_test t;
    open_sides(&t);
    cross(&t, false, "198.18.0.2", "10.222.0.1");
    cross(&t, false, "fd00::2", "fd12::1");
    close_sides(&t);
}

/* What the device gives: partial checksums, and no packet larger than its MTU. */
static void the_kernel_leaves_checksums_to_us(void **state)
{
    (void)state;
    static uint8_t data[70000], payload[20000];
    struct netns netns;
    netns_enter(&netns);
    int fd = make_device("198.18.0.2", "fd00::2", "10.222.0.0/16", "fd12::/64");
    int from = bound_socket(SOCK_DGRAM, "198.18.0.2", 0);
    struct sockaddr_in6 name = name_of("10.222.0.1", PORT);
    assert_int_equal(sendto(from, payload, sizeof payload, 0, (struct sockaddr *)&name, sizeof name), sizeof payload);
    assert_int_equal(read(fd, data, sizeof data), VNET_SIZE + 28 + sizeof payload);
    struct virtio_net_hdr header;
    memcpy(&header, data, sizeof header);
    assert_int_equal(header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    assert_int_equal(header.gso_type, VIRTIO_NET_HDR_GSO_NONE);
    assert_int_equal(header.csum_start, 20);
    assert_int_equal(read(fd, data, sizeof data), -1); /* nothing else: no router solicitation, no MLD report */
    assert_int_equal(errno, EAGAIN);
    (void)close(from);
    (void)close(fd);
    netns_leave(&netns);
}

/* An ordinary TUN without offload, as the kernel's other network: what it gets has complete checksums. */
static int make_plain_device(void)
{
    struct ifreq request = {.ifr_name = "plain0", .ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd = device_open_file();
    assert_true(fd >= 0);
    assert_int_equal(ioctl(fd, TUNSETIFF, &request), 0);
    assert_int_equal(system("ip link set plain0 up mtu 65000 && ip route add 172.20.0.0/16 dev plain0 && "
                            "echo 1 >/proc/sys/net/ipv4/ip_forward"),
                     0);
    return fd;
}

static void expect_forwarded(int plain, const uint8_t *sent, size_t size)
{
    static uint8_t got[70000];
    struct pollfd wait = {.fd = plain, .events = POLLIN};
    struct packet packet;
    do { /* the kernel may have its own to say (MLD reports) */
        assert_int_equal(poll(&wait, 1, 10000), 1);
        assert_int_equal(read(plain, got, sizeof got) > 0, 1);
    } while (got[0] >> 4 != 4);
    assert_int_equal(packet_parse(&packet, got, size), 0);
    assert_int_equal(packet.size, size);
    uint32_t sum = packet_pseudo_sum(&packet, size - packet.head_size);
    assert_int_equal(packet_checksum(packet_sum(got + packet.head_size, size - packet.head_size, sum)), 0);
    size_t field = packet.head_size + (packet.protocol == PACKET_TCP ? 16 : 6);
    assert_memory_equal(got + packet.head_size, sent + packet.head_size, field - packet.head_size);
    assert_memory_equal(got + field + 2, sent + field + 2, size - field - 2);
}

static void the_kernel_completes_checksums(void **state)
{
    (void)state;
    static uint8_t packet[MTU];
    static const size_t some[] = {40, 41, 63, 128, 129, 1500, 9001, MTU};
    struct netns netns;
    struct taker taker = {.tun = NULL};
    struct tun *tun;
    uv_loop_t loop;
    netns_enter(&netns);
    assert_int_equal(uv_loop_init(&loop), 0);
    int fd = make_device("10.222.0.1", "fd12::1", "198.18.0.0/15", "fd00::/64");
    assert_int_equal(tun_open(&tun, &loop, fd, MTU, &ops, &taker), 0);
    int plain = make_plain_device();
    for (size_t i = 0; i < 2 * KT_ARRAY_LEN(some); i++) {
        size_t size = some[i / 2];
        make_udp(packet, size);
        packet[9] = i % 2 == 0 ? PACKET_UDP : PACKET_TCP;
        packet[32] = 0x50; /* TCP: a header of 20 bytes */
        memcpy(packet + 16, "\xac\x14\x00\x05", 4);
        packet[10] = packet[11] = 0;
        uint16_t sum = packet_checksum(packet_sum(packet, 20, 0));
        packet[10] = (uint8_t)(sum >> 8), packet[11] = (uint8_t)sum;
        struct carrier_part part = {packet, size};
        assert_int_equal(tun_write(tun, &part, 1), 0);
        expect_forwarded(plain, packet, size);
    }
    (void)close(plain);
    tun_close(tun);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    netns_leave(&netns);
}

static void a_removed_device_is_told_once(void **state)
{
    (void)state;
    static uint8_t packet[100];
    struct netns netns;
    struct taker taker = {.tun = NULL};
    struct tun *tun;
    uv_loop_t loop;
    make_udp(packet, sizeof packet);
    struct carrier_part part = {packet, sizeof packet};
    netns_enter(&netns);
    assert_int_equal(uv_loop_init(&loop), 0);
    int fd = make_device("198.18.0.2", "fd00::2", "10.222.0.0/16", "fd12::/64");
    assert_int_equal(tun_open(&tun, &loop, fd, MTU, &ops, &taker), 0);
    assert_int_equal(tun_write(tun, &part, 1), 0);
    assert_int_equal(system("ip link set ktvpn0 down"), 0);
    assert_int_equal(tun_write(tun, &part, 1), -ENODEV);
    assert_int_equal(system("ip link del ktvpn0"), 0);
    for (int i = 0; i < 100 && taker.fails == 0; i++)
        (void)uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(taker.fails, 1);
    assert_int_equal(taker.error, -ENODEV);
    assert_int_equal(tun_write(tun, &part, 1), -ENODEV);
    tun_resume(tun);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    assert_int_equal(taker.fails, 1);
    tun_close(tun);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    netns_leave(&netns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packets_are_taken_in_batches),
        cmocka_unit_test(what_finds_no_room_is_offered_again),
        cmocka_unit_test(hostile_input_is_counted_and_dropped),
        cmocka_unit_test(it_may_be_closed_in_a_callback),
        cmocka_unit_test(parts_are_put_together),
        cmocka_unit_test(bad_packets_are_not_written),
        cmocka_unit_test(a_full_kernel_drops),
        cmocka_unit_test(no_memory_leaves_the_descriptor),
        cmocka_unit_test(kernel_tcp_crosses),
        cmocka_unit_test(kernel_udp_crosses),
        cmocka_unit_test(the_kernel_leaves_checksums_to_us),
        cmocka_unit_test(the_kernel_completes_checksums),
        cmocka_unit_test(a_removed_device_is_told_once),
    };
    return unit_run(tests);
}
