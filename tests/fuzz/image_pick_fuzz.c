/* Lists of nodes and pods from a server that lies. */
#include <cjson/cJSON.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "client/kube/image_pick.h"

static bool is_carried(const char *arch)
{
    return strcmp(arch, "amd64") == 0;
}

/* A choice has an image, and names that fit. */
static void check(int rc, const struct image_pick *pick)
{
    bool is_whole = pick->image[0] && pick->arch[0] && pick->nodes > 0 && pick->nodes <= IMAGE_PICK_NODES_MAX;
    if (rc == 0 && !is_whole)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct placement placement;
    struct image_pick pick;
    cJSON *list = cJSON_ParseWithLength((const char *)data, size);
    int rc = image_pick_from_nodes(&pick, list, &placement, is_carried);
    check(rc, &pick);
    rc = image_pick_from_pods(&pick, list, "amd64");
    check(rc, &pick);
    cJSON_Delete(list);
    return 0;
}
