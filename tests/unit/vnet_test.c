/* The vnet header of TUN packets: partial checksums that complete to the right ones, and hostile input. */
#include "client/host/vnet.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/packet.h"
#include "tests/unit/unit.h"

#define PACKET_MAX 2048

/* A packet with random payload and rubbish in its checksum field; `options` bytes of IPv4 options. */
static size_t make(uint8_t *p, int version, uint8_t protocol, size_t options, size_t payload)
{
    size_t head = version == 4 ? 20 + options : 40, size = head + (protocol == PACKET_TCP ? 20 : 8) + payload;
    for (size_t i = 0; i < size; i++)
        p[i] = (uint8_t)rand();
    if (version == 4) {
        p[0] = (uint8_t)(0x40 | head / 4);
        p[2] = (uint8_t)(size >> 8), p[3] = (uint8_t)size;
        p[6] = p[7] = 0;
        p[9] = protocol;
    } else {
        p[0] = 0x60;
        p[4] = (uint8_t)((size - head) >> 8), p[5] = (uint8_t)(size - head);
        p[6] = protocol;
    }
    return size;
}

/* As the kernel does: the sum from csum_start on, complemented, into the field. Then the whole segment sums up to zero.
 */
static void expect_right_checksum(uint8_t *data, const struct virtio_net_hdr *header, size_t size)
{
    struct packet packet;
    uint8_t *field = data + header->csum_start + header->csum_offset;
    uint16_t sum = packet_checksum(packet_sum(data + header->csum_start, size - header->csum_start, 0));
    field[0] = (uint8_t)(sum >> 8), field[1] = (uint8_t)sum;
    assert_int_equal(packet_parse(&packet, data, size), 0);
    assert_int_equal(header->csum_start, packet.head_size);
    uint32_t pseudo = packet_pseudo_sum(&packet, size - packet.head_size);
    assert_int_equal(packet_checksum(packet_sum(data + packet.head_size, size - packet.head_size, pseudo)), 0);
}

static void prepared_checksums_complete_to_the_right_ones(void **state)
{
    (void)state;
    static const uint8_t protocols[] = {PACKET_TCP, PACKET_UDP};
    uint8_t data[PACKET_MAX], before[PACKET_MAX];
    struct vnet_head head;
    struct virtio_net_hdr header;
    for (int i = 0; i < 2000; i++) {
        int version = i % 2 == 0 ? 4 : 6;
        size_t size = make(data, version, protocols[i / 2 % 2], (size_t)(rand() % 11) * 4, (size_t)(rand() % 1000));
        memcpy(before, data, size);
        assert_int_equal(vnet_prepare(&head, data, size), 0);
        assert_memory_equal(data, before, size); /* what is given is not changed */
        memcpy(&header, head.header, sizeof header);
        assert_int_equal(header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
        assert_int_equal(header.gso_type, VIRTIO_NET_HDR_GSO_NONE);
        assert_int_equal(head.packet_size, size);
        assert_true(head.size <= size && head.size <= VNET_HEAD_MAX);
        memcpy(data, head.bytes, head.size);
        expect_right_checksum(data, &header, size);
    }
}

static void others_are_left_alone(void **state)
{
    (void)state;
    uint8_t data[PACKET_MAX];
    struct vnet_head head;
    struct virtio_net_hdr header;
    for (int what = 0; what < 4; what++) {
        size_t size = make(data, 4, PACKET_UDP, 0, 100);
        if (what == 0)
            data[9] = PACKET_ICMP;
        if (what == 1)
            data[6] = 0x20; /* a first fragment */
        if (what == 2)
            data[7] = 5; /* a later one */
        if (what == 3) {
            size = 27; /* half of a UDP header */
            data[2] = 0, data[3] = 27;
        }
        assert_int_equal(vnet_prepare(&head, data, size), 0);
        memcpy(&header, head.header, sizeof header);
        assert_int_equal(header.flags, 0);
        assert_memory_equal(head.bytes, data, head.size);
    }
}

static void bytes_after_the_packet_are_cut(void **state)
{
    (void)state;
    uint8_t data[PACKET_MAX] = {0};
    struct vnet_head head;
    size_t size = make(data, 4, PACKET_TCP, 0, 4);
    assert_int_equal(vnet_prepare(&head, data, size + 50), 0);
    assert_int_equal(head.packet_size, size);
    assert_int_equal(head.size, size);
}

static void no_ip_packet_is_refused(void **state)
{
    (void)state;
    uint8_t data[PACKET_MAX];
    struct vnet_head head;
    size_t size = make(data, 4, PACKET_TCP, 0, 10);
    for (size_t n = 0; n < size; n++)
        assert_int_equal(vnet_prepare(&head, data, n), -EBADMSG);
    data[0] = 0x55;
    assert_int_equal(vnet_prepare(&head, data, size), -EBADMSG);
    data[0] = 0x44;
    assert_int_equal(vnet_prepare(&head, data, size), -EBADMSG);
}

static size_t with_header(uint8_t *out, const struct virtio_net_hdr *header, const uint8_t *packet, size_t size)
{
    memcpy(out, header, sizeof *header);
    memcpy(out + sizeof *header, packet, size);
    return sizeof *header + size;
}

static void reading(void **state)
{
    (void)state;
    uint8_t data[PACKET_MAX], raw[PACKET_MAX], *packet;
    size_t size = make(data, 4, PACKET_TCP, 0, 100), got;
    struct virtio_net_hdr header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 20, .csum_offset = 16};

    size_t n = with_header(raw, &header, data, size); /* partial at its own place: as it is */
    assert_int_equal(vnet_read(raw, n, &packet, &got), 0);
    assert_int_equal(got, size);
    assert_ptr_equal(packet, raw + VNET_SIZE);
    assert_memory_equal(packet, data, size);

    header.csum_start = 60; /* inside another tunnel's packet: completed */
    n = with_header(raw, &header, data, size);
    assert_int_equal(vnet_read(raw, n, &packet, &got), 0);
    uint16_t sum = packet_checksum(packet_sum(data + 60, size - 60, 0));
    assert_int_equal(packet[76] << 8 | packet[77], sum);

    header.csum_start = (uint16_t)(size - 17); /* beyond the end */
    n = with_header(raw, &header, data, size);
    assert_int_equal(vnet_read(raw, n, &packet, &got), -EBADMSG);
    header.csum_start = 0xffff;
    n = with_header(raw, &header, data, size);
    assert_int_equal(vnet_read(raw, n, &packet, &got), -EBADMSG);
    header = (struct virtio_net_hdr){.csum_start = 20, .csum_offset = 0xffff, .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM};
    n = with_header(raw, &header, data, size);
    assert_int_equal(vnet_read(raw, n, &packet, &got), -EBADMSG);
    header = (struct virtio_net_hdr){.gso_type = VIRTIO_NET_HDR_GSO_TCPV4};
    n = with_header(raw, &header, data, size);
    assert_int_equal(vnet_read(raw, n, &packet, &got), -EBADMSG);
    for (n = 0; n <= VNET_SIZE; n++)
        assert_int_equal(vnet_read(raw, n, &packet, &got), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prepared_checksums_complete_to_the_right_ones),
        cmocka_unit_test(others_are_left_alone),
        cmocka_unit_test(bytes_after_the_packet_are_cut),
        cmocka_unit_test(no_ip_packet_is_refused),
        cmocka_unit_test(reading),
    };
    return unit_run(tests);
}
