#include "client/host/vnet.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <string.h>

#include "common/packet.h"

#define TCP_SIZE 20
#define TCP_CHECKSUM 16
#define UDP_SIZE 8
#define UDP_CHECKSUM 6

_Static_assert(sizeof(struct virtio_net_hdr) == VNET_SIZE, "the size that the kernel uses");

static void put_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

/* Where the checksum of the packet's own TCP or UDP header is; false: it has none, or not all of the header is there.
 */
static bool find_checksum(const struct packet *packet, size_t *offset)
{
    bool is_tcp = packet->protocol == PACKET_TCP, is_udp = packet->protocol == PACKET_UDP;
    *offset = is_tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
    return (is_tcp || is_udp) && !packet->is_fragment &&
           packet->size - packet->head_size >= (is_tcp ? TCP_SIZE : UDP_SIZE);
}

/* The kernel put the pseudo-header's sum there; the sum over all of it, complemented, completes it. */
static int complete(uint8_t *packet, size_t size, size_t start, size_t offset)
{
    if (start > size || size - start < offset + 2)
        return -EBADMSG;
    uint16_t sum = packet_checksum(packet_sum(packet + start, size - start, 0));
    put_u16(packet + start + offset, sum != 0 ? sum : 0xffff); /* RFC 768: 0 would mean "none" */
    return 0;
}

static int check_partial(const struct virtio_net_hdr *header, uint8_t *packet, size_t size)
{
    struct packet parsed;
    size_t offset;
    if (packet_parse(&parsed, packet, size) != 0)
        return -EBADMSG;
    if (find_checksum(&parsed, &offset) && header->csum_start == parsed.head_size && header->csum_offset == offset)
        return 0;
    return complete(packet, size, header->csum_start, header->csum_offset);
}

int vnet_read(uint8_t *data, size_t size, uint8_t **packet, size_t *packet_size)
{
    struct virtio_net_hdr header;
    if (size <= sizeof header)
        return -EBADMSG;
    memcpy(&header, data, sizeof header);
    if (header.gso_type != VIRTIO_NET_HDR_GSO_NONE)
        return -EBADMSG;
    *packet = data + sizeof header;
    *packet_size = size - sizeof header;
    return (header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) != 0 ? check_partial(&header, *packet, *packet_size) : 0;
}

int vnet_prepare(struct vnet_head *head, const uint8_t *packet, size_t size)
{
    struct packet parsed;
    struct virtio_net_hdr header = {.flags = 0};
    size_t offset;
    if (packet_parse(&parsed, packet, size) != 0)
        return -EBADMSG;
    head->packet_size = parsed.size;
    head->size = KT_MIN(parsed.size, sizeof head->bytes);
    memcpy(head->bytes, packet, head->size);
    if (find_checksum(&parsed, &offset) && parsed.head_size + offset + 2 <= head->size) {
        uint32_t sum = packet_pseudo_sum(&parsed, parsed.size - parsed.head_size);
        header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        header.csum_start = (uint16_t)parsed.head_size;
        header.csum_offset = (uint16_t)offset;
        put_u16(head->bytes + parsed.head_size + offset,
                (uint16_t)~packet_checksum(sum)); /* folded, not complemented */
    }
    memcpy(head->header, &header, sizeof header);
    return 0;
}
