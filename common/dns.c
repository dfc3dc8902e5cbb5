/* A name exists in two forms: struct name holds the wire form without compression (labels, each behind its length, and
 * the root's zero byte), and text is what the header promises. Names of records stay in wire form; only questions
 * become text.
 *
 * Compression (RFC 1035, 4.1.4) is where parsers of DNS die. Here a pointer must lead to a place before the labels that
 * are being read, so a chain of pointers only goes backwards; it may have one pointer for each label that a name can
 * have; and the name's size is counted over all of it. */
#include "common/dns.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/address.h"
#include "common/cursor.h"

#define NAME_MAX_WIRE 255 /* RFC 1035, 2.3.4 */
#define LABEL_MAX 63
#define JUMPS_MAX 128 /* a name has at most 127 labels */
#define CLASS_IN 1
#define UDP_OWN 1232 /* what we say that we take over UDP (dnsflagday.net/2020) */
#define CNAME_TTL 5  /* of a CNAME that we add, s: as short as CoreDNS answers for Services */

#define FLAG_QR 0x8000
#define FLAG_TC 0x0200
#define FLAG_RD 0x0100
#define FLAG_RA 0x0080
#define FLAG_AD 0x0020
#define MASK_OPCODE 0x7800
#define MASK_RCODE 0x000f

struct name {
    uint8_t bytes[NAME_MAX_WIRE];
    size_t size;
};

struct header {
    uint16_t id, flags, questions, answers, authorities, additionals;
};

struct record {
    struct name owner;
    uint16_t type, klass;
    uint32_t ttl;
    size_t at, end; /* of its data, in the message */
};

static void get_header(struct cursor *in, struct header *header)
{
    header->id = cursor_u16(in);
    header->flags = cursor_u16(in);
    header->questions = cursor_u16(in);
    header->answers = cursor_u16(in);
    header->authorities = cursor_u16(in);
    header->additionals = cursor_u16(in);
}

static void put_header(struct cursor *out, const struct header *header)
{
    cursor_put_u16(out, header->id);
    cursor_put_u16(out, header->flags);
    cursor_put_u16(out, header->questions);
    cursor_put_u16(out, header->answers);
    cursor_put_u16(out, header->authorities);
    cursor_put_u16(out, header->additionals);
}

static bool append_label(struct name *name, const uint8_t *label, size_t size)
{
    if (label == NULL || size > LABEL_MAX || name->size + 1 + size > sizeof name->bytes)
        return false;
    name->bytes[name->size] = (uint8_t)size;
    memcpy(name->bytes + name->size + 1, label, size);
    name->size += 1 + size;
    return true;
}

/* Reads a name; `in` is behind it afterwards, or failed. */
static void get_name(struct cursor *in, struct name *name)
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

static void put_name(struct cursor *out, const struct name *name)
{
    cursor_put_bytes(out, name->bytes, name->size);
}

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte + 'a' - 'A' : byte;
}

static bool is_host_byte(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
}

/* false: longer than DNS_NAME_MAX, which only a name with many escaped bytes can be. */
static bool to_text(char out[static DNS_NAME_MAX], const struct name *name)
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

static bool from_text(struct name *name, const char *text)
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

static void get_record(struct cursor *in, struct record *record)
{
    get_name(in, &record->owner);
    record->type = cursor_u16(in);
    record->klass = cursor_u16(in);
    record->ttl = cursor_u32(in);
    size_t size = cursor_u16(in);
    record->at = in->at;
    cursor_skip(in, size);
    record->end = in->at;
}

/* Where names are in a record's data: behind `bytes` bytes and `strings` character strings, `names` of them. RFC 1035,
 * and what RFC 3597, section 4, says a receiver must decompress, without the types that nobody serves (MD, MB, NXT...).
 */
struct layout {
    uint16_t type;
    uint8_t bytes, strings, names;
};

