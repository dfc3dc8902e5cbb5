#include "common/cursor.h"

#include <string.h>

struct cursor cursor_reader(const void *data, size_t size)
{
    return (struct cursor){.data = data, .size = size};
}

struct cursor cursor_writer(void *data, size_t size)
{
    return (struct cursor){.data = data, .out = data, .size = size};
}

bool cursor_ok(const struct cursor *cursor)
{
    return !cursor->failed;
}

bool cursor_done(const struct cursor *cursor)
{
    return !cursor->failed && cursor->at == cursor->size;
}

size_t cursor_left(const struct cursor *cursor)
{
    return cursor->failed ? 0 : cursor->size - cursor->at;
}

/* Moves over `size` bytes and returns where they begin, or NULL. */
static const uint8_t *take(struct cursor *cursor, size_t size)
{
    if (cursor->failed || size > cursor->size - cursor->at) {
        cursor->failed = true;
        return NULL;
    }
    const uint8_t *here = cursor->data + cursor->at;
    cursor->at += size;
    return here;
}

static uint64_t take_integer(struct cursor *cursor, size_t size)
{
    const uint8_t *bytes = take(cursor, size);
    uint64_t value = 0;
    for (size_t i = 0; bytes != NULL && i < size; i++)
        value = value << 8 | bytes[i];
    return value;
}

uint8_t cursor_u8(struct cursor *cursor)
{
    return (uint8_t)take_integer(cursor, 1);
}

uint16_t cursor_u16(struct cursor *cursor)
{
    return (uint16_t)take_integer(cursor, 2);
}

uint32_t cursor_u32(struct cursor *cursor)
{
    return (uint32_t)take_integer(cursor, 4);
}

uint64_t cursor_u64(struct cursor *cursor)
{
    return take_integer(cursor, 8);
}

const uint8_t *cursor_bytes(struct cursor *cursor, size_t size)
{
    return take(cursor, size);
}

void cursor_copy(struct cursor *cursor, void *out, size_t size)
{
    const uint8_t *bytes = take(cursor, size);
    if (size == 0)
        return;
    if (bytes != NULL)
        memcpy(out, bytes, size);
    else
        memset(out, 0, size);
}

void cursor_skip(struct cursor *cursor, size_t size)
{
    (void)take(cursor, size);
}

void cursor_seek(struct cursor *cursor, size_t at)
{
    if (at > cursor->size)
        cursor->failed = true;
    else if (!cursor->failed)
        cursor->at = at;
}

void cursor_put_bytes(struct cursor *cursor, const void *bytes, size_t size)
{
    size_t at = cursor->at;
    if (size == 0)
        return;
    if (cursor->out == NULL || take(cursor, size) == NULL)
        cursor->failed = true;
    else
        memcpy(cursor->out + at, bytes, size);
}

static void put_integer(struct cursor *cursor, uint64_t value, size_t size)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> 8 * (size - 1 - i));
    cursor_put_bytes(cursor, bytes, size);
}

void cursor_put_u8(struct cursor *cursor, uint8_t value)
{
    put_integer(cursor, value, 1);
}

void cursor_put_u16(struct cursor *cursor, uint16_t value)
{
    put_integer(cursor, value, 2);
}

void cursor_put_u32(struct cursor *cursor, uint32_t value)
{
    put_integer(cursor, value, 4);
}

void cursor_put_u64(struct cursor *cursor, uint64_t value)
{
    put_integer(cursor, value, 8);
}
