/* All questions are asked at once; the best answer to each wins when all are there. With the least rights (a Role in
 * one namespace) the dry run names the Service range and the pods of the namespace hint at the pod range. */
#include "client/kube/cluster_ranges.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "client/kube/json_path.h"
#include "common/mem.h"

#define PATH_MAX_SIZE 256
#define SEEN_PREFIX_V4 24 /* around a pod seen: the default size of a node's range (kube-controller-manager) */
#define SEEN_PREFIX_V6 64
#define DRY_RUN_ADDRESS "1.2.3.4" /* in no cluster's Service range */
#define DRY_RUN_ADDRESS_V6 "2001:db8::1:2:3:4"
#define SEEN_SERVICES_V4 24 /* around a Service seen */
#define SEEN_SERVICES_V6 112
#define SEEN_MAX 8 /* ranges of Services seen */

enum question { ASK_SERVICE_CIDRS, ASK_DRY_RUN, ASK_DRY_RUN_V6, ASK_SERVICES, ASK_NODES, ASK_PODS, QUESTIONS };

struct cluster_ranges_search {
    struct api *api;
    struct api_request *request[QUESTIONS];
    struct cidr_set answer[QUESTIONS];
    size_t open;
    bool was_answered;  /* any of them, whatever the answer: the server is there */
    struct error error; /* of a server that does not answer */
    char name_space[64];
    struct cluster_ranges result;
    void (*done)(void *context, const struct cluster_ranges *ranges, const struct error *error);
    void *context;
};

static int add_text(struct cidr_set *set, const char *text)
{
    struct cidr cidr;
    return text == NULL || cidr_parse(&cidr, text) != 0 ? -EBADMSG : cidr_set_add(set, &cidr);
}

static int add_around(struct cidr_set *set, const char *text)
{
    struct address address;
    if (text == NULL || address_parse(&address, text) != 0)
        return -EBADMSG;
    struct cidr cidr = cidr_around(&address, address.family == ADDRESS_V4 ? SEEN_PREFIX_V4 : SEEN_PREFIX_V6);
    return cidr_set_add(set, &cidr);
}

/* Adds each text of an array by `add`; what is no range is an error of the server's. */
static int add_each(struct cidr_set *set, const cJSON *array, int (*add)(struct cidr_set *set, const char *text))
{
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        int rc = add(set, cJSON_GetStringValue(item));
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* `path` of each item: an array of texts. */
static int add_items(struct cidr_set *set, const cJSON *list, const char *path)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, json_path_get(list, "items"))
    {
        int rc = add_each(set, json_path_get(item, path), add_text);
        if (rc != 0)
            return rc;
    }
    return set->count > 0 ? 0 : -ENOENT;
}

int cluster_ranges_of_service_cidrs(struct cidr_set *set, const struct cJSON *list)
{
    return add_items(set, list, "spec.cidrs");
}

int cluster_ranges_of_nodes(struct cidr_set *set, const struct cJSON *list)
{
    return add_items(set, list, "spec.podCIDRs");
}

/* "... The range of valid IPs is 10.222.0.0/16" (k8s.io/kubernetes/pkg/registry/core/service/ipallocator): the text
 * behind the last space. */
int cluster_ranges_of_dry_run(struct cidr_set *set, const char *message)
{
    static const char mark[] = "range of valid IPs is ";
    const char *found = strstr(message, mark);
    if (found == NULL)
        return -ENOENT;
    char text[CIDR_STRLEN];
    found += sizeof mark - 1;
    size_t size = strspn(found, "0123456789abcdefABCDEF.:/");
    while (size > 0 && found[size - 1] == '.') /* the end of a sentence */
        size--;
    if (size == 0 || size >= sizeof text)
        return -EBADMSG;
    memcpy(text, found, size);
    text[size] = '\0';
    return add_text(set, text);
}

static void widen(struct cidr *range, const struct address *address)
{
    while (!cidr_contains(range, address))
        *range = cidr_around(&range->address, (uint8_t)(range->prefix - 1));
}

