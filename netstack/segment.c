#include "netstack/segment.h"

#include <errno.h>

#include "common/cursor.h"

enum option { OPTION_END = 0, OPTION_NOP = 1 };

static bool has_sound_options(const uint8_t *options, size_t size)
{
    struct cursor cursor = cursor_reader(options, size);
    while (cursor_left(&cursor) > 0) {
        uint8_t kind = cursor_u8(&cursor);
        if (kind == OPTION_END)
            return true;
        if (kind == OPTION_NOP)
            continue;
        uint8_t length = cursor_u8(&cursor); /* with kind and itself */
        if (length < 2)
            return false;
        cursor_skip(&cursor, length - 2u);
    }
    return cursor_ok(&cursor);
}

int segment_parse(struct segment *segment, const struct packet *packet, const uint8_t *data)
{
    size_t size = packet->size - packet->head_size;
    const uint8_t *bytes = data + packet->head_size;
    struct cursor cursor = cursor_reader(bytes, size);
    if (packet->is_fragment || packet->source_port == 0 || packet->target_port == 0)
        return -EBADMSG;
    cursor_seek(&cursor, 4);
    segment->sequence = cursor_u32(&cursor);
    cursor_skip(&cursor, 4);
    segment->head_size = (size_t)(cursor_u8(&cursor) >> 4) * 4;
    segment->flags = cursor_u8(&cursor);
    if (size < SEGMENT_HEAD_MIN || segment->head_size < SEGMENT_HEAD_MIN || segment->head_size > size)
        return -EBADMSG;
    segment->payload_size = size - segment->head_size;
    return has_sound_options(bytes + SEGMENT_HEAD_MIN, segment->head_size - SEGMENT_HEAD_MIN) ? 0 : -EBADMSG;
}
