/* The TUN descriptor on the loop.
 *
 *   READING  the descriptor is polled; a turn reads until EAGAIN or its limit
 *   FULL     on_packet had no room: its packet is kept, nothing is polled. tun_resume() leaves it
 *   RESUMED  polled for "writable" too, which a TUN always is: so the kept packet is offered on the next turn, not
 * inside tun_resume() FAILED   the device is gone; only tun_close() may follow CLOSED   waits for the loop to close the
 * handle
 *
 * One read() or writev() per packet, one buffer, no memory per packet. Reading more packets with one call (io_uring)
 * was left out: with an MTU near 64 KiB the call is a few percent of the copy. */
#include "client/host/tun.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

#include "client/host/vnet.h"
#include "common/mem.h"

#define TURN_PACKETS 64 /* then others on the loop have their turn */
#define TURN_BYTES (1024 * 1024)
#define ALIGN_SIZE 2 /* in front of VNET_SIZE: the IP header is aligned to 4 */

enum tun_state { TUN_READING, TUN_FULL, TUN_RESUMED, TUN_FAILED, TUN_CLOSED };

struct tun {
    uv_poll_t poll;
    enum tun_state state;
    int fd;
    uint16_t mtu;
    const struct tun_ops *ops;
    void *context;
    struct tun_stats stats;
    uint8_t *kept; /* FULL, RESUMED: the packet that was not taken, inside rx */
    size_t kept_size;
    uint8_t *gather; /* a packet of several parts is put together here */
    uint8_t *rx;
    _Alignas(8) uint8_t memory[];
};

