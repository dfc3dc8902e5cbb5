/* What lwIP calls of ours; see pcb_index.c and flow_tx.c. */
#ifndef KTVPN_NETSTACK_LWIP_HOOKS_H
#define KTVPN_NETSTACK_LWIP_HOOKS_H

#include "lwip/err.h"
#include "lwip/ip_addr.h"
#include "lwip/prot/icmp6.h"

struct tcp_pcb;

u32_t kt_lwip_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port);
err_t kt_lwip_split(struct tcp_pcb *pcb, u16_t size);

/* lwIP declares it only where it is its own. */
struct pbuf;
void icmp6_param_problem(struct pbuf *packet, enum icmp6_pp_code code, const void *where);

#endif
