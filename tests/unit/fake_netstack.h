/* A netstack without sockets, for tests of what is around it: it records what it is given, and puts out what the test
 * says. Linked instead of the real one, whose object file is then not taken from the library. */
#ifndef KTVPN_TESTS_FAKE_NETSTACK_H
#define KTVPN_TESTS_FAKE_NETSTACK_H

#include "netstack/netstack.h"

#include <string.h>
#include <uv.h>

#include "common/mem.h"

struct netstack {
    struct netstack_ops ops;
    void *context;
    uint16_t mtu;
    uv_idle_t handle;
    void (*on_closed)(void *context);
    struct netstack *next; /* open ones, newest first */
    int inputs, batches, resumes, freezes, thaws, resends;
    bool was_lost; /* what is_lost() said of `flow` at the last resend */
    struct netstack_flow flow;
    bool is_frozen;
    size_t to_put_out; /* packets that resume and thaw go on with */
};

static struct netstack *fake_first;
static bool fake_can_ping = true;

/* A UDP packet of `size` bytes from `source` to `target`, without payload's sense. */
static size_t KT_UNUSED fake_packet(uint8_t *out, size_t size, const struct address *source,
                                    const struct address *target)
{
    memset(out, 0, size);
    out[0] = 0x45;
    out[2] = (uint8_t)(size >> 8);
    out[3] = (uint8_t)size;
    out[8] = 64;
    out[9] = NETSTACK_UDP;
    memcpy(out + 12, source->bytes, 4);
    memcpy(out + 16, target->bytes, 4);
    return size;
}

static void KT_UNUSED fake_put_out(struct netstack *netstack)
{
    static uint8_t packet[30000];
    struct address here = address_v4(0x0a000001), there = address_v4(0xc6120001);
    struct carrier_part part = {packet, fake_packet(packet, sizeof packet, &here, &there)};
    while (netstack->to_put_out > 0 && netstack->ops.output(netstack->context, &part, 1) == 0)
        netstack->to_put_out--;
}

int netstack_open(struct netstack **out, struct uv_loop_s *loop, uint16_t mtu, const struct netstack_ops *ops,
                  void *context)
{
    struct netstack *netstack = kt_calloc(1, sizeof *netstack);
    if (netstack == NULL)
        return UV_ENOMEM;
    netstack->ops = *ops;
    netstack->context = context;
    netstack->mtu = mtu;
    (void)uv_idle_init(loop, &netstack->handle);
    netstack->next = fake_first;
    fake_first = netstack;
    *out = netstack;
    return 0;
}

static void on_fake_closed(uv_handle_t *handle)
{
    struct netstack *netstack = KT_CONTAINER_OF((uv_idle_t *)handle, struct netstack, handle);
    if (netstack->on_closed != NULL)
        netstack->on_closed(netstack->context);
    kt_free(netstack);
}

void netstack_close(struct netstack *netstack, void (*on_closed)(void *context))
{
    struct netstack **link = &fake_first;
    while (*link != netstack)
        link = &(*link)->next;
    *link = netstack->next;
    netstack->on_closed = on_closed;
    uv_close((uv_handle_t *)&netstack->handle, on_fake_closed);
}

const char *netstack_drop_name(enum netstack_drop drop)
{
    (void)drop;
    return "fake";
}

void netstack_input(struct netstack *netstack, const uint8_t *packet KT_UNUSED, size_t size KT_UNUSED)
{
    netstack->inputs++;
}

void netstack_input_done(struct netstack *netstack)
{
    netstack->batches++;
}

void netstack_resume(struct netstack *netstack)
{
    netstack->resumes++;
    fake_put_out(netstack);
}

void netstack_freeze(struct netstack *netstack)
{
    netstack->freezes++;
    netstack->is_frozen = true;
}

void netstack_thaw(struct netstack *netstack)
{
    netstack->thaws += netstack->is_frozen;
    netstack->is_frozen = false;
    fake_put_out(netstack);
}

void netstack_resend(struct netstack *netstack, bool (*is_lost)(void *context, const struct netstack_flow *flow),
                     void *context)
{
    netstack->resends++;
    netstack->was_lost = is_lost(context, &netstack->flow);
    fake_put_out(netstack);
}

void netstack_stats(const struct netstack *netstack, struct netstack_stats *stats)
{
    *stats = (struct netstack_stats){.packets_in = (uint64_t)netstack->inputs};
}

bool netstack_can_ping(enum address_family family KT_UNUSED)
{
    return fake_can_ping;
}

#endif
