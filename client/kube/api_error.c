/* What a failed request means to the user: which of the many ways to fail it was, and what to do about it. */
#include "client/kube/api_server.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/kube/api.h"
#include "common/log.h"

#define MESSAGE_MAX 700 /* of the server's own words */
#define DETAIL_MAX 256

/* CURLINFO_SSL_VERIFYRESULT: X509_V_ERR_* of OpenSSL's x509_vfy.h, part of its ABI. */
enum verify_result {
    VERIFY_OK = 0,
    VERIFY_UNSPECIFIED = 1, /* libcurl compared the names before it asked OpenSSL */
    VERIFY_NO_ISSUER = 2,
    VERIFY_SIGNATURE =
        7, /* an issuer of that name, but another key: a second cluster whose CA is also called "kubernetes" */
    VERIFY_NOT_YET_VALID = 9,
    VERIFY_EXPIRED = 10,
    VERIFY_SELF_SIGNED = 18,
    VERIFY_SELF_SIGNED_IN_CHAIN = 19,
    VERIFY_NO_LOCAL_ISSUER = 20,
    VERIFY_LEAF = 21,
    VERIFY_REVOKED = 23,
    VERIFY_HOST = 62,
    VERIFY_ADDRESS = 64
};

static int set_reason(struct error *error, enum exit_code code, int rc, const char *what, const char *reason)
{
    return error_set(error, code, rc, "cannot %s: %s", what, reason);
}

static int untrusted(const struct api_server *server, const struct api_failure *failure, struct error *error)
{
    const struct kubeconfig *config = server->config;
    bool has_ca = config->ca.size > 0;
    return error_set(error, EXIT_CODE_TLS, -EKEYREJECTED, "cannot %s: the certificate of %s is not signed by %s; %s",
                     failure->what, config->server,
                     has_ca ? "the CA that the kubeconfig names" : "a CA that this machine trusts",
                     has_ca ? "is it another cluster, or has its CA changed? Get a new kubeconfig"
                            : "the kubeconfig needs its certificate-authority");
}

static int other_name(const struct api_server *server, const struct api_failure *failure, struct error *error)
{
    const struct kubeconfig *config = server->config;
    char detail[DETAIL_MAX];
    return error_set(
        error, EXIT_CODE_TLS, -EKEYREJECTED,
        "cannot %s: the certificate of %s is for another name%s%s (%s); use a name that it is made for as the "
        "kubeconfig's server or tls-server-name",
        failure->what, config->server, config->tls_server_name != NULL ? " than tls-server-name " : "",
        config->tls_server_name != NULL ? config->tls_server_name : "",
        log_escape(detail, sizeof detail, failure->detail, strlen(failure->detail)));
}

static int not_verified(const struct api_server *server, const struct api_failure *failure, struct error *error)
{
    const char *url = server->config->server;
    char detail[DETAIL_MAX];
    long result = VERIFY_OK;
    (void)curl_easy_getinfo(failure->easy, CURLINFO_SSL_VERIFYRESULT, &result);
    switch (result) {
    case VERIFY_NO_ISSUER:
    case VERIFY_SIGNATURE:
    case VERIFY_SELF_SIGNED:
    case VERIFY_SELF_SIGNED_IN_CHAIN:
    case VERIFY_NO_LOCAL_ISSUER:
    case VERIFY_LEAF:
        return untrusted(server, failure, error);
    case VERIFY_OK:
    case VERIFY_UNSPECIFIED:
    case VERIFY_HOST:
    case VERIFY_ADDRESS:
        return other_name(server, failure, error);
    case VERIFY_EXPIRED:
        return error_set(
            error, EXIT_CODE_TLS, -EKEYEXPIRED,
            "cannot %s: the certificate of %s has expired; it must be renewed on the cluster (or this machine's clock "
            "is wrong)",
            failure->what, url);
    case VERIFY_NOT_YET_VALID:
        return error_set(error, EXIT_CODE_TLS, -EKEYREJECTED,
                         "cannot %s: the certificate of %s is not valid yet; is this machine's clock right?",
                         failure->what, url);
    case VERIFY_REVOKED:
        return error_set(error, EXIT_CODE_TLS, -EKEYREVOKED, "cannot %s: the certificate of %s is revoked",
                         failure->what, url);
    default:
        return error_set(error, EXIT_CODE_TLS, -EKEYREJECTED, "cannot %s: the certificate of %s cannot be verified: %s",
                         failure->what, url,
                         log_escape(detail, sizeof detail, failure->detail, strlen(failure->detail)));
    }
}

