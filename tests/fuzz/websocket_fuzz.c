/* Walks any bytes as a server's frames: a head that is complete must lie inside the bytes, and must not change when
 * more follow. */
#include "client/kube/websocket.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
    if (!is_true)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0;
    struct websocket_frame frame, again;
    while (at < size && websocket_get_head(&frame, data + at, size - at) == 1) {
        require(frame.head_size >= 2 && frame.head_size <= size - at && frame.size <= WEBSOCKET_FRAME_MAX);
        require(websocket_get_head(&again, data + at, frame.head_size) == 1);
        require(again.size == frame.size && again.opcode == frame.opcode && again.head_size == frame.head_size);
        require(websocket_get_head(&again, data + at, frame.head_size - 1) == 0);
        if (frame.size > size - at - frame.head_size)
            break;
        at += frame.head_size + frame.size;
    }
    return 0;
}
