/* DNS messages: what a stub resolver and CoreDNS send, then what an attacker would. */
#include "common/dns.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/address.h"
#include "common/cursor.h"
#include "tests/unit/unit.h"

/* "a.b" as labels, with the root. */
static void put_name(struct cursor *out, const char *name)
{
    while (*name != '\0') {
        size_t size = strcspn(name, ".");
        cursor_put_u8(out, (uint8_t)size);
        cursor_put_bytes(out, name, size);
        name += size + (name[size] == '.');
    }
    cursor_put_u8(out, 0);
}

static void put_head(struct cursor *out, uint16_t flags, uint16_t answers, uint16_t additionals)
{
    cursor_put_u16(out, 0x1234);
    cursor_put_u16(out, flags);
    cursor_put_u16(out, 1);
    cursor_put_u16(out, answers);
    cursor_put_u16(out, 0);
    cursor_put_u16(out, additionals);
}

static void put_question(struct cursor *out, const char *name, uint16_t type)
{
    put_name(out, name);
    cursor_put_u16(out, type);
    cursor_put_u16(out, 1);
}

/* A record's head with its name as a pointer to the question. */
static void put_record(struct cursor *out, uint16_t type, uint32_t ttl, uint16_t size)
{
    cursor_put_u16(out, 0xc00c);
    cursor_put_u16(out, type);
    cursor_put_u16(out, 1);
    cursor_put_u32(out, ttl);
    cursor_put_u16(out, size);
}

static const uint8_t ip[4] = {10, 222, 0, 9};

/* What CoreDNS answers for dashboard-api.ems.svc.cluster.local: one A record, compressed, with EDNS. */
static size_t service_answer(uint8_t *out, size_t size, const char *name)
{
    struct cursor cursor = cursor_writer(out, size);
    put_head(&cursor, 0x8580 | 0x20, 1, 1);
    put_question(&cursor, name, DNS_A);
    put_record(&cursor, DNS_A, 3, 4);
    cursor_put_bytes(&cursor, ip, 4);
    cursor_put_bytes(&cursor, "\0\0\x29\x04\xd0\0\0\0\0\0\0", 11);
    assert_true(cursor_ok(&cursor));
    return cursor.at;
}

static struct dns_question question_of(const char *name, uint16_t type)
{
    uint8_t message[512];
    struct dns_question question;
    int size = dns_put_query(message, sizeof message, 77, name, type, 0);
    assert_true(size > 0);
    assert_int_equal(dns_parse_query(&question, message, (size_t)size), 0);
    return question;
}

static void query_there_and_back(void **state)
{
    (void)state;
    uint8_t message[512];
    struct dns_question question;
    int size = dns_put_query(message, sizeof message, 4711, "Dashboard-API.ems.svc", DNS_SRV, 4096);
    assert_int_equal(size, 12 + 23 + 4 + 11);
    assert_int_equal(dns_parse_query(&question, message, (size_t)size), 0);
    assert_int_equal(question.id, 4711);
    assert_string_equal(question.name, "dashboard-api.ems.svc");
    assert_int_equal(question.type, DNS_SRV);
    assert_int_equal(question.klass, 1);
    assert_int_equal(question.udp_size, 4096);
    assert_int_equal(question.end, 12 + 23 + 4);
    for (size_t cut = 0; cut < (size_t)size; cut++)
        assert_int_equal(dns_parse_query(&question, message, cut), -EBADMSG);
    for (size_t room = 0; room < (size_t)size; room++)
        assert_int_equal(dns_put_query(message, room, 1, "Dashboard-API.ems.svc", DNS_SRV, 4096), -EMSGSIZE);

    size = dns_put_query(message, sizeof message, 1, "", DNS_SOA, 0); /* the root */
    assert_int_equal(size, 12 + 1 + 4);
    assert_int_equal(dns_parse_query(&question, message, (size_t)size), 0);
    assert_string_equal(question.name, "");
    assert_int_equal(question.udp_size, DNS_UDP_MAX);
}

static void odd_bytes_are_escaped_and_come_back(void **state)
{
    (void)state;
    const char *name = "my\\032printer\\046\\092\\000\\255.local";
    struct dns_question question = question_of(name, DNS_PTR);
    assert_string_equal(question.name, name);
    assert_int_equal(dns_dots(question.name), 1);
}

