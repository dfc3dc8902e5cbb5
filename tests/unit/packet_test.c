#include "common/packet.h"

#include <errno.h>
#include <string.h>

#include "common/cursor.h"
#include "tests/unit/unit.h"

static size_t put_v4(uint8_t *out, uint8_t protocol, size_t options, uint16_t fragment, size_t payload)
{
    struct cursor cursor = cursor_writer(out, 2000);
    size_t head = 20 + options;
    cursor_put_u8(&cursor, (uint8_t)(0x40 | head / 4));
    cursor_put_u8(&cursor, 0);
    cursor_put_u16(&cursor, (uint16_t)(head + payload));
    cursor_put_u16(&cursor, 77);
    cursor_put_u16(&cursor, fragment);
    cursor_put_u8(&cursor, 64);
    cursor_put_u8(&cursor, protocol);
    cursor_put_u16(&cursor, 0);
    cursor_put_bytes(&cursor, "\x0a\1\2\3\xc6\x12\0\7", 8);
    for (size_t i = 0; i < options; i++)
        cursor_put_u8(&cursor, 1);
    cursor_put_bytes(&cursor, "\x1f\x90\0\x35", KT_MIN(payload, 4));
    for (size_t i = 4; i < payload; i++)
        cursor_put_u8(&cursor, (uint8_t)i);
    assert_true(cursor_ok(&cursor));
    return cursor.at;
}

static size_t put_v6(uint8_t *out, uint8_t protocol, size_t payload)
{
    struct cursor cursor = cursor_writer(out, 2000);
    cursor_put_u32(&cursor, 0x60000000);
    cursor_put_u16(&cursor, (uint16_t)payload);
    cursor_put_u8(&cursor, protocol);
    cursor_put_u8(&cursor, 64);
    for (uint8_t i = 0; i < 32; i++)
        cursor_put_u8(&cursor, i);
    for (size_t i = 0; i < payload; i++)
        cursor_put_u8(&cursor, (uint8_t)(i + 1));
    assert_true(cursor_ok(&cursor));
    return cursor.at;
}

static void ipv4_is_read(void **state)
{
    (void)state;
    uint8_t data[2000];
    struct packet packet;
    for (size_t options = 0; options <= 40; options += 4) {
        size_t size = put_v4(data, PACKET_UDP, options, 0, 100);
        assert_int_equal(packet_parse(&packet, data, size), 0);
        struct address source = address_v4(0x0a010203), target = address_v4(0xc6120007);
        assert_true(address_equal(&packet.source, &source) && address_equal(&packet.target, &target));
        assert_int_equal(packet.protocol, PACKET_UDP);
        assert_int_equal(packet.source_port, 8080);
        assert_int_equal(packet.target_port, 53);
        assert_int_equal(packet.head_size, 20 + options);
        assert_int_equal(packet.size, size);
        assert_false(packet.is_fragment);
        assert_int_equal(packet_parse(&packet, data, size + 10), 0); /* an Ethernet frame's padding */
        assert_int_equal(packet.size, size);
        for (size_t cut = 0; cut < size; cut++)
            assert_int_equal(packet_parse(&packet, data, cut), -EBADMSG);
    }
}

static void ipv6_is_read(void **state)
{
    (void)state;
    uint8_t data[2000];
    struct packet packet;
    size_t size = put_v6(data, PACKET_TCP, 20);
    assert_int_equal(packet_parse(&packet, data, size), 0);
    assert_int_equal(packet.source.family, ADDRESS_V6);
    assert_int_equal(packet.source.bytes[15], 15);
    assert_int_equal(packet.target.bytes[0], 16);
    assert_int_equal(packet.head_size, 40);
    assert_int_equal(packet.size, 60);
    assert_int_equal(packet.source_port, 0x0102);
    assert_int_equal(packet.target_port, 0x0304);
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(packet_parse(&packet, data, cut), -EBADMSG);
}