/* In libcurl's and OpenSSL's words. */
static bool is_end_of_connection(const char *text)
{
    return strstr(text, "SSL_ERROR_SYSCALL") != NULL || strstr(text, "Connection reset") != NULL ||
           strstr(text, "Broken pipe") != NULL || strstr(text, "unexpected eof") != NULL;
}

/* An alert is the server's word about our side of the handshake; with TLS 1.3 it comes when we read. */
static int broken(const struct api_server *server, const struct api_failure *failure, struct error *error)
{
    const char *url = server->config->server, *text = failure->detail;
    char detail[DETAIL_MAX];
    (void)log_escape(detail, sizeof detail, text, strlen(text));
    if (strstr(text, "wrong version number") != NULL || strstr(text, "packet length too long") != NULL)
        return error_set(error, EXIT_CODE_TLS, -EPROTO, "cannot %s: %s does not speak TLS; is its port right?",
                         failure->what, url);
    if (strstr(text, "alert") != NULL && (strstr(text, "cert") != NULL || strstr(text, "unknown ca") != NULL))
        return error_set(error, EXIT_CODE_TLS, -EKEYREJECTED,
                         "cannot %s: %s refused our client certificate (%s); get a new kubeconfig", failure->what, url,
                         detail);
    if (failure->code == CURLE_SSL_CONNECT_ERROR && is_end_of_connection(text))
        return error_set(error, EXIT_CODE_UNREACHABLE, -ECONNRESET,
                         "cannot %s: %s ended the connection before TLS was agreed on (%s); is the API server up, and "
                         "known to the load balancer before it?",
                         failure->what, url, detail);
    if (failure->code == CURLE_SSL_CONNECT_ERROR)
        return error_set(error, EXIT_CODE_TLS, -EPROTO, "cannot %s: no TLS connection to %s: %s", failure->what, url,
                         detail);
    return error_set(error, EXIT_CODE_UNREACHABLE, -ECONNRESET, "cannot %s: the connection to %s broke (%s)",
                     failure->what, url, detail[0] != '\0' ? detail : curl_easy_strerror((CURLcode)failure->code));
}

static int not_connected(const struct api_server *server, const struct api_failure *failure, struct error *error)
{
    long number = 0;
    (void)curl_easy_getinfo(failure->easy, CURLINFO_OS_ERRNO, &number);
    if (number == ECONNREFUSED)
        return error_set(error, EXIT_CODE_UNREACHABLE, -ECONNREFUSED,
                         "cannot %s: %s refuses the connection; is the cluster up, and the address right?",
                         failure->what, server->config->server);
    return error_set(error, EXIT_CODE_UNREACHABLE, number > 0 ? -(int)number : -EHOSTUNREACH,
                     "cannot %s: no connection to %s: %s; is this machine in the right network?", failure->what,
                     server->config->server, number > 0 ? strerror((int)number) : "unreachable");
}

static int own_pem(const struct api_server *server, const struct api_failure *failure, struct error *error)
{
    char detail[DETAIL_MAX];
    bool is_ca = failure->code == CURLE_SSL_CACERT_BADFILE;
    return error_set(error, EXIT_CODE_KUBECONFIG, -EINVAL, "cannot %s: the kubeconfig's %s of %s %s cannot be used: %s",
                     failure->what, is_ca ? "certificate-authority" : "client certificate or key",
                     is_ca ? "cluster" : "user", is_ca ? server->config->cluster : server->config->user,
                     log_escape(detail, sizeof detail, failure->detail, strlen(failure->detail)));
}