static void bad_names_are_refused(void **state)
{
    (void)state;
    static const char label63[] = "abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabc";
    static const char *const bad[] = {".", "a.", ".a", "a..b", "a\\", "a\\1", "a\\12", "a\\256", "a\\12x", "a\\-12"};
    uint8_t out[600];
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++)
        assert_int_equal(dns_put_query(out, sizeof out, 1, bad[i], DNS_A, 0), -EINVAL);

    char name[400];
    assert_int_equal(sizeof label63 - 1, 63);
    assert_int_equal(strlen(question_of(label63, DNS_A).name), 63);
    (void)snprintf(name, sizeof name, "%sd", label63); /* 64 */
    assert_int_equal(dns_put_query(out, sizeof out, 1, name, DNS_A, 0), -EINVAL);
    (void)snprintf(name, sizeof name, "%s.%s.%s.%.61s", label63, label63, label63,
                   label63); /* 255 bytes with lengths */
    assert_int_equal(strlen(name), 253);
    assert_string_equal(question_of(name, DNS_A).name, name);
    (void)snprintf(name, sizeof name, "%s.%s.%s.%.62s", label63, label63, label63, label63);
    assert_int_equal(dns_put_query(out, sizeof out, 1, name, DNS_A, 0), -EINVAL);
}

/* A query made by hand: `name` are the bytes of the question's name. */
static int parse_name(const void *name, size_t size, struct dns_question *question)
{
    uint8_t message[1024];
    struct cursor out = cursor_writer(message, sizeof message);
    put_head(&out, 0x0100, 0, 0);
    cursor_put_bytes(&out, name, size);
    cursor_put_u32(&out, 0x00010001);
    assert_true(cursor_ok(&out));
    return dns_parse_query(question, message, out.at);
}

static void hostile_names_are_refused(void **state)
{
    (void)state;
    struct dns_question question;
    assert_int_equal(parse_name("\1a\0", 3, &question), 0);
    assert_int_equal(parse_name("\xc0\x0c", 2, &question), -EBADMSG);      /* to itself */
    assert_int_equal(parse_name("\1a\xc0\x0c", 4, &question), -EBADMSG);   /* a loop */
    assert_int_equal(parse_name("\xc0\x0e\1a\0", 5, &question), -EBADMSG); /* forward */
    assert_int_equal(parse_name("\xc0\x06", 2, &question), -EBADMSG);      /* into the header: a zero there */
    assert_int_equal(parse_name("\xff\xff", 2, &question), -EBADMSG);      /* beyond the end */
    uint8_t long_name[300];
    memset(long_name, 'a', sizeof long_name);
    long_name[0] = 0x40; /* reserved kinds of labels: 64 bytes, or 128 */
    long_name[65] = long_name[129] = 0;
    assert_int_equal(parse_name(long_name, 200, &question), -EBADMSG);
    long_name[0] = 0x80;
    assert_int_equal(parse_name(long_name, 200, &question), -EBADMSG);
    for (size_t i = 0; i < sizeof long_name; i += 2)
        memcpy(long_name + i, "\1x", 2);
    long_name[254] = 0;
    assert_int_equal(parse_name(long_name, 255, &question), 0); /* 127 labels */
    long_name[254] = 1;
    long_name[256] = 0;
    assert_int_equal(parse_name(long_name, 257, &question), -EBADMSG);
    memset(long_name, 0xff, sizeof long_name); /* its text would be too long */
    long_name[0] = 63;
    long_name[64] = 63;
    long_name[128] = 0;
    assert_int_equal(parse_name(long_name, 129, &question), -EBADMSG);
}

