/* A TCP packet made by hand, for what takes packets one by one. */
#ifndef KTVPN_TESTS_TCP_SEGMENT_H
#define KTVPN_TESTS_TCP_SEGMENT_H

#include <string.h>

#include "common/cursor.h"
#include "common/packet.h"
#include "netstack/ip_head.h"
#include "netstack/segment.h"
#include "tests/unit/unit.h"

#define TCP_SEGMENT_CLIENT 0xc6120005u
#define TCP_SEGMENT_TARGET 0x0a000001u
#define TCP_SEGMENT_SEQUENCE 1000u
#define TCP_SEGMENT_MAX 128

struct tcp_segment {
    uint8_t data[TCP_SEGMENT_MAX];
    struct packet packet;
};

static inline struct tcp_segment tcp_segment_make(uint16_t source_port, uint16_t target_port, uint8_t flags,
                                                  uint32_t sequence, size_t payload)
{
    struct tcp_segment segment = {0};
    struct ip_head head = {.source = address_v4(TCP_SEGMENT_CLIENT),
                           .target = address_v4(TCP_SEGMENT_TARGET),
                           .protocol = PACKET_TCP,
                           .body_size = 20 + payload};
    struct cursor cursor = cursor_writer(segment.data, sizeof segment.data);
    ip_head_put(&cursor, &head);
    cursor_put_u16(&cursor, source_port);
    cursor_put_u16(&cursor, target_port);
    cursor_put_u32(&cursor, sequence);
    cursor_put_u32(&cursor, 0);
    cursor_put_u16(&cursor, (uint16_t)(0x5000 | flags));
    cursor_put_u16(&cursor, 65535);
    cursor_put_u32(&cursor, 0);
    assert_true(cursor_ok(&cursor));
    assert_int_equal(packet_parse(&segment.packet, segment.data, IPV4_HEAD_SIZE + 20 + payload), 0);
    return segment;
}

/* Fields of a TCP packet. */
static inline uint8_t tcp_segment_flags(const uint8_t *data)
{
    return data[IPV4_HEAD_SIZE + 13];
}

static inline uint16_t tcp_segment_target_port(const uint8_t *data)
{
    struct cursor cursor = cursor_reader(data + IPV4_HEAD_SIZE + 2, 2);
    return cursor_u16(&cursor);
}

static inline uint32_t tcp_segment_acknowledged(const uint8_t *data)
{
    struct cursor cursor = cursor_reader(data + IPV4_HEAD_SIZE + 8, 4);
    return cursor_u32(&cursor);
}

#endif
