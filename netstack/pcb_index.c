#include "netstack/pcb_index.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "lwip/init.h"
#include "netstack/lwip/hooks.h"
#include "lwip/ip.h"
#include "lwip/nd6.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/prot/tcp.h"

#include "common/cursor.h"
#include "common/log.h"

#define TCP_HEAD_MAX 60
#define ISN_TEXT_SIZE (2 * (1 + 16 + 2))

/* lwIP wants an interface with an address of its own; no packet ever carries this one (RFC 7600, 192.0.0.8: dummy
 * address). */
#define DUMMY_ADDRESS PP_HTONL(LWIP_MAKEU32(192, 0, 0, 8))

static err_t on_netif_init(struct netif *netif)
{
    (void)netif;
    return ERR_OK;
}

static int open_listener(struct pcb_index *index, tcp_accept_fn accept)
{
    struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
    if (pcb == NULL)
        return -ENOMEM;
    err_t error = tcp_bind(pcb, IP_ANY_TYPE, 1);
    struct tcp_pcb *listener = error == ERR_OK ? tcp_listen(pcb) : NULL;
    if (listener == NULL) {
        tcp_abort(pcb);
        return -ENOMEM;
    }
    tcp_accept(listener, accept);
    index->listener = (struct tcp_pcb_listen *)listener;
    return 0;
}

int pcb_index_init(struct pcb_index *index, uint16_t mtu, void *state, netif_output_fn output_v4,
                   netif_output_ip6_fn output_v6, tcp_accept_fn accept)
{
    const ip4_addr_t address = {DUMMY_ADDRESS}, mask = {PP_HTONL(0xffffffff)}, none = {0};
    memset(index, 0, sizeof *index);
    randombytes_buf(index->isn_key, sizeof index->isn_key);
    lwip_init(); /* what it sets is the same each time */
    pcb_index_enter(index, 0);
    netif_list = NULL;
    (void)netif_add(&index->netif, &address, &mask, &none, state, on_netif_init, NULL);
    index->netif.output = output_v4;
    index->netif.output_ip6 = output_v6;
    index->netif.mtu = mtu;
    netif_set_up(&index->netif);
    netif_set_link_up(&index->netif);
    int rc = open_listener(index, accept);
    pcb_index_leave(index);
    return rc;
}

void pcb_index_deinit(struct pcb_index *index)
{
    pcb_index_enter(index, 0);
    if (index->listener != NULL)
        (void)tcp_close((struct tcp_pcb *)index->listener);
    index->listener = NULL;
    pcb_index_leave(index);
    netif_list = netif_default = NULL;
    tcp_listen_pcbs.listen_pcbs = NULL;
}

void pcb_index_enter(struct pcb_index *index, unsigned bucket)
{
    index->entered = bucket;
    netif_list = netif_default = &index->netif;
    tcp_listen_pcbs.listen_pcbs = index->listener;
    tcp_active_pcbs = index->head[bucket];
    tcp_tw_pcbs = tcp_bound_pcbs = NULL;
    tcp_ticks = index->ticks;
}

void pcb_index_leave(struct pcb_index *index)
{
    index->head[index->entered] = tcp_active_pcbs;
    tcp_active_pcbs = NULL;
}

static void set_address(ip_addr_t *out, const struct address *address)
{
    memset(out, 0, sizeof *out);
    memcpy(&out->u_addr, address->bytes, address_size(address));
    out->type = address->family == ADDRESS_V6 ? IPADDR_TYPE_V6 : IPADDR_TYPE_V4;
}

/* What lwIP takes from an IP header. */
static void set_addresses(struct pcb_index *index, const struct packet *packet)
{
    ip_data.current_netif = ip_data.current_input_netif = &index->netif;
    set_address(&ip_data.current_iphdr_src, &packet->source);
    set_address(&ip_data.current_iphdr_dest, &packet->target);
}

static void on_lent_free(struct pbuf *pbuf)
{
    (void)pbuf; /* the memory is the caller's */
}

