/* A query of any bytes: where it is asked, and whether the rest of the input passes as its answer. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/names/names_outside.h"
#include "client/names/names_plan.h"

static char dashboard_api[] = "dashboard-api", store[] = "store", kube_system[] = "kube-system";
static char *services_list[] = {dashboard_api, store}, *namespaces_list[] = {kube_system};

static void check_plan(const struct names_plan *plan, const struct dns_question *question)
{
    uint8_t message[512];
    if (plan->candidates > NAMES_PLAN_MAX)
        abort();
    for (size_t i = 0; i < plan->candidates; i++) {
        const char *candidate = plan->candidate[i];
        if (strnlen(candidate, DNS_NAME_MAX) == DNS_NAME_MAX || !strstr(candidate, question->name))
            abort();
        int size = dns_put_query(message, sizeof message, 1, candidate, question->type, 0);
        struct dns_question again;
        if (size > 0 && (dns_parse_query(&again, message, (size_t)size) != 0 || strcmp(again.name, candidate) != 0))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cidr_set ranges;
    static const struct names_known services = {services_list, 2, 2}, namespaces = {namespaces_list, 1, 1};
    static const struct names_scope scope = {"cluster.local", "ems", &ranges, &services, &namespaces};
    struct cidr range = {address_v4(0x0ade0000), 16};
    if (ranges.count == 0 && cidr_set_add(&ranges, &range) != 0)
        abort();

    struct dns_question question;
    size_t half = size / 2;
    if (dns_parse_query(&question, data, half) != 0)
        return 0;
    struct names_plan plan;
    names_plan_make(&plan, &scope, question.name);
    check_plan(&plan, &question);
    (void)names_outside_fits(data, question.end, data + half, size - half);
    return 0;
}
