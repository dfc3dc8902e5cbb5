/* One API server as libcurl sees it: makes easy handles with its URL, TLS, authentication and time-outs, and remembers
 * the addresses that they dialled. Used by api.c only. */
#ifndef KTVPN_CLIENT_KUBE_API_SERVER_H
#define KTVPN_CLIENT_KUBE_API_SERVER_H

#include "client/error.h"
#include "client/kube/kubeconfig.h"
#include "common/address.h"

#define API_PEERS_MAX 32 /* the newest are dropped beyond it */

struct curl_slist;
struct credential_value;

struct api_server {
    const struct kubeconfig *config;
    char *url;         /* "https://name:port/prefix": with the name that TLS verifies */
    char *host_header; /* "Host: ..." when that is not the server's own name; else NULL */
    char *proxy;       /* CURLOPT_PROXY: "" is none */
    struct curl_slist *connect_to;
    struct address peer[API_PEERS_MAX];
    size_t peers;
    const char *(*device_of)(void *context, const struct address *to); /* may be NULL */
    void *device_context;
};

/* 0, -ENOMEM, -EINVAL (a server URL that libcurl does not take). After an error there is nothing to deinit. */
KT_MUST_USE int api_server_init(struct api_server *server, const struct kubeconfig *config, struct error *error);
void api_server_deinit(struct api_server *server);

/* A new CURL easy handle that logs in by `login`; *headers gets its headers, not set yet (free them with
 * header_free_all()). The server must stay where it is for as long as the handle dials. NULL: no memory. */
void *api_server_new_easy(struct api_server *server, const struct credential_value *login, const char *path,
                          struct curl_slist **headers);

/* What a failed CURLcode means to the user. `detail`: CURLOPT_ERRORBUFFER's text, or "". Returns a negative errno. */
struct api_failure {
    void *easy;
    int code;
    const char *detail, *what;
};
int api_server_error(const struct api_server *server, const struct api_failure *failure, struct error *error);

#endif
