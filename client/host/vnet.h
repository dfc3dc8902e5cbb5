/* The header in front of each packet of a TUN device with IFF_VNET_HDR (struct virtio_net_hdr): who still has to
 * compute the TCP or UDP checksum. Bytes in, bytes out; no descriptor. */
#ifndef KTVPN_CLIENT_HOST_VNET_H
#define KTVPN_CLIENT_HOST_VNET_H

#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

#define VNET_SIZE 10      /* sizeof(struct virtio_net_hdr), what the device uses unless told otherwise */
#define VNET_HEAD_MAX 128 /* holds any IPv4 or IPv6 header and the TCP or UDP header's checksum behind it */

/* What was read from the device: header and packet. 0 and *packet inside it, or -EBADMSG: too short, or of an offload
 * that we did not ask for. The outer TCP or UDP checksum may be partial after it; a partial one elsewhere (inside
 * another tunnel) is completed. */
KT_MUST_USE int vnet_read(uint8_t *data, size_t size, uint8_t **packet, size_t *packet_size);

struct vnet_head {
    uint8_t header[VNET_SIZE];
    uint8_t bytes[VNET_HEAD_MAX]; /* the packet's first bytes, with the checksum field as the kernel wants it */
    size_t size;                  /* of them */
    size_t packet_size;           /* as the IP header says; the rest of the packet is as given */
};
/* What to write for a packet: `header`, `bytes`, and the packet from `size` to `packet_size`. -EBADMSG: no IP packet.
 */
KT_MUST_USE int vnet_prepare(struct vnet_head *head, const uint8_t *packet, size_t size);

#endif
