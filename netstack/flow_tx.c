/* From the socket to packets.
 *
 * A turn reads what the socket has, as far as lwIP may take it, and lets lwIP send. Back-pressure comes from three
 * places: the client's window and lwIP's buffer (nothing is read until an ACK), the owner's output (-ENOBUFS: the
 * segments stay in lwIP, the flow joins a waiting list, and reads no more than one turn ahead), and freezing. Nothing
 * is dropped.
 *
 * When output has room again the waiting flows take turns: those with little to send first (acknowledgements, requests,
 * the end of a small answer), then the others, the one that sent last going last. The carrier does the congestion
 * control, so lwIP's own window starts wide open. */
#include "netstack/flow.h"

#include <errno.h>
#include <sys/socket.h>

#include "lwip/priv/tcp_priv.h"

#include "netstack/lwip/hooks.h"
#include "netstack/stack.h"

#define READ_MAX ((size_t)(2 * TCP_MSS))
#define UNSENT_MAX ((size_t)(2 * TCP_MSS)) /* read ahead of what the client's window lets out */
#define SMALL_BYTES 8192                   /* a flow with no more than that to send goes first */
#define STUCK_MAX 16 /* tries that send nothing before a resume gives up: there may be several carriers */
#define ACK_RECENT_TICKS (60000 / PCB_TICK_MS)

#define PARTS_MAX 16

/* A segment of many small writes is a long chain. */
static size_t linearize(struct netstack *netstack, const struct pbuf *packet)
{
    return pbuf_copy_partial(packet, netstack->linear, packet->tot_len, 0);
}

static err_t output(struct netif *netif, const struct pbuf *packet)
{
    struct netstack *netstack = netif->state;
    struct carrier_part parts[PARTS_MAX];
    int count = 0;
    for (const struct pbuf *p = packet; p != NULL && count < PARTS_MAX; p = p->next)
        parts[count++] = (struct carrier_part){p->payload, p->len};
    if (count == PARTS_MAX) {
        parts[0] = (struct carrier_part){netstack->linear, linearize(netstack, packet)};
        count = 1;
    }
    return stack_output(netstack, parts, count) == 0 ? ERR_OK : ERR_MEM;
}

err_t flow_output(struct netif *netif, struct pbuf *packet, const ip4_addr_t *to)
{
    (void)to;
    return output(netif, packet);
}

err_t flow_output_v6(struct netif *netif, struct pbuf *packet, const ip6_addr_t *to)
{
    (void)to;
    return output(netif, packet);
}

/* What tcp_write() makes of a segment: it takes no more than half of the largest window that was seen. */
static size_t segment_size(const struct tcp_pcb *pcb)
{
    size_t half = pcb->snd_wnd_max / 2;
    size_t size = KT_MIN(pcb->mss, half);
    return size > 0 ? size : pcb->mss;
}

/* How many bytes may be read from the socket now. */
static size_t flow_room(const struct flow *flow)
{
    const struct tcp_pcb *pcb = flow->pcb;
    if (flow->netstack->is_frozen || (flow->netstack->is_blocked && pcb->unsent != NULL))
        return 0;
    if (pcb->snd_lbb - pcb->snd_nxt >= UNSENT_MAX || pcb->snd_queuelen + 4 >= TCP_SND_QUEUELEN)
        return 0;
    if (flow->queued >= FLOW_OWN_BYTES && flow->netstack->flows.queued >= FLOW_SHARED_MAX)
        return 0; /* its own ACK wakes it */
    size_t mss = segment_size(pcb);
    if (pcb->snd_buf < mss && pcb->unacked != NULL)
        return 0; /* rather a whole segment later */
    size_t segments = (size_t)(TCP_SND_QUEUELEN - 4 - pcb->snd_queuelen);
    size_t room = KT_MIN(KT_MIN(pcb->snd_buf, READ_MAX), segments * mss);
    return room > mss ? room - room % mss : room;
}

static bool wants_to_read(const struct flow *flow)
{
    return flow->state == FLOW_OPEN && flow->endpoint.is_readable && !flow->has_eof && !flow->has_error;
}

void flow_wake(struct flow *flow)
{
    if (wants_to_read(flow) && list_is_empty(&flow->endpoint.ready) && flow_room(flow) > 0)
        list_move_to_end(&flow->netstack->endpoints.ready, &flow->endpoint.ready);
}

static bool is_small(const struct tcp_pcb *pcb)
{
    return pcb->unsent == NULL || TCP_SND_BUF - pcb->snd_buf <= SMALL_BYTES;
}

/* lwIP gives the FIN of a segment that it splits to the second half, and forgets to take it from the first one: what is
 * behind would come after the end. tcp.c calls this one too (CMakeLists.txt). */
err_t kt_lwip_split(struct tcp_pcb *pcb, u16_t size)
{
    struct tcp_seg *segment = pcb->unsent;
    err_t rc = tcp_split_unsent_seg(pcb, size);
    if (rc == ERR_OK && segment->next != NULL)
        TCPH_UNSET_FLAG(segment->tcphdr, TCP_FIN);
    return rc;
}

/* A segment larger than the client's whole window would wait for lwIP's probe timer: cut it now. */
static void fit_into_window(struct tcp_pcb *pcb)
{
    if (pcb->unsent == NULL || pcb->unacked != NULL || pcb->snd_wnd == 0 || pcb->unsent->len <= pcb->snd_wnd)
        return;
    if (kt_lwip_split(pcb, (u16_t)pcb->snd_wnd) == ERR_OK)
        (void)tcp_output(pcb);
}

