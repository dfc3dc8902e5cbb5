/* The owner's side: packets in, events of the loop, and what becomes of each.
 *
 * All work is done in turns: a batch of packets (netstack_input() .. netstack_input_done()), a batch of socket edges, a
 * tick, or a resume. A turn ends with reading from sockets as far as that is allowed, and with freeing what died in it.
 * What is left to read after a turn's share is read in the next one, so that the loop serves others in between. */
#include "netstack/netstack.h"

#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/mem.h"
#include "netstack/icmp_error.h"
#include "netstack/pool.h"
#include "netstack/stack.h"

#define READS_PER_TURN 64
#define HANDLES 3

int stack_output(struct netstack *netstack, const struct carrier_part *parts, int count)
{
    int rc = netstack->ops.output(netstack->context, parts, count);
    if (rc == -ENOBUFS) {
        netstack->is_blocked = true;
        return rc;
    }
    if (rc == 0)
        netstack->stats.packets_out++;
    else
        netstack->stats.packets_dropped++;
    return 0;
}

enum netstack_verdict stack_route(struct netstack *netstack, const struct netstack_flow *flow,
                                  struct netstack_route *route)
{
    *route = (struct netstack_route){.address = flow->target, .port = flow->target_port};
    return netstack->ops.route(netstack->context, flow, route);
}

bool stack_ends_here(struct netstack *netstack, const struct packet *packet, const uint8_t *data,
                     const struct netstack_route *route)
{
    struct icmp_error error = {.code = ICMP_HOPS};
    if (packet->hops > 1)
        return false;
    int rc = endpoint_local_address(route, &error.from);
    int code = rc == 0 ? ICMP_HOPS : icmp_error_code(rc);
    if (code < 0)
        return true; /* a fault of ours */
    error.code = (enum icmp_code)code;
    icmp_error_send(netstack, packet, data, &error);
    return true;
}

uint64_t stack_hash(const struct netstack *netstack, const struct netstack_flow *flow)
{
    uint8_t text[2 * sizeof(struct address) + 2 * sizeof(uint16_t)], hash[crypto_shorthash_BYTES];
    uint64_t number;
    memcpy(text, &flow->source, sizeof flow->source);
    memcpy(text + sizeof flow->source, &flow->target, sizeof flow->target);
    memcpy(text + 2 * sizeof flow->source, &flow->source_port, sizeof flow->source_port);
    memcpy(text + sizeof text - sizeof flow->target_port, &flow->target_port, sizeof flow->target_port);
    crypto_shorthash(hash, text, sizeof text, netstack->hash_key);
    memcpy(&number, hash, sizeof number);
    return number;
}

/* ---- turns ---- */

static bool pull(struct endpoint *endpoint)
{
    switch (endpoint->kind) {
    case ENDPOINT_FLOW:
        return flow_pull(KT_CONTAINER_OF(endpoint, struct flow, endpoint));
    case ENDPOINT_DATAGRAM:
    case ENDPOINT_PING:
        return datagram_pull(KT_CONTAINER_OF(endpoint, struct datagram, endpoint));
    }
    return false;
}

static void on_edge(struct endpoint *endpoint)
{
    switch (endpoint->kind) {
    case ENDPOINT_FLOW:
        flow_on_edge(KT_CONTAINER_OF(endpoint, struct flow, endpoint));
        break;
    case ENDPOINT_DATAGRAM:
    case ENDPOINT_PING:
        datagram_on_edge(KT_CONTAINER_OF(endpoint, struct datagram, endpoint));
        break;
    }
}

static void on_idle(uv_idle_t *idle);

static void end_turn(struct netstack *netstack)
{
    struct list *ready = &netstack->endpoints.ready;
    for (int i = 0; i < READS_PER_TURN && !list_is_empty(ready); i++) {
        struct endpoint *endpoint = list_first(ready, struct endpoint, ready);
        list_remove(&endpoint->ready);
        if (pull(endpoint) && list_is_empty(&endpoint->ready))
            list_move_to_end(ready, &endpoint->ready);
    }
    flow_reap(netstack);
    datagram_reap(netstack);
    if (list_is_empty(ready))
        (void)uv_idle_stop(&netstack->idle);
    else
        (void)uv_idle_start(&netstack->idle, on_idle);
}

static void on_idle(uv_idle_t *idle)
{
    end_turn(idle->data);
}

static void on_events(uv_poll_t *poll, int status, int events)
{
    struct netstack *netstack = poll->data;
    (void)status; /* an epoll descriptor has no error to tell */
    (void)events;
    endpoint_set_collect(&netstack->endpoints, on_edge);
    end_turn(netstack);
}

