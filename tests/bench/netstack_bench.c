/* How fast is a netstack? Beside each figure stands the same one over plain loopback TCP, of the same run: only ratios
 * mean anything.
 *
 *   bulk        Gbit/s, one flow, up (client sends) and down; also with an output that takes 64 KiB a turn, as a
 * carrier does connections connect, one byte each way, close: per second, one at a time and 64 at a time input       ns
 * for one acknowledgement through netstack_input(), with 1 and 10,000 flows
 *
 * Needs root, /dev/net/tun, and a network namespace, which it makes itself. Arguments: seconds per figure (1). */
#include <stdbool.h>

#include "tests/unit/netstack_fixture.h"

#define BLOCK (256 * 1024)
#define LOOPBACK "127.0.0.1"
#define IDLE_FLOWS 10000
#define TAPPED_MAX 1000

static uint64_t span_us = 1000000;
static struct fixture *fixture;

/* ---- bulk ---- */

/* A sender in a process of its own: a thread would share the netstack's caches less honestly. */
static pid_t send_from(int fd)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    static uint8_t data[BLOCK];
    while (send(fd, data, sizeof data, MSG_NOSIGNAL) > 0)
        continue;
    _exit(0);
}

static double bulk(const char *address, bool is_up)
{
    static uint8_t data[BLOCK];
    uint16_t port;
    int listener = fixture_serve(SOCK_STREAM, &port);
    int client = fixture_connect(SOCK_STREAM, address, port), server = fixture_accept(listener);
    pid_t sender = send_from(is_up ? client : server);
    int reader = is_up ? server : client;
    uint64_t bytes = 0, start = fixture_now_us();
    while (fixture_now_us() - start < span_us) {
        ssize_t n = recv(reader, data, sizeof data, 0);
        if (n <= 0)
            break;
        bytes += (uint64_t)n;
    }
    double seconds = (double)(fixture_now_us() - start) / 1e6;
    fixture_close_with_reset(client);
    fixture_close_with_reset(server);
    close(listener);
    kill(sender, SIGKILL);
    waitpid(sender, NULL, 0);
    return (double)bytes * 8 / seconds / 1e9;
}

static void set_room(struct fixture *f, void *argument)
{
    f->room = *(size_t *)argument;
}

static void get_usage(struct fixture *f, void *argument)
{
    (void)f;
    getrusage(RUSAGE_THREAD, argument);
}

static double seconds_between(const struct timeval *from, const struct timeval *to)
{
    return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_usec - from->tv_usec) / 1e6;
}

/* The netstack thread's own CPU time does not depend on who else is busy on this machine. */
static void print_bulk(const char *name, bool is_up)
{
    struct rusage before, after;
    double direct = bulk(LOOPBACK, is_up);
    fixture_call(fixture, get_usage, &before);
    double ours = bulk(FIXTURE_TARGET, is_up);
    fixture_call(fixture, get_usage, &after);
    double gigabytes = ours * (double)span_us / 1e6 / 8;
    printf("%-28s %6.2f Gbit/s   loopback %6.2f   ratio %.2f   own CPU s/GB: user %.3f system %.3f\n", name, ours,
           direct, ours / direct, seconds_between(&before.ru_utime, &after.ru_utime) / gigabytes,
           seconds_between(&before.ru_stime, &after.ru_stime) / gigabytes);
}

/* ---- connections ---- */

static void serve(int listener)
{
    char byte;
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        if (recv(fd, &byte, 1, 0) == 1)
            (void)!send(fd, &byte, 1, MSG_NOSIGNAL);
        close(fd);
    }
}

static bool one_connection(const char *address, uint16_t port)
{
    char byte = 'x';
    int fd = fixture_connect(SOCK_STREAM, address, port);
    if (fd < 0)
        return false;
    bool is_good = send(fd, &byte, 1, 0) == 1 && recv(fd, &byte, 1, 0) == 1 && recv(fd, &byte, 1, 0) == 0;
    close(fd);
    return is_good;
}

struct worker {
    pthread_t thread;
    const char *address;
    uint16_t port;
    uint64_t until_us;
    unsigned count, failed;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    while (fixture_now_us() < worker->until_us) {
        bool is_good = one_connection(worker->address, worker->port);
        worker->count += is_good;
        worker->failed += !is_good;
    }
    return NULL;
}

