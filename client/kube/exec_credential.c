#include "client/kube/exec_credential.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/kube/header.h"
#include "common/mem.h"

#define KIND "ExecCredential"

/* ---- time ---- */

static bool digits(const char **at, int count, int *out)
{
    *out = 0;
    for (int i = 0; i < count; i++, ++*at) {
        if (**at < '0' || **at > '9')
            return false;
        *out = *out * 10 + (**at - '0');
    }
    return true;
}

static bool literal(const char **at, char c)
{
    if (**at != c)
        return false;
    ++*at;
    return true;
}

/* "Z", "+01:00" */
static bool zone(const char **at, int *seconds)
{
    int hours, minutes, sign = **at == '-' ? -1 : 1;
    *seconds = 0;
    if (literal(at, 'Z'))
        return true;
    if (!literal(at, '+') && !literal(at, '-'))
        return false;
    if (!digits(at, 2, &hours) || !literal(at, ':') || !digits(at, 2, &minutes) || hours > 24 || minutes > 60)
        return false;
    *seconds = sign * (hours * 3600 + minutes * 60);
    return true;
}

static bool fraction(const char **at)
{
    if (!literal(at, '.') && !literal(at, ','))
        return true;
    size_t count = strspn(*at, "0123456789");
    *at += count;
    return count > 0;
}

int exec_credential_time(int64_t *out_s, const char *text)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    struct tm tm = {0};
    int offset;
    bool ok = digits(&text, 4, &tm.tm_year) && literal(&text, '-') && digits(&text, 2, &tm.tm_mon) &&
              literal(&text, '-') && digits(&text, 2, &tm.tm_mday) && literal(&text, 'T') &&
              digits(&text, 2, &tm.tm_hour) && literal(&text, ':') && digits(&text, 2, &tm.tm_min) &&
              literal(&text, ':') && digits(&text, 2, &tm.tm_sec) && fraction(&text) && zone(&text, &offset);
    if (!ok || *text != '\0' || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59)
        return -EBADMSG;
    bool is_leap = (tm.tm_year % 4 == 0 && tm.tm_year % 100 != 0) || tm.tm_year % 400 == 0;
    if (tm.tm_mday < 1 || tm.tm_mday > days[tm.tm_mon - 1] + (tm.tm_mon == 2 && is_leap))
        return -EBADMSG;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *out_s = (int64_t)timegm(&tm) - offset;
    return 0;
}

/* ---- an answer ---- */

/* NULL: not there, null, or empty. A value that is no text makes *is_bad. */
static const char *text_of(const cJSON *map, const char *key, bool *is_bad)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(map, key);
    if (item == NULL || cJSON_IsNull(item))
        return NULL;
    const char *text = cJSON_GetStringValue(item);
    *is_bad |= text == NULL;
    return text != NULL && text[0] != '\0' ? text : NULL;
}

static int copy_blob(struct kubeconfig_blob *out, const char *text)
{
    if (text == NULL)
        return 0;
    out->data = (uint8_t *)kt_strdup(text);
    out->size = out->data == NULL ? 0 : strlen(text);
    return out->data == NULL ? -ENOMEM : 0;
}

static const char *take_status(struct exec_credential *out, const cJSON *status, int *rc)
{
    bool is_bad = false;
    const char *token = text_of(status, "token", &is_bad);
    const char *certificate = text_of(status, "clientCertificateData", &is_bad);
    const char *key = text_of(status, "clientKeyData", &is_bad);
    const char *expires = text_of(status, "expirationTimestamp", &is_bad);
    if (is_bad)
        return "answered with a status whose fields are no texts";
    if (token == NULL && certificate == NULL && key == NULL)
        return "answered without a token or a certificate and key";
    if ((certificate == NULL) != (key == NULL))
        return "answered with only one of certificate and key";
    if (token != NULL && !header_is_token(token))
        return "answered with a token that has bytes that no token has";
    out->expires = expires != NULL;
    if (expires != NULL && exec_credential_time(&out->expires_s, expires) != 0)
        return "answered with an expirationTimestamp that is no time";
    out->token = token == NULL ? NULL : kt_strdup(token);
    if ((token != NULL && out->token == NULL) || copy_blob(&out->certificate, certificate) != 0 ||
        copy_blob(&out->key, key) != 0)
        *rc = -ENOMEM;
    return NULL;
}

