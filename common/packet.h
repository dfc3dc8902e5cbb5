/* What both ends need to know of an IP packet: its addresses, protocol, ports and payload, all bounds-checked. */
#ifndef KTVPN_COMMON_PACKET_H
#define KTVPN_COMMON_PACKET_H

#include "common/address.h"

enum packet_protocol { PACKET_ICMP = 1, PACKET_TCP = 6, PACKET_UDP = 17, PACKET_ICMPV6 = 58 };

#define PACKET_EXTENSIONS_MAX 8 /* IPv6 extension headers; a packet with more is malformed */

struct packet {
    struct address source, target;
    uint8_t protocol;         /* IPv6: behind all extension headers; a fragment's: what its fragment header says */
    uint8_t hops;             /* TTL, or hop limit */
    uint8_t service;          /* TOS, or traffic class */
    bool is_fragment;         /* one of several: an IPv6 "atomic fragment" (RFC 6946) is a whole packet */
    bool has_more;            /* is_fragment only, like the next two */
    uint16_t fragment_offset; /* bytes */
    uint32_t fragment_id;
    uint16_t source_port, target_port; /* TCP and UDP; 0 when the packet is too short for them, or a fragment */
    size_t head_size;                  /* of the IP header with its options or extension headers */
    size_t size;                       /* as the IP header says; at most what was given */
};

/* 0, or -EBADMSG: no IPv4 or IPv6 packet, its header says more than is there, or its IPv6 extension headers (RFC 8200,
 * section 4) are out of their order, too many, or ask for a further way (a routing header with segments left). */
KT_MUST_USE int packet_parse(struct packet *packet, const uint8_t *data, size_t size);

/* A number that is the same for all packets of a flow, in one direction. `data` may be a packet's beginning: what is
 * behind PACKET_FLOW_BYTES (the largest IPv4 header and the ports) is not looked at. 0 when it is no packet. */
#define PACKET_FLOW_BYTES 64
uint32_t packet_flow_hash(const uint8_t *data, size_t size);
/* The same, of protocol, addresses and ports alone. */
uint32_t packet_hash(const struct packet *packet);

/* RFC 1071 over `size` bytes, starting with the (not complemented) `sum` of what came before, an even number of bytes.
 */
uint32_t packet_sum(const uint8_t *data, size_t size, uint32_t sum);
uint16_t packet_checksum(uint32_t sum); /* folds and complements */
/* The pseudo-header's sum (RFC 793, RFC 8200 8.1) for a segment of `size` bytes. */
uint32_t packet_pseudo_sum(const struct packet *packet, size_t size);

#endif