struct extension {
    uint8_t kind;
    size_t units;      /* of 8 bytes */
    uint8_t second[4]; /* bytes 2 to 5 */
};

/* A UDP packet behind `count` extension headers. */
static size_t put_extensions(uint8_t *out, const struct extension *extension, size_t count)
{
    size_t size = 0, at = 40;
    for (size_t i = 0; i < count; i++)
        size += extension[i].units * 8;
    (void)put_v6(out, count > 0 ? extension[0].kind : PACKET_UDP, size + 12);
    memset(out + 40, 0, size);
    for (size_t i = 0; i < count; i++) {
        out[at] = i + 1 < count ? extension[i + 1].kind : PACKET_UDP;
        out[at + 1] = (uint8_t)(extension[i].units - 1);
        memcpy(out + at + 2, extension[i].second, 4);
        at += extension[i].units * 8;
    }
    memcpy(out + at, "\x1f\x90\0\x35", 4);
    return at + 12;
}

static void extension_headers_are_walked(void **state)
{
    (void)state;
    static uint8_t data[40 + 9 * 2048 + 100];
    static const struct {
        struct extension list[3];
        size_t count, head;
        int rc;
    } cases[] = {{{{0, 1, {0}}}, 1, 48, 0},
                 {{{60, 3, {0}}}, 1, 64, 0},
                 {{{0, 2, {0}}, {43, 1, {0}}, {60, 1, {0}}}, 3, 72, 0},
                 {{{43, 1, {0, 1}}}, 1, 0, -EBADMSG},           /* a way that is not done yet */
                 {{{60, 1, {0}}, {0, 1, {0}}}, 2, 0, -EBADMSG}, /* hop-by-hop options not first */
                 {{{44, 1, {0}}}, 1, 48, 0}};                   /* an atomic fragment is whole */
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        struct packet packet;
        size_t size = put_extensions(data, cases[i].list, cases[i].count);
        assert_int_equal(packet_parse(&packet, data, size), cases[i].rc);
        if (cases[i].rc != 0)
            continue;
        assert_int_equal(packet.protocol, PACKET_UDP);
        assert_int_equal(packet.head_size, cases[i].head);
        assert_int_equal(packet.source_port, 8080);
        assert_int_equal(packet.target_port, 53);
        assert_false(packet.is_fragment);
        for (size_t cut = 0; cut < size; cut++)
            assert_int_equal(packet_parse(&packet, data, cut), -EBADMSG);
    }
}

static void extension_headers_end(void **state)
{
    (void)state;
    static uint8_t data[40 + 12 * 8 + 100];
    struct extension many[PACKET_EXTENSIONS_MAX + 1];
    struct packet packet;
    for (size_t i = 0; i < KT_ARRAY_LEN(many); i++)
        many[i] = (struct extension){.kind = 60, .units = 1};
    assert_int_equal(packet_parse(&packet, data, put_extensions(data, many, PACKET_EXTENSIONS_MAX)), 0);
    assert_int_equal(packet_parse(&packet, data, put_extensions(data, many, PACKET_EXTENSIONS_MAX + 1)), -EBADMSG);
    size_t size = put_extensions(data, many, 1);
    for (unsigned units = 3; units < 256; units++) { /* one that reaches behind the packet's end */
        data[41] = (uint8_t)units;
        assert_int_equal(packet_parse(&packet, data, size), -EBADMSG);
        assert_int_equal(packet_parse(&packet, data, sizeof data), -EBADMSG);
    }
}