/* Widened to hold the address, if that leaves it narrow enough to be one cluster's range. */
static bool can_hold(struct cidr *range, const struct address *address)
{
    struct cidr wide = *range;
    if (range->address.family != address->family)
        return false;
    widen(&wide, address);
    if (wide.prefix < (address->family == ADDRESS_V4 ? CLUSTER_RANGES_GUESS_V4 : CLUSTER_RANGES_GUESS_V6))
        return false;
    *range = wide;
    return true;
}

struct seen {
    struct cidr range[SEEN_MAX];
    size_t count;
};

/* A cluster may have several ranges, so what is too far from the others is the first of another one. */
static void see(struct seen *seen, const struct address *address)
{
    for (size_t i = 0; i < seen->count; i++) {
        if (can_hold(&seen->range[i], address))
            return;
    }
    if (seen->count < SEEN_MAX)
        seen->range[seen->count++] =
            cidr_around(address, address->family == ADDRESS_V4 ? SEEN_SERVICES_V4 : SEEN_SERVICES_V6);
}

static int see_service(struct seen *seen, const cJSON *service)
{
    const cJSON *ip;
    cJSON_ArrayForEach(ip, json_path_get(service, "spec.clusterIPs"))
    {
        struct address address;
        const char *text = cJSON_GetStringValue(ip);
        if (text == NULL || strcmp(text, "None") == 0)
            continue;
        if (address_parse(&address, text) != 0)
            return -EBADMSG;
        see(seen, &address);
    }
    return 0;
}

int cluster_ranges_of_services(struct cidr_set *set, const struct cJSON *list)
{
    struct seen seen = {.count = 0};
    const cJSON *item;
    cJSON_ArrayForEach(item, json_path_get(list, "items"))
    {
        if (see_service(&seen, item) != 0)
            return -EBADMSG;
    }
    int rc = seen.count == 0 ? -ENOENT : 0;
    for (size_t i = 0; rc == 0 && i < seen.count; i++)
        rc = cidr_set_add(set, &seen.range[i]);
    return rc;
}

int cluster_ranges_of_pods(struct cidr_set *set, const struct cJSON *list)
{
    const cJSON *pod, *ip;
    cJSON_ArrayForEach(pod, json_path_get(list, "items"))
    {
        if (json_path_is_true(pod, "spec.hostNetwork"))
            continue;
        cJSON_ArrayForEach(ip, json_path_get(pod, "status.podIPs"))
        {
            int rc = add_around(set, json_path_text(ip, "ip"));
            if (rc != 0)
                return rc;
        }
    }
    return set->count > 0 ? 0 : -ENOENT;
}

int cluster_ranges_learn(struct cluster_ranges *ranges, const struct address *service)
{
    if (!ranges->is_guess || service->family == ADDRESS_NONE || address_is_link_local(service))
        return 0;
    if (ranges->services.count == 0) {
        bool is_v4 = service->family == ADDRESS_V4;
        struct cidr around = cidr_around(service, is_v4 ? CLUSTER_RANGES_UNSEEN_V4 : SEEN_SERVICES_V6);
        ranges->services_from = "name server";
        return cidr_set_add(&ranges->services, &around);
    }
    for (size_t i = 0; i < ranges->services.count; i++) {
        struct cidr range = ranges->services.range[i];
        if (can_hold(&range, service))
            return cidr_set_add(&ranges->services, &range);
    }
    return 0;
}

int cluster_ranges_learn_pod(struct cluster_ranges *ranges, const struct address *pod)
{
    if (ranges->pods.count > 0 || pod->family == ADDRESS_NONE)
        return 0;
    struct cidr around = cidr_around(pod, pod->family == ADDRESS_V4 ? 24 : 64);
    ranges->pods_from = "agent's pod";
    return cidr_set_add(&ranges->pods, &around);
}

int cluster_ranges_learn_all(struct cluster_ranges *ranges, const struct address *pod, const struct address *servers,
                             size_t count)
{
    int rc = cluster_ranges_learn_pod(ranges, pod);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = cluster_ranges_learn(ranges, &servers[i]);
    return rc;
}