/* The header is copied, as lwIP turns its fields around in place; the payload stays where it is. */
static void input(struct pcb_index *index, const struct packet *packet, const uint8_t *data)
{
    const uint8_t *segment = data + packet->head_size;
    size_t size = packet->size - packet->head_size;
    uint32_t head[TCP_HEAD_MAX / 4];
    size_t head_size = (size_t)(segment[12] >> 4) * 4;
    struct pbuf_custom head_pbuf = {.custom_free_function = on_lent_free};
    struct pbuf_custom data_pbuf = {.custom_free_function = on_lent_free};
    memcpy(head, segment, head_size);
    struct pbuf *p = pbuf_alloced_custom(PBUF_RAW, (u16_t)head_size, PBUF_REF, &head_pbuf, head, (u16_t)head_size);
    if (size > head_size) {
        u16_t left = (u16_t)(size - head_size);
        void *payload = (void *)(uintptr_t)(segment + head_size); /* lwIP only reads it */
        pbuf_cat(p, pbuf_alloced_custom(PBUF_RAW, left, PBUF_REF, &data_pbuf, payload, left));
    }
    set_addresses(index, packet);
    tcp_input(p, &index->netif);
}

void pcb_index_lend(struct pcb_index *index, const struct packet *packet, const uint8_t *data)
{
    index->listener->local_port = 0;
    input(index, packet, data);
}

struct tcp_pcb *pcb_index_accept(struct pcb_index *index, const struct packet *packet, const uint8_t *data, void *arg)
{
    index->listener->local_port = packet->target_port;
    index->listener->callback_arg = arg;
    input(index, packet, data);
    return tcp_active_pcbs != NULL && tcp_active_pcbs->callback_arg == arg ? tcp_active_pcbs : NULL;
}

int pcb_index_copy(struct pcb_index *index, const struct packet *packet, const uint8_t *data)
{
    size_t size = packet->size - packet->head_size;
    struct pbuf *p = pbuf_alloc(PBUF_RAW, (u16_t)size, PBUF_RAM);
    if (p == NULL)
        return -ENOMEM;
    memcpy(p->payload, data + packet->head_size, size);
    index->listener->local_port = 0;
    set_addresses(index, packet);
    tcp_input(p, &index->netif);
    return 0;
}

/* lwIP marks each connection that its timer has seen with a counter of 8 bits, one step per call, and skips those that
 * carry the present number. Here each bucket is two calls of its own. So from one call for a bucket to its next there
 * is always an odd number of steps, never 256, and nothing is skipped, whatever the number of buckets in use is. */
void pcb_index_tick(struct pcb_index *index)
{
    index->ticks++;
    for (unsigned bucket = 0; bucket < PCB_BUCKETS; bucket++) {
        if (index->head[bucket] == NULL)
            continue;
        pcb_index_enter(index, bucket);
        tcp_fasttmr(); /* an ACK or a FIN that found no room */
        tcp_ticks = index->ticks - 1;
        tcp_slowtmr();
        pcb_index_leave(index);
    }
}

static void put_address(struct cursor *cursor, const ip_addr_t *address)
{
    cursor_put_u8(cursor, IP_GET_TYPE(address));
    cursor_put_bytes(cursor, &address->u_addr, IP_IS_V6(address) ? 16 : 4);
    cursor_skip(cursor, IP_IS_V6(address) ? 0 : 12);
}

/* RFC 6528: a clock of 4 us plus a keyed hash of the connection. */
u32_t kt_lwip_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port)
{
    const struct pcb_index *index = KT_CONTAINER_OF(netif_default, const struct pcb_index, netif);
    uint8_t hash[crypto_shorthash_BYTES], text[ISN_TEXT_SIZE] = {0};
    uint32_t offset;
    struct cursor cursor = cursor_writer(text, sizeof text);
    put_address(&cursor, local);
    put_address(&cursor, remote);
    cursor_put_u16(&cursor, local_port);
    cursor_put_u16(&cursor, remote_port);
    crypto_shorthash(hash, text, sizeof text, index->isn_key);
    memcpy(&offset, hash, sizeof offset);
    return (u32_t)(uv_hrtime() / 4000) + offset;
}

void kt_lwip_assert(const char *text)
{
    log_error("netstack: lwIP found a fault of its own: %s", text);
    abort();
}

/* lwIP asks for its timer to run: the owner's always does. */
void tcp_timer_needed(void)
{
}

/* What lwIP asks its neighbour table (nd6.c, which is not compiled): a tunnel has no neighbours. */

u16_t nd6_get_destination_mtu(const ip6_addr_t *target, struct netif *netif)
{
    (void)target;
    return netif->mtu;
}

struct netif *nd6_find_route(const ip6_addr_t *target)
{
    (void)target;
    return netif_default;
}

void nd6_restart_netif(struct netif *netif)
{
    (void)netif;
}

void nd6_cleanup_netif(struct netif *netif)
{
    (void)netif;
}

/* ip6_input() names it, which nobody calls. */
void icmp6_param_problem(struct pbuf *packet, enum icmp6_pp_code code, const void *where)
{
    (void)packet;
    (void)code;
    (void)where;
}