static void what_is_no_query_is_refused(void **state)
{
    (void)state;
    uint8_t message[512];
    struct dns_question question;
    int size = dns_put_query(message, sizeof message, 1, "a", DNS_A, 512);
    assert_int_equal(dns_parse_query(&question, message, (size_t)size), 0);
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = {{2, 0x81}, {2, 0x29}, {5, 0}, {5, 2}, {4, 1}, {7, 1}, {11, 2}};
    for (size_t i = 0; i < KT_ARRAY_LEN(changes); i++) {
        uint8_t before = message[changes[i].at];
        message[changes[i].at] = changes[i].value;
        assert_int_equal(dns_parse_query(&question, message, (size_t)size), -EBADMSG);
        message[changes[i].at] = before;
    }
    message[11] = 2; /* two OPT records: RFC 6891, 6.1.1 */
    memcpy(message + size, message + size - 11, 11);
    assert_int_equal(dns_parse_query(&question, message, (size_t)size + 11), -EBADMSG);
    message[11] = 1;
    memcpy(message + size - 8, "\0\1", 2); /* UDP size 1 means 512 */
    assert_int_equal(dns_parse_query(&question, message, (size_t)size), 0);
    assert_int_equal(question.udp_size, 512);
}

static void error_answers_the_question(void **state)
{
    (void)state;
    uint8_t query[512], out[512];
    struct dns_question question;
    struct dns_answer answer;
    for (uint16_t edns = 0; edns <= 4096; edns += 4096) {
        int size = dns_put_query(query, sizeof query, 99, "x.Example", DNS_AAAA, edns);
        assert_int_equal(dns_parse_query(&question, query, (size_t)size), 0);
        int n = dns_put_error(out, sizeof out, query, &question, DNS_SERVFAIL);
        assert_int_equal(n, size);
        assert_int_equal(dns_parse_answer(&answer, out, (size_t)n), 0);
        assert_int_equal(answer.rcode, DNS_SERVFAIL);
        assert_int_equal(answer.id, 99);
        assert_int_equal(answer.records, 0);
        assert_string_equal(answer.name, "x.example");
        assert_memory_equal(out + 12, query + 12, question.end - 12); /* upper case too: askers compare it */
        for (size_t room = 0; room < (size_t)n; room++)
            assert_int_equal(dns_put_error(out, room, query, &question, DNS_SERVFAIL), -EMSGSIZE);
    }
}

static void answer_is_read(void **state)
{
    (void)state;
    uint8_t message[512];
    size_t size = service_answer(message, sizeof message, "dashboard-api.ems.svc.cluster.local");
    struct dns_answer answer;
    assert_int_equal(dns_parse_answer(&answer, message, size), 0);
    assert_int_equal(answer.id, 0x1234);
    assert_int_equal(answer.rcode, DNS_NOERROR);
    assert_int_equal(answer.records, 1);
    assert_int_equal(answer.type, DNS_A);
    assert_false(answer.is_truncated);
    assert_string_equal(answer.name, "dashboard-api.ems.svc.cluster.local");
    struct address address;
    assert_int_equal(dns_first_address(&address, message, size), 0);
    struct address want = address_v4(0x0ade0009);
    assert_true(address_equal(&address, &want));
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(dns_parse_answer(&answer, message, cut), -EBADMSG);
    message[2] |= 2; /* TC: the rest may be cut anywhere */
    assert_int_equal(dns_parse_answer(&answer, message, size - 3), 0);
    assert_true(answer.is_truncated);
    message[2] = 1; /* a query */
    assert_int_equal(dns_parse_answer(&answer, message, size), -EBADMSG);
    assert_int_equal(dns_first_address(&address, message, size), -EBADMSG);
}

static void first_address_behind_a_cname(void **state)
{
    (void)state;
    uint8_t message[512];
    struct cursor out = cursor_writer(message, sizeof message);
    put_head(&out, 0x8180, 2, 0);
    put_question(&out, "web.ems", DNS_AAAA);
    put_record(&out, DNS_CNAME, 5, 4);
    cursor_put_bytes(&out, "\1x\xc0\x0c", 4);
    put_record(&out, DNS_AAAA, 5, 16);
    for (uint8_t i = 0; i < 16; i++)
        cursor_put_u8(&out, i);
    struct address address;
    assert_int_equal(dns_first_address(&address, message, out.at), 0);
    assert_int_equal(address.family, ADDRESS_V6);
    assert_int_equal(address.bytes[15], 15);
    assert_int_equal(dns_first_address(&address, message, out.at - 1), -EBADMSG);
    message[7] = 1; /* only the CNAME */
    assert_int_equal(dns_first_address(&address, message, out.at), -ENOENT);

    out = cursor_writer(message, sizeof message); /* an A record of 3 bytes at the very end */
    put_head(&out, 0x8180, 1, 0);
    put_question(&out, "a", DNS_A);
    put_record(&out, DNS_A, 5, 3);
    cursor_put_bytes(&out, ip, 3);
    assert_int_equal(dns_first_address(&address, message, out.at), -EBADMSG);
}

