/* The life of flows: from the SYN to the last byte. flow_rx.c and flow_tx.c move the bytes. */
#include "netstack/flow.h"

#include <errno.h>
#include <string.h>

#include "lwip/priv/tcp_priv.h"

#include "netstack/held_syn.h"
#include "netstack/pool.h"
#include "netstack/segment.h"
#include "netstack/stack.h"

/* ---- the table ---- */

static struct flow *find(const struct flow_table *table, unsigned bucket, const struct netstack_flow *key)
{
    for (struct flow *flow = table->bucket[bucket]; flow != NULL; flow = flow->next) {
        if (flow->key.source_port == key->source_port && flow->key.target_port == key->target_port &&
            address_equal(&flow->key.source, &key->source) && address_equal(&flow->key.target, &key->target))
            return flow;
    }
    return NULL;
}

/* From here on its packets are nobody's, and its addresses are free for a new flow. */
static void leave_table(struct flow *flow)
{
    struct flow **link = &flow->netstack->flows.bucket[flow->bucket];
    while (*link != NULL && *link != flow)
        link = &(*link)->next;
    if (*link != NULL)
        *link = flow->next;
    flow->next = NULL;
}

static struct flow *flow_new(struct netstack *netstack, const struct netstack_flow *key, unsigned bucket)
{
    struct flow *flow = pool_calloc(1, sizeof *flow);
    if (flow == NULL)
        return NULL;
    endpoint_init(&flow->endpoint, ENDPOINT_FLOW);
    flow->netstack = netstack;
    flow->key = *key;
    flow->bucket = bucket;
    flow->state = FLOW_DIALLING;
    list_init(&flow->touched);
    list_init(&flow->waiting);
    list_init(&flow->half_closed);
    flow->next = netstack->flows.bucket[bucket];
    netstack->flows.bucket[bucket] = flow;
    netstack->flows.count++;
    return flow;
}

/* Everything but the memory. `pcb` is gone already. */
static void finish(struct flow *flow, bool with_reset)
{
    struct flow_table *table = &flow->netstack->flows;
    leave_table(flow);
    endpoint_close(&flow->endpoint, with_reset);
    list_remove(&flow->touched);
    list_remove(&flow->half_closed);
    list_move_to_end(&table->dead, &flow->waiting);
    flow_drop_chunks(flow);
    held_syn_free(flow->syn);
    flow->syn = NULL;
    flow->state = FLOW_DEAD;
    table->queued -= flow->queued;
    table->windows -= flow->window > FLOW_OWN_BYTES ? flow->window - FLOW_OWN_BYTES : 0;
    table->count--;
}

void flow_reap(struct netstack *netstack)
{
    struct list *dead = &netstack->flows.dead;
    while (!list_is_empty(dead)) {
        struct flow *flow = list_first(dead, struct flow, waiting);
        list_remove(&flow->waiting);
        pool_free(flow);
    }
}

/* ---- ends ---- */

static void detach(struct flow *flow)
{
    struct tcp_pcb *pcb = flow->pcb;
    flow->pcb = NULL;
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, NULL);
    tcp_sent(pcb, NULL);
    tcp_err(pcb, NULL);
    tcp_abort(pcb); /* RST, but nothing from TIME_WAIT */
}

/* From our side: RST to the packets, reset to the socket. */
static void abort_both(struct flow *flow)
{
    if (flow->pcb != NULL)
        detach(flow);
    finish(flow, true);
}

/* lwIP is through in order. What the socket did not take yet is still owed to it. */
static void on_pcb_done(struct flow *flow)
{
    leave_table(flow);
    list_remove(&flow->touched);
    list_remove(&flow->half_closed);
    list_move_to_end(&flow->netstack->flows.draining, &flow->waiting);
    flow->state = FLOW_DRAINING;
    if (flow->first == NULL)
        finish(flow, false);
}

/* lwIP has freed the pcb: a RST came, it gave up, or both FINs are acknowledged (ERR_CLSD). */
static void on_error(void *arg, err_t error)
{
    struct flow *flow = arg;
    flow->pcb = NULL;
    if (error == ERR_CLSD)
        on_pcb_done(flow);
    else
        finish(flow, true);
}

static void note_half_closed(struct flow *flow)
{
    if (flow->has_fin != flow->has_eof)
        list_move_to_end(&flow->netstack->flows.half_closed, &flow->half_closed);
    else
        list_remove(&flow->half_closed);
}

void flow_settle(struct flow *flow)
{
    if (flow->state != FLOW_ANSWERING && flow->state != FLOW_OPEN)
        return;
    if (flow->must_abort) {
        abort_both(flow);
    } else if (flow->pcb->state == TIME_WAIT) {
        /* Its ACK is out, the carrier keeps the order, and a FIN sent twice may get a RST: nothing to wait for. */
        detach(flow);
        on_pcb_done(flow);
    } else {
        note_half_closed(flow);
        flow_wake(flow);
    }
}

