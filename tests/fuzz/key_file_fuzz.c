/* Any bytes as a key file: a key of the right size, or none. */
#include "client/key_file.h"

#include <assert.h>
#include <sodium.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t secret[NOISE_KEY_SIZE] = {0};
    if (key_file_parse(secret, (const char *)data, size) == 0)
        assert(size == 44 || size == 45);
    else
        assert(sodium_is_zero(secret, sizeof secret));
    return 0;
}