static void rewritten_answer_has_the_asked_name(void **state)
{
    (void)state;
    uint8_t in[512], out[512];
    size_t in_size = service_answer(in, sizeof in, "dashboard-api.ems.svc.cluster.local");
    struct dns_question question = question_of("dashboard-api", DNS_A);
    int size = dns_rewrite_answer(out, sizeof out, &question, in, in_size);

    uint8_t want[512];
    struct cursor cursor = cursor_writer(want, sizeof want);
    put_head(&cursor, 0x8580, 2, 1); /* and no AD */
    put_question(&cursor, "dashboard-api", DNS_A);
    put_record(&cursor, DNS_CNAME, 3, 37); /* not longer than what it leads to */
    put_name(&cursor, "dashboard-api.ems.svc.cluster.local");
    cursor_put_bytes(&cursor, "\xc0\x2b\0\1\0\1\0\0\0\3\0\4", 12); /* the owner: as the CNAME says */
    cursor_put_bytes(&cursor, ip, 4);
    cursor_put_bytes(&cursor, "\0\0\x29\x04\xd0\0\0\0\0\0\0", 11);
    want[0] = 0;
    want[1] = 77;
    assert_int_equal(size, cursor.at);
    assert_memory_equal(out, want, cursor.at);

    for (size_t cut = 0; cut < in_size; cut++)
        assert_int_equal(dns_rewrite_answer(out, sizeof out, &question, in, cut), -EBADMSG);
    for (size_t room = 0; room < (size_t)size; room++)
        assert_int_equal(dns_rewrite_answer(out, room, &question, in, in_size), -EMSGSIZE);
}

static void rewritten_without_alias(void **state)
{
    (void)state;
    uint8_t in[512], out[512];
    struct dns_answer answer;
    size_t in_size = service_answer(in, sizeof in, "Same.Name");
    struct dns_question question = question_of("same.name", DNS_A);
    int size = dns_rewrite_answer(out, sizeof out, &question, in, in_size);
    assert_int_equal(dns_parse_answer(&answer, out, (size_t)size), 0);
    assert_int_equal(answer.records, 1); /* the same name needs no CNAME */

    in_size = service_answer(in, sizeof in, "a.svc");
    in[3] |= DNS_NXDOMAIN;
    in[7] = 0;
    in[11] = 0;
    question = question_of("a", DNS_A);
    size = dns_rewrite_answer(out, sizeof out, &question, in, in_size);
    assert_int_equal(dns_parse_answer(&answer, out, (size_t)size), 0);
    assert_int_equal(answer.rcode, DNS_NXDOMAIN);
    assert_int_equal(answer.records, 0);
    assert_int_equal(answer.id, 77);
    assert_string_equal(answer.name, "a");

    in[3] &= 0xf0;
    in[2] |= 2; /* TC, and the counts lie */
    in[7] = 9;
    size = dns_rewrite_answer(out, sizeof out, &question, in, in_size);
    assert_int_equal(dns_parse_answer(&answer, out, (size_t)size), 0);
    assert_true(answer.is_truncated);
    assert_int_equal(size, 12 + 3 + 4);
}

/* Compressed names inside the data of SRV and NAPTR come out in full (RFC 3597, 4), those of SOA and MX with pointers
 * of their own, and the data's length with them. */
