/* DNS messages as queries and as answers; what is written must be readable again. */
#include "common/dns.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/address.h"

static uint8_t out[DNS_MESSAGE_MAX];

static void require(bool is_true)
{
    if (!is_true)
        abort();
}

static void as_query(const uint8_t *data, size_t size)
{
    struct dns_question question, again;
    if (dns_parse_query(&question, data, size) != 0)
        return;
    int n = dns_put_error(out, sizeof out, data, &question, DNS_SERVFAIL);
    struct dns_answer answer;
    require(n > 0 && dns_parse_answer(&answer, out, (size_t)n) == 0 && strcmp(answer.name, question.name) == 0);
    n = dns_put_query(out, sizeof out, question.id, question.name, question.type, question.udp_size);
    require(n > 0 && dns_parse_query(&again, out, (size_t)n) == 0 && strcmp(again.name, question.name) == 0);
    n = dns_rename_query(out, sizeof out, &question, "web.ems.svc.cluster.local", data, size);
    if (n > 0)
        require(dns_parse_query(&again, out, (size_t)n) == 0 && again.type == question.type &&
                again.udp_size == question.udp_size);
}

static bool is_loopback(const struct address *address)
{
    return address_is_loopback(address);
}

static void as_answer(const uint8_t *data, size_t size)
{
    struct dns_question question;
    struct dns_answer answer;
    struct address address;
    uint8_t query[64];
    int n = dns_put_query(query, sizeof query, 1, "dashboard-api", DNS_A, 0);
    require(n > 0 && dns_parse_query(&question, query, (size_t)n) == 0);
    bool is_good = dns_parse_answer(&answer, data, size) == 0;
    if (dns_first_address(&address, data, size) == 0)
        require(address_size(&address) > 0);
    bool has_loopback = dns_has_address(data, size, is_loopback);
    n = dns_rewrite_answer(out, sizeof out, &question, data, size);
    require(n > 0 || n == -EMSGSIZE || !is_good);
    if (n <= 0)
        return;
    require(dns_parse_answer(&answer, out, (size_t)n) == 0 && strcmp(answer.name, question.name) == 0);
    require(answer.is_truncated || dns_has_address(out, (size_t)n, is_loopback) == has_loopback);
    size_t cut = dns_truncate(out, (size_t)n, &question, DNS_UDP_MAX);
    require(cut <= DNS_UDP_MAX && dns_parse_answer(&answer, out, cut) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_query(data, size);
    as_answer(data, size);
    return 0;
}