static const struct layout *layout_of(uint16_t type)
{
    static const struct layout layouts[] = {
        {.type = 2, .names = 1}, /* NS */
        {.type = DNS_CNAME, .names = 1},
        {.type = DNS_SOA, .names = 2},
        {.type = DNS_PTR, .names = 1},
        {.type = 15, .bytes = 2, .names = 1}, /* MX */
        {.type = 17, .names = 2},             /* RP */
        {.type = 18, .bytes = 2, .names = 1}, /* AFSDB */
        {.type = DNS_SRV, .bytes = 6, .names = 1},
        {.type = 35, .bytes = 4, .strings = 3, .names = 1}, /* NAPTR */
        {.type = 39, .names = 1},                           /* DNAME */
    };
    static const struct layout plain = {0};
    for (size_t i = 0; i < KT_ARRAY_LEN(layouts); i++) {
        if (layouts[i].type == type)
            return &layouts[i];
    }
    return &plain;
}

/* Writes a record's data with every name in full. false: the data is not what its type says. */
static bool put_data(struct cursor *out, const struct cursor *message, const struct record *record)
{
    struct cursor in =
        cursor_reader(message->data, record->end); /* names may begin before the data, none goes beyond it */
    cursor_seek(&in, record->at);
    const struct layout *layout = layout_of(record->type);
    cursor_skip(&in, layout->bytes);
    for (uint8_t i = 0; i < layout->strings; i++)
        cursor_skip(&in, cursor_u8(&in));
    if (!cursor_ok(&in))
        return false;
    cursor_put_bytes(out, message->data + record->at, in.at - record->at);
    for (uint8_t i = 0; i < layout->names; i++) {
        struct name name;
        get_name(&in, &name);
        put_name(out, &name);
    }
    size_t rest = cursor_left(&in);
    if (!cursor_ok(&in))
        return false;
    cursor_put_bytes(out, cursor_bytes(&in, rest), rest);
    return true;
}

static void put_record_head(struct cursor *out, const struct record *record)
{
    put_name(out, &record->owner);
    cursor_put_u16(out, record->type);
    cursor_put_u16(out, record->klass);
    cursor_put_u32(out, record->ttl);
}

/* Reads the next record and writes it without compression. `in` fails when the record is malformed, `out` when it is
 * full. */
static void copy_record(struct cursor *out, struct cursor *in)
{
    struct record record;
    get_record(in, &record);
    if (!cursor_ok(in))
        return;
    put_record_head(out, &record);
    size_t size_at = out->at;
    cursor_put_u16(out, 0);
    if (!put_data(out, in, &record)) {
        in->failed = true;
        return;
    }
    size_t end = out->at;
    cursor_seek(out, size_at);
    cursor_put_u16(out, (uint16_t)(end - size_at - 2));
    cursor_seek(out, end);
}

static size_t count_records(const struct header *header)
{
    return (size_t)header->answers + header->authorities + header->additionals;
}

/* The header and the one question; `in` is behind them. */
static int get_question(struct cursor *in, struct header *header, struct name *name, uint16_t *type, uint16_t *klass)
{
    get_header(in, header);
    if (!cursor_ok(in) || header->questions != 1 || (header->flags & MASK_OPCODE) != 0)
        return -EBADMSG;
    get_name(in, name);
    *type = cursor_u16(in);
    *klass = cursor_u16(in);
    return cursor_ok(in) ? 0 : -EBADMSG;
}

int dns_parse_query(struct dns_question *question, const uint8_t *message, size_t size)
{
    struct cursor in = cursor_reader(message, size);
    struct header header;
    struct name name;
    *question = (struct dns_question){.udp_size = DNS_UDP_MAX};
    int rc = get_question(&in, &header, &name, &question->type, &question->klass);
    if (rc != 0 || (header.flags & FLAG_QR) != 0 || !to_text(question->name, &name))
        return -EBADMSG;
    question->id = header.id;
    question->end = in.at;
    size_t options = 0;
    for (size_t left = count_records(&header); left > 0 && cursor_ok(&in); left--) {
        struct record record;
        get_record(&in, &record);
        if (!cursor_ok(&in) || record.type != DNS_OPT)
            continue;
        options++;
        question->udp_size = KT_MAX(record.klass, DNS_UDP_MAX);
    }
    return cursor_ok(&in) && options <= 1 ? 0 : -EBADMSG;
}

