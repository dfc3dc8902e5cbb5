/* A bounds-checked position in bytes: the only way in which ktvpn reads and writes wire formats.
 *
 * A cursor that was ever asked for more than it holds is `failed` for good: every later get returns 0 (or NULL), every
 * later put writes nothing. So a parser reads all its fields and asks cursor_ok() once, at the end. Big-endian. */
#ifndef KTVPN_COMMON_CURSOR_H
#define KTVPN_COMMON_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

struct cursor {
    const uint8_t *data;
    uint8_t *out; /* the same memory when it is written to, else NULL */
    size_t size, at;
    bool failed;
};

struct cursor cursor_reader(const void *data, size_t size);
struct cursor cursor_writer(void *data, size_t size);

KT_MUST_USE bool cursor_ok(const struct cursor *cursor);   /* nothing was asked beyond the end */
KT_MUST_USE bool cursor_done(const struct cursor *cursor); /* ok, and all is read */
size_t cursor_left(const struct cursor *cursor);

uint8_t cursor_u8(struct cursor *cursor);
uint16_t cursor_u16(struct cursor *cursor);
uint32_t cursor_u32(struct cursor *cursor);
uint64_t cursor_u64(struct cursor *cursor);
/* A view of the next `size` bytes, inside the cursor's memory; NULL when there are fewer (and of no memory at all). */
const uint8_t *cursor_bytes(struct cursor *cursor, size_t size);
/* Copies them; a failed cursor leaves zeros. */
void cursor_copy(struct cursor *cursor, void *out, size_t size);
void cursor_skip(struct cursor *cursor, size_t size);
void cursor_seek(struct cursor *cursor, size_t at); /* fails beyond the end */

void cursor_put_u8(struct cursor *cursor, uint8_t value);
void cursor_put_u16(struct cursor *cursor, uint16_t value);
void cursor_put_u32(struct cursor *cursor, uint32_t value);
void cursor_put_u64(struct cursor *cursor, uint64_t value);
void cursor_put_bytes(struct cursor *cursor, const void *bytes, size_t size);

#endif
