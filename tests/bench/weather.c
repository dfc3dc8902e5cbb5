/* A slow and lossy link between two network namespaces, in user space: a TUN device in each, and between them a rate, a
 * delay and a loss.
 *
 *   weather NETNS_A NETNS_B DEVICE MBIT_S DELAY_MS LOSS_PERCENT
 *
 * The delay is one way. A queue of 50 ms at the link's rate stands before it, tail drop, as in a home router. Prints
 * "ready" when both devices are there, without addresses; they go when this ends (SIGTERM). Loss is drawn from a fixed
 * seed, so that two runs with the same traffic lose alike. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MAX 1600
#define SLOTS 16384
#define QUEUE_NS 50000000ull

struct slot {
    uint64_t due_ns;
    uint16_t size;
    uint8_t data[PACKET_MAX];
};

struct direction {
    int from, to;
    uint64_t free_ns; /* when the last packet has left the sender */
    size_t first, count;
    uint64_t passed, lost, full;
    struct slot *slot;
};

struct link {
    double ns_per_byte, loss;
    uint64_t delay_ns, seed;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* A device in that namespace; this process stays in the last one that it entered. */
static int open_tun(const char *netns, const char *device)
{
    char path[128];
    (void)snprintf(path, sizeof path, "/run/netns/%s", netns);
    int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) != 0)
        die(path);
    close(ns);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    (void)snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0)
        die(device);
    return fd;
}

static bool is_lost(struct link *link)
{
    link->seed = link->seed * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(link->seed >> 33) / (double)(1ull << 31) < link->loss;
}

static void take(struct direction *d, struct link *link)
{
    for (int i = 0; i < 64; i++) {
        struct slot *slot = &d->slot[(d->first + d->count) % SLOTS];
        ssize_t size = read(d->from, slot->data, PACKET_MAX);
        if (size <= 0)
            return;
        uint64_t now = now_ns();
        if (d->free_ns < now)
            d->free_ns = now;
        if (d->free_ns - now > QUEUE_NS || d->count == SLOTS - 1) {
            d->full++;
            continue;
        }
        d->free_ns += (uint64_t)((double)size * link->ns_per_byte);
        if (is_lost(link)) { /* it has used the link all the same */
            d->lost++;
            continue;
        }
        slot->size = (uint16_t)size;
        slot->due_ns = d->free_ns + link->delay_ns;
        d->count++;
    }
}

/* Writes what is due; returns when the next one is. */
static uint64_t give(struct direction *d)
{
    while (d->count > 0) {
        struct slot *slot = &d->slot[d->first];
        if (slot->due_ns > now_ns())
            return slot->due_ns;
        (void)!write(d->to, slot->data, slot->size);
        d->first = (d->first + 1) % SLOTS;
        d->count--;
        d->passed++;
    }
    return UINT64_MAX;
}

static void wait_for(const struct direction d[2], uint64_t due_ns)
{
    struct pollfd fds[2] = {{.fd = d[0].from, .events = POLLIN}, {.fd = d[1].from, .events = POLLIN}};
    uint64_t now = now_ns(), wait_ns = due_ns <= now ? 0 : due_ns - now;
    struct timespec span = {.tv_sec = (time_t)(wait_ns / 1000000000ull), .tv_nsec = (long)(wait_ns % 1000000000ull)};
    (void)ppoll(fds, 2, due_ns == UINT64_MAX ? NULL : &span, NULL);
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        (void)fprintf(stderr, "weather NETNS_A NETNS_B DEVICE MBIT_S DELAY_MS LOSS_PERCENT\n");
        return 2;
    }
    struct link link = {.ns_per_byte = 8000.0 / strtod(argv[4], NULL),
                        .delay_ns = (uint64_t)(strtod(argv[5], NULL) * 1e6),
                        .loss = strtod(argv[6], NULL) / 100,
                        .seed = 42};
    struct direction d[2] = {{.slot = calloc(SLOTS, sizeof(struct slot))},
                             {.slot = calloc(SLOTS, sizeof(struct slot))}};
    if (d[0].slot == NULL || d[1].slot == NULL)
        die("memory");
    (void)prctl(PR_SET_PDEATHSIG, 15);
    (void)prctl(PR_SET_TIMERSLACK, 1000);
    d[0].from = d[1].to = open_tun(argv[1], argv[3]);
    d[1].from = d[0].to = open_tun(argv[2], argv[3]);
    (void)printf("ready\n");
    (void)fflush(stdout);
    for (;;) {
        uint64_t a = give(&d[0]), b = give(&d[1]);
        wait_for(d, a < b ? a : b);
        take(&d[0], &link);
        take(&d[1], &link);
    }
}
