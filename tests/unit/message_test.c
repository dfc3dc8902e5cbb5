#include "netstack/message.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct packet packet_of(uint8_t protocol, size_t size)
{
    return (struct packet){.source = address_v4(0xc6120001),
                           .target = address_v4(0x0a000001),
                           .protocol = protocol,
                           .source_port = 1000,
                           .target_port = 53,
                           .head_size = 20,
                           .size = 20 + size};
}

static void test_udp(void **state)
{
    uint8_t data[40] = {0}, head[MESSAGE_HEAD_MAX];
    struct packet packet = packet_of(PACKET_UDP, 20);
    struct message message;
    (void)state;
    data[25] = 12; /* 4 bytes, and 8 of padding behind them */
    assert_int_equal(message_parse(&message, &packet, data), 0);
    assert_int_equal(message.size, 4);
    assert_ptr_equal(message.body, data + 28);
    assert_int_equal(message.flow.target_port, 53);
    static const uint8_t want[] = {0, 53, 3, 232, 0, 18, 0, 0};
    assert_int_equal(message_finish(head, &message.flow, data, 10), 8);
    assert_memory_equal(head, want, sizeof want);
}

static void test_hostile_udp(void **state)
{
    uint8_t data[40] = {0};
    struct message message;
    (void)state;
    for (size_t size = 0; size < 8; size++) {
        struct packet packet = packet_of(PACKET_UDP, size);
        data[25] = 8;
        assert_int_equal(message_parse(&message, &packet, data), -EBADMSG);
    }
    struct packet packet = packet_of(PACKET_UDP, 20);
    data[25] = 7;
    assert_int_equal(message_parse(&message, &packet, data), -EBADMSG);
    data[25] = 21;
    assert_int_equal(message_parse(&message, &packet, data), -EBADMSG);
    data[25] = 20;
    packet.is_fragment = true;
    assert_int_equal(message_parse(&message, &packet, data), -EBADMSG);
    packet = packet_of(47, 20);
    assert_int_equal(message_parse(&message, &packet, data), -EBADMSG);
}

static void test_echo(void **state)
{
    uint8_t data[40] = {[20] = 8, [24] = 0x12, [25] = 0x34}, head[MESSAGE_HEAD_MAX];
    uint8_t reply[12] = {0, 0, 1, 2, 0x99, 0x99, 0, 7, 1, 2, 3, 4};
    struct packet packet = packet_of(PACKET_ICMP, 20);
    struct message message;
    (void)state;
    assert_int_equal(message_parse(&message, &packet, data), 0);
    assert_int_equal(message.flow.source_port, 0x1234);
    assert_int_equal(message.size, 20);
    assert_int_equal(message_finish(head, &message.flow, reply, sizeof reply), 0);
    assert_int_equal(reply[4] << 8 | reply[5], 0x1234); /* the client's identifier, not the socket's */
    assert_int_equal(packet_checksum(packet_sum(reply, sizeof reply, 0)), 0);
}

static void test_hostile_echo(void **state)
{
    uint8_t data[40] = {[20] = 8}, head[MESSAGE_HEAD_MAX];
    struct message message;
    (void)state;
    for (size_t size = 0; size < 8; size++) {
        struct packet packet = packet_of(PACKET_ICMP, size);
        assert_int_equal(message_parse(&message, &packet, data), -EBADMSG);
        assert_int_equal(message_finish(head, &(struct netstack_flow){.protocol = NETSTACK_ICMP}, data + 24, size),
                         -EBADMSG);
    }
    struct packet packet = packet_of(PACKET_ICMP, 20);
    for (unsigned type = 0; type < 256; type++) {
        data[20] = (uint8_t)type;
        assert_int_equal(message_parse(&message, &packet, data), type == 8 ? 0 : -EBADMSG);
    }
    uint8_t unreachable[12] = {3, 1};
    assert_int_equal(message_finish(head, &message.flow, unreachable, sizeof unreachable), -EBADMSG);
}

static void test_ipv6(void **state)
{
    uint8_t data[60] = {[40] = 128, [44] = 0x12, [45] = 0x34}, head[MESSAGE_HEAD_MAX];
    uint8_t reply[12] = {129, 0, 1, 2, 0x99, 0x99, 0, 7, 1, 2, 3, 4};
    struct packet packet = {.protocol = PACKET_ICMPV6, .head_size = 40, .size = 60};
    struct message message;
    (void)state;
    assert_int_equal(address_parse(&packet.source, "fd6b:7476:706e::5"), 0);
    assert_int_equal(address_parse(&packet.target, "fd00:10::1"), 0);
    struct packet back = {.source = packet.target, .target = packet.source, .protocol = PACKET_ICMPV6};
    for (unsigned type = 0; type < 256; type++) { /* neighbours, routers and groups are none of ours */
        data[40] = (uint8_t)type;
        assert_int_equal(message_parse(&message, &packet, data), type == 128 ? 0 : -EBADMSG);
    }
    assert_int_equal(message.flow.source_port, 0x1234);
    message.flow.protocol = NETSTACK_ICMPV6;
    assert_int_equal(message_finish(head, &message.flow, reply, sizeof reply), 0);
    assert_int_equal(reply[4] << 8 | reply[5], 0x1234);
    assert_int_equal(packet_checksum(packet_sum(reply, sizeof reply, packet_pseudo_sum(&back, sizeof reply))), 0);
    packet.protocol = PACKET_ICMP; /* of the other family */
    data[40] = 8;
    assert_int_equal(message_parse(&message, &packet, data), -EBADMSG);
}

static void test_sum(void **state)
{
    uint8_t head[MESSAGE_HEAD_MAX], body[7] = {1, 2, 3, 4, 5, 6, 7};
    struct netstack_flow flow = {.protocol = NETSTACK_UDP, .source_port = 1000, .target_port = 53};
    (void)state;
    assert_int_equal(address_parse(&flow.source, "fd6b:7476:706e::5"), 0);
    assert_int_equal(address_parse(&flow.target, "fd00:10::1"), 0);
    struct packet back = {.source = flow.target, .target = flow.source, .protocol = PACKET_UDP};
    assert_int_equal(message_finish(head, &flow, body, sizeof body), 8);
    message_sum(head, &flow, body, sizeof body);
    uint32_t sum = packet_sum(head, sizeof head, packet_pseudo_sum(&back, sizeof head + sizeof body));
    assert_int_equal(packet_checksum(packet_sum(body, sizeof body, sum)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_udp),          cmocka_unit_test(test_hostile_udp), cmocka_unit_test(test_echo),
        cmocka_unit_test(test_hostile_echo), cmocka_unit_test(test_ipv6),        cmocka_unit_test(test_sum),
    };
    return unit_run(tests);
}
