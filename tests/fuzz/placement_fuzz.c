/* A kind and any text as a flag's value; what is taken goes into a Job, and against a node. */
#include "client/kube/placement.h"

#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char job_text[] =
        "{\"metadata\":{\"labels\":{},\"annotations\":{}},\"spec\":{\"template\":{\"metadata\":{\"labels\":{},"
        "\"annotations\":{}},\"spec\":{\"nodeSelector\":{},\"containers\":[{\"resources\":{\"requests\":{},\"limits\":"
        "{}}}]}},\"taints\":[{\"key\":\"a\",\"value\":\"b\",\"effect\":\"NoSchedule\"}]}}";
    struct placement placement = {0};
    char text[PLACEMENT_TEXT_MAX + 8];
    if (size == 0 || size > sizeof text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (placement_add(&placement, (enum placement_kind)(data[0] % PLACEMENT_KINDS), text) != NULL)
        return 0;
    cJSON *job = cJSON_Parse(job_text);
    if (placement_apply(&placement, job) != 0)
        abort();
    (void)placement_fits(&placement, job);
    cJSON_Delete(job);
    return 0;
}
