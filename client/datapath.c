#include "client/datapath.h"

#include <errno.h>
#include <string.h>

#include "common/mem.h"
#include "common/packet.h"

#define DNS_PORT 53

struct datapath {
    struct tun *tun;
    struct tunnel *tunnel;
    struct netstack *netstack;
    struct datapath_server server[DATAPATH_SERVERS_MAX];
    size_t servers;
    uint16_t names_port;
    bool has_sent, has_input; /* in this turn of the TUN */
    uint64_t ignored;         /* packets that nobody in the cluster could hear */
    uint64_t lost;            /* packets that the kernel's queue had no room for: TCP mends it */
    void (*on_failed)(void *context, int error);
    void *context;
};

static const struct datapath_server *find_server(const struct datapath *datapath, const struct address *address)
{
    for (size_t i = 0; i < datapath->servers; i++) {
        if (address_equal(&datapath->server[i].address, address))
            return &datapath->server[i];
    }
    return NULL;
}

/* Is this a packet to a name server? IPv4: the target's four bytes decide, without parsing the rest. */
static bool is_for_server(const struct datapath *datapath, const uint8_t *packet, size_t size)
{
    for (size_t i = 0; i < datapath->servers; i++) {
        const struct address *address = &datapath->server[i].address;
        size_t at = address->family == ADDRESS_V4 ? 16 : 24;
        if (packet[0] >> 4 == (address->family == ADDRESS_V4 ? 4 : 6) && size >= at + address_size(address) &&
            memcmp(packet + at, address->bytes, address_size(address)) == 0)
            return true;
    }
    return false;
}

/* Multicast, broadcast, and what stays on a link: the kernel says such things on every device (router solicitations),
 * and nobody in the cluster hears them. */
static bool is_for_nobody(const uint8_t *packet, size_t size)
{
    if (packet[0] >> 4 == 4)
        return packet[16] >= 224;
    return packet[0] >> 4 == 6 && size >= 40 &&
           (packet[24] == 0xff || (packet[24] == 0xfe && (packet[25] & 0xc0) == 0x80));
}

static int on_tun_packet(void *context, uint8_t *packet, size_t size)
{
    struct datapath *datapath = context;
    if (size < WIRE_PACKET_MIN)
        return 0;
    if (is_for_server(datapath, packet, size)) {
        netstack_input(datapath->netstack, packet, size);
        datapath->has_input = true;
        return 0;
    }
    if (is_for_nobody(packet, size)) {
        datapath->ignored++;
        return 0;
    }
    struct carrier_part part = {packet, size};
    int rc = tunnel_send(datapath->tunnel, &part, 1);
    datapath->has_sent |= rc == 0;
    return rc == -ENOBUFS ? rc : 0;
}

static void on_tun_batch(void *context)
{
    struct datapath *datapath = context;
    if (datapath->has_sent)
        tunnel_flush(datapath->tunnel);
    if (datapath->has_input)
        netstack_input_done(datapath->netstack);
    datapath->has_sent = datapath->has_input = false;
}

static void on_tun_failed(void *context, int error)
{
    struct datapath *datapath = context;
    datapath->on_failed(datapath->context, error);
}

static int on_netstack_output(void *context, const struct carrier_part *parts, int count)
{
    struct datapath *datapath = context;
    if (datapath->tun != NULL)
        datapath->lost += tun_write(datapath->tun, parts, count) != 0;
    return 0;
}

static enum netstack_verdict on_netstack_route(void *context, const struct netstack_flow *flow,
                                               struct netstack_route *route)
{
    const struct datapath *datapath = context;
    const struct datapath_server *server = find_server(datapath, &flow->target);
    if (server == NULL)
        return NETSTACK_DROP;
    bool has_ports = flow->protocol == NETSTACK_UDP || flow->protocol == NETSTACK_TCP;
    if (has_ports && flow->target_port == DNS_PORT) {
        route->address = address_v4(0x7f000001);
        route->port = datapath->names_port;
    } else if (server->device[0] == '\0') {
        return NETSTACK_REFUSE;
    } else {
        memcpy(route->device, server->device, sizeof route->device);
    }
    return NETSTACK_DIAL;
}

int datapath_open(struct datapath **out, struct uv_loop_s *loop, struct tunnel *tunnel,
                  const struct datapath_options *options, void (*on_failed)(void *context, int error), void *context)
{
    static const struct tun_ops tun_ops = {
        .on_packet = on_tun_packet, .on_batch = on_tun_batch, .on_failed = on_tun_failed};
    static const struct netstack_ops netstack_ops = {.output = on_netstack_output, .route = on_netstack_route};
    struct datapath *datapath = kt_calloc(1, sizeof *datapath);
    if (datapath == NULL)
        return -ENOMEM;
    *datapath = (struct datapath){
        .tunnel = tunnel, .names_port = options->names_port, .on_failed = on_failed, .context = context};
    datapath_set_servers(datapath, options->server, options->servers);
    int rc = netstack_open(&datapath->netstack, loop, options->mtu, &netstack_ops, datapath);
    if (rc == 0)
        rc = tun_open(&datapath->tun, loop, options->tun_fd, options->mtu, &tun_ops, datapath);
    if (rc != 0) {
        datapath_close(datapath);
        return rc;
    }
    *out = datapath;
    return 0;
}

void datapath_set_servers(struct datapath *datapath, const struct datapath_server *server, size_t servers)
{
    datapath->servers = KT_MIN(servers, DATAPATH_SERVERS_MAX);
    if (datapath->servers > 0)
        memcpy(datapath->server, server, datapath->servers * sizeof *server);
}

static void on_netstack_closed(void *context)
{
    kt_free(context);
}

void datapath_close(struct datapath *datapath)
{
    if (datapath == NULL)
        return;
    if (datapath->tun != NULL)
        tun_close(datapath->tun);
    datapath->tun = NULL;
    if (datapath->netstack != NULL)
        netstack_close(datapath->netstack, on_netstack_closed);
    else
        kt_free(datapath);
}

void datapath_on_packet(struct datapath *datapath, const uint8_t *packet, size_t size)
{
    struct carrier_part part = {packet, size};
    datapath->lost += tun_write(datapath->tun, &part, 1) != 0;
}

void datapath_on_room(struct datapath *datapath)
{
    tun_resume(datapath->tun);
}

void datapath_stats(const struct datapath *datapath, struct tun_stats *stats)
{
    tun_stats(datapath->tun, stats);
    stats->dropped += datapath->lost;
    stats->ignored = datapath->ignored;
}
