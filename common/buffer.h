/* Bytes that come in at the tail and leave at the head, in one piece of memory that the owner provides.
 *
 * It stays linear, so that a record can be read and written in place: what is left moves to the front when the tail
 * gets short, which for bulk traffic is once in many records. */
#ifndef KTVPN_COMMON_BUFFER_H
#define KTVPN_COMMON_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

struct buffer {
    uint8_t *data;
    size_t capacity, start, end; /* start..end are the bytes inside */
};

/* Bytes inside. */
size_t buffer_size(const struct buffer *buffer);

/* At least `size` free bytes behind those inside, or NULL. May move the bytes; the owner adds to `end` what it wrote.
 */
uint8_t *buffer_tail(struct buffer *buffer, size_t size);

/* The next `size` bytes, which leave the buffer but stay readable until the next buffer_tail(); NULL when they are not
 * there yet. */
uint8_t *buffer_take(struct buffer *buffer, size_t size);

/* Copies them to the tail, for which there must be room. */
void buffer_put(struct buffer *buffer, const void *data, size_t size);

#endif
