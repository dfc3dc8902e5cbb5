/* Bodies of control records: what is decoded and encoded again must be the same bytes. The first byte picks the kind.
 */
#include "common/wire.h"

#include <stdlib.h>
#include <string.h>

static uint8_t out[8192];

static void require_same(int size, const uint8_t *data, size_t data_size)
{
    if (size < 0 || (size_t)size != data_size || memcmp(out, data, data_size) != 0)
        abort();
}

static void hello(const uint8_t *data, size_t size)
{
    struct wire_hello parsed;
    if (size != WIRE_HELLO_SIZE || wire_get_hello(&parsed, data) != 0)
        return;
    wire_put_hello(out, &parsed);
    require_same(WIRE_HELLO_SIZE, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wire_open open;
    static struct wire_accept accept;
    static struct wire_refuse refuse;
    static struct wire_use use;
    if (size == 0)
        return 0;
    uint8_t kind = data[0] % 5;
    data++;
    size--;
    if (kind == 0 && wire_get_open(&open, data, size) == 0)
        require_same(wire_put_open(out, sizeof out, &open), data, size);
    if (kind == 1 && wire_get_accept(&accept, data, size) == 0)
        require_same(wire_put_accept(out, sizeof out, &accept), data, size);
    if (kind == 2 && wire_get_refuse(&refuse, data, size) == 0)
        require_same(wire_put_refuse(out, sizeof out, &refuse), data, size);
    if (kind == 3)
        hello(data, size);
    if (kind == 4 && wire_get_use(&use, data, size) == 0)
        require_same(wire_put_use(out, sizeof out, &use), data, size);
    return 0;
}