static double connections(const char *address, unsigned at_once)
{
    static struct worker workers[64];
    uint16_t port;
    unsigned count = 0, failed = 0;
    int listener = fixture_serve(SOCK_STREAM, &port);
    pid_t server = fork();
    if (server == 0)
        serve(listener);
    uint64_t start = fixture_now_us();
    for (unsigned i = 0; i < at_once; i++) {
        workers[i] = (struct worker){.address = address, .port = port, .until_us = start + span_us};
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    for (unsigned i = 0; i < at_once; i++) {
        pthread_join(workers[i].thread, NULL);
        count += workers[i].count;
        failed += workers[i].failed;
    }
    double seconds = (double)(fixture_now_us() - start) / 1e6;
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    close(listener);
    if (failed > 0)
        printf("%u connections failed\n", failed);
    return count / seconds;
}

static void print_connections(unsigned at_once)
{
    double direct = connections(LOOPBACK, at_once), ours = connections(FIXTURE_TARGET, at_once);
    printf("connections/s, %2u at once    %6.0f          loopback %6.0f   ratio %.2f\n", at_once, ours, direct,
           ours / direct);
}

/* ---- request and response on one connection ---- */

static double round_trip_us(const char *address)
{
    uint16_t port;
    char byte = 'x';
    const int on = 1, count = 5000;
    int listener = fixture_serve(SOCK_STREAM, &port);
    int client = fixture_connect(SOCK_STREAM, address, port), server = fixture_accept(listener);
    pid_t echo = fork();
    if (echo == 0) {
        while (recv(server, &byte, 1, 0) == 1)
            (void)!send(server, &byte, 1, MSG_NOSIGNAL);
        _exit(0);
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    uint64_t start = fixture_now_us();
    for (int i = 0; i < count; i++) {
        (void)!send(client, &byte, 1, 0);
        (void)!recv(client, &byte, 1, 0);
    }
    double us = (double)(fixture_now_us() - start) / count;
    close(client);
    close(server);
    close(listener);
    kill(echo, SIGKILL);
    waitpid(echo, NULL, 0);
    return us;
}

/* ---- input ---- */

static struct {
    uint8_t data[120];
    size_t size;
} tapped[TAPPED_MAX];
static size_t tapped_count;

static void on_tap(const uint8_t *packet, size_t size)
{
    bool is_ack = size >= 40 && packet[9] == PACKET_TCP && (packet[33] & 7) == 0 && size < sizeof tapped[0].data;
    if (!is_ack)
        return;
    size_t i = tapped_count++ % TAPPED_MAX;
    memcpy(tapped[i].data, packet, size);
    tapped[i].size = size;
}

static void set_tap(struct fixture *f, void *argument)
{
    f->tap = argument == NULL ? NULL : on_tap;
}

static void measure_input(struct fixture *f, void *argument)
{
    size_t count = KT_MIN(tapped_count, TAPPED_MAX), done = 0;
    uint64_t start = uv_hrtime();
    for (size_t round = 0; round < 200000 / count; round++) {
        for (size_t i = 0; i < count; i++, done++)
            netstack_input(f->netstack, tapped[i].data, tapped[i].size);
        netstack_input_done(f->netstack);
    }
    *(double *)argument = (double)(uv_hrtime() - start) / (double)done;
}

static double input_ns(unsigned flows)
{
    uint16_t port;
    int listener = fixture_serve(SOCK_STREAM, &port), tell[2];
    double ns = 0;
    char byte;
    tapped_count = 0;
    fixture_call(fixture, set_tap, fixture);
    if (pipe(tell) != 0)
        return 0;
    pid_t servers = fork();
    if (servers == 0) {
        for (;;)
            (void)!accept(listener, NULL, NULL);
    }
    pid_t clients = fork();
    if (clients == 0) {
        for (unsigned i = 0; i < flows; i++)
            (void)!fixture_connect(SOCK_STREAM, FIXTURE_TARGET, port);
        (void)!write(tell[1], "k", 1);
        pause();
    }
    (void)!read(tell[0], &byte, 1);
    fixture_call(fixture, set_tap, NULL);
    fixture_call(fixture, measure_input, &ns);
    kill(clients, SIGKILL);
    kill(servers, SIGKILL);
    waitpid(clients, NULL, 0);
    waitpid(servers, NULL, 0);
    close(listener);
    close(tell[0]);
    close(tell[1]);
    return ns;
}

int main(int argc, char **argv)
{
    size_t room = 65536, no_limit = 0;
    if (argc > 1)
        span_us = (uint64_t)(strtod(argv[1], NULL) * 1e6);
    if (!fixture_enter_namespace()) {
        printf("no network namespace or no TUN device here\n");
        return 1;
    }
    fixture = fixture_start();
    setvbuf(stdout, NULL, _IONBF, 0);
    print_bulk("bulk up", true);
    print_bulk("bulk down", false);
    fixture_call(fixture, set_room, &room);
    print_bulk("bulk up, 64 KiB a turn", true);
    print_bulk("bulk down, 64 KiB a turn", false);
    fixture_call(fixture, set_room, &no_limit);
    double direct = round_trip_us(LOOPBACK), ours = round_trip_us(FIXTURE_TARGET);
    printf("round trip                   %6.1f us       loopback %6.1f   ratio %.2f\n", ours, direct, ours / direct);
    print_connections(1);
    print_connections(64);
    printf("input of an ACK, 1 flow      %6.0f ns\n", input_ns(1));
    printf("input of an ACK, %d flows %5.0f ns\n", IDLE_FLOWS, input_ns(IDLE_FLOWS));
    fixture_stop(fixture);
    return 0;
}