/* RFC 6891, 6.1.2 */
static void put_opt(struct cursor *out, uint16_t udp_size)
{
    const struct record opt = {.owner = {.bytes = {0}, .size = 1}, .type = DNS_OPT, .klass = udp_size};
    put_record_head(out, &opt);
    cursor_put_u16(out, 0);
}

static int finished(const struct cursor *out)
{
    return cursor_ok(out) && out->at <= DNS_MESSAGE_MAX ? (int)out->at : -EMSGSIZE;
}

int dns_put_query(uint8_t *out, size_t size, uint16_t id, const char *text, uint16_t type, uint16_t udp_size)
{
    struct name name;
    if (!from_text(&name, text))
        return -EINVAL;
    struct header header = {.id = id, .flags = FLAG_RD, .questions = 1, .additionals = udp_size != 0};
    struct cursor cursor = cursor_writer(out, size);
    put_header(&cursor, &header);
    put_name(&cursor, &name);
    cursor_put_u16(&cursor, type);
    cursor_put_u16(&cursor, CLASS_IN);
    if (udp_size != 0)
        put_opt(&cursor, udp_size);
    return finished(&cursor);
}

int dns_put_error(uint8_t *out, size_t size, const uint8_t *message, const struct dns_question *question,
                  enum dns_rcode rcode)
{
    bool has_edns = question->udp_size > DNS_UDP_MAX; /* then the answer has it too (RFC 6891, 6.1.1) */
    struct cursor in = cursor_reader(message, question->end);
    struct header header;
    get_header(&in, &header);
    uint16_t flags = (header.flags & FLAG_RD) | FLAG_QR | FLAG_RA | (uint16_t)rcode;
    header = (struct header){.id = question->id, .flags = flags, .questions = 1, .additionals = has_edns};
    struct cursor cursor = cursor_writer(out, size);
    put_header(&cursor, &header);
    size_t question_size = cursor_left(&in);
    cursor_put_bytes(&cursor, cursor_bytes(&in, question_size), question_size);
    if (has_edns)
        put_opt(&cursor, UDP_OWN);
    return finished(&cursor);
}

/* The smallest TTL of the answers, at most `ttl`. */
static uint32_t smallest_ttl(struct cursor in, const struct header *header, uint32_t ttl)
{
    for (uint16_t i = 0; i < header->answers && cursor_ok(&in); i++) {
        struct record record;
        get_record(&in, &record);
        ttl = cursor_ok(&in) ? KT_MIN(ttl, record.ttl) : ttl;
    }
    return ttl;
}

static void put_cname(struct cursor *out, const struct name *from, const struct name *to, uint32_t ttl)
{
    struct record record = {.owner = *from, .type = DNS_CNAME, .klass = CLASS_IN, .ttl = ttl};
    put_record_head(out, &record);
    cursor_put_u16(out, (uint16_t)to->size);
    put_name(out, to);
}

static bool is_same_name(const struct name *name, const char *text)
{
    char other[DNS_NAME_MAX];
    return to_text(other, name) && strcmp(other, text) == 0;
}

