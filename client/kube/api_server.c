/* How one handle is set up.
 *
 * tls-server-name: libcurl verifies the host of the URL, so the URL gets that name, CONNECT_TO leads the connection to
 * the server's own host, and a Host header names the latter, as kubectl does.
 *
 * The kubeconfig's CA replaces the machine's: CAINFO_BLOB replaces CAINFO only, so CAPATH has to go too. */
#include "client/kube/api_server.h"

#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "client/kube/api.h"
#include "client/kube/credential.h"
#include "client/kube/header.h"
#include "client/kube/proxy.h"
#include "common/mem.h"

#define USER_TIMEOUT_MS 15000 /* sent and not acknowledged for this long: the connection is dead */
#define KEEPALIVE_IDLE_S 15L
#define KEEPALIVE_INTERVAL_S 5L

struct url_parts {
    char *scheme, *host, *port, *path;
};

static void free_parts(struct url_parts *parts)
{
    curl_free(parts->scheme);
    curl_free(parts->host);
    curl_free(parts->port);
    curl_free(parts->path);
}

static bool split_url(struct url_parts *parts, const char *text)
{
    CURLU *url = curl_url();
    bool ok = url != NULL && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
              curl_url_get(url, CURLUPART_SCHEME, &parts->scheme, 0) == CURLUE_OK &&
              curl_url_get(url, CURLUPART_HOST, &parts->host, 0) == CURLUE_OK &&
              curl_url_get(url, CURLUPART_PORT, &parts->port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              curl_url_get(url, CURLUPART_PATH, &parts->path, 0) == CURLUE_OK;
    curl_url_cleanup(url);
    return ok;
}

/* Sets what differs with a tls-server-name. */
static int set_tls_name(struct api_server *server, const struct url_parts *parts)
{
    const char *name = server->config->tls_server_name;
    bool is_v6 = strchr(name, ':') != NULL;
    const char *open = is_v6 ? "[" : "", *close = is_v6 ? "]" : "";
    const char *path = strcmp(parts->path, "/") == 0 ? "" : parts->path;
    server->url = kt_asprintf("%s://%s%s%s:%s%s", parts->scheme, open, name, close, parts->port, path);
    server->host_header = kt_asprintf("Host: %s:%s", parts->host, parts->port);
    char *entry = kt_asprintf("%s%s%s:%s:%s:%s", open, name, close, parts->port, parts->host, parts->port);
    server->connect_to = entry == NULL ? NULL : curl_slist_append(NULL, entry);
    kt_free(entry);
    return server->url == NULL || server->host_header == NULL || server->connect_to == NULL ? -ENOMEM : 0;
}

/* An address as the server's host must stay out of the tunnel too, even when a proxy is dialled in its place. */
static int choose_proxy(struct api_server *server, const struct url_parts *parts)
{
    struct proxy_environment environment;
    char host[ADDRESS_STRLEN + 1] = "";
    size_t size = strlen(parts->host);
    bool has_brackets = size > 2 && parts->host[0] == '[' && size - 2 < sizeof host;
    if (has_brackets)
        memcpy(host, parts->host + 1, size - 2);
    const char *name = has_brackets ? host : parts->host;
    proxy_read_environment(&environment);
    server->proxy =
        proxy_choose(server->config->proxy_url, &environment, strcmp(parts->scheme, "https") == 0, name, parts->port);
    if (server->proxy == NULL)
        return -ENOMEM;
    if (server->proxy[0] != '\0' && address_parse(&server->peer[0], name) == 0)
        server->peers = 1;
    return 0;
}

int api_server_init(struct api_server *server, const struct kubeconfig *config, struct error *error)
{
    *server = (struct api_server){.config = config};
    struct url_parts parts = {0};
    int rc = 0;
    if (!split_url(&parts, config->server))
        rc = error_set(error, EXIT_CODE_KUBECONFIG, -EINVAL, "the server URL %s of cluster %s is not valid",
                       config->server, config->cluster);
    else if (config->tls_server_name != NULL && strcmp(parts.scheme, "https") == 0)
        rc = set_tls_name(server, &parts);
    else
        rc = (server->url = kt_strdup(config->server)) == NULL ? -ENOMEM : 0;
    if (rc == 0)
        rc = choose_proxy(server, &parts);
    free_parts(&parts);
    if (rc == -ENOMEM)
        (void)error_set(error, EXIT_CODE_FAILED, rc, "no memory");
    if (rc != 0)
        api_server_deinit(server);
    return rc;
}

void api_server_deinit(struct api_server *server)
{
    kt_free(server->url);
    kt_free(server->host_header);
    kt_free_secret(server->proxy, server->proxy == NULL ? 0 : strlen(server->proxy));
    curl_slist_free_all(server->connect_to);
    *server = (struct api_server){0};
}

static bool address_of(struct address *out, const struct sockaddr *from)
{
    if (from->sa_family == AF_INET)
        *out = address_from_bytes(ADDRESS_V4,
                                  (const uint8_t *)&((const struct sockaddr_in *)(const void *)from)->sin_addr);
    else if (from->sa_family == AF_INET6)
        *out = address_from_bytes(ADDRESS_V6,
                                  (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)from)->sin6_addr);
    else
        return false;
    return true;
}