void flow_push(struct flow *flow)
{
    struct tcp_pcb *pcb = flow->pcb;
    struct flow_table *table = &flow->netstack->flows;
    (void)tcp_output(pcb); /* an error shows in the flags */
    fit_into_window(pcb);
    if ((pcb->flags & (TF_NAGLEMEMERR | TF_ACK_NOW)) != 0)
        list_move_to_end(is_small(pcb) ? &table->waiting_small : &table->waiting_bulk, &flow->waiting);
    else
        list_remove(&flow->waiting);
    flow_wake(flow);
}

static bool write_all(struct flow *flow, const uint8_t *data, size_t size)
{
    size_t mss = segment_size(flow->pcb);
    size_t step = 0xffff - 0xffff % mss; /* whole segments; tcp_write() takes 16 bits */
    while (size > 0) {
        size_t part = KT_MIN(size, step);
        if (tcp_write(flow->pcb, data, (u16_t)part, TCP_WRITE_FLAG_COPY) != ERR_OK)
            return false;
        data += part;
        size -= part;
    }
    return true;
}

void flow_fail(struct flow *flow)
{
    const struct tcp_pcb *pcb = flow->pcb;
    flow->has_error = true;
    flow->must_abort = pcb == NULL || (pcb->unsent == NULL && pcb->unacked == NULL);
}

static void on_bytes(struct flow *flow, ssize_t got, size_t asked)
{
    if (!write_all(flow, flow->netstack->scratch, (size_t)got)) {
        flow->must_abort = true; /* no memory: bytes are lost */
        return;
    }
    flow->queued += (uint32_t)got;
    flow->netstack->flows.queued += (uint64_t)got;
    if ((size_t)got < asked && !flow->endpoint.has_ended)
        flow->endpoint.is_readable = false; /* a stream that gave less is empty */
    flow_push(flow);
}

static void on_end(struct flow *flow)
{
    flow->has_eof = true;
    if (tcp_shutdown(flow->pcb, 0, 1) != ERR_OK)
        flow->must_abort = true;
    else
        flow_push(flow);
}

static void on_read(struct flow *flow, ssize_t got, size_t asked, int error)
{
    if (got > 0)
        on_bytes(flow, got, asked);
    else if (got == 0)
        on_end(flow);
    else if (error == EAGAIN)
        flow->endpoint.is_readable = false;
    else if (error != EINTR)
        flow_fail(flow);
}

bool flow_pull(struct flow *flow)
{
    struct netstack *netstack = flow->netstack;
    size_t room = wants_to_read(flow) ? flow_room(flow) : 0;
    if (room == 0)
        return false;
    ssize_t got = recv(flow->endpoint.fd, netstack->scratch, room, 0);
    int error = errno;
    pcb_index_enter(&netstack->flows.pcbs, flow->bucket);
    on_read(flow, got, room, error);
    flow_settle(flow);
    pcb_index_leave(&netstack->flows.pcbs);
    return wants_to_read(flow) && flow_room(flow) > 0;
}

/* True: it sent something. */
static bool push_again(struct flow *flow)
{
    struct netstack *netstack = flow->netstack;
    const struct tcp_seg *before = flow->pcb->unsent;
    pcb_index_enter(&netstack->flows.pcbs, flow->bucket);
    flow_push(flow);
    pcb_index_leave(&netstack->flows.pcbs);
    return list_is_empty(&flow->waiting) || flow->pcb->unsent != before;
}

static void resume_list(struct list *waiting)
{
    struct list rest, stuck, moved;
    list_init(&rest);
    list_init(&stuck);
    list_init(&moved);
    list_splice(&rest, waiting);
    for (unsigned tries = 0; tries < STUCK_MAX && !list_is_empty(&rest);) {
        struct flow *flow = list_first(&rest, struct flow, waiting);
        list_remove(&flow->waiting);
        bool has_sent = push_again(flow);
        tries += !has_sent;
        if (!list_is_empty(&flow->waiting))
            list_move_to_end(has_sent ? &moved : &stuck, &flow->waiting);
    }
    list_splice(waiting, &rest); /* those of a full carrier must not hide those of another one for ever */
    list_splice(waiting, &stuck);
    list_splice(waiting, &moved);
}

void flow_resume(struct netstack *netstack)
{
    resume_list(&netstack->flows.waiting_small);
    resume_list(&netstack->flows.waiting_bulk);
}

/* What was on its way when the carrier died is lost: data, the FIN, an acknowledgement that opened the window. */
static void send_again(struct flow *flow)
{
    struct tcp_pcb *pcb = flow->pcb;
    if (pcb->unacked != NULL) {
        tcp_rexmit_rto(pcb);
        pcb->nrtx = 0;
        pcb->rtime = 0;
    } else if (pcb->persist_backoff > 0 && pcb->snd_wnd == 0) {
        pcb->persist_backoff = 1;
        pcb->persist_cnt = 0;
        (void)tcp_zero_window_probe(pcb);
    }
    if (flow->state == FLOW_OPEN && flow->netstack->flows.pcbs.ticks - flow->heard_tick < ACK_RECENT_TICKS)
        tcp_ack_now(pcb);
    flow_push(flow);
}

void flow_resend(struct netstack *netstack, bool (*is_lost)(void *context, const struct netstack_flow *flow),
                 void *context)
{
    struct flow_table *table = &netstack->flows;
    for (unsigned bucket = 0; bucket < PCB_BUCKETS; bucket++) {
        if (table->pcbs.head[bucket] == NULL)
            continue;
        pcb_index_enter(&table->pcbs, bucket);
        for (struct flow *flow = table->bucket[bucket]; flow != NULL; flow = flow->next) {
            if (flow->pcb != NULL && (is_lost == NULL || is_lost(context, &flow->key)))
                send_again(flow);
        }
        pcb_index_leave(&table->pcbs);
    }
}
