/* Compression (RFC 1035, 4.1.4) is where parsers of DNS die. Here a pointer must lead to a place before the labels that
 * are being read, so a chain of pointers only goes backwards; it may have one pointer for each label that a name can
 * have; and the name's size is counted over all of it.
 *
 * Written names are compressed too, because an answer that a server sent in 60 KB has three times as many bytes
 * without, more than a message can have. The table holds the offsets of all names' ends that have been written in full,
 * and forgets what finds no place within a few steps: no answer can make it slow. */
#include "common/dns_name.h"

#include <stdio.h>
#include <string.h>

#define LABEL_MAX 63
#define JUMPS_MAX 128 /* a name has at most 127 labels */
#define POINTER 0xc000
#define POINTER_MAX 0x3fff
#define SEEN_STEPS 8

static bool append_label(struct dns_name *name, const uint8_t *label, size_t size)
{
    if (label == NULL || size > LABEL_MAX || name->size + 1 + size > sizeof name->bytes)
        return false;
    name->bytes[name->size] = (uint8_t)size;
    memcpy(name->bytes + name->size + 1, label, size);
    name->size += 1 + size;
    return true;
}

void dns_name_get(struct cursor *in, struct dns_name *name)
{
    struct cursor at = *in;
    size_t begin = in->at, jumps = 0; /* of the labels that are being read */
    name->size = 0;
    for (;;) {
        uint8_t head = cursor_u8(&at);
        if (head >= 0xc0) {
            size_t to = (size_t)(head & 0x3f) << 8 | cursor_u8(&at);
            if (jumps++ == 0)
                *in = at;
            if (to >= begin || to < DNS_HEADER_SIZE || jumps > JUMPS_MAX)
                break;
            cursor_seek(&at, to);
            begin = to;
        } else if (!append_label(name, cursor_bytes(&at, head), head)) {
            break;
        } else if (head == 0) {
            if (jumps == 0)
                *in = at;
            return;
        }
    }
    in->failed = true;
}

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte + 'a' - 'A' : byte;
}

static bool is_host_byte(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
}

bool dns_name_to_text(char out[static DNS_NAME_MAX], const struct dns_name *name)
{
    size_t at = 0, label_end = 0;
    for (size_t i = 0; i + 1 < name->size; i++) { /* not the root's byte */
        char text[8] = "";
        uint8_t byte = name->bytes[i];
        if (i == label_end) { /* the next label's length */
            label_end += 1 + (size_t)byte;
            (void)snprintf(text, sizeof text, "%s", i == 0 ? "" : ".");
        } else {
            (void)snprintf(text, sizeof text, is_host_byte(lower(byte)) ? "%c" : "\\%03u", lower(byte));
        }
        size_t size = strlen(text);
        if (at + size >= DNS_NAME_MAX)
            return false;
        memcpy(out + at, text, size);
        at += size;
    }
    out[at] = '\0';
    return true;
}

/* The byte at `*text`, with "\DDD" read as one, and moves behind it; -1 when it is none. */
static int text_byte(const char **text)
{
    const char *t = *text;
    if (*t != '\\') {
        *text += 1;
        return (uint8_t)*t;
    }
    int value = 0;
    for (int i = 1; i <= 3; i++) {
        if (t[i] < '0' || t[i] > '9')
            return -1;
        value = 10 * value + t[i] - '0';
    }
    *text += 4;
    return value <= 255 ? value : -1;
}

bool dns_name_from_text(struct dns_name *name, const char *text)
{
    name->size = 0;
    while (*text != '\0') {
        uint8_t label[LABEL_MAX];
        size_t size = 0;
        while (*text != '\0' && *text != '.') {
            int byte = text_byte(&text);
            if (byte < 0 || size == sizeof label)
                return false;
            label[size++] = (uint8_t)byte;
        }
        if (size == 0 || !append_label(name, label, size))
            return false;
        if (*text == '.' && *++text == '\0')
            return false;
    }
    return append_label(name, (const uint8_t *)"", 0);
}

static size_t slot_of(const uint8_t *bytes, size_t size)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash % DNS_NAME_SEEN_MAX;
}

/* Is what stands at `at` of the message that was written so far the name in `bytes`? */
static bool stands_at(const struct cursor *out, size_t at, const uint8_t *bytes, size_t size)
{
    struct cursor in = cursor_reader(out->data, out->at);
    struct dns_name there;
    cursor_seek(&in, at);
    dns_name_get(&in, &there);
    return cursor_ok(&in) && there.size == size && memcmp(there.bytes, bytes, size) == 0;
}

/* 0: not there. */
static uint16_t find_seen(const struct cursor *out, const struct dns_name_seen *seen, const uint8_t *bytes, size_t size)
{
    size_t slot = slot_of(bytes, size);
    for (size_t i = 0; i < SEEN_STEPS; i++) {
        uint16_t at = seen->at[(slot + i) % DNS_NAME_SEEN_MAX];
        if (at == 0 || stands_at(out, at, bytes, size))
            return at;
    }
    return 0;
}

static void add_seen(struct dns_name_seen *seen, const uint8_t *bytes, size_t size, size_t at)
{
    size_t slot = slot_of(bytes, size);
    for (size_t i = 0; at <= POINTER_MAX && i < SEEN_STEPS; i++) {
        uint16_t *place = &seen->at[(slot + i) % DNS_NAME_SEEN_MAX];
        if (*place != 0)
            continue;
        *place = (uint16_t)at;
        return;
    }
}

/* The first `size` bytes of the name have been written at `begin`. */
static void learn(const struct cursor *out, struct dns_name_seen *seen, const struct dns_name *name, size_t size,
                  size_t begin)
{
    for (size_t i = 0; cursor_ok(out) && i < size; i += 1 + (size_t)name->bytes[i])
        add_seen(seen, name->bytes + i, name->size - i, begin + i);
}

void dns_name_put(struct cursor *out, struct dns_name_seen *seen, const struct dns_name *name)
{
    size_t begin = out->at;
    cursor_put_bytes(out, name->bytes, name->size);
    if (seen != NULL)
        learn(out, seen, name, name->size - 1, begin);
}

void dns_name_put_short(struct cursor *out, struct dns_name_seen *seen, const struct dns_name *name)
{
    size_t begin = out->at, own = 0; /* bytes of labels that stand nowhere yet */
    uint16_t pointer = 0;
    while (name->bytes[own] != 0) {
        pointer = find_seen(out, seen, name->bytes + own, name->size - own);
        if (pointer != 0)
            break;
        own += 1 + (size_t)name->bytes[own];
    }
    cursor_put_bytes(out, name->bytes, own);
    if (pointer != 0)
        cursor_put_u16(out, POINTER | pointer);
    else
        cursor_put_u8(out, 0);
    learn(out, seen, name, own, begin);
}
