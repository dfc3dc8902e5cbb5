/* A slot's buffer has room for an IP header and the largest body; a fragment is copied to where it belongs. What is
 * there is a sorted list of ranges, neighbours joined: usually one. The datagram is whole when there is one range, from
 * 0 to the end that the last fragment told. */
#include "netstack/reassembly.h"

#include <errno.h>
#include <string.h>

#include "netstack/ip_head.h"
#include "netstack/pool.h"

#define V4_BODY_MAX (0xffff - IPV4_HEAD_SIZE)
#define V6_BODY_MAX 0xffff
#define UNIT 8u

struct range {
    uint32_t from, to;
};

struct reassembly_slot {
    struct packet first; /* of the datagram; its addresses, protocol and id are the key */
    uint64_t began_ms;
    uint32_t end; /* 0: not known */
    bool is_spoiled;
    size_t ranges;
    struct range range[REASSEMBLY_RANGES];
    uint8_t data[IPV6_HEAD_SIZE + V6_BODY_MAX];
};

static size_t head_size(const struct reassembly_slot *slot)
{
    return slot->first.target.family == ADDRESS_V6 ? IPV6_HEAD_SIZE : IPV4_HEAD_SIZE;
}

static bool is_taken(const struct packet *fragment)
{
    bool is_v6 = fragment->target.family == ADDRESS_V6;
    return fragment->protocol == PACKET_UDP || fragment->protocol == (is_v6 ? PACKET_ICMPV6 : PACKET_ICMP);
}

static bool is_sound(const struct packet *fragment)
{
    size_t size = fragment->size - fragment->head_size;
    size_t max = fragment->target.family == ADDRESS_V6 ? V6_BODY_MAX : V4_BODY_MAX;
    if (size == 0 || fragment->fragment_offset + size > max)
        return false;
    return !fragment->has_more || size % UNIT == 0;
}

static bool is_of(const struct reassembly_slot *slot, const struct packet *fragment)
{
    const struct packet *own = &slot->first;
    return own->fragment_id == fragment->fragment_id && own->protocol == fragment->protocol &&
           address_equal(&own->source, &fragment->source) && address_equal(&own->target, &fragment->target);
}

static void drop(struct reassembly *reassembly, size_t at)
{
    pool_free(reassembly->slot[at]);
    reassembly->count--;
    memmove(&reassembly->slot[at], &reassembly->slot[at + 1],
            (reassembly->count - at) * sizeof(struct reassembly_slot *));
}

static struct reassembly_slot *find_or_add(struct reassembly *reassembly, const struct packet *fragment,
                                           uint64_t now_ms)
{
    for (size_t i = 0; i < reassembly->count; i++) {
        if (is_of(reassembly->slot[i], fragment))
            return reassembly->slot[i];
    }
    struct reassembly_slot *slot = pool_alloc(sizeof *slot);
    if (slot == NULL)
        return NULL;
    slot->first = *fragment;
    slot->began_ms = now_ms;
    slot->end = 0;
    slot->is_spoiled = false;
    slot->ranges = 0;
    if (reassembly->count == REASSEMBLY_MAX)
        drop(reassembly, 0);
    reassembly->slot[reassembly->count++] = slot;
    return slot;
}

/* Where `new` belongs in the sorted list: the first range that ends behind its beginning. */
static size_t place_of(const struct reassembly_slot *slot, const struct range *new)
{
    size_t at = 0;
    while (at < slot->ranges && slot->range[at].to <= new->from)
        at++;
    return at;
}

static int insert(struct reassembly_slot *slot, size_t at, const struct range *new)
{
    struct range *range = slot->range;
    bool joins_before = at > 0 && range[at - 1].to == new->from;
    bool joins_behind = at < slot->ranges && range[at].from == new->to;
    if (joins_before && joins_behind) {
        range[at - 1].to = range[at].to;
        slot->ranges--;
        memmove(&range[at], &range[at + 1], (slot->ranges - at) * sizeof *range);
    } else if (joins_before) {
        range[at - 1].to = new->to;
    } else if (joins_behind) {
        range[at].from = new->from;
    } else if (slot->ranges == REASSEMBLY_RANGES) {
        return -EBADMSG;
    } else {
        memmove(&range[at + 1], &range[at], (slot->ranges - at) * sizeof *range);
        range[at] = *new;
        slot->ranges++;
    }
    return 0;
}

/* -EBADMSG: the datagram is spoiled by it. */
static int take(struct reassembly_slot *slot, const struct packet *fragment, const uint8_t *body)
{
    uint32_t from = fragment->fragment_offset;
    const struct range new = {from, from + (uint32_t)(fragment->size - fragment->head_size)};
    uint8_t *place = slot->data + head_size(slot) + new.from;
    uint32_t last = slot->ranges > 0 ? slot->range[slot->ranges - 1].to : 0;
    if (slot->end != 0 && (new.to > slot->end || (!fragment->has_more && new.to != slot->end)))
        return -EBADMSG;
    if (!fragment->has_more && last > new.to)
        return -EBADMSG;
    size_t at = place_of(slot, &new);
    if (at < slot->ranges && slot->range[at].from < new.to) {
        bool is_inside = slot->range[at].from <= new.from && slot->range[at].to >= new.to;
        return is_inside && memcmp(place, body, new.to - new.from) == 0 ? 0 : -EBADMSG;
    }
    if (!fragment->has_more)
        slot->end = new.to;
    memcpy(place, body, new.to - new.from);
    return insert(slot, at, &new);
}

static void put_head(struct reassembly_slot *slot)
{
    const struct packet *first = &slot->first;
    const struct ip_head head = {.source = first->source,
                                 .target = first->target,
                                 .protocol = first->protocol,
                                 .hops = first->hops,
                                 .service = first->service,
                                 .body_size = slot->end};
    struct cursor cursor = cursor_writer(slot->data, head_size(slot));
    ip_head_put(&cursor, &head);
}

int reassembly_add(struct reassembly *reassembly, const struct packet *fragment, const uint8_t *data, uint64_t now_ms,
                   const uint8_t **whole, size_t *size)
{
    if (!is_taken(fragment))
        return -EPROTONOSUPPORT;
    if (!is_sound(fragment))
        return -EBADMSG;
    struct reassembly_slot *slot = find_or_add(reassembly, fragment, now_ms);
    if (slot == NULL)
        return -ENOMEM;
    if (!slot->is_spoiled && take(slot, fragment, data + fragment->head_size) != 0)
        slot->is_spoiled = true;
    if (slot->is_spoiled)
        return -EBADMSG;
    if (slot->ranges != 1 || slot->range[0].from != 0 || slot->end == 0 || slot->range[0].to != slot->end)
        return 0;
    put_head(slot);
    *whole = slot->data;
    *size = head_size(slot) + slot->end;
    return 1;
}

void reassembly_pop(struct reassembly *reassembly, const uint8_t *whole)
{
    for (size_t i = 0; i < reassembly->count; i++) {
        if (reassembly->slot[i]->data == whole) {
            drop(reassembly, i);
            return;
        }
    }
}

void reassembly_tick(struct reassembly *reassembly, uint64_t now_ms)
{
    while (reassembly->count > 0 && now_ms - reassembly->slot[0]->began_ms >= REASSEMBLY_MS)
        drop(reassembly, 0);
}

void reassembly_deinit(struct reassembly *reassembly)
{
    while (reassembly->count > 0)
        drop(reassembly, 0);
}
