#include "client/kube/body.h"

#include <string.h>

#include "common/mem.h"

#define FIRST_BYTES 4096

static bool reserve(struct body *body, size_t more)
{
    size_t need = body->size + more + 1, capacity = body->capacity == 0 ? FIRST_BYTES : body->capacity;
    while (capacity < need)
        capacity *= 2;
    if (capacity == body->capacity)
        return true;
    char *data = kt_realloc(body->data, capacity);
    if (data == NULL)
        return false;
    body->data = data;
    body->capacity = capacity;
    return true;
}

bool body_append(struct body *body, const void *data, size_t size, size_t max)
{
    if (body->size > max || size > max - body->size || !reserve(body, size))
        return false;
    memcpy(body->data + body->size, data, size);
    body->size += size;
    body->data[body->size] = '\0';
    return true;
}

bool body_next_line(struct body *body, bool is_whole, const char **line, size_t *size)
{
    if (body->data == NULL)
        return false;
    const char *newline = memchr(body->data + body->scanned, '\n', body->size - body->scanned);
    bool is_last = newline == NULL && is_whole && body->taken < body->size;
    body->scanned = body->size;
    if (newline == NULL && !is_last)
        return false;
    size_t end = is_last ? body->size : (size_t)(newline - body->data);
    *line = body->data + body->taken;
    *size = end - body->taken;
    body->taken = body->scanned = is_last ? end : end + 1;
    return true;
}

bool body_has_news(const struct body *body)
{
    return body->scanned < body->size;
}

void body_tidy(struct body *body)
{
    if (body->taken == 0)
        return;
    memmove(body->data, body->data + body->taken, body->size - body->taken);
    body->size -= body->taken;
    body->scanned -= body->taken;
    body->taken = 0;
}

void body_deinit(struct body *body)
{
    kt_free(body->data);
    *body = (struct body){0};
}