static void fragments_of_ipv6_say_where_they_belong(void **state)
{
    (void)state;
    uint8_t data[200];
    struct packet packet;
    static const struct extension list[] = {{0, 1, {0}}, {44, 1, {0x05, 0xc9, 1, 2}}};
    size_t size = put_extensions(data, list, 2);
    assert_int_equal(packet_parse(&packet, data, size), 0);
    assert_true(packet.is_fragment && packet.has_more);
    assert_int_equal(packet.fragment_offset, 1480);
    assert_int_equal(packet.fragment_id, 0x01020000);
    assert_int_equal(packet.head_size, 56);
    assert_int_equal(packet.protocol, PACKET_UDP);
    assert_int_equal(packet.source_port, 0);
    uint32_t hash = packet_flow_hash(data, size);
    data[50] = data[51] = 0; /* the first one of them goes the same way */
    data[51] = 1;
    assert_int_equal(packet_flow_hash(data, size), hash);
}

static void ports_are_only_where_they_are(void **state)
{
    (void)state;
    uint8_t data[2000];
    struct packet packet;
    for (size_t payload = 0; payload < 4; payload++) {
        assert_int_equal(packet_parse(&packet, data, put_v4(data, PACKET_TCP, 0, 0, payload)), 0);
        assert_int_equal(packet.source_port | packet.target_port, 0);
    }
    assert_int_equal(packet_parse(&packet, data, put_v4(data, PACKET_ICMP, 0, 0, 50)), 0);
    assert_int_equal(packet.source_port, 0);
    static const uint16_t fragments[] = {0x2000, 0x0001, 0x3fff}, whole[] = {0, 0x4000}; /* 0x4000: do not fragment */
    for (size_t i = 0; i < KT_ARRAY_LEN(fragments); i++) {
        assert_int_equal(packet_parse(&packet, data, put_v4(data, PACKET_UDP, 0, fragments[i], 50)), 0);
        assert_true(packet.is_fragment);
        assert_int_equal(packet.source_port, 0);
    }
    for (size_t i = 0; i < KT_ARRAY_LEN(whole); i++) {
        assert_int_equal(packet_parse(&packet, data, put_v4(data, PACKET_UDP, 0, whole[i], 50)), 0);
        assert_false(packet.is_fragment);
        assert_int_equal(packet.source_port, 8080);
    }
}

static void lying_headers_are_refused(void **state)
{
    (void)state;
    uint8_t data[2000];
    struct packet packet;
    size_t size = put_v4(data, PACKET_TCP, 0, 0, 40);
    for (int head = 0; head < 256; head++) {
        data[0] = (uint8_t)head;
        bool is_good = head >> 4 == 4 && (head & 15) >= 5;
        is_good |= head >> 4 == 6 && false; /* read as IPv6 its length is too large */
        assert_int_equal(packet_parse(&packet, data, size), is_good ? 0 : -EBADMSG);
    }
    data[0] = 0x45;
    for (unsigned total = 0; total < 65536; total++) {
        data[2] = (uint8_t)(total >> 8);
        data[3] = (uint8_t)total;
        assert_int_equal(packet_parse(&packet, data, size), total >= 20 && total <= size ? 0 : -EBADMSG);
    }
    data[0] = 0x4f; /* a head of 60 bytes in a packet of 40 */
    data[2] = 0;
    data[3] = 40;
    assert_int_equal(packet_parse(&packet, data, size), -EBADMSG);
}

static void flows_hash_alike_however_much_is_shown(void **state)
{
    (void)state;
    uint8_t data[2000];
    for (size_t options = 0; options <= 40; options += 40) {
        size_t size = put_v4(data, PACKET_TCP, options, 0, 1000);
        uint32_t hash = packet_flow_hash(data, size);
        /* the first 64 bytes hold all that counts: lists of parts and whole packets must agree */
        assert_int_equal(packet_flow_hash(data, PACKET_FLOW_BYTES), hash);
        data[8] = 3; /* TTL, id, length */
        data[5]++;
        data[2] ^= 1;
        assert_int_equal(packet_flow_hash(data, PACKET_FLOW_BYTES), hash);
    }
    size_t size = put_v6(data, PACKET_UDP, 900);
    assert_int_equal(packet_flow_hash(data, PACKET_FLOW_BYTES), packet_flow_hash(data, size));
    assert_int_equal(packet_flow_hash(data, 3), 0);
    assert_int_equal(packet_flow_hash(data, 0), 0);
}

