/* DNS messages (RFC 1035): as much as a forwarder needs. Reads the question, writes answers, rewrites names.
 *
 * Every byte of a message is hostile: names are bounded, compression pointers only go backwards and are counted. */
#ifndef KTVPN_COMMON_DNS_H
#define KTVPN_COMMON_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

#define DNS_NAME_MAX 254 /* text without the last dot, with NUL */
#define DNS_MESSAGE_MAX 65535
#define DNS_UDP_MAX 512 /* without EDNS */
#define DNS_HEADER_SIZE 12

enum dns_rcode {
    DNS_NOERROR = 0,
    DNS_FORMERR = 1,
    DNS_SERVFAIL = 2,
    DNS_NXDOMAIN = 3,
    DNS_NOTIMP = 4,
    DNS_REFUSED = 5,
    DNS_BADVERS = 16 /* its upper bits are in the OPT record (RFC 6891, 6.1.3) */
};
enum dns_type { DNS_A = 1, DNS_CNAME = 5, DNS_SOA = 6, DNS_PTR = 12, DNS_AAAA = 28, DNS_SRV = 33, DNS_OPT = 41 };

struct dns_question {
    uint16_t id;
    char name[DNS_NAME_MAX]; /* lower case, without the last dot; bytes that are no host name byte are "\DDD" */
    uint16_t type, klass;
    uint16_t udp_size; /* what the asker takes over UDP: from its OPT record, at least DNS_UDP_MAX */
    bool has_edns;     /* it sent an OPT record */
    bool is_dnssec;    /* with DO */
    uint8_t edns_version;
    size_t end; /* offset behind the question section */
};

/* 0; -EBADMSG when it is not a query with exactly one question. */
KT_MUST_USE int dns_parse_query(struct dns_question *question, const uint8_t *message, size_t size);

/* A query for `name` (text, absolute, no last dot). Returns its size, or -EINVAL (no valid name), -EMSGSIZE. With EDNS
 * of `udp_size` bytes unless that is 0. */
KT_MUST_USE int dns_put_query(uint8_t *out, size_t size, uint16_t id, const char *name, uint16_t type,
                              uint16_t udp_size);

/* The query in `in` (parsed as `question`), for another name: flags and OPT record stay. Size, -EINVAL (no valid name),
 * -EBADMSG, -EMSGSIZE. */
KT_MUST_USE int dns_rename_query(uint8_t *out, size_t size, const struct dns_question *question, const char *name,
                                 const uint8_t *in, size_t in_size);

/* An answer without records to the query in `message` (parsed as `question`). Size or -EMSGSIZE. */
KT_MUST_USE int dns_put_error(uint8_t *out, size_t size, const uint8_t *message, const struct dns_question *question,
                              enum dns_rcode rcode);

/* Takes the answer `in`, got for another name (the same query with a search domain appended), and writes it as the
 * answer to `question`: its id and name in the question section, and a CNAME from that name to the one that was asked,
 * in front of the answers. Names in the records are compressed anew. Size; -EBADMSG, -EMSGSIZE. */
KT_MUST_USE int dns_rewrite_answer(uint8_t *out, size_t size, const struct dns_question *question, const uint8_t *in,
                                   size_t in_size);

struct dns_answer {
    uint16_t id;
    enum dns_rcode rcode;
    bool is_truncated;
    uint16_t records;        /* in the answer section */
    char name[DNS_NAME_MAX]; /* of the question, as in struct dns_question */
    uint16_t type;
};
/* Reads and checks the whole message. -EBADMSG when it is no well-formed response with one question. */
KT_MUST_USE int dns_parse_answer(struct dns_answer *answer, const uint8_t *message, size_t size);

/* The first A or AAAA record of an answer. -ENOENT when it has none; -EBADMSG. */
struct address;
KT_MUST_USE int dns_first_address(struct address *out, const uint8_t *message, size_t size);

/* Does any A or AAAA record of the answer, in any section, hold such an address? Of a malformed one, what can be read
 * counts. */
KT_MUST_USE bool dns_has_address(const uint8_t *message, size_t size, bool (*is_wanted)(const struct address *address));

/* Cuts an answer that is longer than `limit` to its header, question and an OPT record if the asker sent one (RFC 6891,
 * 7), and sets TC (RFC 2181, 9). Returns the new size. */
size_t dns_truncate(uint8_t *message, size_t size, const struct dns_question *question, size_t limit);

/* Is `name` `domain` or below it? Both lower case, no last dot. */
bool dns_is_under(const char *name, const char *domain);
/* Dots in the name. */
int dns_dots(const char *name);

#endif