/* --- the search --------------------------------------------------------------------------------------------------- */

static int read_answer(enum question question, struct cidr_set *set, const struct api_response *response)
{
    switch (question) {
    case ASK_SERVICE_CIDRS:
        return cluster_ranges_of_service_cidrs(set, response->json);
    case ASK_DRY_RUN:
    case ASK_DRY_RUN_V6:
        return cluster_ranges_of_dry_run(set, json_path_text(response->json, "message"));
    case ASK_SERVICES:
        return cluster_ranges_of_services(set, response->json);
    case ASK_NODES:
        return cluster_ranges_of_nodes(set, response->json);
    case ASK_PODS:
        return cluster_ranges_of_pods(set, response->json);
    case QUESTIONS:
        break;
    }
    return -EINVAL;
}

struct source {
    enum question question;
    const char *name;
};

/* The first of the sources that has an answer. */
static int pick(const struct cluster_ranges_search *search, const struct source *sources, size_t count,
                struct cidr_set *out, const char **name)
{
    for (size_t i = 0; i < count; i++) {
        if (search->answer[sources[i].question].count == 0)
            continue;
        *out = search->answer[sources[i].question];
        *name = sources[i].name;
        return 0;
    }
    return -ENOENT;
}

/* No room: then what is there is enough. */
static void join(struct cidr_set *set, const struct cidr_set *other)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < other->count; i++)
        rc = cidr_set_add(set, &other->range[i]);
}

/* Address ranges of a network plugin of its own may be elsewhere than the nodes' ranges, or of a family that these have
 * not: where pods were seen outside them, those count too. */
static void join_others(struct cidr_set *set, const struct cidr_set *seen)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < seen->count; i++) {
        if (cidr_set_overlap(set, &seen->range[i]) == NULL)
            rc = cidr_set_add(set, &seen->range[i]);
    }
}

static void conclude(struct cluster_ranges_search *search)
{
    static const struct source services[] = {
        {ASK_SERVICE_CIDRS, "ServiceCIDR"}, {ASK_DRY_RUN, "dry run"}, {ASK_SERVICES, "Services seen"}};
    static const struct source pods[] = {{ASK_NODES, "nodes"}, {ASK_PODS, "pods seen"}};
    struct cluster_ranges *result = &search->result;
    result->pods_from = "nothing";
    if (!search->was_answered) {
        search->done(search->context, NULL, &search->error);
        return;
    }
    result->services_from = result->pods_from;
    join(&search->answer[ASK_DRY_RUN], &search->answer[ASK_DRY_RUN_V6]);
    bool is_known = pick(search, services, KT_ARRAY_LEN(services), &result->services, &result->services_from) == 0;
    result->is_guess = !is_known || result->services_from == services[2].name;
    (void)pick(search, pods, KT_ARRAY_LEN(pods), &result->pods, &result->pods_from);
    join_others(&result->pods, &search->answer[ASK_PODS]);
    search->done(search->context, result, NULL);
}

static bool is_dry_run(enum question question)
{
    return question == ASK_DRY_RUN || question == ASK_DRY_RUN_V6;
}

static void answered(struct cluster_ranges_search *search, enum question question, const struct api_response *response)
{
    search->request[question] = NULL;
    bool is_answer = response->status / 100 == 2 || (is_dry_run(question) && response->status == 422);
    if (response->status != 0 && response->status != 401)
        search->was_answered = true;
    else if (search->error.code != EXIT_CODE_UNAUTHORIZED) /* which breaks other connections */
        search->error = response->error;
    if (is_answer && read_answer(question, &search->answer[question], response) != 0)
        cidr_set_init(&search->answer[question]);
    if (--search->open > 0)
        return;
    conclude(search);
    kt_free(search);
}

#define DEFINE_CALLBACK(name, question)                                  \
    static void name(void *context, const struct api_response *response) \
    {                                                                    \
        answered(context, question, response);                           \
    }
