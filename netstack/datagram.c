#include "netstack/datagram.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/cursor.h"
#include "netstack/icmp_error.h"
#include "netstack/ipv4.h"
#include "netstack/pool.h"
#include "netstack/stack.h"

#define DNS_PORT 53
#define FRAGMENT_UNIT 8u /* RFC 791: offsets count 8 bytes */

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

/* A refusal that belongs to an earlier datagram is reported by whatever call comes next: tell it, and go on. */
static void report(struct datagram *datagram, int error)
{
    uint8_t data[IPV4_HEAD_SIZE + MESSAGE_HEAD_MAX];
    const struct netstack_flow *flow = &datagram->flow;
    struct ipv4_head head = {.source = flow->source,
                             .target = flow->target,
                             .protocol = (uint8_t)flow->protocol,
                             .body_size = MESSAGE_HEAD_MAX};
    struct packet packet = {
        .source = flow->source, .target = flow->target, .head_size = IPV4_HEAD_SIZE, .size = sizeof data};
    struct cursor cursor = cursor_writer(data, sizeof data);
    int code = icmp_error_code(error);
    if (code < 0 || flow->protocol != NETSTACK_UDP)
        return;
    ipv4_put_head(&cursor, &head);
    cursor_put_u16(&cursor, flow->source_port);
    cursor_put_u16(&cursor, flow->target_port);
    cursor_put_u16(&cursor, MESSAGE_HEAD_MAX);
    cursor_put_u16(&cursor, 0);
    icmp_error_send(datagram->netstack, &packet, data, code);
}

static int send_body(struct datagram *datagram, const struct message *message)
{
    int error = 0;
    for (int tries = 0; tries < 2; tries++) {
        if (send(datagram->endpoint.fd, message->body, message->size, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            return 0;
        error = -errno;
        if (error == -EAGAIN || error == -EMSGSIZE)
            break;
        report(datagram, error);
    }
    return error;
}

static struct datagram *begin(struct netstack *netstack, const struct netstack_flow *flow, unsigned bucket,
                              const struct packet *packet, const uint8_t *data)
{
    struct netstack_route route;
    enum netstack_verdict verdict = stack_route(netstack, flow, &route);
    if (verdict == NETSTACK_REFUSE)
        icmp_error_send(netstack, packet, data, ICMP_PORT);
    struct datagram *datagram = verdict == NETSTACK_DIAL ? datagram_new(netstack, flow, bucket) : NULL;
    if (datagram == NULL)
        return NULL;
    int rc = endpoint_connect(&datagram->endpoint, &netstack->endpoints, &route);
    if (rc == 0)
        return datagram;
    finish(datagram);
    if (icmp_error_code(rc) >= 0)
        icmp_error_send(netstack, packet, data, icmp_error_code(rc));
    return NULL;
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
    if (datagram == NULL)
        return -ENOBUFS;
    touch(datagram);
    return send_body(datagram, &message);
}

/* ---- from the socket to packets ---- */

/* One fragment of the datagram that waits, or all of it. */
static int send_part(struct netstack *netstack)
{
    struct datagram_table *table = &netstack->datagrams;
    size_t space = netstack->mtu - IPV4_HEAD_SIZE, left = table->size - table->sent;
    size_t size = left <= space ? left : space - space % FRAGMENT_UNIT;
    bool is_whole = size == table->size;
    const struct ipv4_head ip = {.source = table->flow.target,
                                 .target = table->flow.source,
                                 .protocol = (uint8_t)table->flow.protocol,
                                 .body_size = size,
                                 .id = is_whole ? 0 : table->fragment_id,
                                 .offset = (uint16_t)table->sent,
                                 .has_more = size < left};
    uint8_t head[IPV4_HEAD_SIZE + MESSAGE_HEAD_MAX];
    struct cursor cursor = cursor_writer(head, sizeof head);
    size_t in_head = table->sent == 0 ? table->head_size : 0;
    ipv4_put_head(&cursor, &ip);
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
        report(datagram, -errno);
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
