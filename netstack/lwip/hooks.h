/* What lwIP calls of ours; see pcb_index.c. */
#ifndef KTVPN_NETSTACK_LWIP_HOOKS_H
#define KTVPN_NETSTACK_LWIP_HOOKS_H

#include "lwip/ip_addr.h"

u32_t kt_lwip_isn(const ip_addr_t *local, u16_t local_port, const ip_addr_t *remote, u16_t remote_port);

#endif
