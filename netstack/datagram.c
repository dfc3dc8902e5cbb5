#include "netstack/datagram.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/cursor.h"
#include "netstack/icmp_error.h"
#include "netstack/ip_head.h"
#include "netstack/pool.h"
#include "netstack/stack.h"

#define DNS_PORT 53
#define FRAGMENT_UNIT 8u /* RFC 791: offsets count 8 bytes */
#define REPORTS_AT_ONCE 16
#define SERVICE_MASK 0xfc /* not ECN: it is about each link by itself */

static const uint32_t idle_max_ms[DATAGRAM_CLASSES] = {
    [DATAGRAM_UDP] = NETSTACK_UDP_IDLE_MS,
    [DATAGRAM_DNS] = DATAGRAM_DNS_IDLE_MS,
    [DATAGRAM_PING] = NETSTACK_PING_IDLE_MS,
};

/* ---- the table ---- */

static struct datagram *find(const struct datagram_table *table, unsigned bucket, const struct netstack_flow *flow)
{
    for (struct datagram *datagram = table->bucket[bucket]; datagram != NULL; datagram = datagram->next) {
        const struct netstack_flow *own = &datagram->flow;
        if (own->protocol == flow->protocol && own->source_port == flow->source_port &&
            own->target_port == flow->target_port && address_equal(&own->source, &flow->source) &&
            address_equal(&own->target, &flow->target))
            return datagram;
    }
    return NULL;
}

/* Closed; its memory goes with the turn. */
static void finish(struct datagram *datagram)
{
    struct datagram_table *table = &datagram->netstack->datagrams;
    struct datagram **link = &table->bucket[datagram->bucket];
    while (*link != datagram)
        link = &(*link)->next;
    *link = datagram->next;
    table->class[datagram->class].count--;
    endpoint_close(&datagram->endpoint, false);
    list_remove(&datagram->waiting);
    list_move_to_end(&table->dead, &datagram->age);
}

static void touch(struct datagram *datagram)
{
    struct netstack *netstack = datagram->netstack;
    datagram->used_ms = uv_now(netstack->loop);
    list_move_to_end(&netstack->datagrams.class[datagram->class].age, &datagram->age);
}

static struct datagram *oldest(struct datagram_table *table, enum datagram_class_name name)
{
    struct list *age = &table->class[name].age;
    return list_is_empty(age) ? NULL : list_first(age, struct datagram, age);
}

/* Under the cap of its protocol, if need be by ending the flow that was silent for longest. */
static void make_room(struct datagram_table *table, enum datagram_class_name name)
{
    struct datagram *victim = oldest(table, name);
    if (name == DATAGRAM_PING) {
        if (table->class[DATAGRAM_PING].count >= NETSTACK_PING_MAX)
            finish(victim);
        return;
    }
    if (table->class[DATAGRAM_UDP].count + table->class[DATAGRAM_DNS].count < NETSTACK_UDP_MAX)
        return;
    struct datagram *udp = oldest(table, DATAGRAM_UDP), *dns = oldest(table, DATAGRAM_DNS);
    finish(udp == NULL || (dns != NULL && dns->used_ms < udp->used_ms) ? dns : udp);
}

static enum datagram_class_name class_of(const struct netstack_flow *flow)
{
    return flow->protocol != NETSTACK_UDP ? DATAGRAM_PING : flow->target_port == DNS_PORT ? DATAGRAM_DNS : DATAGRAM_UDP;
}

static struct datagram *datagram_new(struct netstack *netstack, const struct netstack_flow *flow, unsigned bucket)
{
    struct datagram_table *table = &netstack->datagrams;
    enum datagram_class_name class = class_of(flow);
    make_room(table, class);
    struct datagram *datagram = pool_calloc(1, sizeof *datagram);
    if (datagram == NULL)
        return NULL;
    endpoint_init(&datagram->endpoint, class == DATAGRAM_PING ? ENDPOINT_PING : ENDPOINT_DATAGRAM);
    datagram->netstack = netstack;
    datagram->flow = *flow;
    datagram->class = class;
    datagram->bucket = bucket;
    datagram->next = table->bucket[bucket];
    table->bucket[bucket] = datagram;
    table->class[class].count++;
    list_init(&datagram->age);
    list_init(&datagram->waiting);
    touch(datagram);
    return datagram;
}

