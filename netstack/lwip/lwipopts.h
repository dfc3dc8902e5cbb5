/* lwIP's options. Each line has its reason. Fits 2.1.3 and 2.2.1.
 *
 * Of lwIP only TCP is used, and IP output: netstack.c parses what comes in and hands TCP segments to tcp_input()
 * itself, UDP and ICMP echo never see lwIP. */
#ifndef LWIP_LWIPOPTS_H
#define LWIP_LWIPOPTS_H

/* One thread, no lwIP threads, no lwIP timers: pcb_index_tick() calls TCP's by one uv_timer. */
#define NO_SYS 1
#define LWIP_TIMERS 0
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_SOCKET 0
#define LWIP_NETCONN 0

/* What is not used is not compiled: the agent has to stay small. */
#define LWIP_ARP 0
#define LWIP_ETHERNET 0
#define LWIP_ICMP 0
#define LWIP_RAW 0
#define LWIP_UDP 0
#define LWIP_IGMP 0
#define LWIP_DNS 0
#define LWIP_DHCP 0
#define LWIP_STATS 0
#define IP_REASSEMBLY 0 /* one packet holds any segment at the tunnel's MTU */
#define IP_FRAG 0       /* a segment is never larger than the MTU */
#define IP_FORWARD 0
#define LWIP_NETIF_API 0
#define LWIP_HAVE_LOOPIF 0
#define LWIP_NETIF_LOOPBACK 0
#define LWIP_IPV4 1
#define LWIP_IPV6 1

/* A tunnel has no neighbours, no routers and no groups: pcb_index.c answers what lwIP would ask its neighbour table. */
#define LWIP_IPV6_NUM_ADDRESSES 1
#define LWIP_IPV6_SCOPES 0
#define LWIP_IPV6_FRAG 0
#define LWIP_IPV6_REASS 0
#define LWIP_IPV6_MLD 0
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_DUP_DETECT_ATTEMPTS 0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 0
#define LWIP_ICMP6 0
#define LWIP_ND6_QUEUEING 0
#define LWIP_ND6_ALLOW_RA_UPDATES 0
#define LWIP_ND6_TCP_REACHABILITY_HINTS 0

/* Memory comes from pool.c: right-sized, kept for reuse, and a test can make it fail. With no fixed pools lwIP never
 * evicts a connection to make room; flow.c has the cap. */
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 8
#ifdef KTVPN_LWIP_2_1
#define MEM_LIBC_MALLOC 1
#define mem_clib_malloc pool_alloc
#define mem_clib_calloc pool_calloc
#define mem_clib_free pool_free
#else
#define MEM_CUSTOM_ALLOCATOR 1
#define MEM_CUSTOM_MALLOC pool_alloc
#define MEM_CUSTOM_CALLOC pool_calloc
#define MEM_CUSTOM_FREE pool_free
#endif
#define LWIP_SUPPORT_CUSTOM_PBUF 1 /* a packet that came in is lent to lwIP, not copied */

/* Segments as large as the tunnel's packets (WIRE_MTU - 40; over IPv6 lwIP takes 20 off): the cost of a packet hardly
 * depends on its size. */
#define TCP_MSS 64960
#define TCP_CALCULATE_EFF_SEND_MSS 1     /* the netif's MTU may be smaller */
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1 /* they know no MSS that large */
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 5 /* 65535 << 5 = 2 MiB >= TCP_WND */
/* 1 Gbit/s at 8 ms. Measured on a port-forward with all its hops on two cores: 4 MiB makes a single flow 1.2x as fast,
 * but a request beside it then takes 100 ms instead of 31. */
#define TCP_WND (1024 * 1024)
#define TCP_SND_BUF (1024 * 1024)
#define TCP_WND_UPDATE_THRESHOLD \
    TCP_MSS                   /* a flow's window begins small: a quarter of TCP_WND would be more than all of it */
#define TCP_SND_QUEUELEN 1024 /* pbufs; flow.c stops reading before it, so it bounds the walk to the list's end */
#define TCP_SNDLOWAT TCP_MSS
#define TCP_OVERSIZE 0        /* right-sized pbufs: an idle flow with 100 unacknowledged bytes pins 200, not 64 KiB */
#define TCP_LISTEN_BACKLOG 0  /* the SYN is held until connect() succeeded: nothing waits for an accept */
#define LWIP_TCP_TIMESTAMPS 0 /* 12 bytes a segment for an RTT that the carrier hides anyway */

/* After a lost carrier the sender's later segments arrive first: kept, and told by SACK, so that only the gap is
 * resent. */
#define TCP_QUEUE_OOSEQ 1
#define LWIP_TCP_SACK_OUT 1
#define LWIP_TCP_MAX_SACK_NUM 4
#define TCP_OOSEQ_MAX_BYTES TCP_WND

/* TCP and UDP checksums are not valid on the wire (common/wire.h): the AEAD has authenticated the packet. IPv4's header
 * sum is. */
#define CHECKSUM_GEN_IP 1
#define CHECKSUM_GEN_TCP 0
#define CHECKSUM_CHECK_IP 0
#define CHECKSUM_CHECK_TCP 0
#define LWIP_CHECKSUM_ON_COPY 0

/* A tick of 250 ms makes the smallest RTO three of them; a reliable carrier loses nothing, it only delays. */
#define TCP_TMR_INTERVAL 125
#define LWIP_TCP_RTO_TIME 1000 /* RFC 6298 (2.1) */
/* lwIP gives up LAST_ACK after two of it, also with data unsent: a slow reader must not lose the end. TIME_WAIT is
 * ended by flow.c at once. */
#define TCP_MSL 60000UL
#define LWIP_TCP_KEEPALIVE 0

/* The default initial sequence numbers can be guessed (RFC 6528). */
#define LWIP_HOOK_FILENAME "netstack/lwip/hooks.h"
#define LWIP_HOOK_TCP_ISN(local_ip, local_port, remote_ip, remote_port) \
    kt_lwip_isn((local_ip), (local_port), (remote_ip), (remote_port))

#endif
