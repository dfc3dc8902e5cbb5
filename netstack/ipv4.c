#include "netstack/ipv4.h"

#include "common/packet.h"

#define TTL 64
#define MORE_FRAGMENTS 0x2000
#define DO_NOT_FRAGMENT 0x4000

void ipv4_put_head(struct cursor *cursor, const struct ipv4_head *head)
{
    uint8_t out[IPV4_HEAD_SIZE] = {0};
    bool is_whole = head->offset == 0 && !head->has_more;
    uint16_t flags = is_whole ? DO_NOT_FRAGMENT : head->has_more ? MORE_FRAGMENTS : 0;
    struct cursor c = cursor_writer(out, sizeof out);
    cursor_put_u8(&c, 0x45);
    cursor_put_u8(&c, 0);
    cursor_put_u16(&c, (uint16_t)(IPV4_HEAD_SIZE + head->body_size));
    cursor_put_u16(&c, head->id);
    cursor_put_u16(&c, (uint16_t)(flags | head->offset / 8));
    cursor_put_u8(&c, TTL);
    cursor_put_u8(&c, head->protocol);
    cursor_put_u16(&c, 0);
    cursor_put_bytes(&c, head->source.bytes, 4);
    cursor_put_bytes(&c, head->target.bytes, 4);
    cursor_seek(&c, 10);
    cursor_put_u16(&c, packet_checksum(packet_sum(out, sizeof out, 0)));
    cursor_put_bytes(cursor, out, sizeof out);
}
