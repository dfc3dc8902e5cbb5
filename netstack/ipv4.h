/* Writes IPv4 headers (RFC 791), for the packets that lwIP does not write. */
#ifndef KTVPN_NETSTACK_IPV4_H
#define KTVPN_NETSTACK_IPV4_H

#include "common/address.h"
#include "common/cursor.h"

#define IPV4_HEAD_SIZE 20
#define IPV4_HEAD_MAX 60

struct ipv4_head {
    struct address source, target;
    uint8_t protocol;
    size_t body_size;
    uint16_t id;     /* of a datagram in fragments; 0 else (RFC 6864) */
    uint16_t offset; /* bytes, a multiple of 8 */
    bool has_more;   /* fragments follow */
};

/* 20 bytes with their checksum. */
void ipv4_put_head(struct cursor *cursor, const struct ipv4_head *head);

#endif
