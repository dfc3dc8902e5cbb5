/* Fragments as a hostile client sends them: each record is a head of 8 bytes and a body. What becomes whole is a sound
 * packet; nothing is kept beyond the limits, and at the end nothing is left.
 *
 *   family and "more" u8, id u8, offset u16 (in 8 bytes), size u16, seconds u16; body */
#include "netstack/reassembly.h"

#include <stdlib.h>
#include <string.h>

#include "common/cursor.h"
#include "common/mem.h"
#include "netstack/ip_head.h"
#include "netstack/pool.h"

static void step(struct reassembly *reassembly, struct cursor *in, uint64_t *now_ms)
{
    static uint8_t data[IP_HEAD_MAX + 0x10000];
    uint8_t kind = cursor_u8(in);
    struct ip_head head = {.protocol = (kind & 4) != 0 ? PACKET_TCP : PACKET_UDP, .id = cursor_u8(in) % 32};
    enum address_family family = (kind & 1) != 0 ? ADDRESS_V6 : ADDRESS_V4;
    head.offset = (uint16_t)(cursor_u16(in) * 8);
    head.has_more = (kind & 2) != 0;
    head.body_size = KT_MIN(cursor_u16(in), cursor_left(in));
    *now_ms += cursor_u16(in);
    head.body_size = KT_MIN(head.body_size, KT_MIN(cursor_left(in), 65000));
    head.source.family = head.target.family = (uint8_t)family;
    const uint8_t *body = cursor_bytes(in, head.body_size);
    struct cursor out = cursor_writer(data, sizeof data);
    struct packet packet;
    ip_head_put(&out, &head);
    cursor_put_bytes(&out, body, head.body_size);
    if (body == NULL || packet_parse(&packet, data, out.at) != 0 || !packet.is_fragment)
        return;
    const uint8_t *whole;
    size_t size;
    if (reassembly_add(reassembly, &packet, data, *now_ms, &whole, &size) == 1) {
        if (packet_parse(&packet, whole, size) != 0 || packet.size != size || packet.is_fragment)
            abort();
        reassembly_pop(reassembly, whole);
    }
    reassembly_tick(reassembly, *now_ms);
    if (reassembly->count > REASSEMBLY_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reassembly reassembly = {.count = 0};
    struct cursor in = cursor_reader(data, size);
    uint64_t now_ms = 0;
    long before = kt_mem_live();
    while (cursor_left(&in) > 0)
        step(&reassembly, &in, &now_ms);
    reassembly_deinit(&reassembly);
    pool_trim();
    if (kt_mem_live() != before)
        abort();
    return 0;
}
