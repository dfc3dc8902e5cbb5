/* Which proxy leads to the API server: the kubeconfig's proxy-url, else the environment's, as Go's net/http and
 * golang.org/x/net/http/httpproxy choose it. libcurl's own choice differs (ALL_PROXY, only a lower-case http_proxy,
 * proxies for localhost), so it is told. */
#ifndef KTVPN_CLIENT_KUBE_PROXY_H
#define KTVPN_CLIENT_KUBE_PROXY_H

#include <stdbool.h>

#include "common/compiler.h"

/* http, https or socks5, with a host. */
bool proxy_is_url(const char *text);

struct proxy_environment {
    const char *http, *https, *none; /* HTTP_PROXY, HTTPS_PROXY, NO_PROXY; NULL or empty: not set */
};
/* Of this process: the upper-case name, else the lower-case one. */
void proxy_read_environment(struct proxy_environment *out);

/* What CURLOPT_PROXY gets: "" is no proxy. Freed with kt_free_secret(); NULL: no memory. `host` without brackets. */
KT_MUST_USE char *proxy_choose(const char *proxy_url, const struct proxy_environment *environment, bool is_https,
                               const char *host, const char *port);

#endif