/* ---- the beginning ---- */

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t size)
{
    struct flow *flow = arg;
    uint32_t acknowledged = KT_MIN(size, flow->queued);
    flow->queued -= acknowledged;
    flow->netstack->flows.queued -= acknowledged;
    if (flow->has_error && pcb->unsent == NULL && pcb->unacked == NULL)
        flow->must_abort = true;
    return ERR_OK;
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t error)
{
    struct flow *flow = arg;
    if (flow == NULL || pcb == NULL || error != ERR_OK)
        return ERR_VAL; /* lwIP had no memory for a SYN: the client sends it again */
    flow->state = FLOW_OPEN;
    return ERR_OK;
}

/* lwIP begins with all of TCP_WND. What the SYN-ACK said is less: its field has 16 bits and no scale. */
static void set_first_window(struct flow *flow)
{
    struct tcp_pcb *pcb = flow->pcb;
    flow->window = FLOW_OWN_BYTES;
    if ((pcb->flags & TF_WND_SCALE) == 0)
        return;
    pcb->rcv_wnd = pcb->rcv_ann_wnd = FLOW_OWN_BYTES;
    pcb->rcv_ann_right_edge = pcb->rcv_nxt + FLOW_OWN_BYTES;
}

/* Our socket is connected: so may the client be. */
static void answer(struct flow *flow)
{
    struct netstack *netstack = flow->netstack;
    pcb_index_enter(&netstack->flows.pcbs, flow->bucket);
    flow->pcb = held_syn_accept(flow->syn, &netstack->flows.pcbs, flow);
    held_syn_free(flow->syn);
    flow->syn = NULL;
    if (flow->pcb == NULL) {
        finish(flow, true); /* no memory; the client's next SYN begins again */
    } else {
        flow->state = FLOW_ANSWERING;
        tcp_recv(flow->pcb, flow_on_recv);
        tcp_sent(flow->pcb, on_sent);
        tcp_err(flow->pcb, on_error);
        tcp_nagle_disable(flow->pcb);
        set_first_window(flow);
        netstack->stats.tcp_opened++;
        flow_push(flow);
    }
    pcb_index_leave(&netstack->flows.pcbs);
}

static void refuse(struct flow *flow, int error)
{
    struct netstack *netstack = flow->netstack;
    netstack->stats.tcp_refused++;
    pcb_index_enter(&netstack->flows.pcbs, flow->bucket);
    held_syn_refuse(flow->syn, netstack, &netstack->flows.pcbs, error);
    pcb_index_leave(&netstack->flows.pcbs);
    finish(flow, true);
}

static void on_dialled(struct flow *flow, int error)
{
    if (error == 0)
        answer(flow);
    else if (error != -EINPROGRESS)
        refuse(flow, error);
}

/* Room under the cap, if need be by ending the half-closed flow that was silent for longest. */
static bool has_room(struct netstack *netstack)
{
    struct flow_table *table = &netstack->flows;
    if (table->count < table->max)
        return true;
    if (list_is_empty(&table->half_closed))
        return false;
    struct flow *oldest = list_first(&table->half_closed, struct flow, half_closed);
    pcb_index_enter(&table->pcbs, oldest->bucket);
    abort_both(oldest);
    pcb_index_leave(&table->pcbs);
    return true;
}

static int dial(struct netstack *netstack, const struct netstack_flow *key, unsigned bucket,
                const struct packet *packet, const uint8_t *data)
{
    struct netstack_route route;
    enum netstack_verdict verdict = stack_route(netstack, key, &route);
    if (verdict == NETSTACK_DIAL && stack_ends_here(netstack, packet, data, &route))
        return 0;
    struct flow *flow = verdict == NETSTACK_DROP || !has_room(netstack) ? NULL : flow_new(netstack, key, bucket);
    if (flow == NULL)
        return -ENOBUFS;
    flow->syn = held_syn_new(packet, data);
    if (flow->syn == NULL) {
        finish(flow, false);
        return -ENOBUFS;
    }
    on_dialled(flow, verdict == NETSTACK_REFUSE ? -ECONNREFUSED
                                                : endpoint_connect(&flow->endpoint, &netstack->endpoints, &route));
    return 0;
}

/* ---- packets ---- */

/* lwIP keeps a segment's memory only when it has to wait for an earlier one. */
static bool may_lend(const struct flow *flow, const struct segment *segment)
{
    bool is_empty = segment->payload_size == 0 && (segment->flags & (SEGMENT_FIN | SEGMENT_SYN)) == 0;
    return flow == NULL || is_empty || segment->sequence == flow->pcb->rcv_nxt;
}

