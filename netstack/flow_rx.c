/* From packets to the socket.
 *
 * What lwIP hands over is still lent memory, the packet as it came in: it is written to the socket from there, with no
 * copy, and only what the socket does not take is copied into chunks. The window opens by what the socket took, so the
 * chunks of a flow never hold more than one window. */
#include "netstack/flow.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "lwip/priv/tcp_priv.h"

#include "netstack/pool.h"
#include "netstack/stack.h"

#define CHUNK_SIZE_MIN 4096 /* so that a flood of one-byte segments does not cost a block each */
#define IOV_MAX_HERE 64

struct flow_chunk {
    struct flow_chunk *next;
    uint32_t at, end, capacity; /* data[at..end) waits */
    uint8_t data[];
};

/* A window that is in use grows, so that one flow gets what the path can carry and 10,000 idle ones promise little. */
static size_t growth(struct flow *flow, size_t used)
{
    uint64_t *shared = &flow->netstack->flows.windows;
    if (flow->pcb == NULL || (flow->pcb->flags & TF_WND_SCALE) == 0 || *shared >= FLOW_SHARED_MAX)
        return 0;
    size_t size = KT_MIN(used, (size_t)TCP_WND - flow->window);
    flow->window += (uint32_t)size;
    *shared += size;
    return size;
}

/* Opens the window by what has left us. */
static void credit(struct flow *flow, size_t used)
{
    size_t size = used + growth(flow, used);
    for (; flow->pcb != NULL && size > 0; size -= KT_MIN(size, 0xffff))
        tcp_recved(flow->pcb, (u16_t)KT_MIN(size, 0xffff));
}

void flow_drop_chunks(struct flow *flow)
{
    while (flow->first != NULL) {
        struct flow_chunk *chunk = flow->first;
        flow->first = chunk->next;
        pool_free(chunk);
    }
    flow->last = NULL;
}

static size_t chunks_size(const struct flow *flow)
{
    size_t size = 0;
    for (const struct flow_chunk *chunk = flow->first; chunk != NULL; chunk = chunk->next)
        size += chunk->end - chunk->at;
    return size;
}

/* The socket takes nothing more. What it may still have for us is read first; then its end is the flow's. */
static void become_deaf(struct flow *flow)
{
    size_t lost = chunks_size(flow);
    flow->is_deaf = true;
    flow_drop_chunks(flow);
    credit(flow, lost);
    flow->endpoint.is_readable = flow->endpoint.has_ended = true;
    if (flow->has_eof)
        flow_fail(flow);
}

/* How much the socket took, in bytes. */
static size_t write_some(struct flow *flow, struct iovec *iov, size_t count)
{
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
    ssize_t n;
    do
        n = sendmsg(flow->endpoint.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return (size_t)n;
    if (errno == EAGAIN)
        flow->endpoint.is_writable = false;
    else
        become_deaf(flow);
    return 0;
}

/* The client's FIN goes on once all bytes before it have. */
static void pass_fin(struct flow *flow)
{
    if (!flow->has_fin || flow->is_shut || flow->first != NULL)
        return;
    flow->is_shut = true;
    if (!flow->is_deaf)
        (void)shutdown(flow->endpoint.fd, SHUT_WR); /* a broken socket tells by its read */
}

static void skip_chunks(struct flow *flow, size_t size)
{
    while (size > 0) {
        struct flow_chunk *chunk = flow->first;
        size_t part = KT_MIN(size, chunk->end - chunk->at);
        chunk->at += (uint32_t)part;
        size -= part;
        if (chunk->at < chunk->end)
            return;
        flow->first = chunk->next;
        if (flow->first == NULL)
            flow->last = NULL;
        pool_free(chunk);
    }
}

void flow_flush(struct flow *flow)
{
    while (flow->first != NULL && flow->endpoint.is_writable) {
        struct iovec iov[IOV_MAX_HERE];
        size_t count = 0, size = 0;
        for (struct flow_chunk *chunk = flow->first; chunk != NULL && count < IOV_MAX_HERE; chunk = chunk->next) {
            iov[count++] = (struct iovec){chunk->data + chunk->at, chunk->end - chunk->at};
            size += chunk->end - chunk->at;
        }
        size_t written = write_some(flow, iov, count);
        if (flow->is_deaf)
            break;
        skip_chunks(flow, written);
        credit(flow, written);
        if (written < size)
            flow->endpoint.is_writable = false; /* a stream that took less is full: the edge will tell */
    }
    pass_fin(flow);
}

static struct flow_chunk *chunk_new(size_t size)
{
    struct flow_chunk *chunk = pool_alloc(sizeof *chunk + KT_MAX(size, CHUNK_SIZE_MIN - sizeof *chunk));
    if (chunk == NULL)
        return NULL;
    chunk->next = NULL;
    chunk->at = chunk->end = 0;
    chunk->capacity = (uint32_t)(pool_capacity(chunk) - sizeof *chunk);
    return chunk;
}

static int keep(struct flow *flow, const uint8_t *data, size_t size)
{
    struct flow_chunk *last = flow->last;
    size_t part = last != NULL ? KT_MIN(size, last->capacity - last->end) : 0;
    if (part > 0) {
        memcpy(last->data + last->end, data, part);
        last->end += (uint32_t)part;
    }
    if (part == size)
        return 0;
    struct flow_chunk *chunk = chunk_new(size - part);
    if (chunk == NULL)
        return -ENOMEM;
    memcpy(chunk->data, data + part, size - part);
    chunk->end = (uint32_t)(size - part);
    if (last != NULL)
        last->next = chunk;
    else
        flow->first = chunk;
    flow->last = chunk;
    return 0;
}

/* What is behind the first `written` bytes of the chain. */
static int keep_rest(struct flow *flow, const struct pbuf *data, size_t written)
{
    for (const struct pbuf *p = data; p != NULL; p = p->next) {
        size_t skip = KT_MIN(written, p->len);
        written -= skip;
        if (p->len > skip && keep(flow, (const uint8_t *)p->payload + skip, p->len - skip) != 0)
            return -ENOMEM;
    }
    return 0;
}

static size_t write_through(struct flow *flow, const struct pbuf *data)
{
    struct iovec iov[IOV_MAX_HERE];
    size_t count = 0, size = 0;
    if (flow->first != NULL || !flow->endpoint.is_writable)
        return 0;
    for (const struct pbuf *p = data; p != NULL && count < IOV_MAX_HERE; p = p->next) {
        if (p->len > 0)
            iov[count++] = (struct iovec){p->payload, p->len};
        size += p->len;
    }
    size_t written = write_some(flow, iov, count);
    if (written < size)
        flow->endpoint.is_writable = false;
    return written;
}

err_t flow_on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *data, err_t error)
{
    struct flow *flow = arg;
    (void)pcb;
    (void)error;
    if (data == NULL) {
        flow->has_fin = true;
        pass_fin(flow);
        return ERR_OK;
    }
    size_t size = data->tot_len;
    flow->heard_tick = flow->netstack->flows.pcbs.ticks;
    size_t written = flow->is_deaf ? size : write_through(flow, data);
    if (flow->is_deaf)
        written = size; /* as a socket that is closed for reading: taken and forgotten */
    credit(flow, written);
    if (keep_rest(flow, data, written) != 0)
        flow->must_abort = true; /* bytes are lost: the flow must not go on */
    pbuf_free(data);
    flow_flush(flow);
    return ERR_OK;
}
