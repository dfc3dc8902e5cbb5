/* Packets of a hostile client, as a little program: each record is an operation and what belongs to it.
 *
 *   0 raw packet            size u16, bytes
 *   1 TCP segment           port u8, flags u8, sequence i16 and acknowledgement i16 (relative to what is right), window
 * u16, option size u8, payload size u16, option bytes; the payload is whatever 2 UDP or echo           port u8, size
 * u16 3 end of the batch      4 one turn of the loop      5 output has no room      6 resume      7 freeze, or thaw
 *
 * The sockets' side is a listener on loopback that accepts, answers and closes as it is told by nobody, or a closed
 * port, or a verdict. Nothing may crash, and at the end no memory may be left. */
#include "netstack/netstack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/cursor.h"
#include "common/mem.h"
#include "common/packet.h"

#define MTU 1500
#define OPERATIONS_MAX 64 /* each may cost a few system calls */

static struct {
    uv_loop_t loop;
    int listener;
    uint16_t port;
} world;

struct run {
    struct netstack *netstack;
    bool is_blocked, is_frozen;
    uint32_t sequence, acknowledge; /* of the client: what would be right next */
};

static int on_output(void *context, const struct carrier_part *parts, int count)
{
    struct run *run = context;
    uint8_t packet[MTU];
    size_t size = 0;
    if (run->is_blocked)
        return -ENOBUFS;
    for (int i = 0; i < count; i++) {
        if (size + parts[i].size > sizeof packet)
            abort(); /* larger than the MTU */
        memcpy(packet + size, parts[i].data, parts[i].size);
        size += parts[i].size;
    }
    struct packet parsed;
    if (packet_parse(&parsed, packet, size) != 0 || parsed.size != size)
        abort();
    if (parsed.protocol == PACKET_TCP) {
        struct cursor cursor = cursor_reader(packet, size);
        cursor_seek(&cursor, parsed.head_size + 4);
        uint32_t sequence = cursor_u32(&cursor);
        size_t head = (size_t)(packet[parsed.head_size + 12] >> 4) * 4;
        uint8_t flags = packet[parsed.head_size + 13];
        run->acknowledge = sequence + (uint32_t)(size - parsed.head_size - head) + ((flags & 3) != 0);
    }
    return 0;
}

static enum netstack_verdict on_route(void *context, const struct netstack_flow *flow, struct netstack_route *route)
{
    (void)context;
    route->address = address_v4(0x7f000001);
    switch (flow->target_port & 7) {
    case 0:
        return NETSTACK_REFUSE;
    case 1:
        return NETSTACK_DROP;
    case 2:
        route->port = 9; /* discard: nobody listens */
        return NETSTACK_DIAL;
    default:
        route->port = world.port;
        return NETSTACK_DIAL;
    }
}

static void put_ip(struct cursor *out, uint8_t protocol, size_t body)
{
    cursor_put_u16(out, 0x4500);
    cursor_put_u16(out, (uint16_t)(20 + body));
    cursor_put_u32(out, 0);
    cursor_put_u8(out, 64);
    cursor_put_u8(out, protocol);
    cursor_put_u16(out, 0);
    cursor_put_u32(out, 0xc6120001);
    cursor_put_u32(out, 0x0a000001);
}

static void input_raw(struct run *run, struct cursor *in)
{
    size_t size = KT_MIN(cursor_u16(in), cursor_left(in));
    const uint8_t *bytes = cursor_bytes(in, size);
    uint8_t *copy = malloc(size + 1); /* so that the sanitizer sees a read beyond its end */
    if (bytes != NULL && copy != NULL)
        memcpy(copy, bytes, size);
    if (copy != NULL && bytes != NULL)
        netstack_input(run->netstack, copy, size);
    free(copy);
}

