/* The one place that asks for heap memory, so that a test can make the Nth request fail.
 *
 * Everything returned is freed with kt_free() by whoever the caller's header names. NULL means "no memory". */
#ifndef KTVPN_COMMON_MEM_H
#define KTVPN_COMMON_MEM_H

#include <stddef.h>

#include "common/compiler.h"

KT_MUST_USE void *kt_calloc(size_t count, size_t size); /* zeroed; checks the product */
KT_MUST_USE void *kt_realloc(void *memory, size_t size);
KT_MUST_USE char *kt_strdup(const char *text);
KT_MUST_USE char *kt_strndup(const char *text, size_t size);
KT_MUST_USE char *kt_asprintf(const char *format, ...) KT_PRINTF(1, 2);
void kt_free(void *memory);
/* Wipes `size` bytes first. NULL is fine. */
void kt_free_secret(void *memory, size_t size);

/* Tests only: the `nth` request from now (1 is the next one) and no other fails; 0 turns it off. */
void kt_mem_fail_nth(unsigned long nth);
/* Requests that were answered and not yet freed. */
long kt_mem_live(void);

#endif