static void on_timer(uv_timer_t *timer)
{
    struct netstack *netstack = timer->data;
    netstack->errors_left = ICMP_ERRORS_PER_TICK;
    reassembly_tick(&netstack->reassembly, uv_now(netstack->loop));
    flow_tick(netstack);
    datagram_tick(netstack);
    end_turn(netstack);
}

/* ---- packets ---- */

const char *netstack_drop_name(enum netstack_drop drop)
{
    static const char *const names[NETSTACK_DROPS] = {
        [NETSTACK_DROP_MALFORMED] = "malformed",
        [NETSTACK_DROP_UNSPECIFIED] = "unspecified",
        [NETSTACK_DROP_LOOPBACK] = "loopback",
        [NETSTACK_DROP_LINK_LOCAL] = "link-local",
        [NETSTACK_DROP_MULTICAST] = "multicast",
        [NETSTACK_DROP_BROADCAST] = "broadcast",
        [NETSTACK_DROP_FRAGMENT] = "fragments",
        [NETSTACK_DROP_PROTOCOL] = "of another protocol",
        [NETSTACK_DROP_OTHER] = "refused or over a limit",
    };
    return names[drop];
}

/* ::, and IPv4 addresses in IPv6's clothes, which a socket would take for IPv4. */
static bool is_nowhere(const struct address *address)
{
    static const uint8_t zero[10];
    return address->family == ADDRESS_V6 ? memcmp(address->bytes, zero, sizeof zero) == 0 : address->bytes[0] == 0;
}

/* Addresses that no packet of a tunnel may carry (RFC 1122 3.2.1.3); NETSTACK_DROPS: it is none. */
static enum netstack_drop kind_of(const struct address *address)
{
    if (address_is_loopback(address))
        return NETSTACK_DROP_LOOPBACK;
    if (address_is_multicast(address))
        return address->family == ADDRESS_V4 && address->bytes[0] == 255 ? NETSTACK_DROP_BROADCAST
                                                                         : NETSTACK_DROP_MULTICAST;
    if (is_nowhere(address))
        return NETSTACK_DROP_UNSPECIFIED;
    if (address->family == ADDRESS_V6 && address_is_link_local(address))
        return NETSTACK_DROP_LINK_LOCAL;
    return NETSTACK_DROPS;
}

static enum netstack_drop kind_of_error(int error)
{
    return error == 0                  ? NETSTACK_DROPS
           : error == -EBADMSG         ? NETSTACK_DROP_MALFORMED
           : error == -EPROTONOSUPPORT ? NETSTACK_DROP_PROTOCOL
                                       : NETSTACK_DROP_OTHER;
}

static int dispatch(struct netstack *netstack, const struct packet *packet, const uint8_t *data)
{
    switch (packet->protocol) {
    case PACKET_TCP:
        return flow_input(netstack, packet, data);
    case PACKET_UDP:
    case PACKET_ICMP:
    case PACKET_ICMPV6:
        return datagram_input(netstack, packet, data);
    default:
        return -EPROTONOSUPPORT;
    }
}

static enum netstack_drop input_fragment(struct netstack *netstack, const struct packet *fragment, const uint8_t *data)
{
    struct packet packet;
    const uint8_t *whole;
    size_t size;
    int rc = reassembly_add(&netstack->reassembly, fragment, data, uv_now(netstack->loop), &whole, &size);
    if (rc < 0)
        return NETSTACK_DROP_FRAGMENT;
    if (rc == 0)
        return NETSTACK_DROPS;
    rc = packet_parse(&packet, whole, size);
    if (rc == 0)
        rc = dispatch(netstack, &packet, whole);
    reassembly_pop(&netstack->reassembly, whole);
    return kind_of_error(rc);
}

/* NETSTACK_DROPS: it was not dropped. */
static enum netstack_drop input(struct netstack *netstack, const uint8_t *data, size_t size)
{
    struct packet packet;
    if (packet_parse(&packet, data, size) != 0)
        return NETSTACK_DROP_MALFORMED;
    enum netstack_drop kind = kind_of(&packet.target);
    if (kind == NETSTACK_DROPS)
        kind = kind_of(&packet.source);
    if (kind != NETSTACK_DROPS)
        return kind;
    if (packet.is_fragment)
        return input_fragment(netstack, &packet, data);
    return kind_of_error(dispatch(netstack, &packet, data));
}

