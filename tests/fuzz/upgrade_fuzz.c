/* Any bytes as the answer to an upgrade: the head, and the body behind it. */
#include "client/kube/upgrade.h"
#include "client/kube/upgrade_request.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
    if (!is_true)
        abort();
}

static void read_body(const struct upgrade_answer *answer, const uint8_t *data, size_t size)
{
    char *body = kt_calloc(1, size + 1);
    require(body != NULL);
    memcpy(body, data, size);
    size_t body_size = size;
    if (upgrade_get_body(answer, body, &body_size))
        require(body_size <= size);
    else
        require(memcmp(body, data, size) == 0);
    kt_free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct upgrade_request request = {.key = "dGhlIHNhbXBsZSBub25jZQ==", .protocol = "v4.channel.k8s.io"};
    struct upgrade_answer answer, again;
    const char *why;
    if (size == 0 || upgrade_get_answer(&answer, (const char *)data, size) != 1)
        return 0;
    require(answer.head_size <= size);
    require(upgrade_get_answer(&again, (const char *)data, answer.head_size) == 1);
    require(upgrade_get_answer(&again, (const char *)data, answer.head_size - 1) == 0);
    require((upgrade_verify(&answer, &request, &why) == 0) == (why == NULL));
    read_body(&answer, data + answer.head_size, size - answer.head_size);
    return 0;
}
