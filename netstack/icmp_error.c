#include "netstack/icmp_error.h"

#include <errno.h>

#include "common/cursor.h"
#include "netstack/ip_head.h"
#include "netstack/stack.h"

#define ICMP_HEAD_SIZE 8
#define QUOTE_MAX (IPV4_HEAD_MAX + 8)                                   /* RFC 792: the header and the first 64 bits */
#define QUOTE_V6_MAX ((size_t)(1280 - IPV6_HEAD_SIZE - ICMP_HEAD_SIZE)) /* RFC 4443, 2.4 (c) */

static const struct {
    uint8_t type, code, type_v6, code_v6;
} wire[] = {
    [ICMP_NET] = {3, 0, 1, 0},         [ICMP_HOST] = {3, 1, 1, 3},    [ICMP_PORT] = {3, 3, 1, 4},
    [ICMP_PROHIBITED] = {3, 13, 1, 1}, [ICMP_TOO_BIG] = {3, 4, 2, 0}, [ICMP_HOPS] = {11, 0, 3, 0},
};

int icmp_error_code(int error)
{
    switch (error) {
    case -ECONNREFUSED:
        return ICMP_PORT;
    case -ENETUNREACH:
    case -EAFNOSUPPORT: /* no IPv6 here at all */
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

static void put_message(struct cursor *cursor, const struct icmp_error *error, bool is_v6)
{
    uint32_t mtu = error->code == ICMP_TOO_BIG ? error->mtu : 0;
    cursor_put_u8(cursor, is_v6 ? wire[error->code].type_v6 : wire[error->code].type);
    cursor_put_u8(cursor, is_v6 ? wire[error->code].code_v6 : wire[error->code].code);
    cursor_put_u16(cursor, 0);
    cursor_put_u32(cursor, is_v6 ? mtu : KT_MIN(mtu, 0xffff)); /* RFC 1191: the low 16 bits */
}

void icmp_error_send(struct netstack *netstack, const struct packet *packet, const uint8_t *data,
                     const struct icmp_error *error)
{
    uint8_t out[IPV6_HEAD_SIZE + ICMP_HEAD_SIZE + QUOTE_V6_MAX];
    bool is_v6 = packet->target.family == ADDRESS_V6;
    size_t quote = KT_MIN(packet->size, is_v6 ? QUOTE_V6_MAX : KT_MIN(packet->head_size + 8, QUOTE_MAX));
    struct ip_head head = {.source = error->from.family == packet->target.family ? error->from : packet->target,
                           .target = packet->source,
                           .protocol = is_v6 ? PACKET_ICMPV6 : PACKET_ICMP,
                           .body_size = ICMP_HEAD_SIZE + quote};
    size_t head_size = ip_head_size(&head), size = head_size + head.body_size;
    struct cursor cursor = cursor_writer(out, sizeof out);
    if (netstack->errors_left == 0)
        return;
    netstack->errors_left--;
    ip_head_put(&cursor, &head);
    put_message(&cursor, error, is_v6);
    cursor_put_bytes(&cursor, data, quote);
    if (!cursor_ok(&cursor))
        return;
    const struct packet sent = {.source = head.source, .target = head.target, .protocol = head.protocol};
    uint32_t sum = is_v6 ? packet_pseudo_sum(&sent, head.body_size) : 0; /* RFC 4443, 2.3 */
    cursor_seek(&cursor, head_size + 2);
    cursor_put_u16(&cursor, packet_checksum(packet_sum(out + head_size, head.body_size, sum)));
    const struct carrier_part part = {out, size};
    (void)stack_output(netstack, &part, 1);
}
