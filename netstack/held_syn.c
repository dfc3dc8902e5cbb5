#include "netstack/held_syn.h"

#include <errno.h>
#include <string.h>

#include "netstack/icmp_error.h"
#include "netstack/pool.h"

#define HEAD_MAX 120 /* IP 60 + TCP 60 */

struct held_syn {
    struct packet packet;
    uint8_t data[HEAD_MAX];
};

struct held_syn *held_syn_new(const struct packet *packet, const uint8_t *data)
{
    struct held_syn *syn = pool_alloc(sizeof *syn);
    if (syn == NULL)
        return NULL;
    syn->packet = *packet;
    syn->packet.size = packet->head_size + (size_t)(data[packet->head_size + 12] >> 4) * 4;
    memcpy(syn->data, data, KT_MIN(syn->packet.size, sizeof syn->data));
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
        icmp_error_send(netstack, &syn->packet, syn->data, code);
}
