#include "netstack/icmp_error.h"

#include <errno.h>

#include "common/cursor.h"
#include "netstack/ipv4.h"
#include "netstack/stack.h"

#define ICMP_UNREACHABLE 3
#define ICMP_HEAD_SIZE 8
#define QUOTE_MAX (IPV4_HEAD_MAX + 8) /* RFC 792: the header and the first 64 bits */

int icmp_error_code(int error)
{
    switch (error) {
    case -ECONNREFUSED:
        return ICMP_PORT;
    case -ENETUNREACH:
        return ICMP_NET;
    case -EHOSTUNREACH:
    case -EHOSTDOWN:
    case -ETIMEDOUT:
    case -ENOPROTOOPT: /* ICMP protocol unreachable came */
        return ICMP_HOST;
    case -EACCES:
    case -EPERM:
        return ICMP_PROHIBITED;
    default:
        return -1;
    }
}

void icmp_error_send(struct netstack *netstack, const struct packet *packet, const uint8_t *data, int code)
{
    uint8_t out[IPV4_HEAD_SIZE + ICMP_HEAD_SIZE + QUOTE_MAX];
    size_t quote = KT_MIN(packet->size, packet->head_size + 8);
    size_t size = IPV4_HEAD_SIZE + ICMP_HEAD_SIZE + quote;
    struct ipv4_head head = {.source = packet->target,
                             .target = packet->source,
                             .protocol = PACKET_ICMP,
                             .body_size = ICMP_HEAD_SIZE + quote};
    struct cursor cursor = cursor_writer(out, sizeof out);
    ipv4_put_head(&cursor, &head);
    cursor_put_u8(&cursor, ICMP_UNREACHABLE);
    cursor_put_u8(&cursor, (uint8_t)code);
    cursor_put_u16(&cursor, 0);
    cursor_put_u32(&cursor, 0);
    cursor_put_bytes(&cursor, data, quote);
    if (!cursor_ok(&cursor))
        return;
    cursor_seek(&cursor, IPV4_HEAD_SIZE + 2);
    cursor_put_u16(&cursor, packet_checksum(packet_sum(out + IPV4_HEAD_SIZE, size - IPV4_HEAD_SIZE, 0)));
    const struct carrier_part part = {out, size};
    (void)stack_output(netstack, &part, 1);
}
