#include "client/kube/upgrade_request.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "common/mem.h"

int upgrade_request_init(struct upgrade_request *request, const char *protocol)
{
    *request = (struct upgrade_request){.protocol = protocol};
    websocket_new_key(request->key);
    request->headers = kt_strdup("User-Agent: ktvpn/" KTVPN_VERSION "\r\n");
    return request->headers == NULL ? -ENOMEM : 0;
}

void upgrade_request_deinit(struct upgrade_request *request)
{
    kt_free(request->host);
    kt_free_secret(request->headers, request->headers == NULL ? 0 : strlen(request->headers));
    request->host = request->headers = NULL;
}

static int set_host(struct upgrade_request *request, const char *host)
{
    kt_free(request->host);
    request->host = kt_strdup(host);
    return request->host == NULL ? -ENOMEM : 0;
}

int upgrade_request_add_header(struct upgrade_request *request, const char *line)
{
    static const char host[] = "Host: ";
    size_t size = strlen(line);
    if (strpbrk(line, "\r\n") != NULL)
        return -EINVAL;
    const char *colon = strchr(line, ':');
    bool is_empty = colon == NULL && size > 0 && line[size - 1] == ';';
    if (!is_empty && (colon == NULL || colon[1 + strspn(colon + 1, " \t")] == '\0'))
        return 0;
    if (strncasecmp(line, host, sizeof host - 1) == 0)
        return set_host(request, line + sizeof host - 1);
    char *longer = is_empty ? kt_asprintf("%s%.*s: \r\n", request->headers, (int)size - 1, line)
                            : kt_asprintf("%s%s\r\n", request->headers, line);
    if (longer == NULL)
        return -ENOMEM;
    kt_free_secret(request->headers, strlen(request->headers));
    request->headers = longer;
    return 0;
}

/* Splits "https://user@host:port/path?query". NULL: no memory. */
static char *split_url(const char *url, const char **target)
{
    const char *start = strstr(url, "://");
    start = start == NULL ? url : start + strlen("://");
    size_t size = strcspn(start, "/");
    const char *at = memchr(start, '@', size);
    *target = start + size;
    if (at != NULL)
        start = at + 1;
    return kt_strndup(start, (size_t)(*target - start));
}

char *upgrade_request_text(const struct upgrade_request *request, const char *url)
{
    const char *target;
    char *host = split_url(url, &target);
    if (host == NULL)
        return NULL;
    char *text = kt_asprintf("GET %s HTTP/1.1\r\n"
                             "Host: %s\r\n"
                             "Connection: Upgrade\r\n"
                             "Upgrade: websocket\r\n"
                             "Sec-WebSocket-Version: 13\r\n"
                             "Sec-WebSocket-Key: %s\r\n"
                             "Sec-WebSocket-Protocol: %s\r\n"
                             "%s\r\n",
                             target, request->host != NULL ? request->host : host, request->key, request->protocol,
                             request->headers);
    kt_free(host);
    return text;
}
