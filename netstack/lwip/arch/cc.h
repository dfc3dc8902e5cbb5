/* lwIP's view of the compiler and of our allocator. */
#ifndef LWIP_ARCH_CC_H
#define LWIP_ARCH_CC_H

#include <stddef.h>

#define LWIP_TIMEVAL_PRIVATE 0
#define LWIP_NO_CTYPE_H 0
#define LWIP_ERRNO_STDINCLUDE 1

void kt_lwip_assert(const char *text) __attribute__((noreturn));
#define LWIP_PLATFORM_ASSERT(text) kt_lwip_assert(text)
#define LWIP_PLATFORM_DIAG(x)

void *pool_alloc(size_t size);
void *pool_calloc(size_t count, size_t size);
void pool_free(void *memory);

#endif
