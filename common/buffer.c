#include "common/buffer.h"

#include <assert.h>
#include <string.h>

size_t buffer_size(const struct buffer *buffer)
{
    return buffer->end - buffer->start;
}

uint8_t *buffer_tail(struct buffer *buffer, size_t size)
{
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
    if (buffer->capacity - buffer->end < size && buffer->start > 0) {
        memmove(buffer->data, buffer->data + buffer->start, buffer_size(buffer));
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    return buffer->capacity - buffer->end < size ? NULL : buffer->data + buffer->end;
}

uint8_t *buffer_take(struct buffer *buffer, size_t size)
{
    if (buffer_size(buffer) < size)
        return NULL;
    uint8_t *data = buffer->data + buffer->start;
    buffer->start += size;
    return data;
}

void buffer_put(struct buffer *buffer, const void *data, size_t size)
{
    uint8_t *out = buffer_tail(buffer, size);
    assert(out != NULL);
    memcpy(out, data, size);
    buffer->end += size;
}