static const char *take(struct exec_credential *out, const cJSON *json, const char *api_version, int *rc)
{
    bool is_bad = false;
    if (!cJSON_IsObject(json))
        return "answered with something that is no JSON object";
    const char *kind = text_of(json, "kind", &is_bad), *version = text_of(json, "apiVersion", &is_bad);
    if (kind == NULL || strcmp(kind, KIND) != 0)
        return "answered with something that is no ExecCredential";
    if (version == NULL || strcmp(version, api_version) != 0)
        return "answered in another apiVersion than the kubeconfig names";
    const cJSON *status = cJSON_GetObjectItemCaseSensitive(json, "status");
    if (!cJSON_IsObject(status))
        return "answered without a status";
    return take_status(out, status, rc);
}

/* cJSON's memory: wiped where a secret was. */
static void wipe(const cJSON *status)
{
    static const char *const keys[] = {"token", "clientKeyData"};
    for (size_t i = 0; i < KT_ARRAY_LEN(keys); i++) {
        char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(status, keys[i]));
        if (text != NULL)
            sodium_memzero(text, strlen(text));
    }
}

int exec_credential_parse(struct exec_credential *out, const char *text, size_t size, const char *api_version,
                          const char **why)
{
    *out = (struct exec_credential){0};
    int rc = 0;
    cJSON *json = size > EXEC_CREDENTIAL_MAX ? NULL : cJSON_ParseWithLength(text, size);
    *why = json == NULL ? "answered with something that is no JSON" : take(out, json, api_version, &rc);
    wipe(cJSON_GetObjectItemCaseSensitive(json, "status"));
    cJSON_Delete(json);
    if (*why != NULL)
        rc = -EBADMSG;
    if (rc != 0)
        exec_credential_deinit(out);
    return rc;
}

void exec_credential_deinit(struct exec_credential *credential)
{
    kt_free_secret(credential->token, credential->token == NULL ? 0 : strlen(credential->token));
    kt_free(credential->certificate.data);
    kt_free_secret(credential->key.data, credential->key.size);
    *credential = (struct exec_credential){0};
}

/* ---- what the plugin is told ---- */

static bool add_ca(cJSON *cluster, const struct kubeconfig_blob *ca)
{
    if (ca->size == 0)
        return true;
    size_t size = sodium_base64_encoded_len(ca->size, sodium_base64_VARIANT_ORIGINAL);
    char *text = kt_calloc(1, size);
    if (text == NULL)
        return false;
    (void)sodium_bin2base64(text, size, ca->data, ca->size, sodium_base64_VARIANT_ORIGINAL);
    bool ok = cJSON_AddStringToObject(cluster, "certificate-authority-data", text) != NULL;
    kt_free(text);
    return ok;
}

static bool add_cluster(cJSON *spec, const struct kubeconfig *config)
{
    const char *extension = config->exec->cluster_config;
    cJSON *cluster = cJSON_AddObjectToObject(spec, "cluster");
    cJSON *extra = extension == NULL ? NULL : cJSON_Parse(extension);
    bool ok = cluster != NULL && cJSON_AddStringToObject(cluster, "server", config->server) != NULL &&
              (config->tls_server_name == NULL ||
               cJSON_AddStringToObject(cluster, "tls-server-name", config->tls_server_name) != NULL) &&
              (!config->insecure || cJSON_AddTrueToObject(cluster, "insecure-skip-tls-verify") != NULL) &&
              add_ca(cluster, &config->ca) &&
              (config->proxy_url == NULL || cJSON_AddStringToObject(cluster, "proxy-url", config->proxy_url) != NULL) &&
              cJSON_AddItemToObject(cluster, "config", extra != NULL ? extra : cJSON_CreateNull());
    return ok;
}

char *exec_credential_info(const struct kubeconfig *config, bool is_interactive)
{
    cJSON *json = cJSON_CreateObject(), *spec;
    bool ok = cJSON_AddStringToObject(json, "kind", KIND) != NULL &&
              cJSON_AddStringToObject(json, "apiVersion", config->exec->api_version) != NULL &&
              (spec = cJSON_AddObjectToObject(json, "spec")) != NULL &&
              (!config->exec->wants_cluster || add_cluster(spec, config)) &&
              cJSON_AddBoolToObject(spec, "interactive", is_interactive) != NULL;
    char *text = ok ? cJSON_PrintUnformatted(json) : NULL, *copy = text == NULL ? NULL : kt_strdup(text);
    cJSON_free(text);
    cJSON_Delete(json);
    return copy;
}
