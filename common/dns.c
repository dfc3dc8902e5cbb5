#include "common/dns.h"

#include <errno.h>
#include <string.h>

#include "common/address.h"
#include "common/cursor.h"
#include "common/dns_name.h"

#define CLASS_IN 1
#define OPT_SIZE 11  /* of one without options */
#define UDP_OWN 1232 /* what we say that we take over UDP (dnsflagday.net/2020) */
#define CNAME_TTL 5  /* of a CNAME that we add, s: as short as CoreDNS answers for Services */

#define FLAG_QR 0x8000
#define FLAG_TC 0x0200
#define FLAG_RD 0x0100
#define FLAG_RA 0x0080
#define FLAG_AD 0x0020
#define MASK_OPCODE 0x7800
#define MASK_RCODE 0x000f
#define OPT_DO 0x8000u /* of the TTL: RFC 6891, 6.1.3 */

struct header {
    uint16_t id, flags, questions, answers, authorities, additionals;
};

struct record {
    struct dns_name owner;
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

static void get_record(struct cursor *in, struct record *record)
{
    dns_name_get(in, &record->owner);
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

/* RFC 3597, section 4: only the types of RFC 1035 may have compressed names. `seen` NULL: nothing is compressed. */
static void put_name(struct cursor *out, struct dns_name_seen *seen, const struct dns_name *name, uint16_t type)
{
    if (seen != NULL && type < 16)
        dns_name_put_short(out, seen, name);
    else
        dns_name_put(out, seen, name);
}

/* Writes a record's data. false: the data is not what its type says. */
static bool put_data(struct cursor *out, struct dns_name_seen *seen, const struct cursor *message,
                     const struct record *record)
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
        struct dns_name name;
        dns_name_get(&in, &name);
        if (!cursor_ok(&in))
            return false;
        put_name(out, seen, &name, record->type);
    }
    size_t rest = cursor_left(&in);
    if (!cursor_ok(&in))
        return false;
    cursor_put_bytes(out, cursor_bytes(&in, rest), rest);
    return true;
}

static void put_record_head(struct cursor *out, struct dns_name_seen *seen, const struct record *record)
{
    put_name(out, seen, &record->owner, 0);
    cursor_put_u16(out, record->type);
    cursor_put_u16(out, record->klass);
    cursor_put_u32(out, record->ttl);
}

/* Reads the next record and writes it with compression of our own. `in` fails when the record is malformed, `out` when
 * it is full. */
