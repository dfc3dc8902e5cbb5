#include "netstack/message.h"

#include <errno.h>

#include "common/cursor.h"

#define UDP_HEAD_SIZE 8
#define ECHO_HEAD_SIZE 8

enum echo_type { ECHO_REPLY = 0, ECHO_REQUEST = 8, ECHO_REQUEST_V6 = 128, ECHO_REPLY_V6 = 129 };

static int parse_udp(struct message *message, const struct packet *packet, const uint8_t *bytes, size_t size)
{
    struct cursor cursor = cursor_reader(bytes, size);
    cursor_seek(&cursor, 4);
    size_t length = cursor_u16(&cursor);
    if (size < UDP_HEAD_SIZE || length < UDP_HEAD_SIZE || length > size || packet->target_port == 0)
        return -EBADMSG;
    message->flow.source_port = packet->source_port;
    message->flow.target_port = packet->target_port;
    message->body = bytes + UDP_HEAD_SIZE;
    message->size = length - UDP_HEAD_SIZE;
    return 0;
}

static int parse_echo(struct message *message, uint8_t request, const uint8_t *bytes, size_t size)
{
    struct cursor cursor = cursor_reader(bytes, size);
    uint8_t type = cursor_u8(&cursor), code = cursor_u8(&cursor);
    cursor_skip(&cursor, 2);
    message->flow.source_port = message->flow.target_port = cursor_u16(&cursor);
    cursor_skip(&cursor, 2);
    if (!cursor_ok(&cursor) || type != request || code != 0)
        return -EBADMSG;
    message->body = bytes;
    message->size = size;
    return 0;
}

int message_parse(struct message *message, const struct packet *packet, const uint8_t *data)
{
    const uint8_t *bytes = data + packet->head_size;
    size_t size = packet->size - packet->head_size;
    if (packet->is_fragment)
        return -EBADMSG;
    message->flow =
        (struct netstack_flow){.protocol = packet->protocol, .source = packet->source, .target = packet->target};
    switch (packet->protocol) {
    case PACKET_UDP:
        return parse_udp(message, packet, bytes, size);
    case PACKET_ICMP:
        return packet->target.family == ADDRESS_V4 ? parse_echo(message, ECHO_REQUEST, bytes, size) : -EBADMSG;
    case PACKET_ICMPV6:
        return packet->target.family == ADDRESS_V6 ? parse_echo(message, ECHO_REQUEST_V6, bytes, size) : -EBADMSG;
    default:
        return -EBADMSG;
    }
}

/* The checksum stays 0: it is not valid on the wire (common/wire.h). */
static int finish_udp(uint8_t *head, const struct netstack_flow *flow, size_t size)
{
    struct cursor cursor = cursor_writer(head, UDP_HEAD_SIZE);
    cursor_put_u16(&cursor, flow->target_port);
    cursor_put_u16(&cursor, flow->source_port);
    cursor_put_u16(&cursor, (uint16_t)(UDP_HEAD_SIZE + size));
    cursor_put_u16(&cursor, 0);
    return UDP_HEAD_SIZE;
}

/* As the client sees it: from the target. */
static uint32_t pseudo_sum(const struct netstack_flow *flow, size_t size)
{
    const struct packet packet = {.source = flow->target, .target = flow->source, .protocol = (uint8_t)flow->protocol};
    return packet_pseudo_sum(&packet, size);
}

void message_sum(uint8_t head[static MESSAGE_HEAD_MAX], const struct netstack_flow *flow, const uint8_t *body,
                 size_t size)
{
    struct cursor cursor = cursor_writer(head, UDP_HEAD_SIZE);
    uint32_t sum = packet_sum(head, UDP_HEAD_SIZE, pseudo_sum(flow, UDP_HEAD_SIZE + size));
    uint16_t checksum = packet_checksum(packet_sum(body, size, sum));
    cursor_seek(&cursor, 6);
    cursor_put_u16(&cursor, checksum != 0 ? checksum : 0xffff); /* 0 would mean "none" */
}

static int finish_echo(const struct netstack_flow *flow, uint8_t *body, size_t size)
{
    struct cursor cursor = cursor_writer(body, size);
    bool is_v6 = flow->protocol == NETSTACK_ICMPV6;
    if (size < ECHO_HEAD_SIZE || body[0] != (is_v6 ? ECHO_REPLY_V6 : ECHO_REPLY))
        return -EBADMSG;
    cursor_seek(&cursor, 2);
    cursor_put_u16(&cursor, 0);
    cursor_put_u16(&cursor, flow->source_port);
    cursor_seek(&cursor, 2);
    cursor_put_u16(&cursor, packet_checksum(packet_sum(body, size, is_v6 ? pseudo_sum(flow, size) : 0)));
    return 0;
}

int message_finish(uint8_t head[static MESSAGE_HEAD_MAX], const struct netstack_flow *flow, uint8_t *body, size_t size)
{
    return flow->protocol == NETSTACK_UDP ? finish_udp(head, flow, size) : finish_echo(flow, body, size);
}
