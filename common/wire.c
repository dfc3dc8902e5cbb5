#include "common/wire.h"

#include <errno.h>
#include <string.h>

#include "common/cursor.h"

void wire_put_hello(uint8_t out[static WIRE_HELLO_SIZE], const struct wire_hello *hello)
{
    struct cursor cursor = cursor_writer(out, WIRE_HELLO_SIZE);
    cursor_put_bytes(&cursor, WIRE_MAGIC, WIRE_MAGIC_SIZE);
    cursor_put_u16(&cursor, hello->version);
    cursor_put_u32(&cursor, hello->features);
    cursor_put_bytes(&cursor, hello->random, sizeof hello->random);
}

int wire_get_hello(struct wire_hello *hello, const uint8_t in[static WIRE_HELLO_SIZE])
{
    struct cursor cursor = cursor_reader(in, WIRE_HELLO_SIZE);
    const uint8_t *magic = cursor_bytes(&cursor, WIRE_MAGIC_SIZE);
    if (memcmp(magic, WIRE_MAGIC, WIRE_MAGIC_SIZE) != 0)
        return -EPROTO;
    hello->version = cursor_u16(&cursor);
    hello->features = cursor_u32(&cursor);
    cursor_copy(&cursor, hello->random, sizeof hello->random);
    return hello->version == WIRE_VERSION ? 0 : -EPROTONOSUPPORT;
}

/* An address: its family as one byte, then 0, 4 or 16 bytes. */
static void put_address(struct cursor *cursor, const struct address *address)
{
    cursor_put_u8(cursor, address->family);
    cursor_put_bytes(cursor, address->bytes, address_size(address));
}

static void get_address(struct cursor *cursor, struct address *address)
{
    *address = (struct address){.family = cursor_u8(cursor)};
    if (address->family != ADDRESS_NONE && address->family != ADDRESS_V4 && address->family != ADDRESS_V6)
        cursor->failed = true;
    else
        cursor_copy(cursor, address->bytes, address_size(address));
}

static bool is_printable(uint8_t byte)
{
    return byte >= 0x20 && byte <= 0x7e;
}

/* A text: its length as one byte, then printable ASCII. What is not (a user's name can be anything) becomes "?",
 * because the other side would refuse it. */
static void put_text(struct cursor *cursor, const char *text)
{
    size_t size = KT_MIN(strlen(text), 255);
    cursor_put_u8(cursor, (uint8_t)size);
    for (size_t i = 0; i < size; i++)
        cursor_put_u8(cursor, is_printable((uint8_t)text[i]) ? (uint8_t)text[i] : '?');
}

static void get_text(struct cursor *cursor, char *out, size_t max)
{
    size_t size = cursor_u8(cursor);
    const uint8_t *bytes = cursor_bytes(cursor, size);
    out[0] = '\0';
    if (bytes == NULL || size > max) {
        cursor->failed = true;
        return;
    }
    for (size_t i = 0; i < size; i++) {
        if (!is_printable(bytes[i]))
            cursor->failed = true;
        out[i] = (char)bytes[i];
    }
    out[size] = '\0';
}

static int encoded(const struct cursor *cursor)
{
    return cursor_ok(cursor) ? (int)cursor->at : -EMSGSIZE;
}

static int decoded(const struct cursor *cursor)
{
    return cursor_done(cursor) ? 0 : -EBADMSG;
}

int wire_put_open(uint8_t *out, size_t size, const struct wire_open *open)
{
    struct cursor cursor = cursor_writer(out, size);
    cursor_put_u16(&cursor, open->mtu);
    put_address(&cursor, &open->v4);
    put_address(&cursor, &open->v6);
    cursor_put_bytes(&cursor, open->run, sizeof open->run);
    put_text(&cursor, open->name);
    cursor_put_u8(&cursor, open->slot);
    cursor_put_u8(&cursor, open->is_lost);
    return encoded(&cursor);
}