int dns_rewrite_answer(uint8_t *out, size_t size, const struct dns_question *question, const uint8_t *in,
                       size_t in_size)
{
    struct cursor reader = cursor_reader(in, in_size), writer = cursor_writer(out, size);
    struct header header;
    struct name asked, name;
    uint16_t type, klass;
    if (get_question(&reader, &header, &asked, &type, &klass) != 0 || (header.flags & FLAG_QR) == 0 ||
        !from_text(&name, question->name))
        return -EBADMSG;
    if ((header.flags & FLAG_TC) != 0) /* what follows may be cut anywhere; the asker comes again by TCP */
        header.answers = header.authorities = header.additionals = 0;
    bool is_negative = (header.flags & MASK_RCODE) != 0 && header.answers == 0;
    bool is_alias = !is_negative && (header.flags & FLAG_TC) == 0 && !is_same_name(&asked, question->name);
    if (is_alias && header.answers == UINT16_MAX)
        return -EMSGSIZE;

    size_t records = count_records(&header);
    uint32_t ttl = smallest_ttl(reader, &header, CNAME_TTL);
    header.id = question->id;
    header.flags &= (uint16_t)~FLAG_AD; /* nobody signed what we add */
    header.answers += is_alias;
    put_header(&writer, &header);
    put_name(&writer, &name);
    cursor_put_u16(&writer, question->type);
    cursor_put_u16(&writer, question->klass);
    if (is_alias)
        put_cname(&writer, &name, &asked, ttl);
    for (size_t i = 0; i < records && cursor_ok(&reader) && cursor_ok(&writer); i++)
        copy_record(&writer, &reader);
    return cursor_ok(&reader) ? finished(&writer) : -EBADMSG;
}

int dns_parse_answer(struct dns_answer *answer, const uint8_t *message, size_t size)
{
    struct cursor in = cursor_reader(message, size);
    struct header header;
    struct name name;
    uint16_t klass;
    *answer = (struct dns_answer){0};
    int rc = get_question(&in, &header, &name, &answer->type, &klass);
    if (rc != 0 || (header.flags & FLAG_QR) == 0 || !to_text(answer->name, &name))
        return -EBADMSG;
    answer->id = header.id;
    answer->rcode = (enum dns_rcode)(header.flags & MASK_RCODE);
    answer->is_truncated = (header.flags & FLAG_TC) != 0;
    if (answer->is_truncated) /* servers cut in the middle of a record and leave the counts as they were */
        return 0;
    answer->records = header.answers;
    uint8_t nowhere[1];
    for (size_t left = count_records(&header); left > 0 && cursor_ok(&in); left--) {
        struct cursor out = cursor_writer(nowhere, 0);
        copy_record(&out, &in);
    }
    return cursor_ok(&in) ? 0 : -EBADMSG;
}

int dns_first_address(struct address *out, const uint8_t *message, size_t size)
{
    struct cursor in = cursor_reader(message, size);
    struct header header;
    struct name name;
    uint16_t type, klass;
    if (get_question(&in, &header, &name, &type, &klass) != 0 || (header.flags & FLAG_QR) == 0)
        return -EBADMSG;
    for (uint16_t i = 0; i < header.answers; i++) {
        struct record record;
        get_record(&in, &record);
        if (!cursor_ok(&in))
            return (header.flags & FLAG_TC) != 0 ? -ENOENT : -EBADMSG;
        if (record.klass != CLASS_IN || (record.type != DNS_A && record.type != DNS_AAAA))
            continue;
        enum address_family family = record.type == DNS_A ? ADDRESS_V4 : ADDRESS_V6;
        if (record.end - record.at != (family == ADDRESS_V4 ? 4 : 16))
            return -EBADMSG;
        *out = address_from_bytes(family, message + record.at);
        return 0;
    }
    return -ENOENT;
}

size_t dns_truncate(uint8_t *message, size_t size, const struct dns_question *question, size_t limit)
{
    if (size <= limit || size < question->end)
        return size;
    struct cursor in = cursor_reader(message, size), out = cursor_writer(message, size);
    struct header header;
    get_header(&in, &header);
    header = (struct header){.id = header.id, .flags = header.flags | FLAG_TC, .questions = 1};
    put_header(&out, &header);
    return question->end;
}

bool dns_is_under(const char *name, const char *domain)
{
    size_t n = strlen(name), d = strlen(domain);
    if (d == 0)
        return true;
    if (n < d || strcmp(name + n - d, domain) != 0)
        return false;
    return n == d || name[n - d - 1] == '.';
}

int dns_dots(const char *name)
{
    int dots = 0;
    for (; *name != '\0'; name++)
        dots += *name == '.';
    return dots;
}
