/* Packets of a TUN descriptor on the loop, with the vnet header's checksum offload: one packet is up to `mtu` bytes.
 *
 * Reads in batches into one buffer; nothing is allocated per packet. TCP and UDP checksums of what is written are completed by the
 * kernel (NEEDS_CSUM): the tunnel's packets come without valid ones. */
#ifndef KTVPN_CLIENT_HOST_TUN_H
#define KTVPN_CLIENT_HOST_TUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/carrier.h"
#include "common/compiler.h"

struct uv_loop_s;
struct tun;

struct tun_ops {
    /* Valid during the call. TCP/UDP checksums may be partial. Returning non-zero means "no room": the packet was not taken; it is
     * kept and offered again after tun_resume(), and reading stops until then. */
    int (*on_packet)(void *context, uint8_t *packet, size_t size);
    void (*on_batch)(void *context); /* after the packets of one turn */
    void (*on_failed)(void *context, int error); /* the device is gone */
};

/* `fd` becomes the tun's. 0, -ENOMEM, or the loop's error (the fd is still the caller's). */
KT_MUST_USE int tun_open(struct tun **out, struct uv_loop_s *loop, int fd, uint16_t mtu, const struct tun_ops *ops, void *context);
void tun_close(struct tun *tun); /* memory goes later, on the loop */
void tun_resume(struct tun *tun);

/* Writes one packet (its bytes may be changed: the checksum field). 0, -EAGAIN (dropped: the kernel's queue is full), -EBADMSG. */
KT_MUST_USE int tun_write(struct tun *tun, const struct carrier_part *parts, int count);

struct tun_stats {
    uint64_t packets_in, packets_out, dropped;
};
void tun_stats(const struct tun *tun, struct tun_stats *stats);

#endif
