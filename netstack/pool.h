/* Memory for packets and connections: size classes whose freed blocks are kept for the next request.
 *
 * lwIP asks for memory for each segment and gives it back with its ACK; with musl's malloc each 64 KiB block would be a
 * fresh mapping. Blocks come from common/mem.h, so a test can make the Nth fail. One for the process (lwIP passes no
 * context). */
#ifndef KTVPN_NETSTACK_POOL_H
#define KTVPN_NETSTACK_POOL_H

#include <stddef.h>

#include "common/compiler.h"

#ifdef __SANITIZE_ADDRESS__
#define POOL_KEPT_BYTES_MAX 0 /* so that the sanitizer sees a use after free */
#else
#define POOL_KEPT_BYTES_MAX (8 * 1024 * 1024) /* freed blocks of one class that are kept */
#endif

/* Not zeroed; aligned for anything. NULL: no memory. */
KT_MUST_USE void *pool_alloc(size_t size);
KT_MUST_USE void *pool_calloc(size_t count, size_t size);
/* NULL is fine. */
void pool_free(void *memory);
/* How much pool_alloc(size) really holds. */
size_t pool_capacity(const void *memory);
/* Gives all kept blocks back. */
void pool_trim(void);

#endif
