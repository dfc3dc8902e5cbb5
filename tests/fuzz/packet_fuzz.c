/* IP packets: what was parsed lies inside, and checksums and hashes take anything. */
#include "common/packet.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct packet packet;
    uint32_t hash = packet_flow_hash(data, size);
    uint32_t sum = packet_sum(data, size, 0);
    (void)packet_checksum(sum);
    if (packet_parse(&packet, data, size) != 0)
        return 0;
    if (packet.size > size || packet.head_size > packet.size || address_size(&packet.source) == 0 ||
        packet.source.family != packet.target.family)
        abort();
    if (packet_flow_hash(data, packet.size) != hash)
        abort();
    (void)packet_checksum(packet_pseudo_sum(&packet, packet.size - packet.head_size));
    return 0;
}
