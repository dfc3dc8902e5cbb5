/* What an API server answers, as the source of ranges: the first byte says which parser, the rest is a dry run's text
 * or a list. */
#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/kube/cluster_ranges.h"

static int parse(uint8_t which, struct cidr_set *set, const char *text, size_t size)
{
    static int (*const of_list[])(struct cidr_set * set, const struct cJSON *list) = {
        cluster_ranges_of_service_cidrs, cluster_ranges_of_services, cluster_ranges_of_nodes, cluster_ranges_of_pods};
    if (which % 5 == 4)
        return cluster_ranges_of_dry_run(set, text);
    cJSON *list = cJSON_ParseWithLength(text, size);
    int rc = of_list[which % 5](set, list);
    cJSON_Delete(list);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cidr_set set;
    if (size == 0)
        return 0;
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    cidr_set_init(&set);
    if (parse(data[0], &set, text, size - 1) == 0 && set.count == 0)
        abort();
    free(text);
    return 0;
}