static int feed(struct netstack *netstack, struct flow *flow, unsigned bucket, const struct segment *segment,
                const struct packet *packet, const uint8_t *data)
{
    struct pcb_index *pcbs = &netstack->flows.pcbs;
    bool was_answering = flow != NULL && flow->state == FLOW_ANSWERING;
    pcb_index_enter(pcbs, bucket);
    int rc = 0;
    if (may_lend(flow, segment))
        pcb_index_lend(pcbs, packet, data);
    else
        rc = pcb_index_copy(pcbs, packet, data);
    if (was_answering && flow->state == FLOW_OPEN)
        flow->pcb->cwnd = TCP_SND_BUF; /* the carrier has its own congestion control */
    if (flow != NULL) {
        flow_settle(flow);
        if (flow->pcb != NULL)
            list_move_to_end(&netstack->flows.touched, &flow->touched);
    }
    pcb_index_leave(pcbs);
    return rc == 0 ? 0 : -ENOBUFS;
}

static int input_while_dialling(struct flow *flow, const struct segment *segment)
{
    if ((segment->flags & SEGMENT_RST) != 0)
        finish(flow, true); /* the client gave up */
    return 0;               /* or sent its SYN once more: it is held already */
}

int flow_input(struct netstack *netstack, const struct packet *packet, const uint8_t *data)
{
    struct flow_table *table = &netstack->flows;
    struct segment segment;
    int rc = segment_parse(&segment, packet, data);
    if (rc != 0)
        return rc;
    const struct netstack_flow key = {NETSTACK_TCP, packet->source, packet->target, packet->source_port,
                                      packet->target_port};
    unsigned bucket = (unsigned)(stack_hash(netstack, &key) % PCB_BUCKETS);
    struct flow *flow = find(table, bucket, &key);
    if (flow != NULL && flow->state == FLOW_DIALLING)
        return input_while_dialling(flow, &segment);
    uint8_t kind = segment.flags & (SEGMENT_SYN | SEGMENT_ACK | SEGMENT_RST | SEGMENT_FIN);
    if (flow == NULL && kind == SEGMENT_SYN)
        return dial(netstack, &key, bucket, packet, data);
    return feed(netstack, flow, bucket, &segment, packet, data);
}

void flow_input_done(struct netstack *netstack)
{
    struct flow_table *table = &netstack->flows;
    while (!list_is_empty(&table->touched)) {
        struct flow *flow = list_first(&table->touched, struct flow, touched);
        list_remove(&flow->touched);
        pcb_index_enter(&table->pcbs, flow->bucket);
        if ((flow->pcb->flags & TF_ACK_DELAY) != 0)
            tcp_ack_now(flow->pcb);
        flow_push(flow);
        pcb_index_leave(&table->pcbs);
    }
}

/* ---- the socket, the clock ---- */

static void on_edge_open(struct flow *flow)
{
    struct netstack *netstack = flow->netstack;
    pcb_index_enter(&netstack->flows.pcbs, flow->bucket);
    flow_flush(flow);
    if (flow->has_eof && flow->endpoint.has_ended && endpoint_error(&flow->endpoint) != 0)
        flow_fail(flow);
    flow_settle(flow);
    pcb_index_leave(&netstack->flows.pcbs);
}

static void on_edge_draining(struct flow *flow)
{
    flow_flush(flow);
    if (flow->first == NULL)
        finish(flow, flow->must_abort);
}

void flow_on_edge(struct flow *flow)
{
    switch (flow->state) {
    case FLOW_DIALLING:
        if (flow->endpoint.is_writable)
            on_dialled(flow, endpoint_error(&flow->endpoint));
        break;
    case FLOW_OPEN:
        on_edge_open(flow);
        break;
    case FLOW_DRAINING:
        on_edge_draining(flow);
        break;
    case FLOW_ANSWERING: /* the flags are looked at when it is open */
    case FLOW_DEAD:
        break;
    }
}

void flow_tick(struct netstack *netstack)
{
    if (netstack->flows.count > 0)
        pcb_index_tick(&netstack->flows.pcbs);
}

int flow_table_init(struct netstack *netstack)
{
    struct flow_table *table = &netstack->flows;
    struct list *lists[] = {&table->touched,     &table->waiting_small, &table->waiting_bulk,
                            &table->half_closed, &table->draining,      &table->dead};
    for (size_t i = 0; i < KT_ARRAY_LEN(lists); i++)
        list_init(lists[i]);
    table->max = NETSTACK_FLOWS_MAX;
    return pcb_index_init(&table->pcbs, netstack->mtu, netstack, flow_output, flow_output_v6, on_accept);
}

void flow_table_deinit(struct netstack *netstack)
{
    struct flow_table *table = &netstack->flows;
    for (unsigned bucket = 0; bucket < PCB_BUCKETS; bucket++) {
        pcb_index_enter(&table->pcbs, bucket);
        while (table->bucket[bucket] != NULL)
            abort_both(table->bucket[bucket]);
        pcb_index_leave(&table->pcbs);
    }
    while (!list_is_empty(&table->draining))
        finish(list_first(&table->draining, struct flow, waiting), true);
    flow_reap(netstack);
    pcb_index_deinit(&table->pcbs);
}
