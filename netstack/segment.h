/* A TCP segment's header (RFC 9293 3.1), checked before lwIP sees it: lwIP trusts the lengths of options that it does
 * not know. */
#ifndef KTVPN_NETSTACK_SEGMENT_H
#define KTVPN_NETSTACK_SEGMENT_H

#include "common/packet.h"

#define SEGMENT_HEAD_MIN 20

enum segment_flag { SEGMENT_FIN = 1, SEGMENT_SYN = 2, SEGMENT_RST = 4, SEGMENT_ACK = 16 };

struct segment {
    uint32_t sequence;
    uint8_t flags; /* enum segment_flag and others */
    size_t head_size, payload_size;
};

/* 0, or -EBADMSG: short, a fragment, port 0, or an option that reaches beyond the header. */
KT_MUST_USE int segment_parse(struct segment *segment, const struct packet *packet, const uint8_t *data);

#endif
