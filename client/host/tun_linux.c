/* The TUN descriptor on the loop.
 *
 *   READING  the descriptor is polled; a turn reads until EAGAIN or its limit
 *   FULL     on_packet had no room: its packet is kept, and nothing is polled. tun_resume() leaves it
 *   RESUMED  the idle handle runs a turn in each pass of the loop: the kept packet, then reading; EAGAIN: READING
 *   FAILED   the device is gone; only tun_close() may follow
 *   CLOSED   waits for the loop to close both handles
 *
 * FULL and RESUMED alternate for as long as the link is slower than the senders; they cost no system call beside the
 * reads, where polling again for each packet would cost several epoll_ctl().
 *
 * One read() or writev() per packet, one buffer, no memory per packet. Reading several packets with one call (io_uring)
 * was left out: with an MTU near 64 KiB the call is a few percent of the copy. */
#include "client/host/tun.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

#include "client/host/vnet.h"
#include "common/mem.h"

#define TURN_PACKETS 64 /* then others on the loop have their turn */
#define TURN_BYTES ((size_t)1024 * 1024)
#define ALIGN_SIZE 2 /* in front of VNET_SIZE: the IP header is aligned to 4 */

enum tun_state { TUN_READING, TUN_FULL, TUN_RESUMED, TUN_FAILED, TUN_CLOSED };

struct tun {
    uv_poll_t poll;
    uv_idle_t idle;
    int handles; /* open ones: the last close callback frees */
    enum tun_state state;
    int fd;
    uint16_t mtu;
    const struct tun_ops *ops;
    void *context;
    struct tun_stats stats;
    uint8_t *kept; /* FULL, RESUMED: the packet that was not taken, inside rx; else NULL */
    size_t kept_size;
    uint8_t *gather; /* a packet of several parts is put together here */
    uint8_t *rx;
    _Alignas(8) uint8_t memory[];
};

static void on_poll(uv_poll_t *poll, int status, int events);
static void on_idle(uv_idle_t *idle);

static void enter(struct tun *tun, enum tun_state state)
{
    int rc = 0;
    if (state == TUN_READING && tun->state != TUN_READING)
        rc = uv_poll_start(&tun->poll, UV_READABLE, on_poll);
    else if (state != TUN_READING && tun->state == TUN_READING)
        rc = uv_poll_stop(&tun->poll);
    if (state == TUN_RESUMED)
        rc = uv_idle_start(&tun->idle, on_idle);
    else if (tun->state == TUN_RESUMED)
        rc |= uv_idle_stop(&tun->idle);
    assert(rc == 0); /* only closing handles are refused */
    tun->state = state;
}

static void fail(struct tun *tun, int error)
{
    enter(tun, TUN_FAILED);
    tun->ops->on_failed(tun->context, error);
}

/* False: no more packets now. */
static bool offer(struct tun *tun, uint8_t *packet, size_t size)
{
    int rc = tun->ops->on_packet(tun->context, packet, size);
    if (tun->state == TUN_CLOSED)
        return false;
    tun->kept = rc == 0 ? NULL : packet;
    tun->kept_size = size;
    tun->stats.packets_in += rc == 0;
    if (rc != 0)
        enter(tun, TUN_FULL);
    return rc == 0;
}

static bool read_one(struct tun *tun, size_t *bytes)
{
    uint8_t *packet;
    size_t size;
    ssize_t got;
    do {
        got = read(tun->fd, tun->rx, VNET_SIZE + (size_t)tun->mtu);
    } while (got < 0 && errno == EINTR);
    if (got < 0 && errno != EAGAIN)
        fail(tun, -errno);
    else if (got <= 0)
        enter(tun, TUN_READING);
    if (got <= 0)
        return false;
    *bytes += (size_t)got;
    if (vnet_read(tun->rx, (size_t)got, &packet, &size) == 0)
        return offer(tun, packet, size);
    tun->stats.dropped++;
    return true;
}

static void turn(struct tun *tun)
{
    size_t bytes = 0;
    bool goes_on = tun->kept == NULL || offer(tun, tun->kept, tun->kept_size);
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

static void on_idle(uv_idle_t *idle)
{
    turn(idle->data);
}

/* The handles; on an error those that are open stay for tun_close(). */
static int open_handles(struct tun *tun, struct uv_loop_s *loop)
{
    int rc = uv_poll_init(loop, &tun->poll, tun->fd);
    if (rc != 0)
        return rc;
    tun->poll.data = tun->idle.data = tun;
    tun->handles = 2;
    (void)uv_idle_init(loop, &tun->idle); /* cannot fail */
    rc = uv_poll_start(&tun->poll, UV_READABLE, on_poll);
    if (rc == 0)
        tun->state = TUN_READING;
    return rc;
}

int tun_open(struct tun **out, struct uv_loop_s *loop, int fd, uint16_t mtu, const struct tun_ops *ops, void *context)
{
    size_t gather_size = ((size_t)mtu + 7) & ~(size_t)7;
    struct tun *tun = kt_calloc(1, sizeof *tun + gather_size + ALIGN_SIZE + VNET_SIZE + mtu);
    if (tun == NULL)
        return -ENOMEM;
    tun->state = TUN_FULL;
    tun->fd = fd;
    tun->mtu = mtu;
    tun->ops = ops;
    tun->context = context;
    tun->gather = tun->memory;
    tun->rx = tun->memory + gather_size + ALIGN_SIZE;
    int rc = open_handles(tun, loop);
    if (rc != 0) {
        tun->fd = -1; /* still the caller's */
        tun_close(tun);
        return rc;
    }
    *out = tun;
    return 0;
}

static void on_close(uv_handle_t *handle)
{
    struct tun *tun = handle->data;
    if (--tun->handles == 0)
        kt_free(tun);
}

void tun_close(struct tun *tun)
{
    if (tun == NULL || tun->state == TUN_CLOSED)
        return;
    tun->state = TUN_CLOSED;
    if (tun->handles == 0) {
        kt_free(tun);
        return;
    }
    uv_close((uv_handle_t *)&tun->poll, on_close);
    uv_close((uv_handle_t *)&tun->idle, on_close);
    if (tun->fd >= 0)
        (void)close(tun->fd);
    tun->fd = -1;
}

void tun_resume(struct tun *tun)
{
    if (tun->state == TUN_FULL)
        enter(tun, TUN_RESUMED);
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
