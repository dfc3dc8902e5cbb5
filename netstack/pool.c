#include "netstack/pool.h"

#include <stdint.h>
#include <string.h>

#include "common/mem.h"

/* The classes fit lwIP's habits: pcb and headers, small and middle segments, a whole packet of 65,000 bytes. */
static const uint32_t class_size[] = {128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 49152, 66560};
#define CLASSES KT_ARRAY_LEN(class_size)

struct block {
    union {
        struct block *next; /* while kept */
        size_t class;       /* while in use */
    };
    size_t size; /* what data holds */
    max_align_t data[];
};

/* Not in any struct of ours, because lwIP hands no context to its allocator. */
static struct {
    struct block *kept;
    size_t kept_bytes;
} classes[CLASSES];

static size_t class_of(size_t size)
{
    size_t i = 0;
    while (i < CLASSES && class_size[i] < size)
        i++;
    return i;
}

void *pool_alloc(size_t size)
{
    size_t class = class_of(size);
    struct block *block = class < CLASSES ? classes[class].kept : NULL;
    if (block != NULL) {
        classes[class].kept = block->next;
        classes[class].kept_bytes -= block->size;
    } else {
        size_t real = class < CLASSES ? class_size[class] : size;
        block = kt_realloc(NULL, sizeof *block + real); /* kt_calloc would zero it */
        if (block == NULL)
            return NULL;
        block->size = real;
    }
    block->class = class;
    return block->data;
}

void *pool_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    void *memory = pool_alloc(bytes);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

void pool_free(void *memory)
{
    if (memory == NULL)
        return;
    struct block *block = KT_CONTAINER_OF(memory, struct block, data);
    size_t class = block->class;
    if (class >= CLASSES || classes[class].kept_bytes + block->size > POOL_KEPT_BYTES_MAX) {
        kt_free(block);
        return;
    }
    block->next = classes[class].kept;
    classes[class].kept = block;
    classes[class].kept_bytes += block->size;
}

size_t pool_capacity(const void *memory)
{
    return KT_CONTAINER_OF(memory, const struct block, data)->size;
}

void pool_trim(void)
{
    for (size_t i = 0; i < CLASSES; i++) {
        while (classes[i].kept != NULL) {
            struct block *block = classes[i].kept;
            classes[i].kept = block->next;
            kt_free(block);
        }
        classes[i].kept_bytes = 0;
    }
}