static void copy_record(struct cursor *out, struct dns_name_seen *seen, struct cursor *in)
{
    struct record record;
    get_record(in, &record);
    if (!cursor_ok(in))
        return;
    put_record_head(out, seen, &record);
    size_t size_at = out->at;
    cursor_put_u16(out, 0);
    if (!put_data(out, seen, in, &record)) {
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
static int get_question(struct cursor *in, struct header *header, struct dns_name *name, uint16_t *type,
                        uint16_t *klass)
{
    get_header(in, header);
    if (!cursor_ok(in) || header->questions != 1 || (header->flags & MASK_OPCODE) != 0)
        return -EBADMSG;
    dns_name_get(in, name);
    *type = cursor_u16(in);
    *klass = cursor_u16(in);
    return cursor_ok(in) ? 0 : -EBADMSG;
}

int dns_parse_query(struct dns_question *question, const uint8_t *message, size_t size)
{
    struct cursor in = cursor_reader(message, size);
    struct header header;
    struct dns_name name;
    *question = (struct dns_question){.udp_size = DNS_UDP_MAX};
    int rc = get_question(&in, &header, &name, &question->type, &question->klass);
    if (rc != 0 || (header.flags & FLAG_QR) != 0 || !dns_name_to_text(question->name, &name))
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
        question->has_edns = true;
        question->edns_version = (uint8_t)(record.ttl >> 16);
        question->is_dnssec = (record.ttl & OPT_DO) != 0;
        question->udp_size = KT_MAX(record.klass, DNS_UDP_MAX);
    }
    return cursor_ok(&in) && options <= 1 ? 0 : -EBADMSG;
}

/* RFC 6891, 6.1.2 */
static void put_opt(struct cursor *out, uint16_t udp_size, uint32_t ttl)
{
    const struct record opt = {.owner = {.bytes = {0}, .size = 1}, .type = DNS_OPT, .klass = udp_size, .ttl = ttl};
    put_record_head(out, NULL, &opt);
    cursor_put_u16(out, 0);
}

/* Of an answer of ours: the upper bits of `rcode`, and DO as it was asked (RFC 3225, 3). */
static void put_answer_opt(struct cursor *out, const struct dns_question *question, enum dns_rcode rcode)
{
    put_opt(out, UDP_OWN, (uint32_t)rcode >> 4 << 24 | (question->is_dnssec ? OPT_DO : 0));
}

static int finished(const struct cursor *out)
{
    return cursor_ok(out) && out->at <= DNS_MESSAGE_MAX ? (int)out->at : -EMSGSIZE;
}

int dns_put_query(uint8_t *out, size_t size, uint16_t id, const char *text, uint16_t type, uint16_t udp_size)
{
    struct dns_name name;
    if (!dns_name_from_text(&name, text))
        return -EINVAL;
    struct header header = {.id = id, .flags = FLAG_RD, .questions = 1, .additionals = udp_size != 0};
    struct cursor cursor = cursor_writer(out, size);
    put_header(&cursor, &header);
    dns_name_put(&cursor, NULL, &name);
    cursor_put_u16(&cursor, type);
    cursor_put_u16(&cursor, CLASS_IN);
    if (udp_size != 0)
        put_opt(&cursor, udp_size, 0);
    return finished(&cursor);
}

int dns_rename_query(uint8_t *out, size_t size, const struct dns_question *question, const char *text,
                     const uint8_t *in, size_t in_size)
{
    struct cursor reader = cursor_reader(in, in_size), writer = cursor_writer(out, size);
    struct header header;
    struct dns_name name;
    if (!dns_name_from_text(&name, text))
        return -EINVAL;
    get_header(&reader, &header);
    cursor_seek(&reader, question->end);
    put_header(&writer, &header);
    dns_name_put(&writer, NULL, &name);
    cursor_put_u16(&writer, question->type);
    cursor_put_u16(&writer, question->klass);
    for (size_t left = count_records(&header); left > 0 && cursor_ok(&reader) && cursor_ok(&writer); left--)
        copy_record(&writer, NULL, &reader);
    return cursor_ok(&reader) ? finished(&writer) : -EBADMSG;
}

int dns_put_error(uint8_t *out, size_t size, const uint8_t *message, const struct dns_question *question,
                  enum dns_rcode rcode)
{
    struct cursor in = cursor_reader(message, question->end);
    struct header header;
    get_header(&in, &header);
    uint16_t flags = (header.flags & FLAG_RD) | FLAG_QR | FLAG_RA | ((uint16_t)rcode & MASK_RCODE);
    header = (struct header){.id = question->id, .flags = flags, .questions = 1, .additionals = question->has_edns};
    struct cursor cursor = cursor_writer(out, size);
    put_header(&cursor, &header);
    size_t question_size = cursor_left(&in);
    cursor_put_bytes(&cursor, cursor_bytes(&in, question_size), question_size);
    if (question->has_edns) /* then the answer has it too (RFC 6891, 6.1.1) */
        put_answer_opt(&cursor, question, rcode);
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

static void put_cname(struct cursor *out, struct dns_name_seen *seen, const struct dns_name *from,
                      const struct dns_name *to, uint32_t ttl)
{
    struct record record = {.owner = *from, .type = DNS_CNAME, .klass = CLASS_IN, .ttl = ttl};
    put_record_head(out, seen, &record);
    cursor_put_u16(out, (uint16_t)to->size);
    dns_name_put(out, seen, to);
}

static bool is_same_name(const struct dns_name *name, const char *text)
{
    char other[DNS_NAME_MAX];
    return dns_name_to_text(other, name) && strcmp(other, text) == 0;
}

int dns_rewrite_answer(uint8_t *out, size_t size, const struct dns_question *question, const uint8_t *in,
                       size_t in_size)
{
    struct cursor reader = cursor_reader(in, in_size), writer = cursor_writer(out, size);
    struct header header;
    struct dns_name asked, name;
    struct dns_name_seen seen = {{0}};
    uint16_t type, klass;
    if (get_question(&reader, &header, &asked, &type, &klass) != 0 || (header.flags & FLAG_QR) == 0 ||
        !dns_name_from_text(&name, question->name))
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
    dns_name_put(&writer, &seen, &name);
    cursor_put_u16(&writer, question->type);
    cursor_put_u16(&writer, question->klass);
    if (is_alias)
        put_cname(&writer, &seen, &name, &asked, ttl);
    for (size_t i = 0; i < records && cursor_ok(&reader) && cursor_ok(&writer); i++)
        copy_record(&writer, &seen, &reader);
    return cursor_ok(&reader) ? finished(&writer) : -EBADMSG;
}

int dns_parse_answer(struct dns_answer *answer, const uint8_t *message, size_t size)
{
    struct cursor in = cursor_reader(message, size);
    struct header header;
    struct dns_name name;
    uint16_t klass;
    *answer = (struct dns_answer){0};
    int rc = get_question(&in, &header, &name, &answer->type, &klass);
    if (rc != 0 || (header.flags & FLAG_QR) == 0 || !dns_name_to_text(answer->name, &name))
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
        copy_record(&out, NULL, &in);
    }
    return cursor_ok(&in) ? 0 : -EBADMSG;
}

int dns_first_address(struct address *out, const uint8_t *message, size_t size)
{
    struct cursor in = cursor_reader(message, size);
    struct header header;
    struct dns_name name;
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
    bool has_opt = question->has_edns && size >= question->end + OPT_SIZE;
    header = (struct header){.id = header.id, .flags = header.flags | FLAG_TC, .questions = 1, .additionals = has_opt};
    put_header(&out, &header);
    cursor_seek(&out, question->end);
    if (has_opt)
        put_answer_opt(&out, question, DNS_NOERROR);
    return out.at;
}

/* An A or AAAA record as an address. */
static bool get_address(struct address *out, const uint8_t *message, const struct record *record)
{
    enum address_family family = record->type == DNS_A ? ADDRESS_V4 : ADDRESS_V6;
    if (record->klass != CLASS_IN || (record->type != DNS_A && record->type != DNS_AAAA) ||
        record->end - record->at != (family == ADDRESS_V4 ? 4 : 16))
        return false;
    *out = address_from_bytes(family, message + record->at);
    return true;
}

bool dns_has_address(const uint8_t *message, size_t size, bool (*is_wanted)(const struct address *address))
{
    struct cursor in = cursor_reader(message, size);
    struct header header;
    struct dns_name name;
    uint16_t type, klass;
    if (get_question(&in, &header, &name, &type, &klass) != 0)
        return false;
    for (size_t left = count_records(&header); left > 0; left--) {
        struct record record;
        struct address address;
        get_record(&in, &record);
        if (!cursor_ok(&in))
            return false;
        if (get_address(&address, message, &record) && is_wanted(&address))
            return true;
    }
    return false;
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