/* 8 carriers, 4,096 flows that differ in one port: none gets less than half or more than twice its share. */
static void flows_spread(void **state)
{
    (void)state;
    uint8_t data[2000];
    size_t size = put_v4(data, PACKET_TCP, 0, 0, 40);
    unsigned share[8] = {0};
    for (uint32_t port = 0; port < 4096; port++) {
        data[20] = (uint8_t)(port >> 8);
        data[21] = (uint8_t)port;
        share[packet_flow_hash(data, size) % 8]++;
    }
    for (int i = 0; i < 8; i++)
        assert_in_range(share[i], 256, 1024);
}

/* RFC 1071 as its text says it. */
static uint16_t slow_checksum(const uint8_t *data, size_t size)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum += i % 2 == 0 ? (uint32_t)data[i] << 8 : data[i];
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

static void checksums_agree_with_the_definition(void **state)
{
    (void)state;
    static const uint8_t example[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}; /* RFC 1071, section 3 */
    assert_int_equal(packet_sum(example, sizeof example, 0), 0xddf2);
    static uint8_t data[65536 + 16];
    randombytes_buf_deterministic(data, sizeof data, (const unsigned char *)"a seed of exactly 32 bytes here.");
    for (size_t size = 0; size < 300; size++) {
        for (size_t at = 0; at < 8; at++) /* any alignment */
            assert_int_equal(packet_checksum(packet_sum(data + at, size, 0)), slow_checksum(data + at, size));
    }
    assert_int_equal(packet_checksum(packet_sum(data, 65535, 0)), slow_checksum(data, 65535));
    memset(data, 0xff, sizeof data); /* the largest sums */
    assert_int_equal(packet_checksum(packet_sum(data, 65535, 0xffffffff)),
                     packet_checksum(packet_sum(data, 65535, 0xffff)));
    randombytes_buf_deterministic(data, sizeof data, (const unsigned char *)"a seed of exactly 32 bytes here.");
    uint32_t sum = packet_sum(data, 1000, 0); /* in even pieces */
    assert_int_equal(packet_checksum(packet_sum(data + 1000, 777, sum)), slow_checksum(data, 1777));
}

static void pseudo_header_is_summed(void **state)
{
    (void)state;
    uint8_t data[2000], pseudo[40];
    struct packet packet;
    assert_int_equal(packet_parse(&packet, data, put_v4(data, PACKET_UDP, 0, 0, 100)), 0);
    memcpy(pseudo, data + 12, 8); /* RFC 768 */
    memcpy(pseudo + 8, "\0\x11\0\x64", 4);
    assert_int_equal(packet_checksum(packet_pseudo_sum(&packet, 100)), slow_checksum(pseudo, 12));
    assert_int_equal(packet_parse(&packet, data, put_v6(data, PACKET_TCP, 100)), 0);
    memcpy(pseudo, data + 8, 32); /* RFC 8200, 8.1 */
    memcpy(pseudo + 32, "\0\1\0\0\0\0\0\6", 8);
    assert_int_equal(packet_checksum(packet_pseudo_sum(&packet, 65536)), slow_checksum(pseudo, 40));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ipv4_is_read),
        cmocka_unit_test(ipv6_is_read),
        cmocka_unit_test(extension_headers_are_walked),
        cmocka_unit_test(extension_headers_end),
        cmocka_unit_test(fragments_of_ipv6_say_where_they_belong),
        cmocka_unit_test(ports_are_only_where_they_are),
        cmocka_unit_test(lying_headers_are_refused),
        cmocka_unit_test(flows_hash_alike_however_much_is_shown),
        cmocka_unit_test(flows_spread),
        cmocka_unit_test(checksums_agree_with_the_definition),
        cmocka_unit_test(pseudo_header_is_summed),
    };
    return unit_run(tests);
}
