#include "client/names/names_known.h"

#include <errno.h>
#include <string.h>

#include "common/mem.h"

#define FIRST_CAPACITY 64

static int compare(const char *known, const char *name, size_t size)
{
    int order = strncmp(known, name, size);
    return order != 0 ? order : known[size] != '\0';
}

/* The place of `name`: the first entry that is not smaller. */
static size_t place_of(const struct names_known *known, const char *name, size_t size)
{
    size_t low = 0, high = known->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(known->name[middle], name, size) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const struct names_known *known, size_t place, const char *name, size_t size)
{
    return place < known->count && compare(known->name[place], name, size) == 0;
}

static bool is_label(const char *name)
{
    size_t size = strnlen(name, NAMES_LABEL_MAX + 1);
    return size > 0 && size <= NAMES_LABEL_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
}

static int grow(struct names_known *known)
{
    if (known->count < known->capacity)
        return 0;
    size_t capacity = known->capacity ? 2 * known->capacity : FIRST_CAPACITY;
    char **name = kt_realloc(known->name, capacity * sizeof *name);
    if (name == NULL)
        return -ENOMEM;
    known->name = name;
    known->capacity = capacity;
    return 0;
}

void names_known_deinit(struct names_known *known)
{
    for (size_t i = 0; i < known->count; i++)
        kt_free(known->name[i]);
    kt_free(known->name);
    *known = (struct names_known){0};
}

int names_known_add(struct names_known *known, const char *name, size_t max)
{
    if (!is_label(name))
        return -EINVAL;
    size_t place = place_of(known, name, strlen(name));
    if (is_at(known, place, name, strlen(name)))
        return 0;
    if (known->count >= max)
        return -E2BIG;
    if (grow(known) != 0)
        return -ENOMEM;
    char *copy = kt_strdup(name);
    if (copy == NULL)
        return -ENOMEM;
    memmove(known->name + place + 1, known->name + place, (known->count - place) * sizeof *known->name);
    known->name[place] = copy;
    known->count++;
    return 0;
}

void names_known_remove(struct names_known *known, const char *name)
{
    size_t place = place_of(known, name, strlen(name));
    if (!is_at(known, place, name, strlen(name)))
        return;
    kt_free(known->name[place]);
    known->count--;
    memmove(known->name + place, known->name + place + 1, (known->count - place) * sizeof *known->name);
}

bool names_known_has(const struct names_known *known, const char *name, size_t size)
{
    return is_at(known, place_of(known, name, size), name, size);
}
