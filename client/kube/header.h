/* What may stand in a request's header line, and the lines that log in and impersonate
 * (k8s.io/client-go/transport/round_trippers.go). For libcurl's list of headers. */
#ifndef KTVPN_CLIENT_KUBE_HEADER_H
#define KTVPN_CLIENT_KUBE_HEADER_H

#include <stdbool.h>

#include "common/compiler.h"

struct curl_slist;
struct kubeconfig;

/* A bearer token: printable ASCII without a blank, not empty. */
bool header_is_token(const char *text);
/* A value as Go's net/http takes it: no control character but a tab. */
bool header_is_value(const char *text);

/* Each appends to *list; false: no memory, and *list is as it was. */
KT_MUST_USE bool header_add(struct curl_slist **list, const char *name, const char *value);
KT_MUST_USE bool header_add_token(struct curl_slist **list, const char *token); /* NULL: nothing is added */
/* Impersonate-User, -Uid, -Group and -Extra-*, as `config` has them; names are escaped as client-go does. */
KT_MUST_USE bool header_add_impersonation(struct curl_slist **list, const struct kubeconfig *config);

/* Wipes them first: there may be a token. NULL is fine. */
void header_free_all(struct curl_slist *list);

#endif
