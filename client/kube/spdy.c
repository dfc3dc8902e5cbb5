#include "client/kube/spdy.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/cursor.h"

#define VERSION 3
#define CONTROL 0x8000u
#define STREAM_MASK 0x7fffffffu
#define FLAG_FIN 0x01
#define BLOCK_HEAD 5 /* of a stored block of deflate (RFC 1951, 3.2.4) */

/* 24 bits behind 8: the second word of every head. */
static uint32_t flags_and_size(uint8_t flags, size_t size)
{
    return (uint32_t)flags << 24 | (uint32_t)size;
}

static void put_control_head(struct cursor *cursor, enum spdy_type type, size_t size)
{
    cursor_put_u16(cursor, CONTROL | VERSION);
    cursor_put_u16(cursor, (uint16_t)type);
    cursor_put_u32(cursor, flags_and_size(0, size));
}

static void put_text(struct cursor *cursor, const char *text)
{
    cursor_put_u32(cursor, (uint32_t)strlen(text));
    cursor_put_bytes(cursor, text, strlen(text));
}

/* "BFINAL, BTYPE", then the length, little-endian, and its complement. */
static void put_stored_head(struct cursor *cursor, size_t size)
{
    uint8_t head[BLOCK_HEAD] = {0, (uint8_t)size, (uint8_t)(size >> 8), (uint8_t)~size, (uint8_t)(~size >> 8)};
    cursor_put_bytes(cursor, head, sizeof head);
}

static size_t block_size(const struct spdy_header *headers, size_t count)
{
    size_t size = 4;
    for (size_t i = 0; i < count; i++)
        size += 4 + strlen(headers[i].name) + 4 + strlen(headers[i].value);
    return size;
}

/* All header blocks of a connection are one zlib stream. An empty stored block ends each of ours, as zlib's
 * Z_SYNC_FLUSH does: only then an inflater hands out what came before. */
size_t spdy_put_syn_stream(uint8_t out[static SPDY_SYN_STREAM_MAX], uint32_t id, bool is_first,
                           const struct spdy_header *headers, size_t count)
{
    static const uint8_t zlib_head[] = {0x78, 0x01};
    struct cursor cursor = cursor_writer(out, SPDY_SYN_STREAM_MAX);
    size_t block = block_size(headers, count);
    size_t size = 10 + (is_first ? sizeof zlib_head : 0) + BLOCK_HEAD + block + BLOCK_HEAD;
    put_control_head(&cursor, SPDY_SYN_STREAM, size);
    cursor_put_u32(&cursor, id);
    cursor_put_u32(&cursor, 0); /* no associated stream */
    cursor_put_u16(&cursor, 0); /* priority, slot */
    if (is_first)
        cursor_put_bytes(&cursor, zlib_head, sizeof zlib_head);
    put_stored_head(&cursor, block);
    cursor_put_u32(&cursor, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        put_text(&cursor, headers[i].name);
        put_text(&cursor, headers[i].value);
    }
    put_stored_head(&cursor, 0);
    assert(cursor_ok(&cursor) && cursor.at == SPDY_HEAD_SIZE + size);
    return cursor.at;
}

void spdy_put_data_head(uint8_t out[static SPDY_HEAD_SIZE], uint32_t id, bool is_fin, size_t size)
{
    struct cursor cursor = cursor_writer(out, SPDY_HEAD_SIZE);
    cursor_put_u32(&cursor, id & STREAM_MASK);
    cursor_put_u32(&cursor, flags_and_size(is_fin ? FLAG_FIN : 0, size));
}

void spdy_put_ping(uint8_t out[static SPDY_PING_SIZE], uint32_t id)
{
    struct cursor cursor = cursor_writer(out, SPDY_PING_SIZE);
    put_control_head(&cursor, SPDY_PING, 4);
    cursor_put_u32(&cursor, id);
}

/* What the payload of a type has at least; SIZE_MAX: there is no such type. */
static size_t least_size(unsigned type)
{
    switch (type) {
    case SPDY_SYN_STREAM:
        return 10;
    case SPDY_SYN_REPLY:
    case SPDY_SETTINGS:
    case SPDY_PING:
    case SPDY_HEADERS:
        return 4;
    case SPDY_RST_STREAM:
    case SPDY_GOAWAY:
    case SPDY_WINDOW_UPDATE:
        return 8;
    default:
        return SIZE_MAX;
    }
}

int spdy_get_head(struct spdy_frame *frame, const uint8_t in[static SPDY_HEAD_SIZE])
{
    struct cursor cursor = cursor_reader(in, SPDY_HEAD_SIZE);
    uint32_t first = cursor_u32(&cursor), second = cursor_u32(&cursor);
    *frame = (struct spdy_frame){.is_fin = (second >> 24 & FLAG_FIN) != 0, .size = second & SPDY_DATA_MAX};
    if ((first >> 16 & CONTROL) == 0) {
        frame->stream = first;
        return 0;
    }
    unsigned type = first & 0xffff;
    if (first >> 16 != (CONTROL | VERSION) || frame->size > SPDY_CONTROL_MAX || frame->size < least_size(type))
        return -EPROTO;
    frame->type = (enum spdy_type)type;
    return 0;
}
