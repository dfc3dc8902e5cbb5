#include "client/kube/proxy.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/cidr.h"
#include "common/mem.h"

#define ENTRY_MAX 256

static const char *of_scheme(const char *text, const char *scheme)
{
    size_t size = strlen(scheme);
    return strncasecmp(text, scheme, size) == 0 && text[size] != '\0' && text[size] != '/' ? text + size : NULL;
}

bool proxy_is_url(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at <= ' ' || *at == 0x7f)
            return false;
    }
    return of_scheme(text, "http://") != NULL || of_scheme(text, "https://") != NULL ||
           of_scheme(text, "socks5://") != NULL;
}

static const char *read_variable(const char *upper, const char *lower)
{
    const char *value = getenv(upper);
    return value != NULL && value[0] != '\0' ? value : getenv(lower);
}

void proxy_read_environment(struct proxy_environment *out)
{
    out->http = read_variable("HTTP_PROXY", "http_proxy");
    out->https = read_variable("HTTPS_PROXY", "https_proxy");
    out->none = read_variable("NO_PROXY", "no_proxy");
}

static bool is_loopback(const char *host)
{
    struct address address;
    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (address_parse(&address, host) != 0)
        return false;
    return address_is_loopback(&address);
}

static bool is_in_range(const char *host, const char *range)
{
    struct cidr cidr;
    struct address address;
    return address_parse(&address, host) == 0 && cidr_parse(&cidr, range) == 0 && cidr_contains(&cidr, &address);
}

/* "example.com" takes the name and all below it, ".example.com" and "*.example.com" only what is below. */
static bool is_in_domain(const char *host, const char *domain)
{
    bool is_below_only = domain[0] == '.' || strncmp(domain, "*.", 2) == 0;
    domain += strspn(domain, "*");
    domain += domain[0] == '.';
    size_t host_size = strlen(host), size = strlen(domain);
    if (size == 0 || host_size < size || strcasecmp(host + host_size - size, domain) != 0)
        return false;
    return host_size == size ? !is_below_only : host[host_size - size - 1] == '.';
}

/* Cuts "host:port" and "[host]:port"; true: the port does not fit. */
static bool cut_port(char *entry, const char *port)
{
    char *colon = strrchr(entry, ':');
    bool has_brackets = entry[0] == '[', is_v6 = !has_brackets && colon != NULL && strchr(entry, ':') != colon;
    bool is_other = false;
    if (colon != NULL && !is_v6 && (!has_brackets || colon[-1] == ']')) {
        is_other = strcmp(colon + 1, port) != 0;
        *colon = '\0';
    }
    size_t size = strlen(entry);
    if (has_brackets && size > 1 && entry[size - 1] == ']') {
        memmove(entry, entry + 1, size - 2);
        entry[size - 2] = '\0';
    }
    return is_other;
}

static bool matches(char *entry, const char *host, const char *port)
{
    if (strcmp(entry, "*") == 0)
        return true;
    if (strchr(entry, '/') != NULL)
        return is_in_range(host, entry);
    return !cut_port(entry, port) && is_in_domain(host, entry);
}

static bool is_excepted(const char *list, const char *host, const char *port)
{
    static const char blanks[] = " \t";
    while (list != NULL && *list != '\0') {
        char entry[ENTRY_MAX];
        size_t whole = strcspn(list, ","), skip = KT_MIN(whole, strspn(list, blanks)), size = whole - skip;
        while (size > 0 && strchr(blanks, list[skip + size - 1]) != NULL)
            size--;
        if (size > 0 && size < sizeof entry) {
            memcpy(entry, list + skip, size);
            entry[size] = '\0';
            if (matches(entry, host, port))
                return true;
        }
        list += whole + (list[whole] == ',');
    }
    return false;
}

/* Go's socks5 lets the proxy resolve the name, which libcurl calls socks5h. */
static char *for_libcurl(const char *url)
{
    const char *rest = of_scheme(url, "socks5://");
    if (rest != NULL)
        return kt_asprintf("socks5h://%s", rest);
    return proxy_is_url(url) || strstr(url, "://") != NULL ? kt_strdup(url) : kt_asprintf("http://%s", url);
}

char *proxy_choose(const char *proxy_url, const struct proxy_environment *environment, bool is_https, const char *host,
                   const char *port)
{
    if (proxy_url != NULL && proxy_url[0] != '\0')
        return for_libcurl(proxy_url);
    const char *url = is_https ? environment->https : environment->http;
    if (url == NULL || url[0] == '\0' || is_loopback(host) || is_excepted(environment->none, host, port))
        return kt_strdup("");
    return for_libcurl(url);
}
