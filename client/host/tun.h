/* Packets of a TUN descriptor on the loop, with the vnet header's checksum offload: one packet is up to `mtu` bytes.
 *
 * Reads in batches into one buffer; nothing is allocated per packet. TCP and UDP checksums of what is written are
 * completed by the kernel (NEEDS_CSUM): the tunnel's packets come without valid ones. */
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
    /* Valid during the call; aligned to 4 bytes. TCP/UDP checksums may be partial. Returning non-zero means "no room":
     * the packet was not taken; it is kept and offered again on the loop after tun_resume(), and reading stops until
     * then. May call tun_close(). */
    int (*on_packet)(void *context, uint8_t *packet, size_t size);
    void (*on_batch)(void *context); /* after the packets of one turn */
    void (*on_failed)(void *context,
                      int error); /* the device is gone; once; reading has stopped, tun_close() is still to come */
};

/* `fd` becomes the tun's. 0, -ENOMEM, or the loop's error (the fd is still the caller's). */
KT_MUST_USE int tun_open(struct tun **out, struct uv_loop_s *loop, int fd, uint16_t mtu, const struct tun_ops *ops,
                         void *context);
void tun_close(struct tun *tun); /* memory goes later, on the loop */
/* After "no room": goes on in the next turn of the loop. Nothing to do otherwise. */
void tun_resume(struct tun *tun);

/* Writes one packet. 0, -EAGAIN (dropped: the kernel has no room), -EBADMSG (no IP packet, or larger than the MTU),
 * -ENODEV (the device is down or gone). One part is the fast way: several ones are copied together first. */
KT_MUST_USE int tun_write(struct tun *tun, const struct carrier_part *parts, int count);

struct tun_stats {
    uint64_t packets_in, packets_out; /* read from the device; written to it */
    uint64_t dropped;                 /* both ways: malformed, or no room in the kernel */
    uint64_t ignored;                 /* multicast, broadcast, link-local: the owner's count, 0 here */
};
void tun_stats(const struct tun *tun, struct tun_stats *stats);

#endif
