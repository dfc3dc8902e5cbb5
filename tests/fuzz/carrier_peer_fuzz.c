/* A carrier whose other side is authenticated and hostile: the input is a list of steps, each a byte that says what to
 * do.
 *
 *   0..15   a record of that type: then two bytes of size (big-endian, at most what is left) and the body
 *   16..31  time passes, 2^(n-16) * 16 ms, with a tick
 *   32..    the carrier's tx is read (and not looked at)
 *
 * A rekey that is done right cannot come out of random bytes; that path is for the unit tests. */
#include <sodium.h>
#include <stdlib.h>

#include "tests/unit/peer.h"

static int record(struct peer *peer, struct carrier *carrier, uint8_t type, struct cursor *in, uint64_t now_ms)
{
    size_t size = KT_MIN(cursor_u16(in), cursor_left(in));
    size = KT_MIN(size, WIRE_BODY_MAX);
    const uint8_t *body = cursor_bytes(in, size);
    if (!cursor_ok(in))
        return 0;
    peer_seal(peer, carrier, (uint32_t)type << 24, body, size);
    int rc = 1;
    while (rc == 1)
        rc = peer_next(carrier, now_ms);
    return rc;
}

static int step(struct peer *peer, struct carrier *carrier, struct cursor *in, uint64_t *now_ms)
{
    uint8_t what = cursor_u8(in);
    size_t there;
    if (what < 16)
        return record(peer, carrier, what, in, *now_ms);
    if (what < 32) {
        *now_ms += 16ull << (what - 16);
        return carrier_tick(carrier, *now_ms);
    }
    (void)carrier_tx(carrier, &there);
    if (there > WIRE_TX_SIZE)
        abort();
    carrier_sent(carrier, there);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct peer peer;
    struct carrier carrier;
    if (size == 0 || sodium_init() < 0)
        return 0;
    if (data[0] % 2 == 0)
        peer_open_client(&peer, &carrier, 0);
    else
        peer_open_agent(&peer, &carrier, 0);
    struct cursor in = cursor_reader(data + 1, size - 1);
    uint64_t now_ms = 0;
    int rc = 0;
    while (rc == 0 && cursor_left(&in) > 0)
        rc = step(&peer, &carrier, &in, &now_ms);
    if ((rc < 0) != (carrier.state == CARRIER_CLOSED))
        abort();
    carrier_deinit(&carrier);
    return 0;
}
