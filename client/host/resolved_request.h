/* What the parent asks of the process that speaks to systemd-resolved, and what it answers: fixed-size structs, as in
 * helper_request.h. They can name only devices that are ktvpn's by their name. */
#ifndef KTVPN_CLIENT_HOST_RESOLVED_REQUEST_H
#define KTVPN_CLIENT_HOST_RESOLVED_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "common/address.h"

#define RESOLVED_DOMAINS_MAX 32
#define RESOLVED_DOMAIN_MAX 255 /* with "~" and NUL */
#define RESOLVED_DEVICE_MAX 16  /* IFNAMSIZ */

struct resolved_request {
    char device[RESOLVED_DEVICE_MAX]; /* "ktvpn0" */
    struct address server;
    uint32_t domains;
    char domain[RESOLVED_DOMAINS_MAX]
               [RESOLVED_DOMAIN_MAX]; /* "~svc": only routes; "ems.svc.cluster.local": searched too */
};

/* The request in `size` received bytes; -EBADMSG when the size or any field of it is out of its range. */
KT_MUST_USE int resolved_request_check(struct resolved_request *out, const void *data, size_t size);

/* Adds a domain; one that finds no room, or is no host name, is left out. */
void resolved_request_add(struct resolved_request *request, const char *prefix, const char *domain);

struct cidr;
/* "~" and the zone of the reverse names of the range: several where it does not end at a label; none where these would
 * be more than 16. */
void resolved_request_add_reverse(struct resolved_request *request, const struct cidr *range);

#endif