static size_t rx_size(const struct tun *tun)
{
    return VNET_SIZE + (size_t)tun->mtu;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void fail(struct tun *tun, int error)
{
    tun->state = TUN_FAILED;
    (void)uv_poll_stop(&tun->poll);
    tun->ops->on_failed(tun->context, error);
}

/* False: no more packets now. */
static bool offer(struct tun *tun, uint8_t *packet, size_t size)
{
    int rc = tun->ops->on_packet(tun->context, packet, size);
    if (tun->state == TUN_CLOSED)
        return false;
    if (rc == 0) {
        tun->stats.packets_in++;
        return true;
    }
    tun->kept = packet;
    tun->kept_size = size;
    tun->state = TUN_FULL;
    (void)uv_poll_stop(&tun->poll);
    return false;
}

/* The packet's size, 0: none now, or the read's -errno. */
static ssize_t read_packet(struct tun *tun)
{
    ssize_t got;
    do {
        got = read(tun->fd, tun->rx, rx_size(tun));
    } while (got < 0 && errno == EINTR);
    if (got >= 0)
        return got;
    return errno == EAGAIN ? 0 : -errno;
}

static bool read_one(struct tun *tun, size_t *bytes)
{
    uint8_t *packet;
    size_t size;
    ssize_t got = read_packet(tun);
    if (got < 0)
        fail(tun, (int)got);
    if (got <= 0)
        return false;
    *bytes += (size_t)got;
    if (vnet_read(tun->rx, (size_t)got, &packet, &size) != 0) {
        tun->stats.dropped++;
        return true;
    }
    return offer(tun, packet, size);
}

static bool offer_kept(struct tun *tun)
{
    tun->state = TUN_READING;
    int rc = uv_poll_start(&tun->poll, UV_READABLE, on_poll);
    if (rc != 0) {
        fail(tun, rc);
        return false;
    }
    return offer(tun, tun->kept, tun->kept_size);
}

static void turn(struct tun *tun)
{
    size_t bytes = 0;
    bool goes_on = tun->state != TUN_RESUMED || offer_kept(tun);
    for (int i = 0; i < TURN_PACKETS && bytes < TURN_BYTES && goes_on; i++)
        goes_on = read_one(tun, &bytes);
    if (tun->state != TUN_CLOSED && tun->state != TUN_FAILED && tun->ops->on_batch != NULL)
        tun->ops->on_batch(tun->context);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct tun *tun = poll->data;
    (void)events;
    if (status < 0)
        fail(tun, status == UV_EBADF ? -ENODEV : status); /* libuv's word for POLLERR: the device was removed */
    else
        turn(tun);
}

int tun_open(struct tun **out, struct uv_loop_s *loop, int fd, uint16_t mtu, const struct tun_ops *ops, void *context)
{
    size_t gather_size = ((size_t)mtu + 7) & ~(size_t)7;
    struct tun *tun = kt_calloc(1, sizeof *tun + gather_size + ALIGN_SIZE + VNET_SIZE + mtu);
    if (tun == NULL)
        return -ENOMEM;
    tun->fd = fd;
    tun->mtu = mtu;
    tun->ops = ops;
    tun->context = context;
    tun->gather = tun->memory;
    tun->rx = tun->memory + gather_size + ALIGN_SIZE;
    tun->poll.data = tun;
    int rc = uv_poll_init(loop, &tun->poll, fd);
    if (rc != 0) {
        kt_free(tun);
        return rc;
    }
    *out = tun;
    rc = uv_poll_start(&tun->poll, UV_READABLE, on_poll);
    if (rc == 0)
        return 0;
    tun->fd = -1; /* still the caller's */
    tun_close(tun);
    *out = NULL;
    return rc;
}

static void on_close(uv_handle_t *handle)
{
    kt_free(handle->data);
}

void tun_close(struct tun *tun)
{
    if (tun == NULL || tun->state == TUN_CLOSED)
        return;
    tun->state = TUN_CLOSED;
    (void)uv_poll_stop(&tun->poll);
    uv_close((uv_handle_t *)&tun->poll, on_close);
    if (tun->fd >= 0)
        (void)close(tun->fd);
    tun->fd = -1;
}

void tun_resume(struct tun *tun)
{
    if (tun->state != TUN_FULL)
        return;
    tun->state = TUN_RESUMED;
    int rc = uv_poll_start(&tun->poll, UV_READABLE | UV_WRITABLE, on_poll);
    (void)rc; /* only of a closed handle, which this state excludes */
}

/* The packet in one piece: as given, or gathered. NULL: it is too large. */
static const uint8_t *one_piece(struct tun *tun, const struct carrier_part *parts, int count, size_t *size)
{
    *size = count == 1 ? parts[0].size : 0;
    if (count == 1)
        return *size <= tun->mtu ? parts[0].data : NULL;
    for (int i = 0; i < count; i++) {
        if (parts[i].size > tun->mtu - *size)
            return NULL;
        memcpy(tun->gather + *size, parts[i].data, parts[i].size);
        *size += parts[i].size;
    }
    return tun->gather;
}

static int write_error(int error)
{
    switch (error) {
    case EINVAL: /* the kernel looks at the IP version and the vnet header */
    case EFAULT:
        return -EBADMSG;
    case EIO:
    case EBADFD:
    case EBADF:
        return -ENODEV;
    default:
        return -EAGAIN;
    }
}

int tun_write(struct tun *tun, const struct carrier_part *parts, int count)
{
    struct vnet_head head;
    size_t size;
    const uint8_t *packet = one_piece(tun, parts, count, &size);
    if (packet == NULL || vnet_prepare(&head, packet, size) != 0) {
        tun->stats.dropped++;
        return -EBADMSG;
    }
    const struct iovec vector[] = {
        {.iov_base = head.header, .iov_len = sizeof head.header},
        {.iov_base = head.bytes, .iov_len = head.size},
        {.iov_base = (void *)(uintptr_t)(packet + head.size), .iov_len = head.packet_size - head.size},
    };
    ssize_t written;
    do {
        written = writev(tun->fd, vector, KT_ARRAY_LEN(vector));
    } while (written < 0 && errno == EINTR);
    tun->stats.packets_out += written >= 0;
    tun->stats.dropped += written < 0;
    return written >= 0 ? 0 : write_error(errno);
}

void tun_stats(const struct tun *tun, struct tun_stats *stats)
{
    *stats = tun->stats;
}
