/* /etc/resolv.conf, read (never written): the machine's name servers and search list (resolv.conf(5)). */
#ifndef KTVPN_CLIENT_HOST_RESOLVCONF_H
#define KTVPN_CLIENT_HOST_RESOLVCONF_H

#include <stddef.h>

#include "common/address.h"

#define RESOLVCONF_SERVERS_MAX 3  /* MAXNS */
#define RESOLVCONF_SEARCH_MAX 32
#define RESOLVCONF_NAME_MAX 254
#define RESOLVCONF_SIZE_MAX 65536

struct resolvconf {
    struct address server[RESOLVCONF_SERVERS_MAX];
    size_t servers;
    char search[RESOLVCONF_SEARCH_MAX][RESOLVCONF_NAME_MAX];
    size_t searches;
    unsigned ndots;
};

/* Lines that make no sense are skipped, as the resolver does. No server: 127.0.0.1, as the resolver does. */
void resolvconf_parse(struct resolvconf *out, const char *text, size_t size);
/* 0 or the error of reading; a missing file is an empty one. */
KT_MUST_USE int resolvconf_read(struct resolvconf *out, const char *path);

#endif
