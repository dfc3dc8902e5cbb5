/* Any bytes as what the API server sends after the upgrade. The first byte says in which pieces they come and are read,
 * and by which sub-protocol. */
#include "client/kube/channels.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source {
    const uint8_t *data;
    size_t size, piece;
};

static void require(bool is_true)
{
    if (!is_true)
        abort();
}

static ssize_t source_read(void *context, void *out, size_t size)
{
    struct source *source = context;
    size_t n = KT_MIN(KT_MIN(size, source->piece), source->size);
    memcpy(out, source->data, n);
    source->data += n;
    source->size -= n;
    return (ssize_t)n; /* 0: the end */
}

static ssize_t sink_write(void *context, const void *data, size_t size)
{
    (void)context;
    require(size > 0 && data != NULL);
    return (ssize_t)size;
}

static void read_all(struct channels *channels, size_t room)
{
    uint8_t out[256];
    ssize_t n = 1;
    while (n > 0 || n == -EAGAIN) {
        n = channels_read(channels, out, room);
        require(n != 0 && n <= (ssize_t)room);
        require(channels_flush(channels) == 0);
    }
    require(n == -ECONNRESET || n == -EPROTO || n == -EREMOTEIO);
    require(channels->text_size <= CHANNELS_TEXT_MAX && (n != -EREMOTEIO || channels->text_size > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct source source = {data + 1, size - 1, 1 + (data[0] & 15) * (data[0] & 15)};
    struct channels *channels = kt_calloc(1, sizeof *channels);
    require(channels != NULL);
    channels_init(channels, &(struct channels_io){source_read, sink_write, &source}, 8080);
    enum channels_protocol protocol = data[0] & 16 ? CHANNELS_SPDY : CHANNELS_V4;
    require(channels_start(channels, protocol) == 0 && channels_flush(channels) == 0);
    int rc = 0;
    while (rc == 0)
        rc = channels_get_ports(channels);
    if (rc == 1)
        read_all(channels, 1 + data[0] / 16 * 16);
    kt_free(channels);
    return 0;
}