static void names_in_data_stay_valid(void **state)
{
    (void)state;
    uint8_t in[512], out[1024];
    struct cursor cursor = cursor_writer(in, sizeof in);
    put_head(&cursor, 0x8180, 4, 0);
    put_question(&cursor, "e.svc", DNS_SRV);
    put_record(&cursor, DNS_SRV, 30, 6 + 4);
    cursor_put_bytes(&cursor, "\0\1\0\2\0\x50\1p\xc0\x0c", 10);
    put_record(&cursor, DNS_SOA, 30, 4 + 20);
    cursor_put_bytes(&cursor, "\xc0\x0c\xc0\x0e", 4);
    for (int i = 0; i < 5; i++)
        cursor_put_u32(&cursor, 7);
    put_record(&cursor, 15, 30, 4);
    cursor_put_bytes(&cursor, "\0\x0a\xc0\x0c", 4);
    put_record(&cursor, 35, 30, 4 + 3 + 2);
    cursor_put_bytes(&cursor, "\0\1\0\1\0\0\0\xc0\x0c", 9);
    struct dns_question question = question_of("e", DNS_SRV);
    int size = dns_rewrite_answer(out, sizeof out, &question, in, cursor.at);
    assert_true(size > 0);
    struct dns_answer answer;
    assert_int_equal(dns_parse_answer(&answer, out, (size_t)size), 0);
    assert_int_equal(answer.records, 5);
    static const uint8_t srv[] = "\0\x0f\0\1\0\2\0\x50\1p\1e\3svc";
    assert_non_null(memmem(out, (size_t)size, srv, sizeof srv));
    static const uint8_t soa[] = "\0\x18\xc0\x1f\xc0\x21"; /* e.svc: where the CNAME's data is */
    assert_non_null(memmem(out, (size_t)size, soa, sizeof soa - 1));
    static const uint8_t naptr[] = "\0\x0e\0\1\0\1\0\0\0\1e\3svc";
    assert_non_null(memmem(out, (size_t)size, naptr, sizeof naptr));

    /* The data says less than its names need: the pointer lies half outside. */
    cursor = cursor_writer(in, sizeof in);
    put_head(&cursor, 0x8180, 1, 0);
    put_question(&cursor, "e.svc", 15);
    put_record(&cursor, 15, 30, 3);
    cursor_put_bytes(&cursor, "\0\x0a\xc0\x0c", 4);
    assert_int_equal(dns_rewrite_answer(out, sizeof out, &question, in, cursor.at), -EBADMSG);
    assert_int_equal(dns_parse_answer(&answer, in, cursor.at), -EBADMSG);
}

/* 5,000 records whose names are the end of a chain of pointers: 60 KB that would be 5,000 x 16,000 steps without a
 * bound. */
static void big_answers_are_bounded(void **state)
{
    (void)state;
    static uint8_t in[60000], out[DNS_MESSAGE_MAX];
    struct dns_question question = question_of("x", DNS_A);
    struct cursor cursor = cursor_writer(in, sizeof in);
    put_head(&cursor, 0x8180, 0, 0);
    put_question(&cursor, "x", DNS_A);
    uint16_t answers = 0;
    while (cursor_left(&cursor) >= 16) {
        put_record(&cursor, DNS_A, 5, 4);
        cursor_put_bytes(&cursor, ip, 4);
        answers++;
    }
    in[6] = (uint8_t)(answers >> 8);
    in[7] = (uint8_t)answers;
    struct dns_answer answer;
    assert_int_equal(dns_parse_answer(&answer, in, cursor.at), 0);
    assert_int_equal(answer.records, answers);
    assert_int_equal(dns_rewrite_answer(out, sizeof out, &question, in, cursor.at), cursor.at);

    cursor = cursor_writer(in, sizeof in);
    put_head(&cursor, 0x8180, 2, 0);
    put_question(&cursor, "x", DNS_A);
    put_record(&cursor, 999, 5, 2000);
    size_t at = cursor.at;
    cursor_put_u16(&cursor, 0xc00c);
    for (; at < 12 + 7 + 12 + 1998; at += 2)
        cursor_put_u16(&cursor, (uint16_t)(0xc000 | at)); /* each points at the one before */
    cursor_put_u16(&cursor, (uint16_t)(0xc000 | at));
    cursor_put_bytes(&cursor, "\0\1\0\1\0\0\0\5\0\4\1\2\3\4", 14);
    assert_int_equal(dns_parse_answer(&answer, in, cursor.at), -EBADMSG);
}