void netstack_input(struct netstack *netstack, const uint8_t *data, size_t size)
{
    enum netstack_drop kind = input(netstack, data, size);
    netstack->stats.packets_in++;
    if (kind == NETSTACK_DROPS)
        return;
    netstack->stats.packets_dropped++;
    netstack->stats.drops[kind]++;
}

void netstack_input_done(struct netstack *netstack)
{
    flow_input_done(netstack);
    end_turn(netstack);
}

void netstack_resume(struct netstack *netstack)
{
    netstack->is_blocked = false;
    flow_resume(netstack);
    datagram_resume(netstack);
    end_turn(netstack);
}

/* ---- the clock ---- */

static void start_clock(struct netstack *netstack)
{
    (void)uv_timer_start(&netstack->timer, on_timer, PCB_TICK_MS, PCB_TICK_MS);
}

void netstack_freeze(struct netstack *netstack)
{
    netstack->is_frozen = true;
    (void)uv_timer_stop(&netstack->timer);
}

void netstack_thaw(struct netstack *netstack)
{
    if (!netstack->is_frozen)
        return;
    netstack->is_frozen = netstack->is_blocked = false;
    start_clock(netstack);
    flow_resend(netstack, NULL, NULL);
    netstack_resume(netstack);
}

void netstack_resend(struct netstack *netstack, bool (*is_lost)(void *context, const struct netstack_flow *flow),
                     void *context)
{
    if (netstack->is_frozen)
        return;
    flow_resend(netstack, is_lost, context);
    netstack_resume(netstack);
}

/* ---- life ---- */

static void free_all(struct netstack *netstack)
{
    pool_free(netstack->scratch);
    kt_free(netstack);
    pool_trim();
}

static int init(struct netstack *netstack)
{
    randombytes_buf(netstack->hash_key, sizeof netstack->hash_key);
    datagram_table_init(netstack);
    netstack->scratch = pool_alloc(STACK_SCRATCH_SIZE);
    int rc = netstack->scratch == NULL ? -ENOMEM : flow_table_init(netstack);
    if (rc != 0)
        return rc;
    rc = endpoint_set_open(&netstack->endpoints, netstack->loop, on_events);
    if (rc != 0)
        flow_table_deinit(netstack);
    return rc;
}

int netstack_open(struct netstack **out, struct uv_loop_s *loop, uint16_t mtu, const struct netstack_ops *ops,
                  void *context)
{
    struct netstack *netstack = kt_calloc(1, sizeof *netstack);
    if (netstack == NULL)
        return -ENOMEM;
    netstack->loop = loop;
    netstack->mtu = mtu;
    netstack->errors_left = ICMP_ERRORS_PER_TICK;
    netstack->ops = *ops;
    netstack->context = context;
    int rc = init(netstack);
    if (rc != 0) {
        free_all(netstack);
        return rc;
    }
    (void)uv_timer_init(loop, &netstack->timer); /* these two cannot fail */
    (void)uv_idle_init(loop, &netstack->idle);
    netstack->handles = HANDLES;
    netstack->timer.data = netstack->idle.data = netstack->endpoints.poll.data = netstack;
    start_clock(netstack);
    *out = netstack;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct netstack *netstack = handle->data;
    if (--netstack->handles > 0)
        return;
    void (*on_closed)(void *) = netstack->on_closed;
    void *context = netstack->context;
    free_all(netstack);
    if (on_closed != NULL)
        on_closed(context);
}

void netstack_close(struct netstack *netstack, void (*on_closed)(void *context))
{
    netstack->on_closed = on_closed;
    flow_table_deinit(netstack);
    datagram_table_deinit(netstack);
    reassembly_deinit(&netstack->reassembly);
    endpoint_set_stop(&netstack->endpoints);
    uv_close((uv_handle_t *)&netstack->timer, on_handle_closed);
    uv_close((uv_handle_t *)&netstack->idle, on_handle_closed);
    uv_close((uv_handle_t *)&netstack->endpoints.poll, on_handle_closed);
}

void netstack_stats(const struct netstack *netstack, struct netstack_stats *stats)
{
    *stats = netstack->stats;
    stats->tcp_flows = netstack->flows.count;
    stats->udp_flows = netstack->datagrams.class[DATAGRAM_UDP].count + netstack->datagrams.class[DATAGRAM_DNS].count;
    stats->ping_flows = netstack->datagrams.class[DATAGRAM_PING].count;
}

bool netstack_can_ping(enum address_family family)
{
    bool is_v6 = family == ADDRESS_V6;
    int fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
    if (fd < 0)
        return false;
    close(fd);
    return true;
}