/* ---- from packets to the socket ---- */

/* What the flow's datagram looked like, as far as it is known: its first eight bytes are `head`. */
static void send_error(struct datagram *datagram, const uint8_t head[static MESSAGE_HEAD_MAX],
                       const struct icmp_error *error)
{
    uint8_t data[IPV6_HEAD_SIZE + MESSAGE_HEAD_MAX];
    const struct netstack_flow *flow = &datagram->flow;
    const struct ip_head ip = {.source = flow->source,
                               .target = flow->target,
                               .protocol = (uint8_t)flow->protocol,
                               .body_size = MESSAGE_HEAD_MAX};
    struct packet packet;
    struct cursor cursor = cursor_writer(data, sizeof data);
    ip_head_put(&cursor, &ip);
    cursor_put_bytes(&cursor, head, MESSAGE_HEAD_MAX);
    if (packet_parse(&packet, data, cursor.at) == 0)
        icmp_error_send(datagram->netstack, &packet, data, error);
}

static bool error_of_report(struct icmp_error *error, const struct datagram *datagram,
                            const struct endpoint_report *report)
{
    int code = report->error == -ETIME ? ICMP_HOPS : report->error == -EMSGSIZE ? ICMP_TOO_BIG : 0;
    if (code == 0)
        code = icmp_error_code(report->error);
    bool is_told = code >= 0 && (code != ICMP_TOO_BIG || report->mtu > 0);
    *error = (struct icmp_error){.code = is_told ? (enum icmp_code)code : ICMP_HOST, .mtu = report->mtu};
    if (!address_equal(&report->from, &datagram->to))
        error->from = report->from;
    return is_told;
}

static void report_udp(struct datagram *datagram, const struct icmp_error *error)
{
    uint8_t head[MESSAGE_HEAD_MAX];
    struct cursor cursor = cursor_writer(head, sizeof head);
    cursor_put_u16(&cursor, datagram->flow.source_port);
    cursor_put_u16(&cursor, datagram->flow.target_port);
    cursor_put_u16(&cursor, MESSAGE_HEAD_MAX);
    cursor_put_u16(&cursor, 0);
    send_error(datagram, head, error);
}

/* The echo as the client sent it has the client's identifier, not the socket's. */
static void report_echo(struct datagram *datagram, const struct icmp_error *error, const struct endpoint_report *report)
{
    uint8_t head[MESSAGE_HEAD_MAX];
    if (report->quote_size < sizeof head)
        return;
    memcpy(head, report->quote, sizeof head);
    struct cursor cursor = cursor_writer(head, sizeof head);
    cursor_seek(&cursor, 4);
    cursor_put_u16(&cursor, datagram->flow.source_port);
    send_error(datagram, head, error);
}

static void pass_report(struct datagram *datagram, const struct endpoint_report *report)
{
    struct icmp_error error;
    if (!error_of_report(&error, datagram, report))
        return;
    if (datagram->flow.protocol == NETSTACK_UDP)
        report_udp(datagram, &error);
    else
        report_echo(datagram, &error, report);
}

/* An error that belongs to an earlier datagram comes out of whatever call is next; the reports say what it was. */
static void pass_reports(struct datagram *datagram, int error)
{
    struct endpoint_report report;
    unsigned count = 0;
    while (count < REPORTS_AT_ONCE && endpoint_take_report(&datagram->endpoint, &report) == 0) {
        pass_report(datagram, &report);
        count++;
    }
    if (count > 0)
        return;
    report = (struct endpoint_report){.error = error};
    pass_report(datagram, &report);
}

/* One hop less than it came with. */
static void pass_marks(struct datagram *datagram, const struct packet *packet)
{
    uint8_t hops = (uint8_t)(packet->hops - 1), service = packet->service & SERVICE_MASK;
    if (datagram->hops != hops && endpoint_set_hops(&datagram->endpoint, hops) == 0)
        datagram->hops = hops;
    if (datagram->service != service && endpoint_set_service(&datagram->endpoint, service) == 0)
        datagram->service = service;
}

