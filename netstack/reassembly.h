/* Puts the fragments of IPv4 (RFC 791) and IPv6 (RFC 8200 4.5) datagrams together.
 *
 * The client's kernel cuts what is larger than the tunnel's MTU: a UDP datagram or an echo of up to 64 KB. TCP never
 * needs it, so its fragments are not taken.
 *
 * Bounded: REASSEMBLY_MAX datagrams at a time (the oldest makes room), each for REASSEMBLY_MS, each with one buffer of
 * 64 KB and REASSEMBLY_RANGES pieces. A datagram of which two fragments disagree is spoiled: it and what still comes of
 * it is thrown away (RFC 5722); an exact copy of what is there already is not a disagreement. */
#ifndef KTVPN_NETSTACK_REASSEMBLY_H
#define KTVPN_NETSTACK_REASSEMBLY_H

#include "common/packet.h"

#define REASSEMBLY_MAX 16
#define REASSEMBLY_MS 5000
#define REASSEMBLY_RANGES 64

struct reassembly_slot;

struct reassembly {
    struct reassembly_slot *slot[REASSEMBLY_MAX]; /* oldest first, without gaps */
    size_t count;
};

/* `fragment` is what packet_parse() says of `data`. 1: the datagram is whole, `*whole` of `*size` bytes is a packet
 * without options or extension headers; call reassembly_pop() when done with it. 0: kept. -ENOMEM. -EBADMSG: malformed,
 * or it does not fit to what is there. -EPROTONOSUPPORT: not UDP or ICMP. */
KT_MUST_USE int reassembly_add(struct reassembly *reassembly, const struct packet *fragment, const uint8_t *data,
                               uint64_t now_ms, const uint8_t **whole, size_t *size);
void reassembly_pop(struct reassembly *reassembly, const uint8_t *whole);
/* Forgets what is too old. */
void reassembly_tick(struct reassembly *reassembly, uint64_t now_ms);
void reassembly_deinit(struct reassembly *reassembly);

#endif
