/* How fast is the port-forward's stream alone, beside the same bytes through `kubectl port-forward`? One figure a run;
 * run both kinds in turns, because only ratios of one hour mean anything.
 *
 *   portforward_bench up|down|rr SECONDS pod SERVER CA CERT KEY NAMESPACE POD PORT     (the three are PEM files)
 *   portforward_bench up|down|rr SECONDS tcp ADDRESS PORT                              (kubectl's local port)
 *
 * up: into a sink; down: out of a source; rr: one byte to an echo server and back, one at a time. Prints Mbit/s or the
 * median and the 99th percentile in us, and this program's CPU seconds for a GB. */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#include "client/kube/portforward.h"

#define BLOCK (256 * 1024)
#define TURN (1024 * 1024) /* bytes in one turn of the loop, as the pump does it */
#define SAMPLES_MAX 1000000

struct bench {
    uv_loop_t loop;
    uv_timer_t timer;
    enum { UP, DOWN, RR } kind;
    uint64_t span_ms, started_ns, sent_ns, bytes;
    struct stream *stream;
    size_t samples;
    uint32_t sample_us[SAMPLES_MAX];
    uint8_t data[BLOCK];
};

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void report(struct bench *b)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    double seconds = (double)(uv_hrtime() - b->started_ns) / 1e9;
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    if (b->kind == RR && b->samples > 0) {
        qsort(b->sample_us, b->samples, sizeof b->sample_us[0], by_size);
        (void)printf("p50 %u us, p99 %u us, %zu round trips\n", b->sample_us[b->samples / 2],
                     b->sample_us[b->samples * 99 / 100], b->samples);
    } else {
        (void)printf("%.0f Mbit/s, %.2f CPU s/GB\n", (double)b->bytes * 8e-6 / seconds, cpu / (double)b->bytes * 1e9);
    }
}

static void on_span(uv_timer_t *timer)
{
    struct bench *b = timer->data;
    report(b);
    stream_close(b->stream);
    uv_close((uv_handle_t *)timer, NULL);
}

static void up(struct bench *b)
{
    ssize_t n = 1;
    for (size_t turn = 0; turn < TURN && n > 0; turn += (size_t)n) {
        n = stream_write(b->stream, b->data, BLOCK / 2);
        if (n <= 0)
            break;
        b->bytes += (uint64_t)n;
    }
}

static void down(struct bench *b)
{
    ssize_t n = 1;
    for (size_t turn = 0; turn < TURN && n > 0; turn += (size_t)n) {
        n = stream_read(b->stream, b->data, BLOCK);
        if (n <= 0)
            break;
        b->bytes += (uint64_t)n;
    }
}

static void ask(struct bench *b)
{
    b->sent_ns = uv_hrtime();
    (void)stream_write(b->stream, "x", 1);
}

static void round_trip(struct bench *b)
{
    if (stream_read(b->stream, b->data, BLOCK) <= 0)
        return;
    if (b->samples < SAMPLES_MAX)
        b->sample_us[b->samples++] = (uint32_t)((uv_hrtime() - b->sent_ns) / 1000);
    ask(b);
}

static void on_ready(struct stream *stream, int events)
{
    struct bench *b = stream->context;
    (void)events;
    if (b->kind == UP)
        up(b);
    else if (b->kind == DOWN)
        down(b);
    else
        round_trip(b);
}

static void on_open(struct stream *stream)
{
    struct bench *b = stream->context;
    b->started_ns = uv_hrtime();
    (void)uv_timer_start(&b->timer, on_span, b->span_ms, 0);
    stream_want(stream, b->kind == UP ? STREAM_WRITABLE : STREAM_READABLE);
    if (b->kind == RR)
        ask(b);
}

static void on_failed(struct stream *stream, int error, const char *text)
{
    (void)stream;
    (void)fprintf(stderr, "%s (%s)\n", text, strerror(-error));
    exit(1);
}

static struct kubeconfig_blob load(const char *path)
{
    static uint8_t data[3][65536];
    static size_t files;
    uint8_t *to = data[files++];
    FILE *file = fopen(path, "re");
    size_t size = file == NULL ? 0 : fread(to, 1, sizeof data[0] - 1, file);
    if (file != NULL)
        (void)fclose(file);
    return (struct kubeconfig_blob){to, size};
}

static int dial_pod(struct bench *b, char **argument)
{
    static struct kubeconfig config;
    struct api *api;
    struct error error;
    config = (struct kubeconfig){.cluster = argument[0],
                                 .user = argument[0],
                                 .server = argument[0],
                                 .ca = load(argument[1]),
                                 .certificate = load(argument[2]),
                                 .key = load(argument[3])};
    if (api_open(&api, &b->loop, &config, &error) != 0) {
        (void)fprintf(stderr, "%s\n", error.text);
        return -EINVAL;
    }
    return portforward_open(&b->stream, api, &b->loop, argument[4], argument[5],
                            (uint16_t)strtoul(argument[6], NULL, 10));
}

static int dial_tcp(struct bench *b, char **argument)
{
    struct address address;
    if (address_parse(&address, argument[0]) != 0)
        return -EINVAL;
    return stream_dial_tcp(&b->stream, &b->loop, &address, (uint16_t)strtoul(argument[1], NULL, 10));
}

int main(int count, char **argument)
{
    static struct bench bench;
    bool is_pod = count == 11 && strcmp(argument[3], "pod") == 0;
    if (!is_pod && (count != 6 || strcmp(argument[3], "tcp") != 0))
        return 2;
    (void)signal(SIGPIPE, SIG_IGN);
    bench.kind = strcmp(argument[1], "up") == 0 ? UP : strcmp(argument[1], "down") == 0 ? DOWN : RR;
    bench.span_ms = strtoul(argument[2], NULL, 10) * 1000;
    (void)uv_loop_init(&bench.loop);
    (void)uv_timer_init(&bench.loop, &bench.timer);
    bench.timer.data = &bench;
    if ((is_pod ? dial_pod(&bench, argument + 4) : dial_tcp(&bench, argument + 4)) != 0)
        return 1;
    bench.stream->context = &bench;
    bench.stream->on_open = on_open;
    bench.stream->on_ready = on_ready;
    bench.stream->on_failed = on_failed;
    (void)uv_run(&bench.loop, UV_RUN_ONCE);
    while (!uv_is_closing((uv_handle_t *)&bench.timer))
        (void)uv_run(&bench.loop, UV_RUN_ONCE);
    return 0;
}
