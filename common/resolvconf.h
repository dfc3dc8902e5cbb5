/* /etc/resolv.conf, read (never written): a machine's or a pod's name servers and search list (resolv.conf(5)).
 *
 * Reads it as glibc does: the last of `search` and `domain` wins, a keyword starts its line, what makes no sense is
 * skipped. Names come out in lower case, without the last dot, and only with bytes that a host name or a service name
 * can have. */
#ifndef KTVPN_COMMON_RESOLVCONF_H
#define KTVPN_COMMON_RESOLVCONF_H

#include <stddef.h>

#include "common/address.h"

#define RESOLVCONF_SERVERS_MAX 3 /* MAXNS; later ones are not asked */
#define RESOLVCONF_SEARCH_MAX 32
#define RESOLVCONF_NAME_MAX 254 /* with NUL */
#define RESOLVCONF_NDOTS_MAX 15
#define RESOLVCONF_SIZE_MAX 65536 /* of the file; lines that reach beyond are not read */

struct resolvconf {
    struct address server[RESOLVCONF_SERVERS_MAX];
    size_t servers; /* at least 1 */
    char search[RESOLVCONF_SEARCH_MAX][RESOLVCONF_NAME_MAX];
    size_t searches;
    unsigned ndots;
};

/* Never fails. No server: 127.0.0.1, as the resolver does. A server with a zone ("fe80::1%eth0") is skipped. */
void resolvconf_parse(struct resolvconf *out, const char *text, size_t size);
/* 0, or the error of opening or reading; a missing file is an empty one. */
KT_MUST_USE int resolvconf_read(struct resolvconf *out, const char *path);

#endif
