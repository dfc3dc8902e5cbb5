#include "client/kube/header.h"

#include <curl/curl.h>
#include <sodium.h>
#include <string.h>

#include "client/kube/kubeconfig.h"
#include "common/mem.h"

bool header_is_token(const char *text)
{
    if (text[0] == '\0')
        return false;
    while ((unsigned char)*text > ' ' && (unsigned char)*text < 0x7f)
        text++;
    return *text == '\0';
}

bool header_is_value(const char *text)
{
    while ((unsigned char)*text >= ' ' ? *text != 0x7f : *text == '\t')
        text++;
    return *text == '\0';
}

static bool append(struct curl_slist **list, char *line)
{
    struct curl_slist *longer = line == NULL ? NULL : curl_slist_append(*list, line);
    if (longer != NULL)
        *list = longer;
    kt_free_secret(line, line == NULL ? 0 : strlen(line));
    return longer != NULL;
}

/* "Name;" is libcurl's way to send an empty one. */
bool header_add(struct curl_slist **list, const char *name, const char *value)
{
    value += strspn(value, " \t");
    return append(list, value[0] == '\0' ? kt_asprintf("%s;", name) : kt_asprintf("%s: %s", name, value));
}

bool header_add_token(struct curl_slist **list, const char *token)
{
    return token == NULL || append(list, kt_asprintf("Authorization: Bearer %s", token));
}

/* RFC 9110's token characters without '%', which the server undoes. */
static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$&'*+-.^_`|~", c) != NULL);
}

/* "Impersonate-Extra-" and the escaped key. */
static char *extra_name(const char *key)
{
    static const char prefix[] = "Impersonate-Extra-", hex[] = "0123456789ABCDEF";
    size_t at = sizeof prefix - 1;
    char *name = kt_calloc(1, at + 3 * strlen(key) + 1);
    if (name == NULL)
        return NULL;
    memcpy(name, prefix, at);
    for (; *key != '\0'; key++) {
        unsigned char c = (unsigned char)*key;
        if (is_plain(*key)) {
            name[at++] = *key;
            continue;
        }
        name[at++] = '%';
        name[at++] = hex[c >> 4];
        name[at++] = hex[c & 15];
    }
    return name;
}

static bool add_extra(struct curl_slist **list, const struct kubeconfig_extra *extra)
{
    char *name = extra_name(extra->key);
    bool ok = name != NULL;
    for (size_t i = 0; ok && i < extra->values.count; i++)
        ok = header_add(list, name, extra->values.text[i]);
    kt_free(name);
    return ok;
}

bool header_add_impersonation(struct curl_slist **list, const struct kubeconfig *config)
{
    const struct kubeconfig_impersonation *as = &config->as;
    if (as->user == NULL)
        return true;
    bool ok = header_add(list, "Impersonate-User", as->user) &&
              (as->uid == NULL || header_add(list, "Impersonate-Uid", as->uid));
    for (size_t i = 0; ok && i < as->groups.count; i++)
        ok = header_add(list, "Impersonate-Group", as->groups.text[i]);
    for (size_t i = 0; ok && i < as->extras_count; i++)
        ok = add_extra(list, &as->extras[i]);
    return ok;
}

void header_free_all(struct curl_slist *list)
{
    for (struct curl_slist *at = list; at != NULL; at = at->next)
        sodium_memzero(at->data, strlen(at->data));
    curl_slist_free_all(list);
}
