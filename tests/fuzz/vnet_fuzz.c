/* Any bytes as what a TUN device gives, and as a packet from the tunnel for it. */
#include <stdlib.h>
#include <string.h>

#include "client/host/vnet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vnet_head head;
    uint8_t *packet;
    size_t packet_size;
    if (vnet_prepare(&head, data, size) == 0 &&
        (head.packet_size > size || head.size > head.packet_size || head.size > sizeof head.bytes))
        abort();
    uint8_t *exact = malloc(size > 0 ? size : 1); /* exactly, so that ASan sees one byte too many */
    if (exact == NULL)
        return 0;
    memcpy(exact, data, size);
    if (vnet_read(exact, size, &packet, &packet_size) == 0 &&
        (packet != exact + VNET_SIZE || packet_size != size - VNET_SIZE || packet_size == 0))
        abort();
    free(exact);
    return 0;
}
