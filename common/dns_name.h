/* A domain name in a DNS message (RFC 1035, 3.1 and 4.1.4): read, written, compressed; for dns.c.
 *
 * It exists in two forms: struct dns_name holds the wire form without compression (labels, each behind its length, and
 * the root's zero byte), and text is as in struct dns_question. Names of records stay in wire form; only questions
 * become text. */
#ifndef KTVPN_COMMON_DNS_NAME_H
#define KTVPN_COMMON_DNS_NAME_H

#include "common/cursor.h"
#include "common/dns.h"

#define DNS_NAME_WIRE_MAX 255 /* RFC 1035, 2.3.4 */
#define DNS_NAME_SEEN_MAX 1024

struct dns_name {
    uint8_t bytes[DNS_NAME_WIRE_MAX];
    size_t size;
};

/* Where names stand in a message that is being written: a hash table of offsets. All zero is empty. */
struct dns_name_seen {
    uint16_t at[DNS_NAME_SEEN_MAX];
};

/* Reads a name; `in` is behind it afterwards, or failed. */
void dns_name_get(struct cursor *in, struct dns_name *name);
/* In full. `seen` may be NULL. */
void dns_name_put(struct cursor *out, struct dns_name_seen *seen, const struct dns_name *name);
/* With a pointer to the longest end of it that `seen` knows; `seen` learns the rest. `out` began with the message. */
void dns_name_put_short(struct cursor *out, struct dns_name_seen *seen, const struct dns_name *name);

/* False: longer than DNS_NAME_MAX, which only a name with many escaped bytes can be. */
KT_MUST_USE bool dns_name_to_text(char out[static DNS_NAME_MAX], const struct dns_name *name);
KT_MUST_USE bool dns_name_from_text(struct dns_name *name, const char *text);

#endif
