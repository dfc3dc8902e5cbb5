#include "common/packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "common/cursor.h"

#define V6_HEAD_SIZE 40

enum extension { EXTENSION_HOPS = 0, EXTENSION_ROUTING = 43, EXTENSION_FRAGMENT = 44, EXTENSION_TARGET = 60 };

static int parse_v4(struct packet *packet, struct cursor *cursor)
{
    packet->head_size = (size_t)(cursor_u8(cursor) & 15) * 4;
    packet->service = cursor_u8(cursor);
    packet->size = cursor_u16(cursor);
    packet->fragment_id = cursor_u16(cursor);
    uint16_t fragment = cursor_u16(cursor);
    packet->has_more = (fragment & 0x2000) != 0;
    packet->fragment_offset = (uint16_t)((fragment & 0x1fff) * 8);
    packet->is_fragment = (fragment & 0x3fff) != 0;
    packet->hops = cursor_u8(cursor);
    packet->protocol = cursor_u8(cursor);
    cursor_skip(cursor, 2);
    packet->source.family = packet->target.family = ADDRESS_V4;
    cursor_copy(cursor, packet->source.bytes, 4);
    cursor_copy(cursor, packet->target.bytes, 4);
    return packet->head_size < 20 ? -EBADMSG : 0;
}

static void parse_fragment(struct packet *packet, struct cursor *cursor)
{
    packet->protocol = cursor_u8(cursor);
    cursor_skip(cursor, 1);
    uint16_t fragment = cursor_u16(cursor);
    packet->fragment_offset = fragment & 0xfff8;
    packet->has_more = (fragment & 1) != 0;
    packet->is_fragment = packet->has_more || packet->fragment_offset != 0;
    packet->fragment_id = cursor_u32(cursor);
    packet->head_size += 8;
}

/* Options of hops and target are stepped over: none of those that exist is for a tunnel's end. */
static int parse_extension(struct packet *packet, struct cursor *cursor)
{
    bool is_routing = packet->protocol == EXTENSION_ROUTING;
    packet->protocol = cursor_u8(cursor);
    size_t size = ((size_t)cursor_u8(cursor) + 1) * 8;
    cursor_skip(cursor, 1);
    uint8_t segments_left = cursor_u8(cursor);
    cursor_skip(cursor, size - 4);
    packet->head_size += size;
    return is_routing && segments_left > 0 ? -EBADMSG : 0;
}

static int walk_extensions(struct packet *packet, struct cursor *cursor)
{
    int rc = 0;
    for (unsigned count = 0; rc == 0 && count <= PACKET_EXTENSIONS_MAX; count++) {
        switch (packet->protocol) {
        case EXTENSION_FRAGMENT:
            parse_fragment(packet, cursor);
            if (packet->is_fragment)
                return 0; /* what follows is a piece of something */
            break;
        case EXTENSION_HOPS: /* only the first one may be that */
            rc = count > 0 ? -EBADMSG : parse_extension(packet, cursor);
            break;
        case EXTENSION_ROUTING:
        case EXTENSION_TARGET:
            rc = parse_extension(packet, cursor);
            break;
        default:
            return 0;
        }
    }
    return -EBADMSG;
}

static int parse_v6(struct packet *packet, struct cursor *cursor)
{
    packet->service = (uint8_t)(cursor_u16(cursor) >> 4);
    cursor_skip(cursor, 2);
    packet->head_size = V6_HEAD_SIZE;
    packet->size = packet->head_size + cursor_u16(cursor);
    packet->protocol = cursor_u8(cursor);
    packet->hops = cursor_u8(cursor);
    packet->source.family = packet->target.family = ADDRESS_V6;
    cursor_copy(cursor, packet->source.bytes, 16);
    cursor_copy(cursor, packet->target.bytes, 16);
    return walk_extensions(packet, cursor);
}

/* What the first bytes of a packet say; not yet whether the rest is there. */
static int parse_head(struct packet *packet, const uint8_t *data, size_t size)
{
    memset(packet, 0, sizeof *packet);
    if (size == 0)
        return -EBADMSG;
    struct cursor cursor = cursor_reader(data, size);
    int version = data[0] >> 4;
    int rc = version == 4 ? parse_v4(packet, &cursor) : version == 6 ? parse_v6(packet, &cursor) : -EBADMSG;
    if (rc != 0 || !cursor_ok(&cursor) || packet->size < packet->head_size)
        return -EBADMSG;
    bool has_ports = packet->protocol == PACKET_TCP || packet->protocol == PACKET_UDP;
    if (!has_ports || packet->is_fragment || KT_MIN(packet->size, size) < packet->head_size + 4)
        return 0;
    cursor_seek(&cursor, packet->head_size);
    packet->source_port = cursor_u16(&cursor);
    packet->target_port = cursor_u16(&cursor);
    return 0;
}

int packet_parse(struct packet *packet, const uint8_t *data, size_t size)
{
    return parse_head(packet, data, size) != 0 || packet->size > size ? -EBADMSG : 0;
}

uint32_t packet_hash(const struct packet *packet)
{
    uint32_t hash = 2166136261u ^ packet->protocol; /* FNV-1a, then a final mix */
    for (size_t i = 0; i < address_size(&packet->source); i++) {
        hash = (hash ^ packet->source.bytes[i]) * 16777619u;
        hash = (hash ^ packet->target.bytes[i]) * 16777619u;
    }
    hash = (hash ^ packet->source_port) * 16777619u;
    hash = (hash ^ packet->target_port) * 16777619u;
    hash ^= hash >> 15;
    hash *= 0x85ebca6bu;
    return hash ^ hash >> 13;
}

uint32_t packet_flow_hash(const uint8_t *data, size_t size)
{
    struct packet packet;
    if (parse_head(&packet, data, KT_MIN(size, PACKET_FLOW_BYTES)) != 0)
        return 0;
    return packet_hash(&packet);
}

/* The one's complement sum does not care for the byte order (RFC 1071, 2.B): so four bytes at a time, in the machine's
 * order, into 64 bits that cannot overflow; the result is turned once. */
uint32_t packet_sum(const uint8_t *data, size_t size, uint32_t sum)
{
    uint64_t total = 0;
    uint32_t word;
    for (; size >= sizeof word; size -= sizeof word, data += sizeof word) {
        memcpy(&word, data, sizeof word);
        total += word;
    }
    word = 0;
    if (size > 0)
        memcpy(&word, data, size);
    total += word;
    while (total >> 16 != 0)
        total = (total & 0xffff) + (total >> 16);
    return (sum & 0xffff) + (sum >> 16) + ntohs((uint16_t)total);
}

uint16_t packet_checksum(uint32_t sum)
{
    while (sum >> 16 != 0)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

uint32_t packet_pseudo_sum(const struct packet *packet, size_t size)
{
    uint32_t sum = packet_sum(packet->source.bytes, address_size(&packet->source), 0);
    sum = packet_sum(packet->target.bytes, address_size(&packet->target), sum);
    return sum + packet->protocol + (uint32_t)(size >> 16) + (uint32_t)(size & 0xffff);
}