static void input_tcp(struct run *run, struct cursor *in)
{
    static uint8_t packet[0x10000];
    struct cursor out = cursor_writer(packet, sizeof packet);
    uint8_t port = cursor_u8(in), flags = cursor_u8(in);
    uint32_t sequence = run->sequence + (uint32_t)(int16_t)cursor_u16(in);
    uint32_t acknowledge = run->acknowledge + (uint32_t)(int16_t)cursor_u16(in);
    uint16_t window = cursor_u16(in);
    size_t options = cursor_u8(in) % 11 * 4, payload = KT_MIN(cursor_u16(in), 64000);
    const uint8_t *bytes = cursor_bytes(in, options);
    if (bytes == NULL)
        return;
    put_ip(&out, PACKET_TCP, 20 + options + payload);
    cursor_put_u16(&out, 40000);
    cursor_put_u16(&out, (uint16_t)(8000 + port % 8));
    cursor_put_u32(&out, sequence);
    cursor_put_u32(&out, acknowledge);
    cursor_put_u8(&out, (uint8_t)((20 + options) / 4 << 4));
    cursor_put_u8(&out, flags);
    cursor_put_u16(&out, window);
    cursor_put_u32(&out, 0);
    cursor_put_bytes(&out, bytes, options);
    if ((flags & 2) != 0 || sequence == run->sequence)
        run->sequence = sequence + (uint32_t)payload + ((flags & 3) != 0);
    netstack_input(run->netstack, packet, out.at + payload);
}

static void input_message(struct run *run, struct cursor *in)
{
    static uint8_t packet[0x10000];
    struct cursor out = cursor_writer(packet, sizeof packet);
    uint8_t port = cursor_u8(in);
    size_t size = KT_MIN(cursor_u16(in), 64000);
    bool is_udp = (port & 8) == 0;
    put_ip(&out, is_udp ? PACKET_UDP : PACKET_ICMP, 8 + size);
    cursor_put_u16(&out, is_udp ? 40000 : 0x0800);
    cursor_put_u16(&out, is_udp ? (uint16_t)(8000 + port % 8) : 0);
    cursor_put_u16(&out, (uint16_t)(8 + size));
    cursor_put_u16(&out, 0);
    netstack_input(run->netstack, packet, out.at + size);
}

/* The far side: answers what it can and closes every other time. */
static void serve(size_t turn)
{
    static const uint8_t answer[20000];
    int fd = accept4(world.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    (void)!send(fd, answer, sizeof answer, MSG_NOSIGNAL);
    if (turn % 2 == 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

static void step(struct run *run, struct cursor *in, size_t turn)
{
    switch (cursor_u8(in) % 8) {
    case 0:
        input_raw(run, in);
        break;
    case 1:
        input_tcp(run, in);
        break;
    case 2:
        input_message(run, in);
        break;
    case 3:
        netstack_input_done(run->netstack);
        break;
    case 4:
        serve(turn);
        uv_run(&world.loop, UV_RUN_NOWAIT);
        break;
    case 5:
        run->is_blocked = true;
        break;
    case 6:
        run->is_blocked = false;
        netstack_resume(run->netstack);
        break;
    case 7:
        if (run->is_frozen)
            netstack_thaw(run->netstack);
        else
            netstack_freeze(run->netstack);
        run->is_frozen = !run->is_frozen;
        break;
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    (void)argc;
    (void)argv;
    world.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (uv_loop_init(&world.loop) != 0 || bind(world.listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(world.listener, 128) != 0 || getsockname(world.listener, (struct sockaddr *)&address, &size) != 0)
        abort();
    world.port = ntohs(address.sin_port);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct netstack_ops ops = {.output = on_output, .route = on_route};
    struct run run = {.sequence = 1000};
    struct cursor in = cursor_reader(data, size);
    long before = kt_mem_live();
    if (netstack_open(&run.netstack, &world.loop, MTU, &ops, &run) != 0)
        return 0;
    for (size_t turn = 0; turn < OPERATIONS_MAX && cursor_left(&in) > 0; turn++)
        step(&run, &in, turn);
    netstack_input_done(run.netstack);
    netstack_close(run.netstack, NULL);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    for (int fd; (fd = accept(world.listener, NULL, NULL)) >= 0;)
        close(fd);
    if (kt_mem_live() != before)
        abort();
    return 0;
}