static void remember(struct api_server *server, const struct sockaddr *to)
{
    struct address address;
    if (!address_of(&address, to))
        return;
    for (size_t i = 0; i < server->peers; i++) {
        if (address_equal(&server->peer[i], &address))
            return;
    }
    if (server->peers < API_PEERS_MAX)
        server->peer[server->peers++] = address;
}

/* The server's host may be a name server of this machine too, whose address is routed into the tunnel. */
static void bind_to_device(const struct api_server *server, int fd, const struct sockaddr *to)
{
    struct address address;
    const char *device = NULL;
    if (server->device_of != NULL && address_of(&address, to))
        device = server->device_of(server->device_context, &address);
    if (device != NULL) /* where it fails, the datapath sends what comes by the tunnel's device the right way */
        (void)setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device));
}

/* libcurl's own socket() leaves the fd to every child. */
static curl_socket_t on_open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *to)
{
    (void)purpose;
    int fd = socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    unsigned timeout = USER_TIMEOUT_MS;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
    remember(context, &to->addr);
    bind_to_device(context, fd, &to->addr);
    return fd;
}

static bool set_blob(CURL *easy, CURLoption option, const struct kubeconfig_blob *from)
{
    struct curl_blob blob = {.data = from->data, .len = from->size, .flags = CURL_BLOB_COPY};
    return from->size == 0 || curl_easy_setopt(easy, option, &blob) == CURLE_OK;
}

static bool set_tls(CURL *easy, const struct kubeconfig *config)
{
    long verify = config->insecure ? 0 : 1;
    return curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, verify) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2 * verify) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) == CURLE_OK &&
           set_blob(easy, CURLOPT_CAINFO_BLOB, &config->ca) &&
           (config->ca.size == 0 || curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) == CURLE_OK);
}

/* A proxy by https is verified as the server is (Go's http.Transport has one TLS configuration for both). */
static bool set_proxy(CURL *easy, const struct api_server *server)
{
    const struct kubeconfig *config = server->config;
    long verify = config->insecure ? 0 : 1;
    return curl_easy_setopt(easy, CURLOPT_PROXY, server->proxy) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOPROXY, "") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROXY_SSL_VERIFYPEER, verify) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROXY_SSL_VERIFYHOST, 2 * verify) == CURLE_OK &&
           set_blob(easy, CURLOPT_PROXY_CAINFO_BLOB, &config->ca) &&
           (config->ca.size == 0 || curl_easy_setopt(easy, CURLOPT_PROXY_CAPATH, NULL) == CURLE_OK);
}

static bool set_socket(CURL *easy, struct api_server *server)
{
    return curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, server) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CONNECT_TO, server->connect_to) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)API_CONNECT_MS) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_S) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
}

/* HTTP/1.1: what a port-forward needs (libcurl 7.88.1 crashes in curl_easy_recv() when ALPN picked h2); api.c changes
 * it for its own requests. */
static bool set_http(CURL *easy, const char *url)
{
    return curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https,http") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_USERAGENT, "ktvpn/" KTVPN_VERSION) == CURLE_OK;
}

void *api_server_new_easy(struct api_server *server, const struct credential_value *login, const char *path,
                          struct curl_slist **headers)
{
    *headers = NULL;
    CURL *easy = curl_easy_init();
    char *url = kt_asprintf("%s%s", server->url, path);
    bool ok = easy != NULL && url != NULL && set_http(easy, url) && set_socket(easy, server) &&
              set_tls(easy, server->config) && set_proxy(easy, server) &&
              set_blob(easy, CURLOPT_SSLCERT_BLOB, login->certificate) &&
              set_blob(easy, CURLOPT_SSLKEY_BLOB, login->key) && header_add_token(headers, login->token) &&
              header_add_impersonation(headers, server->config);
    kt_free(url);
    if (ok)
        return easy;
    header_free_all(*headers);
    *headers = NULL;
    curl_easy_cleanup(easy);
    return NULL;
}