static void too_large_for_a_message(void **state)
{
    (void)state;
    static uint8_t in[60000], big[400000];
    struct cursor cursor = cursor_writer(in, sizeof in);
    put_head(&cursor, 0x8180, 1000, 0);
    put_question(&cursor, "a-name-that-is-rather-long.ems.svc.cluster.local", DNS_SRV);
    for (int i = 0; i < 1000; i++) { /* SRV's names come out in full */
        put_record(&cursor, DNS_SRV, 5, 8);
        cursor_put_bytes(&cursor, "\0\1\0\2\0\x50\xc0\x0c", 8);
    }
    assert_true(cursor_ok(&cursor));
    struct dns_question question = question_of("x", DNS_SRV);
    assert_int_equal(dns_rewrite_answer(big, sizeof big, &question, in, cursor.at), -EMSGSIZE);
}

static void truncated_to_the_question(void **state)
{
    (void)state;
    uint8_t message[512];
    struct dns_question question = question_of("web.ems", DNS_A);
    size_t size = service_answer(message, sizeof message, "web.ems");
    assert_int_equal(dns_truncate(message, size, &question, size), size);
    assert_int_equal(message[2] & 2, 0);
    assert_int_equal(dns_truncate(message, size, &question, size - 1), question.end);
    struct dns_answer answer;
    assert_int_equal(dns_parse_answer(&answer, message, question.end), 0);
    assert_true(answer.is_truncated);
    assert_int_equal(answer.records, 0);
    assert_int_equal(message[11], 0);
}

/* A headless Service with thousands of pods: 63 KB as CoreDNS sends it, and not more when the name is another. */
static void a_long_answer_stays_as_long(void **state)
{
    (void)state;
    static uint8_t in[63000], out[DNS_MESSAGE_MAX];
    struct cursor cursor = cursor_writer(in, sizeof in);
    put_head(&cursor, 0x8180, 0, 0);
    put_question(&cursor, "store.ems.svc.cluster.local", DNS_A);
    uint16_t answers = 0;
    for (; cursor_left(&cursor) >= 16; answers++) {
        put_record(&cursor, DNS_A, 5, 4);
        cursor_put_u32(&cursor, 0x0ae80000u + answers);
    }
    in[6] = (uint8_t)(answers >> 8);
    in[7] = (uint8_t)answers;
    struct dns_question question = question_of("store", DNS_A);
    int size = dns_rewrite_answer(out, sizeof out, &question, in, cursor.at);
    struct dns_answer answer;
    assert_true(size > 0 && (size_t)size <= cursor.at + 64);
    assert_int_equal(dns_parse_answer(&answer, out, (size_t)size), 0);
    assert_int_equal(answer.records, answers + 1);
    assert_memory_equal(out + size - 4, in + cursor.at - 4, 4);
}

static void edns_is_read_and_answered(void **state)
{
    (void)state;
    uint8_t query[512], out[1024];
    struct dns_question question;
    int size = dns_put_query(query, sizeof query, 5, "a.svc", DNS_A, 512);
    query[size - 5] = 1;    /* a version that nobody knows */
    query[size - 4] = 0x80; /* DO */
    assert_int_equal(dns_parse_query(&question, query, (size_t)size), 0);
    assert_true(question.has_edns && question.is_dnssec);
    assert_int_equal(question.edns_version, 1);
    assert_int_equal(question.udp_size, 512);
    int n = dns_put_error(out, sizeof out, query, &question, DNS_BADVERS);
    assert_int_equal(n, size); /* with OPT, though its size is the smallest */
    assert_int_equal(out[3] & 0x0f, 0);
    assert_memory_equal(out + n - 11, "\0\0\x29\x04\xd0\1\0\x80\0\0\0", 11);

    size_t in_size = service_answer(out, sizeof out, "a.svc");
    memset(out + in_size, 0, sizeof out - in_size);
    n = (int)dns_truncate(out, sizeof out, &question, 512);
    assert_int_equal(n, question.end + 11);
    assert_int_equal(out[11], 1);
    assert_memory_equal(out + n - 11, "\0\0\x29\x04\xd0\0\0\x80\0\0\0", 11);

    question.has_edns = false;
    n = dns_put_error(out, sizeof out, query, &question, DNS_NXDOMAIN);
    assert_int_equal(n, question.end);
}

