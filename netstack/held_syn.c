#include "netstack/held_syn.h"

#include <errno.h>
#include <string.h>

#include "netstack/icmp_error.h"
#include "netstack/ip_head.h"
#include "netstack/pool.h"

#define HEAD_MAX 120 /* IP 60 + TCP 60 */
#define V6_NEXT 6    /* where an IPv6 header says what follows */

struct held_syn {
    struct packet packet;
    uint8_t data[HEAD_MAX];
};

struct held_syn *held_syn_new(const struct packet *packet, const uint8_t *data)
{
    struct held_syn *syn = pool_alloc(sizeof *syn);
    if (syn == NULL)
        return NULL;
    bool is_v6 = packet->target.family == ADDRESS_V6;
    size_t tcp_size = (size_t)(data[packet->head_size + 12] >> 4) * 4;
    syn->packet = *packet;
    syn->packet.head_size = is_v6 ? IPV6_HEAD_SIZE : packet->head_size; /* without extension headers */
    syn->packet.size = syn->packet.head_size + tcp_size;
    memcpy(syn->data, data, syn->packet.head_size);
    memcpy(syn->data + syn->packet.head_size, data + packet->head_size, tcp_size);
    if (is_v6)
        syn->data[V6_NEXT] = PACKET_TCP;
    return syn;
}

void held_syn_free(struct held_syn *syn)
{
    pool_free(syn);
}

struct tcp_pcb *held_syn_accept(const struct held_syn *syn, struct pcb_index *index, void *flow)
{
    return pcb_index_accept(index, &syn->packet, syn->data, flow);
}

void held_syn_refuse(const struct held_syn *syn, struct netstack *netstack, struct pcb_index *index, int error)
{
    if (error == -ECONNREFUSED || error == -ECONNRESET) {
        pcb_index_lend(index, &syn->packet, syn->data); /* no listener: lwIP answers RST */
        return;
    }
    int code = icmp_error_code(error);
    if (code >= 0)
        icmp_error_send(netstack, &syn->packet, syn->data, &(struct icmp_error){.code = (enum icmp_code)code});
}