int api_server_error(const struct api_server *server, const struct api_failure *failure, struct error *error)
{
    const char *url = server->config->server;
    char detail[DETAIL_MAX];
    switch (failure->code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return error_set(error, EXIT_CODE_UNREACHABLE, -EHOSTUNREACH,
                         "cannot %s: the name of %s does not resolve; is it right, and does this machine's DNS work?",
                         failure->what, failure->code == CURLE_COULDNT_RESOLVE_HOST ? url : "the proxy");
    case CURLE_COULDNT_CONNECT:
        return not_connected(server, failure, error);
    case CURLE_OPERATION_TIMEDOUT:
        return error_set(error, EXIT_CODE_UNREACHABLE, -ETIMEDOUT,
                         "cannot %s: %s does not answer; is the cluster up, and this machine in the right network?",
                         failure->what, url);
    case CURLE_PEER_FAILED_VERIFICATION:
        return not_verified(server, failure, error);
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
        return own_pem(server, failure, error);
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return broken(server, failure, error);
    case CURLE_OUT_OF_MEMORY:
        return set_reason(error, EXIT_CODE_FAILED, -ENOMEM, failure->what, "no memory");
    case CURLE_WRITE_ERROR: /* ours: see API_BODY_MAX and API_LINE_MAX */
        return set_reason(error, EXIT_CODE_FAILED, -EMSGSIZE, failure->what, "the API server's answer is too large");
    default:
        (void)log_escape(detail, sizeof detail, failure->detail, strlen(failure->detail));
        return error_set(error, EXIT_CODE_UNREACHABLE, -EIO, "cannot %s: %s: %s", failure->what, url,
                         detail[0] != '\0' ? detail : curl_easy_strerror((CURLcode)failure->code));
    }
}

struct status_rule {
    int status;
    enum exit_code code;
    int rc;
    const char *meaning;
};

static const struct status_rule *rule_of(int status)
{
    static const struct status_rule rules[] = {
        {401, EXIT_CODE_UNAUTHORIZED, -EACCES,
         "the API server does not accept the kubeconfig's credentials (401); has the token or client certificate "
         "expired? Log in again"},
        {403, EXIT_CODE_FORBIDDEN, -EACCES, "the API server forbids it (403)"},
        {404, EXIT_CODE_NOT_FOUND, -ENOENT, "not found (404)"},
        {409, EXIT_CODE_FAILED, -EEXIST, "conflict (409)"},
        {410, EXIT_CODE_FAILED, -ESTALE, "gone (410)"},
        {413, EXIT_CODE_FAILED, -EMSGSIZE, "too large for the API server (413)"},
        {422, EXIT_CODE_FAILED, -EINVAL, "the API server takes it as invalid (422)"},
        {429, EXIT_CODE_FAILED, -EAGAIN, "the API server is busy (429); try again later"},
        {502, EXIT_CODE_UNREACHABLE, -EIO, "the proxy before the API server gets no answer from it (502)"},
        {503, EXIT_CODE_UNREACHABLE, -EIO, "the API server is not available now (503)"},
        {504, EXIT_CODE_UNREACHABLE, -ETIMEDOUT, "the API server timed out (504)"},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(rules); i++) {
        if (rules[i].status == status)
            return &rules[i];
    }
    return NULL;
}

/* The server's own words: a Status's message, or what there is of a text. */
static void own_words(char out[static MESSAGE_MAX], const char *body, size_t size)
{
    struct cJSON *json = cJSON_ParseWithLength(body, size);
    const char *message = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "message"));
    if (message != NULL) {
        body = message;
        size = strlen(message);
    }
    while (size > 0 && strchr("\r\n ", body[size - 1]) != NULL)
        size--;
    (void)log_escape(out, MESSAGE_MAX, body, json != NULL && message == NULL ? 0 : size);
    cJSON_Delete(json);
}

int api_status_error(int status, const char *body, size_t size, const char *what, struct error *error)
{
    char words[MESSAGE_MAX] = "", other[64];
    if (body != NULL)
        own_words(words, body, size);
    const struct status_rule *rule = rule_of(status);
    (void)snprintf(other, sizeof other, "the API server answered %d", status);
    /* A 401's message is "Unauthorized" and no more. */
    bool is_said = words[0] != '\0' && status != 401;
    return error_set(error, rule != NULL ? rule->code : EXIT_CODE_FAILED, rule != NULL ? rule->rc : -EIO,
                     "cannot %s: %s%s%s", what, rule != NULL ? rule->meaning : other, is_said ? ": " : "",
                     is_said ? words : "");
}
