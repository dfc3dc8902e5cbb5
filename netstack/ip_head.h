/* Writes IPv4 (RFC 791) and IPv6 (RFC 8200) headers, for the packets that lwIP does not write. */
#ifndef KTVPN_NETSTACK_IP_HEAD_H
#define KTVPN_NETSTACK_IP_HEAD_H

#include "common/address.h"
#include "common/cursor.h"

#define IPV4_HEAD_SIZE 20
#define IPV4_HEAD_MAX 60
#define IPV6_HEAD_SIZE 40
#define IPV6_FRAGMENT_SIZE 8
#define IP_HEAD_MAX (IPV6_HEAD_SIZE + IPV6_FRAGMENT_SIZE) /* the largest that is written */

struct ip_head {
    struct address source, target; /* of one family, which is the header's */
    uint8_t protocol;
    uint8_t hops, service; /* hops 0: 64 */
    size_t body_size;
    uint32_t id;     /* of a datagram in fragments (IPv4: its low 16 bits); 0 else (RFC 6864) */
    uint16_t offset; /* bytes, a multiple of 8 */
    bool has_more;   /* fragments follow */
};

/* 20, 40 or, for a fragment of IPv6, 48. */
size_t ip_head_size(const struct ip_head *head);
/* IPv4 with its checksum. */
void ip_head_put(struct cursor *cursor, const struct ip_head *head);

#endif