int wire_get_open(struct wire_open *open, const uint8_t *body, size_t size)
{
    struct cursor cursor = cursor_reader(body, size);
    memset(open, 0, sizeof *open);
    open->mtu = cursor_u16(&cursor);
    get_address(&cursor, &open->v4);
    get_address(&cursor, &open->v6);
    cursor_copy(&cursor, open->run, sizeof open->run);
    get_text(&cursor, open->name, WIRE_NAME_MAX);
    open->slot = cursor_u8(&cursor);
    uint8_t is_lost = cursor_u8(&cursor);
    open->is_lost = is_lost != 0;
    bool is_wrong =
        open->mtu < 576 || open->mtu > WIRE_MTU || open->v4.family == ADDRESS_V6 || open->v6.family == ADDRESS_V4;
    is_wrong |= open->slot >= WIRE_SLOTS_MAX || is_lost > 1;
    return is_wrong ? -EBADMSG : decoded(&cursor);
}

int wire_put_use(uint8_t *out, size_t size, const struct wire_use *use)
{
    struct cursor cursor = cursor_writer(out, size);
    cursor_put_u32(&cursor, use->sequence);
    cursor_put_u8(&cursor, use->slots);
    return encoded(&cursor);
}

int wire_get_use(struct wire_use *use, const uint8_t *body, size_t size)
{
    struct cursor cursor = cursor_reader(body, size);
    use->sequence = cursor_u32(&cursor);
    use->slots = cursor_u8(&cursor);
    bool is_wrong = use->slots == 0 || use->slots >> WIRE_SLOTS_MAX != 0;
    return is_wrong ? -EBADMSG : decoded(&cursor);
}

int wire_put_accept(uint8_t *out, size_t size, const struct wire_accept *accept)
{
    struct cursor cursor = cursor_writer(out, size);
    cursor_put_u16(&cursor, accept->mtu);
    cursor_put_u32(&cursor, accept->abilities);
    cursor_put_u32(&cursor, accept->idle_ms);
    put_address(&cursor, &accept->pod);
    cursor_put_u8(&cursor, accept->servers);
    for (size_t i = 0; i < accept->servers; i++)
        put_address(&cursor, &accept->server[i]);
    cursor_put_u8(&cursor, accept->searches);
    for (size_t i = 0; i < accept->searches; i++)
        put_text(&cursor, accept->search[i]);
    return encoded(&cursor);
}

int wire_get_accept(struct wire_accept *accept, const uint8_t *body, size_t size)
{
    struct cursor cursor = cursor_reader(body, size);
    memset(accept, 0, sizeof *accept);
    accept->mtu = cursor_u16(&cursor);
    accept->abilities = cursor_u32(&cursor);
    accept->idle_ms = cursor_u32(&cursor);
    get_address(&cursor, &accept->pod);
    accept->servers = cursor_u8(&cursor);
    if (accept->servers > WIRE_SERVERS_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < accept->servers; i++)
        get_address(&cursor, &accept->server[i]);
    accept->searches = cursor_u8(&cursor);
    if (accept->searches > WIRE_SEARCH_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < accept->searches; i++)
        get_text(&cursor, accept->search[i], WIRE_DOMAIN_MAX);
    return accept->mtu < 576 || accept->mtu > WIRE_MTU ? -EBADMSG : decoded(&cursor);
}

int wire_put_refuse(uint8_t *out, size_t size, const struct wire_refuse *refuse)
{
    struct cursor cursor = cursor_writer(out, size);
    cursor_put_u8(&cursor, refuse->reason);
    put_text(&cursor, refuse->text);
    return encoded(&cursor);
}

int wire_get_refuse(struct wire_refuse *refuse, const uint8_t *body, size_t size)
{
    struct cursor cursor = cursor_reader(body, size);
    memset(refuse, 0, sizeof *refuse);
    refuse->reason = cursor_u8(&cursor);
    get_text(&cursor, refuse->text, WIRE_TEXT_MAX);
    bool is_wrong = refuse->reason < WIRE_REASON_BYE || refuse->reason > WIRE_REASON_TAKEN;
    return is_wrong ? -EBADMSG : decoded(&cursor);
}