DEFINE_CALLBACK(on_service_cidrs, ASK_SERVICE_CIDRS)
DEFINE_CALLBACK(on_dry_run, ASK_DRY_RUN)
DEFINE_CALLBACK(on_dry_run_v6, ASK_DRY_RUN_V6)
DEFINE_CALLBACK(on_services, ASK_SERVICES)
DEFINE_CALLBACK(on_nodes, ASK_NODES)
DEFINE_CALLBACK(on_pods, ASK_PODS)

/* A Service with an address that is in no range: a server-side dry run tells the range of its family in its refusal,
 * and creates nothing. */
static cJSON *impossible_service(const char *address)
{
    cJSON *service = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(service, "apiVersion", "v1");
    (void)cJSON_AddStringToObject(service, "kind", "Service");
    (void)cJSON_AddStringToObject(cJSON_AddObjectToObject(service, "metadata"), "generateName", "ktvpn-dry-run-");
    cJSON *spec = cJSON_AddObjectToObject(service, "spec");
    (void)cJSON_AddStringToObject(spec, "clusterIP", address);
    cJSON *port = cJSON_CreateObject();
    (void)cJSON_AddNumberToObject(port, "port", 80);
    (void)cJSON_AddItemToArray(cJSON_AddArrayToObject(spec, "ports"), port);
    return service;
}

static int ask(struct cluster_ranges_search *search, enum question question)
{
    static const struct {
        const char *head, *tail, *what; /* the path before and behind the namespace; tail NULL: no namespace in it */
        void (*done)(void *context, const struct api_response *response);
    } calls[QUESTIONS] = {
        [ASK_SERVICE_CIDRS] = {"/apis/networking.k8s.io/v1/servicecidrs", NULL, "list the ServiceCIDRs",
                               on_service_cidrs},
        [ASK_DRY_RUN] = {"/api/v1/namespaces/", "/services?dryRun=All", "find the range of Services", on_dry_run},
        [ASK_DRY_RUN_V6] = {"/api/v1/namespaces/", "/services?dryRun=All", "find the IPv6 range of Services",
                            on_dry_run_v6},
        [ASK_SERVICES] = {"/api/v1/namespaces/", "/services", "list the Services", on_services},
        [ASK_NODES] = {"/api/v1/nodes", NULL, "list the nodes", on_nodes},
        [ASK_PODS] = {"/api/v1/namespaces/", "/pods", "list the pods", on_pods},
    };
    char path[PATH_MAX_SIZE];
    const char *tail = calls[question].tail;
    (void)snprintf(path, sizeof path, "%s%s%s", calls[question].head, tail != NULL ? search->name_space : "",
                   tail != NULL ? tail : "");
    cJSON *body = is_dry_run(question)
                      ? impossible_service(question == ASK_DRY_RUN ? DRY_RUN_ADDRESS : DRY_RUN_ADDRESS_V6)
                      : NULL;
    struct api_call call = {.method = body != NULL ? "POST" : "GET",
                            .path = path,
                            .body = body,
                            .what = calls[question].what,
                            .context = search,
                            .done = calls[question].done};
    search->request[question] = api_send(search->api, &call);
    cJSON_Delete(body);
    return search->request[question] == NULL ? -ENOMEM : 0;
}

struct cluster_ranges_search *cluster_ranges_start(struct api *api, const char *name_space,
                                                   void (*done)(void *context, const struct cluster_ranges *ranges,
                                                                const struct error *error),
                                                   void *context)
{
    struct cluster_ranges_search *search = kt_calloc(1, sizeof *search);
    if (search == NULL)
        return NULL;
    search->api = api;
    search->done = done;
    search->context = context;
    (void)snprintf(search->name_space, sizeof search->name_space, "%.63s", name_space);
    for (enum question question = 0; question < QUESTIONS; question++) {
        if (ask(search, question) != 0) {
            cluster_ranges_cancel(search);
            return NULL;
        }
        search->open++;
    }
    return search;
}

void cluster_ranges_cancel(struct cluster_ranges_search *search)
{
    if (search == NULL)
        return;
    for (enum question question = 0; question < QUESTIONS; question++) {
        if (search->request[question] != NULL)
            api_cancel(search->request[question]);
    }
    kt_free(search);
}
