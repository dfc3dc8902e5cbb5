#include "netstack/ip_head.h"

#include "common/packet.h"

#define HOPS 64
#define MORE_FRAGMENTS 0x2000
#define DO_NOT_FRAGMENT 0x4000
#define NEXT_IS_FRAGMENT 44

static bool is_whole(const struct ip_head *head)
{
    return head->offset == 0 && !head->has_more;
}

size_t ip_head_size(const struct ip_head *head)
{
    if (head->target.family == ADDRESS_V4)
        return IPV4_HEAD_SIZE;
    return is_whole(head) ? IPV6_HEAD_SIZE : IPV6_HEAD_SIZE + IPV6_FRAGMENT_SIZE;
}

static void put_v4(struct cursor *cursor, const struct ip_head *head)
{
    uint8_t out[IPV4_HEAD_SIZE] = {0};
    uint16_t flags = is_whole(head) ? DO_NOT_FRAGMENT : head->has_more ? MORE_FRAGMENTS : 0;
    struct cursor c = cursor_writer(out, sizeof out);
    cursor_put_u8(&c, 0x45);
    cursor_put_u8(&c, head->service);
    cursor_put_u16(&c, (uint16_t)(IPV4_HEAD_SIZE + head->body_size));
    cursor_put_u16(&c, (uint16_t)head->id);
    cursor_put_u16(&c, (uint16_t)(flags | head->offset / 8));
    cursor_put_u8(&c, head->hops > 0 ? head->hops : HOPS);
    cursor_put_u8(&c, head->protocol);
    cursor_put_u16(&c, 0);
    cursor_put_bytes(&c, head->source.bytes, 4);
    cursor_put_bytes(&c, head->target.bytes, 4);
    cursor_seek(&c, 10);
    cursor_put_u16(&c, packet_checksum(packet_sum(out, sizeof out, 0)));
    cursor_put_bytes(cursor, out, sizeof out);
}

static void put_v6(struct cursor *cursor, const struct ip_head *head)
{
    size_t extra = is_whole(head) ? 0 : IPV6_FRAGMENT_SIZE;
    cursor_put_u32(cursor, 6u << 28 | (uint32_t)head->service << 20);
    cursor_put_u16(cursor, (uint16_t)(extra + head->body_size));
    cursor_put_u8(cursor, extra > 0 ? NEXT_IS_FRAGMENT : head->protocol);
    cursor_put_u8(cursor, head->hops > 0 ? head->hops : HOPS);
    cursor_put_bytes(cursor, head->source.bytes, 16);
    cursor_put_bytes(cursor, head->target.bytes, 16);
    if (extra == 0)
        return;
    cursor_put_u8(cursor, head->protocol);
    cursor_put_u8(cursor, 0);
    cursor_put_u16(cursor, (uint16_t)(head->offset | head->has_more));
    cursor_put_u32(cursor, head->id);
}

void ip_head_put(struct cursor *cursor, const struct ip_head *head)
{
    if (head->target.family == ADDRESS_V6)
        put_v6(cursor, head);
    else
        put_v4(cursor, head);
}
