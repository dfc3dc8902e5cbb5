#include "common/mem.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The one exception to "no mutable globals": an allocator has no other place for a test's wish. */
static unsigned long fail_in;
static long live;

static bool may_fail_now(void)
{
    return fail_in > 0 && --fail_in == 0;
}

static void *counted(void *memory)
{
    live += memory != NULL;
    return memory;
}

void kt_mem_fail_nth(unsigned long nth)
{
    fail_in = nth;
}

long kt_mem_live(void)
{
    return live;
}

void *kt_calloc(size_t count, size_t size)
{
    return may_fail_now() ? NULL : counted(calloc(count, size));
}

void *kt_realloc(void *memory, size_t size)
{
    if (may_fail_now())
        return NULL;
    size = KT_MAX(size, 1); /* realloc() to 0 would free, and NULL means "no memory" */
    return memory == NULL ? counted(malloc(size)) : realloc(memory, size);
}

char *kt_strndup(const char *text, size_t size)
{
    size = strnlen(text, size);
    char *copy = kt_calloc(1, size + 1);
    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}

char *kt_strdup(const char *text)
{
    return kt_strndup(text, strlen(text));
}

char *kt_asprintf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = size < 0 ? NULL : kt_calloc(1, (size_t)size + 1);
    if (text == NULL)
        return NULL;
    va_start(args, format);
    (void)vsnprintf(text, (size_t)size + 1, format, args);
    va_end(args);
    return text;
}

void kt_free(void *memory)
{
    live -= memory != NULL;
    free(memory);
}

void kt_free_secret(void *memory, size_t size)
{
    if (memory != NULL)
        sodium_memzero(memory, size);
    kt_free(memory);
}
