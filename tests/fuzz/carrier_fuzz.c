/* A carrier that gets arbitrary bytes, as a client or as an agent, in pieces of a size that the second byte says. */
#include <sodium.h>
#include <stdlib.h>

#include "tests/unit/peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct noise_keypair keys;
    struct carrier carrier;
    if (size < 2 || sodium_init() < 0)
        return 0;
    if (keys.public_key[0] == 0)
        noise_keypair_generate(&keys);
    bool is_client = data[0] % 2 == 0;
    size_t step = (size_t)data[1] + 1;
    if (carrier_init(&carrier, &keys, is_client ? keys.public_key : NULL, WIRE_FEATURE_IPV4, 0) != 0)
        abort();
    int rc = 0;
    uint64_t now_ms = 0;
    for (size_t at = 2; at < size && rc >= 0; at += step, now_ms += 10) {
        size_t piece = KT_MIN(step, size - at);
        if (peer_give(&carrier, data + at, piece) != piece)
            abort(); /* rx without room */
        rc = peer_next(&carrier, now_ms);
        if (rc == 0)
            rc = carrier_tick(&carrier, now_ms);
    }
    if ((rc < 0) != (carrier.state == CARRIER_CLOSED))
        abort();
    carrier_deinit(&carrier);
    return 0;
}