static void a_renamed_query_keeps_the_rest(void **state)
{
    (void)state;
    uint8_t query[512], out[512];
    struct dns_question question, renamed;
    int size = dns_put_query(query, sizeof query, 5, "Web", DNS_A, 1232);
    query[3] |= 0x10;       /* CD */
    query[size - 4] = 0x80; /* DO */
    query[size - 1] = 8;    /* an option that nobody knows */
    memcpy(query + size, "\xff\xf0\0\4abcd", 8);
    size += 8;
    assert_int_equal(dns_parse_query(&question, query, (size_t)size), 0);
    int n = dns_rename_query(out, sizeof out, &question, "web.ems.svc", query, (size_t)size);
    assert_int_equal(n, size + 8);
    assert_int_equal(dns_parse_query(&renamed, out, (size_t)n), 0);
    assert_string_equal(renamed.name, "web.ems.svc");
    assert_memory_equal(out, query, 12);
    assert_memory_equal(out + renamed.end, query + question.end, (size_t)size - question.end);
    for (size_t room = 0; room < (size_t)n; room++)
        assert_int_equal(dns_rename_query(out, room, &question, "web.ems.svc", query, (size_t)size), -EMSGSIZE);
    for (size_t cut = question.end; cut < (size_t)size; cut++)
        assert_int_equal(dns_rename_query(out, sizeof out, &question, "web.ems.svc", query, cut), -EBADMSG);
    assert_int_equal(dns_rename_query(out, sizeof out, &question, "web..svc", query, (size_t)size), -EINVAL);
}

static bool is_ten(const struct address *address)
{
    return address->family == ADDRESS_V4 && address->bytes[0] == 10;
}

static bool is_v6(const struct address *address)
{
    return address->family == ADDRESS_V6;
}

static void addresses_are_found_in_all_sections(void **state)
{
    (void)state;
    uint8_t message[512];
    size_t size = service_answer(message, sizeof message, "web.ems");
    for (int i = 7; i < 12; i += 2) { /* the counts of the three sections */
        message[7] = message[9] = message[11] = 0;
        message[i] = 1;
        assert_true(dns_has_address(message, size, is_ten));
        assert_false(dns_has_address(message, size, is_v6));
    }
    message[7] = 9; /* what is there counts */
    assert_true(dns_has_address(message, size, is_ten));
    assert_false(dns_has_address(message, size - 16, is_ten));
    for (size_t cut = 0; cut < size - 11; cut++)
        assert_false(dns_has_address(message, cut, is_ten));
}

static void names_under_domains(void **state)
{
    (void)state;
    assert_true(dns_is_under("a.cluster.local", "cluster.local"));
    assert_true(dns_is_under("cluster.local", "cluster.local"));
    assert_true(dns_is_under("x", ""));
    assert_false(dns_is_under("mycluster.local", "cluster.local"));
    assert_false(dns_is_under("local", "cluster.local"));
    assert_false(dns_is_under("cluster.local.org", "cluster.local"));
    assert_int_equal(dns_dots(""), 0);
    assert_int_equal(dns_dots("a.b.c"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(query_there_and_back),
        cmocka_unit_test(odd_bytes_are_escaped_and_come_back),
        cmocka_unit_test(bad_names_are_refused),
        cmocka_unit_test(hostile_names_are_refused),
        cmocka_unit_test(what_is_no_query_is_refused),
        cmocka_unit_test(error_answers_the_question),
        cmocka_unit_test(answer_is_read),
        cmocka_unit_test(first_address_behind_a_cname),
        cmocka_unit_test(rewritten_answer_has_the_asked_name),
        cmocka_unit_test(rewritten_without_alias),
        cmocka_unit_test(names_in_data_stay_valid),
        cmocka_unit_test(big_answers_are_bounded),
        cmocka_unit_test(too_large_for_a_message),
        cmocka_unit_test(truncated_to_the_question),
        cmocka_unit_test(a_long_answer_stays_as_long),
        cmocka_unit_test(edns_is_read_and_answered),
        cmocka_unit_test(a_renamed_query_keeps_the_rest),
        cmocka_unit_test(addresses_are_found_in_all_sections),
        cmocka_unit_test(names_under_domains),
    };
    return unit_run(tests);
}