static int send_body(struct datagram *datagram, const struct message *message)
{
    int error = 0;
    for (int tries = 0; tries < 2; tries++) {
        if (send(datagram->endpoint.fd, message->body, message->size, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            return 0;
        error = -errno;
        if (error == -EAGAIN)
            break;
        pass_reports(datagram, error);
    }
    return error;
}

static struct datagram *begin(struct netstack *netstack, const struct netstack_flow *flow, unsigned bucket,
                              const struct packet *packet, const uint8_t *data)
{
    struct netstack_route route;
    enum netstack_verdict verdict = stack_route(netstack, flow, &route);
    if (verdict == NETSTACK_REFUSE)
        icmp_error_send(netstack, packet, data, &(struct icmp_error){.code = ICMP_PORT});
    if (verdict != NETSTACK_DIAL || stack_ends_here(netstack, packet, data, &route))
        return NULL;
    struct datagram *datagram = datagram_new(netstack, flow, bucket);
    if (datagram == NULL)
        return NULL;
    datagram->to = route.address;
    int rc = endpoint_connect(&datagram->endpoint, &netstack->endpoints, &route);
    if (rc == 0)
        return datagram;
    finish(datagram);
    int code = icmp_error_code(rc);
    if (code >= 0)
        icmp_error_send(netstack, packet, data, &(struct icmp_error){.code = (enum icmp_code)code});
    return NULL;
}

/* A datagram of a flow that is there may have used up its hops too: traceroute's echoes are one flow. */
static bool ends_here(struct netstack *netstack, const struct netstack_flow *flow, const struct packet *packet,
                      const uint8_t *data)
{
    struct netstack_route route;
    return packet->hops <= 1 && stack_route(netstack, flow, &route) == NETSTACK_DIAL &&
           stack_ends_here(netstack, packet, data, &route);
}

int datagram_input(struct netstack *netstack, const struct packet *packet, const uint8_t *data)
{
    struct message message;
    int rc = message_parse(&message, packet, data);
    if (rc != 0)
        return rc;
    unsigned bucket = (unsigned)(stack_hash(netstack, &message.flow) % DATAGRAM_BUCKETS);
    struct datagram *datagram = find(&netstack->datagrams, bucket, &message.flow);
    if (datagram == NULL)
        datagram = begin(netstack, &message.flow, bucket, packet, data);
    else if (ends_here(netstack, &message.flow, packet, data))
        return 0;
    if (datagram == NULL)
        return -ENOBUFS;
    touch(datagram);
    pass_marks(datagram, packet);
    return send_body(datagram, &message);
}

/* ---- from the socket to packets ---- */

/* How much of the datagram that waits goes into the next packet: all, or a fragment. */
static size_t part_size(const struct netstack *netstack)
{
    const struct datagram_table *table = &netstack->datagrams;
    bool is_v6 = table->flow.target.family == ADDRESS_V6;
    size_t space = netstack->mtu - (is_v6 ? IPV6_HEAD_SIZE : IPV4_HEAD_SIZE), left = table->size - table->sent;
    if (table->size <= space)
        return left;
    space -= is_v6 ? IPV6_FRAGMENT_SIZE : 0;
    return left <= space ? left : space - space % FRAGMENT_UNIT;
}

static int send_part(struct netstack *netstack)
{
    struct datagram_table *table = &netstack->datagrams;
    size_t size = part_size(netstack);
    const struct ip_head ip = {.source = table->flow.target,
                               .target = table->flow.source,
                               .protocol = (uint8_t)table->flow.protocol,
                               .body_size = size,
                               .id = size == table->size ? 0 : table->fragment_id,
                               .offset = (uint16_t)table->sent,
                               .has_more = size < table->size - table->sent};
    uint8_t head[IP_HEAD_MAX + MESSAGE_HEAD_MAX];
    struct cursor cursor = cursor_writer(head, sizeof head);
    size_t in_head = table->sent == 0 ? table->head_size : 0;
    ip_head_put(&cursor, &ip);
    cursor_put_bytes(&cursor, table->head, in_head);
    const struct carrier_part parts[] = {{head, cursor.at},
                                         {table->body + (table->sent + in_head - table->head_size), size - in_head}};
    int rc = stack_output(netstack, parts, 2);
    if (rc == 0)
        table->sent += size;
    return rc;
}

/* -ENOBUFS: a part of it still waits. */
static int send_waiting(struct netstack *netstack)
{
    struct datagram_table *table = &netstack->datagrams;
    int rc = 0;
    while (rc == 0 && table->sent < table->size)
        rc = send_part(netstack);
    if (rc == 0)
        table->size = table->sent = 0;
    return rc;
}

static void deliver(struct datagram *datagram, size_t size)
{
    struct datagram_table *table = &datagram->netstack->datagrams;
    int head_size = message_finish(table->head, &datagram->flow, table->body, size);
    if (head_size < 0)
        return;
    table->flow = datagram->flow;
    table->head_size = (size_t)head_size;
    table->size = table->head_size + size;
    table->sent = 0;
    table->fragment_id++;
    if (datagram->flow.protocol == NETSTACK_UDP && datagram->flow.target.family == ADDRESS_V6 &&
        part_size(datagram->netstack) < table->size)
        message_sum(table->head, &datagram->flow, table->body, size);
    touch(datagram);
    (void)send_waiting(datagram->netstack); /* what is left goes with the next resume */
}

bool datagram_pull(struct datagram *datagram)
{
    struct datagram_table *table = &datagram->netstack->datagrams;
    if (datagram->endpoint.fd < 0 || !datagram->endpoint.is_readable)
        return false;
    if (table->size > 0 || datagram->netstack->is_frozen) {
        list_move_to_end(&table->waiting, &datagram->waiting);
        return false;
    }
    ssize_t got = recv(datagram->endpoint.fd, table->body, sizeof table->body, MSG_DONTWAIT);
    if (got >= 0)
        deliver(datagram, (size_t)got);
    else if (errno == EAGAIN)
        datagram->endpoint.is_readable = false;
    else if (errno != EINTR)
        pass_reports(datagram, -errno);
    return datagram->endpoint.is_readable;
}

void datagram_on_edge(struct datagram *datagram)
{
    if (datagram->endpoint.is_readable && list_is_empty(&datagram->endpoint.ready))
        list_move_to_end(&datagram->netstack->endpoints.ready, &datagram->endpoint.ready);
}

void datagram_resume(struct netstack *netstack)
{
    struct datagram_table *table = &netstack->datagrams;
    if (netstack->is_frozen || send_waiting(netstack) != 0)
        return;
    while (!list_is_empty(&table->waiting)) {
        struct datagram *datagram = list_first(&table->waiting, struct datagram, waiting);
        list_remove(&datagram->waiting);
        datagram_on_edge(datagram);
    }
}

/* ---- the clock ---- */

void datagram_tick(struct netstack *netstack)
{
    struct datagram_table *table = &netstack->datagrams;
    uint64_t now_ms = uv_now(netstack->loop);
    for (int name = 0; name < DATAGRAM_CLASSES; name++) {
        struct datagram *datagram = oldest(table, name);
        while (datagram != NULL && now_ms - datagram->used_ms >= idle_max_ms[name]) {
            finish(datagram);
            datagram = oldest(table, name);
        }
    }
}

void datagram_reap(struct netstack *netstack)
{
    struct list *dead = &netstack->datagrams.dead;
    while (!list_is_empty(dead)) {
        struct datagram *datagram = list_first(dead, struct datagram, age);
        list_remove(&datagram->age);
        pool_free(datagram);
    }
}

void datagram_table_init(struct netstack *netstack)
{
    struct datagram_table *table = &netstack->datagrams;
    list_init(&table->waiting);
    list_init(&table->dead);
    for (int name = 0; name < DATAGRAM_CLASSES; name++)
        list_init(&table->class[name].age);
}

void datagram_table_deinit(struct netstack *netstack)
{
    struct datagram_table *table = &netstack->datagrams;
    for (int name = 0; name < DATAGRAM_CLASSES; name++) {
        while (oldest(table, name) != NULL)
            finish(oldest(table, name));
    }
    datagram_reap(netstack);
}
