#include "client/host/resolved_request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cidr.h"

#define DEVICE_PREFIX "ktvpn"
#define ZONES_MAX 16

static bool is_text(const char *text, size_t size)
{
    return memchr(text, '\0', size) != NULL;
}

/* "ktvpn" and a number. */
static bool is_own_device(const char device[static RESOLVED_DEVICE_MAX])
{
    const size_t head = sizeof DEVICE_PREFIX - 1;
    if (!is_text(device, RESOLVED_DEVICE_MAX) || strncmp(device, DEVICE_PREFIX, head) != 0)
        return false;
    size_t digits = strspn(device + head, "0123456789");
    return digits > 0 && device[head + digits] == '\0';
}

/* "~" or not, then labels of host name bytes: nothing that resolvectl could take for an option. */
static bool is_domain(const char *text)
{
    size_t label = 0;
    for (text += *text == '~'; *text != '\0'; text++) {
        bool is_plain = (*text >= 'a' && *text <= 'z') || (*text >= '0' && *text <= '9') || *text == '_' ||
                        (*text == '-' && label > 0);
        if (*text == '.' ? label == 0 : !is_plain)
            return false;
        label = *text == '.' ? 0 : label + 1;
    }
    return label > 0;
}

int resolved_request_check(struct resolved_request *out, const void *data, size_t size)
{
    if (size != sizeof *out)
        return -EBADMSG;
    memcpy(out, data, sizeof *out);
    size_t family = address_size(&out->server);
    bool is_valid = is_own_device(out->device) && family != 0 && !address_is_unspecified(&out->server) &&
                    out->domains > 0 && out->domains <= RESOLVED_DOMAINS_MAX;
    for (uint32_t i = 0; is_valid && i < out->domains; i++)
        is_valid = is_text(out->domain[i], RESOLVED_DOMAIN_MAX) && is_domain(out->domain[i]);
    return is_valid ? 0 : -EBADMSG;
}

void resolved_request_add(struct resolved_request *request, const char *prefix, const char *domain)
{
    if (request->domains == RESOLVED_DOMAINS_MAX)
        return;
    char *out = request->domain[request->domains];
    int size = snprintf(out, RESOLVED_DOMAIN_MAX, "%s%s", prefix, domain);
    request->domains += size > 0 && size < RESOLVED_DOMAIN_MAX && is_domain(out);
}

/* The zone of the first `labels` labels of the address. */
static void add_zone(struct resolved_request *request, const struct address *address, unsigned labels)
{
    char zone[RESOLVED_DOMAIN_MAX] = "";
    size_t at = 0;
    bool is_v4 = address->family == ADDRESS_V4;
    for (unsigned i = labels; i-- > 0;) {
        unsigned nibble = i % 2 ? address->bytes[i / 2] & 0x0f : address->bytes[i / 2] >> 4;
        at += (size_t)snprintf(zone + at, sizeof zone - at, is_v4 ? "%u." : "%x.", is_v4 ? address->bytes[i] : nibble);
    }
    (void)snprintf(zone + at, sizeof zone - at, "%s", is_v4 ? "in-addr.arpa" : "ip6.arpa");
    resolved_request_add(request, "~", zone);
}

void resolved_request_add_reverse(struct resolved_request *request, const struct cidr *range)
{
    unsigned bits = range->address.family == ADDRESS_V4 ? 8 : 4, labels = (range->prefix + bits - 1) / bits;
    unsigned zones = 1u << (labels * bits - range->prefix);
    if (labels == 0 || zones > ZONES_MAX)
        return;
    struct address address = range->address;
    unsigned last = (labels - 1) * bits / 8; /* the byte of the last label */
    for (unsigned i = 0; i < zones; i++) {
        add_zone(request, &address, labels);
        address.bytes[last] = (uint8_t)(address.bytes[last] + (bits == 8 || labels % 2 == 0 ? 1 : 16));
    }
}
