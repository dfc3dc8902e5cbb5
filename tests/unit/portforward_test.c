/* The port-forward against a fake API server on loopback: plain and TLS, whole and in pieces, and with everything that
 * it may not say. */
#include "client/kube/portforward.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "common/log.h"
#include "common/mem.h"
#include "tests/fake/fake_api_server.h"
#include "tests/unit/unit.h"

#define PATIENCE_MS 20000
#define PORT 8080
#define BULK (2 * 1024 * 1024)

struct fixture {
    uv_loop_t loop;
    uv_timer_t patience;
    struct fake_api_server server;
    char url[64], token[32];
    struct kubeconfig config;
    struct api *api;
    struct stream *stream;
    bool is_late, is_in_call, is_open, is_closed, api_is_closed, closes_at_open, reads;
    size_t failures, readies;
    int failure, events;
    char text[2048];
    uint8_t *in;
    size_t in_size, out_size, to_send;
};

/* A payload in which every lost, doubled or moved byte shows. */
static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 31 + i / 251);
}

static void close_stream(struct fixture *f)
{
    struct stream *stream = f->stream;
    f->stream = NULL;
    f->is_in_call = true;
    stream_close(stream);
    f->is_in_call = false;
}

static void read_all(struct fixture *f)
{
    ssize_t n = 1;
    while (n > 0 && f->in_size < BULK) {
        f->is_in_call = true;
        n = stream_read(f->stream, f->in + f->in_size, KT_MIN(BULK - f->in_size, 70000));
        f->is_in_call = false;
        if (n > 0)
            f->in_size += (size_t)n;
    }
    assert_true(n > 0 || n == -EAGAIN);
}

static void write_all(struct fixture *f)
{
    static uint8_t data[200000];
    ssize_t n = 1;
    while (n > 0 && f->out_size < f->to_send) {
        size_t size = KT_MIN(f->to_send - f->out_size, sizeof data);
        for (size_t i = 0; i < size; i++)
            data[i] = byte_at(f->out_size + i);
        f->is_in_call = true;
        n = stream_write(f->stream, data, size);
        f->is_in_call = false;
        if (n > 0)
            f->out_size += (size_t)n;
    }
    assert_true(n > 0 || n == -EAGAIN);
    stream_want(f->stream, (f->reads ? STREAM_READABLE : 0) | (f->out_size < f->to_send ? STREAM_WRITABLE : 0));
}

static void on_open(struct stream *stream)
{
    struct fixture *f = stream->context;
    assert_false(f->is_in_call);
    assert_false(f->is_open);
    f->is_open = true;
    if (f->closes_at_open)
        close_stream(f);
    else if (f->reads)
        stream_want(stream, STREAM_READABLE);
}

static void on_ready(struct stream *stream, int events)
{
    struct fixture *f = stream->context;
    assert_false(f->is_in_call);
    f->readies++;
    f->events |= events;
    if (f->reads && (events & STREAM_READABLE))
        read_all(f);
    if (f->stream != NULL && (events & STREAM_WRITABLE))
        write_all(f);
}

static void on_failed(struct stream *stream, int error, const char *text)
{
    struct fixture *f = stream->context;
    assert_false(f->is_in_call);
    f->failures++;
    f->failure = error;
    (void)snprintf(f->text, sizeof f->text, "%s", text);
}

static void on_closed(struct stream *stream)
{
    struct fixture *f = stream->context;
    assert_false(f->is_in_call);
    f->is_closed = true;
}

static void on_api_closed(void *context)
{
    *(bool *)context = true;
}

static void on_patience(uv_timer_t *timer)
{
    ((struct fixture *)timer->data)->is_late = true;
}

#define WAIT(f, condition)                                                 \
    do {                                                                   \
        (f)->is_late = false;                                              \
        (void)uv_timer_start(&(f)->patience, on_patience, PATIENCE_MS, 0); \
        while (!(condition) && !(f)->is_late)                              \
            (void)uv_run(&(f)->loop, UV_RUN_ONCE);                         \
        if ((f)->is_late && (f)->failures > 0)                             \
            print_message("failed: %s\n", (f)->text);                      \
        assert_true(condition);                                            \
    } while (0)

static struct fixture *make(bool is_tls)
{
    struct fixture *f = test_calloc(1, sizeof *f);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(uv_timer_init(&f->loop, &f->patience), 0);
    f->patience.data = f;
    f->in = test_malloc(BULK);
    f->reads = true;
    fake_api_server_start(&f->server, &f->loop, is_tls);
    f->server.answer = FAKE_API_GOOD;
    f->server.answer_more = FAKE_API_PORTS;
    f->server.answer_more_size = sizeof FAKE_API_PORTS - 1;
    (void)snprintf(f->url, sizeof f->url, "http%s://127.0.0.1:%u/prefix", is_tls ? "s" : "", (unsigned)f->server.port);
    (void)snprintf(f->token, sizeof f->token, "secret-token");
    f->config = (struct kubeconfig){.cluster = f->token, .user = f->token, .server = f->url, .token = f->token};
    if (is_tls) {
        const char *ca = fake_api_server_certificate(&f->server);
        f->config.ca = (struct kubeconfig_blob){(uint8_t *)(uintptr_t)ca, strlen(ca)};
    }
    struct error error;
    assert_int_equal(api_open(&f->api, &f->loop, &f->config, &error), 0);
    return f;
}

static int dial(struct fixture *f)
{
    f->is_in_call = true;
    int rc = portforward_open(&f->stream, f->api, &f->loop, "ems", "agent-0", PORT);
    f->is_in_call = false;
    if (rc != 0) {
        f->stream = NULL;
        return rc;
    }
    f->stream->context = f;
    f->stream->on_open = on_open;
    f->stream->on_ready = on_ready;
    f->stream->on_failed = on_failed;
    f->stream->on_closed = on_closed;
    return 0;
}

static struct fixture *start(void)
{
    struct fixture *f = make(false);
    assert_int_equal(dial(f), 0);
    return f;
}

static struct fixture *start_open(void)
{
    struct fixture *f = start();
    WAIT(f, f->is_open);
    return f;
}

static void stop(struct fixture *f)
{
    if (f->stream != NULL) {
        close_stream(f);
        WAIT(f, f->is_closed);
    }
    api_close(f->api, on_api_closed, &f->api_is_closed);
    WAIT(f, f->api_is_closed);
    fake_api_server_stop(&f->server);
    uv_close((uv_handle_t *)&f->patience, NULL);
    assert_int_equal(uv_run(&f->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    assert_true(f->failures <= 1);
    test_free(f->in);
    test_free(f);
}

/* The next thing that comes is a failure. */
static void expect_failure(struct fixture *f, int error, const char *words)
{
    WAIT(f, f->failures > 0);
    if (f->failure != error || strstr(f->text, words) == NULL || strstr(f->text, "ems/agent-0") == NULL)
        fail_msg("%d %s: %s", f->failure, strerror(-f->failure), f->text);
    assert_true(strlen(f->text) < ERROR_TEXT_MAX);
    stop(f);
}

/* --- right -------------------------------------------------------------------------------------------------------- */

static void request_is_as_kubernetes_wants_it(void **state)
{
    (void)state;
    struct fixture *f = start_open();
    char host[64];
    (void)snprintf(host, sizeof host, "\r\nHost: 127.0.0.1:%u\r\n", (unsigned)f->server.port);
    static const char first[] = "GET /prefix/api/v1/namespaces/ems/pods/agent-0/portforward?ports=8080 HTTP/1.1\r\n";
    assert_memory_equal(f->server.request, first, sizeof first - 1);
    assert_non_null(strstr(f->server.request, host));
    assert_non_null(strstr(f->server.request, "\r\nConnection: Upgrade\r\n"));
    assert_non_null(strstr(f->server.request, "\r\nUpgrade: websocket\r\n"));
    assert_non_null(strstr(f->server.request, "\r\nSec-WebSocket-Version: 13\r\n"));
    assert_non_null(
        strstr(f->server.request, "\r\nSec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io, v4.channel.k8s.io\r\n"));
    assert_non_null(strstr(f->server.request, "\r\nAuthorization: Bearer secret-token\r\n"));
    assert_non_null(strstr(f->server.request, "\r\nUser-Agent: ktvpn/"));
    stop(f);
}

static void bulk_goes_both_ways(struct fixture *f)
{
    f->server.echoes = true;
    f->to_send = BULK;
    assert_int_equal(dial(f), 0);
    WAIT(f, f->is_open);
    write_all(f);
    WAIT(f, f->in_size == BULK);
    for (size_t i = 0; i < BULK; i++) {
        if (f->in[i] != byte_at(i) || f->server.data[i] != byte_at(i))
            fail_msg("byte %zu", i);
    }
    assert_int_equal(f->server.data_size, BULK);
    assert_false(f->server.has_broken_frame);
    stop(f);
}

static void bulk_goes_both_ways_in_plain_text(void **state)
{
    (void)state;
    bulk_goes_both_ways(make(false));
}

/* The server takes HTTP/2 if it is offered: then nothing of this would work. */
static void bulk_goes_both_ways_over_tls(void **state)
{
    (void)state;
    bulk_goes_both_ways(make(true));
}

static void bulk_goes_both_ways_in_small_pieces(void **state)
{
    (void)state;
    struct fixture *f = make(true);
    f->server.piece = 1021;
    bulk_goes_both_ways(f);
}

static void head_and_first_frames_may_come_byte_by_byte(void **state)
{
    (void)state;
    struct fixture *f = make(false);
    static const char more[] = FAKE_API_PORTS "\x82\x06\x00hello";
    f->server.answer_more = more;
    f->server.answer_more_size = sizeof more - 1;
    f->server.piece = 1;
    assert_int_equal(dial(f), 0);
    WAIT(f, f->in_size == 5);
    assert_memory_equal(f->in, "hello", 5);
    stop(f);
}

/* Frames in the same read as the head, with data that is read only later. */
static void bytes_that_came_early_are_told_of(void **state)
{
    (void)state;
    struct fixture *f = make(false);
    static const char more[] = FAKE_API_PORTS "\x82\x06\x00hello";
    f->server.answer_more = more;
    f->server.answer_more_size = sizeof more - 1;
    f->reads = false;
    assert_int_equal(dial(f), 0);
    WAIT(f, f->is_open);
    assert_int_equal(f->readies, 0);
    stream_want(f->stream, STREAM_READABLE);
    WAIT(f, f->readies >= 3); /* nobody reads: it is told again */
    f->reads = true;
    WAIT(f, f->in_size == 5);
    assert_int_equal(stream_read(f->stream, f->in, 10), -EAGAIN);
    size_t readies = f->readies;
    for (int i = 0; i < 10; i++)
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_int_equal(f->readies, readies);
    stop(f);
}

static void a_server_that_does_not_read_holds_writing_back(void **state)
{
    (void)state;
    struct fixture *f = make(false);
    f->server.is_deaf = true;
    f->to_send = FAKE_API_IN_SIZE;
    assert_int_equal(dial(f), 0);
    WAIT(f, f->is_open);
    write_all(f);
    for (int i = 0; i < 100; i++)
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_true(f->out_size < f->to_send);
    fake_api_server_listen_again(&f->server);
    WAIT(f, f->server.data_size == f->to_send);
    for (size_t i = 0; i < f->to_send; i++) {
        if (f->server.data[i] != byte_at(i))
            fail_msg("byte %zu", i);
    }
    assert_false(f->server.has_broken_frame);
    stop(f);
}

static void pings_are_answered(void **state)
{
    (void)state;
    struct fixture *f = start_open();
    fake_api_server_send(&f->server, "\x89\x02hi", 4);
    WAIT(f, f->server.pongs == 1);
    fake_api_server_send_message(&f->server, 0, "x", 1);
    WAIT(f, f->in_size == 1);
    stop(f);
}

/* --- refused ------------------------------------------------------------------------------------------------------ */

static void expect_answer(const char *answer, int error, const char *words)
{
    struct fixture *f = make(false);
    f->server.answer = answer;
    f->server.answer_more_size = 0;
    assert_int_equal(dial(f), 0);
    WAIT(f, f->failures > 0);
    assert_false(f->is_open);
    expect_failure(f, error, words);
}

#define STATUS(code, reason, message)                                                          \
    "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"message\":\"" message \
    "\",\"reason\":\"" reason "\",\"code\":" #code "}"

static void refusals_say_why(void **state)
{
    (void)state;
    expect_answer("HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", -EACCES, "sub-protocol");
    expect_answer("HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "1d\r\n{\"kind\":\"Status\",\"message\":\"t\r\n10\r\nhe very words\"}  \r\n0\r\n\r\n",
                  -EACCES, "the very words");
    expect_answer("HTTP/1.1 400 Bad Request\r\nContent-Length: 24\r\n\r\nUpgrade request required", -EPROTO, "proxy");
    expect_answer("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 46\r\n\r\n"
                  "failed to connect to localhost:1 inside netns\n",
                  -EIO, "runtimeClass");
}

static void refusals_by_status_say_its_words(void **state)
{
    (void)state;
    expect_answer("HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: 119\r\n\r\n" STATUS(
                      401, "Unauthorized", "Unauthorized") "\n",
                  -EACCES, "401");
    expect_answer("HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nConnection: close\r\n"
                  "Content-Length: 134\r\n\r\n" STATUS(404, "NotFound", "pods \\\"agent-0\\\" not found") "\n",
                  -ENOENT, "not found");
}

/* A 403 without a body also when the head says nothing about it and the connection ends. */
static void an_end_is_the_bodys_end(void **state)
{
    (void)state;
    struct fixture *f = make(false);
    f->server.answer = "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n";
    f->server.answer_more_size = 0;
    f->server.ends = true;
    assert_int_equal(dial(f), 0);
    expect_failure(f, -EACCES, "sub-protocol");
}

static void a_body_that_does_not_end_is_waited_for_a_little(void **state)
{
    (void)state;
    uint64_t from = uv_hrtime();
    expect_answer("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 1000\r\n\r\nso much for now", -EIO,
                  "so much for now");
    assert_true((uv_hrtime() - from) / 1000000 < PORTFORWARD_BODY_MS + 1000);
}

static void wrong_upgrades_are_refused(void **state)
{
    (void)state;
    static const char upgrade[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    char text[512];
    (void)snprintf(text, sizeof text,
                   "%sSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: "
                   "v4.channel.k8s.io\r\n\r\n",
                   upgrade);
    expect_answer(text, -EPROTO, "Accept");
    (void)snprintf(text, sizeof text, "%sSec-WebSocket-Accept: @ACCEPT@\r\nSec-WebSocket-Protocol: %s\r\n\r\n", upgrade,
                   "SPDY/3.1+exec.k8s.io");
    expect_answer(text, -EPROTO, "sub-protocol");
    expect_answer("SSH-2.0-OpenSSH_9.2\r\n", -EPROTO, "HTTP/1.1");
    static char head[PORTFORWARD_HEAD_MAX + 1024];
    memset(head, 'x', sizeof head - 1);
    memcpy(head, "HTTP/1.1 101 ", 13);
    expect_answer(head, -EMSGSIZE, "HTTP/1.1");
}

static void an_end_before_the_ports_is_a_failure_at_each_byte(void **state)
{
    (void)state;
    static const char whole[] = FAKE_API_GOOD;
    char part[sizeof whole];
    for (size_t n = 0; n < sizeof whole; n += 7) {
        struct fixture *f = make(false);
        memcpy(part, whole, n);
        part[n] = '\0';
        f->server.answer = part;
        f->server.answer_more_size = 0;
        f->server.ends = true;
        assert_int_equal(dial(f), 0);
        expect_failure(f, -ECONNRESET, "ended the connection");
    }
    for (size_t n = 0; n < sizeof FAKE_API_PORTS - 1; n++) {
        struct fixture *f = make(false);
        f->server.answer_more_size = n;
        f->server.ends = true;
        assert_int_equal(dial(f), 0);
        expect_failure(f, -ECONNRESET, "ended the connection");
    }
}

static void wrong_ports_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"\x82\x03\x01\x90\x1e", "\x82\x03\x07\x90\x1f", "\x81\x03\x01\x90\x1f",
                                        "\x82\x02\x01\x90"};
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        struct fixture *f = make(false);
        f->server.answer_more = cases[i];
        f->server.answer_more_size = strlen(cases[i]);
        assert_int_equal(dial(f), 0);
        expect_failure(f, -EPROTO, "WebSocket");
    }
}

static void a_silent_server_is_given_up(void **state)
{
    (void)state;
    struct fixture *f = make(false);
    f->server.answer = "HTTP/1.1 101 Switch";
    f->server.answer_more_size = 0;
    uint64_t from = uv_hrtime();
    assert_int_equal(dial(f), 0);
    WAIT(f, f->failures > 0);
    assert_true((uv_hrtime() - from) / 1000000 < PORTFORWARD_OPEN_MS + 1000);
    expect_failure(f, -ETIMEDOUT, "does not answer");
}

static void a_server_that_is_not_there_is_a_failure(void **state)
{
    (void)state;
    struct fixture *f = make(false);
    (void)uv_poll_stop(&f->server.listener);
    fake_api_server_stop(&f->server); /* stopped again below: start another */
    assert_int_equal(dial(f), 0);
    WAIT(f, f->failures > 0);
    fake_api_server_start(&f->server, &f->loop, false);
    expect_failure(f, -ECONNREFUSED, "refuses the connection");
}

static void a_stranger_in_tls_is_a_failure(void **state)
{
    (void)state;
    struct fixture *f = make(true);
    f->config.ca.size = 0; /* the machine's own CAs */
    assert_int_equal(dial(f), 0);
    WAIT(f, f->failures > 0);
    assert_int_equal(f->failure, -EKEYREJECTED);
    stop(f);
}

static void names_that_would_need_escapes_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"", "../x", "a?b", "a b", "A", "a\r\nb"};
    struct fixture *f = make(false);
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        assert_int_equal(portforward_open(&f->stream, f->api, &f->loop, "ems", cases[i], 1), -EINVAL);
        assert_int_equal(portforward_open(&f->stream, f->api, &f->loop, cases[i], "pod", 1), -EINVAL);
    }
    f->stream = NULL;
    stop(f);
    f = make(false);
    (void)snprintf(f->token, sizeof f->token, "a\r\nX-Evil: 1");
    assert_int_equal(dial(f), -EINVAL);
    stop(f);
}

/* --- lost --------------------------------------------------------------------------------------------------------- */

static void expect_loss(const char *frames, size_t size, int error, const char *words)
{
    struct fixture *f = start_open();
    fake_api_server_send_message(&f->server, 0, "before", 6);
    fake_api_server_send(&f->server, frames, size);
    fake_api_server_send_message(&f->server, 0, "after", 5);
    WAIT(f, f->failures > 0);
    assert_int_equal(f->in_size, 6);
    assert_memory_equal(f->in, "before", 6);
    assert_int_equal(stream_read(f->stream, f->in, 10), -EAGAIN);
    assert_int_equal(stream_write(f->stream, "x", 1), -EAGAIN);
    stream_want(f->stream, STREAM_READABLE | STREAM_WRITABLE);
    for (int i = 0; i < 10; i++)
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    expect_failure(f, error, words);
}
#define EXPECT_LOSS(text, error, words) expect_loss(text, sizeof text - 1, error, words)

static void hostile_frames_lose_the_stream(void **state)
{
    (void)state;
    EXPECT_LOSS("\x82\x82\x00\x00\x00\x00\x00x", -EPROTO, "WebSocket"); /* masked */
    EXPECT_LOSS("\x02\x02\x00x", -EPROTO, "WebSocket");                 /* a fragment */
    EXPECT_LOSS("\x80\x02\x00x", -EPROTO, "WebSocket");
    EXPECT_LOSS("\x81\x02\x00x", -EPROTO, "WebSocket");                            /* text */
    EXPECT_LOSS("\x82\x7f\x00\x00\x00\x00\x7f\xff\xff\xff", -EPROTO, "WebSocket"); /* huge */
    EXPECT_LOSS("\x82\x02\x05x", -EPROTO, "WebSocket");                            /* another channel */
    EXPECT_LOSS("\x88\x02\x03\xe8", -ECONNRESET, "ended the connection");          /* pod deleted */
    EXPECT_LOSS("\x88\x00", -ECONNRESET, "ended the connection");
    EXPECT_LOSS("\x88\x08\x03\xf3reason", -ECONNRESET, "ended the connection");
    EXPECT_LOSS("\x82\x0b\x01some \x1b[31m", -ECONNRESET, "some \\x1b[31m");
}

static void an_end_without_close_frame_loses_the_stream(void **state)
{
    (void)state;
    struct fixture *f = start_open();
    fake_api_server_end(&f->server);
    expect_failure(f, -ECONNRESET, "ended the connection");
}

/* With text and end in one go, the text is what is told. */
static void a_refused_port_is_told_in_the_runtimes_words(void **state)
{
    (void)state;
    static const char text[] =
        "error forwarding port 8080 to pod x: failed to connect to localhost:8080 inside namespace: "
        "connect: connection refused";
    struct fixture *f = start_open();
    fake_api_server_send_message(&f->server, 1, text, sizeof text - 1);
    fake_api_server_send(&f->server, "\x88\x02\x03\xe8", 4);
    expect_failure(f, -ECONNREFUSED, "connect: connection refused (a pod under gVisor");
}

static void a_megabyte_of_error_text_is_cut(void **state)
{
    (void)state;
    static char text[32768];
    memset(text, '\x1b', sizeof text);
    struct fixture *f = start_open();
    for (int i = 0; i < 32; i++)
        fake_api_server_send_message(&f->server, 1, text, sizeof text);
    expect_failure(f, -ECONNRESET, "\\x1b\\x1b");
}

/* --- close -------------------------------------------------------------------------------------------------------- */

static void close_sends_what_waits_and_says_goodbye(void **state)
{
    (void)state;
    struct fixture *f = make(false);
    f->to_send = 300000;
    f->server.is_deaf = true;
    assert_int_equal(dial(f), 0);
    WAIT(f, f->is_open);
    write_all(f);
    size_t taken = f->out_size;
    close_stream(f);
    fake_api_server_listen_again(&f->server);
    WAIT(f, f->is_closed);
    assert_true(f->server.has_close);
    assert_int_equal(f->server.close_code, 1000);
    assert_int_equal(f->server.data_size, taken);
    stop(f);
}

static void close_does_not_wait_for_long(void **state)
{
    (void)state;
    static const uint8_t flood[100000];
    struct fixture *f = start_open();
    f->server.keeps_open = true;
    fake_api_server_send(&f->server, flood, sizeof flood);
    uint64_t from = uv_hrtime();
    close_stream(f);
    WAIT(f, f->is_closed);
    assert_true((uv_hrtime() - from) / 1000000 < PORTFORWARD_CLOSE_MS + 500);
    WAIT(f, f->server.is_gone);
    assert_true(f->server.has_close);
    stop(f);
}

static void close_is_fine_in_every_state(void **state)
{
    (void)state;
    stop(start()); /* before libcurl did anything */
    for (int turns = 1; turns < 12; turns++) {
        struct fixture *f = start();
        f->server.piece = 20;
        for (int i = 0; i < turns; i++)
            (void)uv_run(&f->loop, UV_RUN_ONCE);
        stop(f);
    }
    struct fixture *f = make(false);
    f->closes_at_open = true;
    assert_int_equal(dial(f), 0);
    WAIT(f, f->is_closed);
    stop(f);
    f = start_open(); /* failed, but not told yet */
    f->reads = false;
    fake_api_server_send(&f->server, "\x81\x00", 2);
    WAIT(f, f->readies > 0);
    assert_int_equal(stream_read(f->stream, f->in, 10), -EAGAIN);
    close_stream(f);
    WAIT(f, f->is_closed);
    assert_int_equal(f->failures, 0);
    stop(f);
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    unsigned long nth = 0;
    bool was_open = false;
    while (!was_open) {
        struct fixture *f = make(false);
        kt_mem_fail_nth(++nth);
        int rc = dial(f);
        if (rc == 0)
            WAIT(f, f->is_open || f->failures > 0);
        kt_mem_fail_nth(0);
        assert_true(rc == 0 || rc == -ENOMEM);
        was_open = f->is_open;
        assert_true(nth < 50);
        stop(f);
    }
    assert_true(nth > 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_is_as_kubernetes_wants_it),
        cmocka_unit_test(bulk_goes_both_ways_in_plain_text),
        cmocka_unit_test(bulk_goes_both_ways_over_tls),
        cmocka_unit_test(bulk_goes_both_ways_in_small_pieces),
        cmocka_unit_test(head_and_first_frames_may_come_byte_by_byte),
        cmocka_unit_test(bytes_that_came_early_are_told_of),
        cmocka_unit_test(a_server_that_does_not_read_holds_writing_back),
        cmocka_unit_test(pings_are_answered),
        cmocka_unit_test(refusals_say_why),
        cmocka_unit_test(refusals_by_status_say_its_words),
        cmocka_unit_test(an_end_is_the_bodys_end),
        cmocka_unit_test(a_body_that_does_not_end_is_waited_for_a_little),
        cmocka_unit_test(wrong_upgrades_are_refused),
        cmocka_unit_test(an_end_before_the_ports_is_a_failure_at_each_byte),
        cmocka_unit_test(wrong_ports_are_refused),
        cmocka_unit_test(a_silent_server_is_given_up),
        cmocka_unit_test(a_server_that_is_not_there_is_a_failure),
        cmocka_unit_test(a_stranger_in_tls_is_a_failure),
        cmocka_unit_test(names_that_would_need_escapes_are_refused),
        cmocka_unit_test(hostile_frames_lose_the_stream),
        cmocka_unit_test(an_end_without_close_frame_loses_the_stream),
        cmocka_unit_test(a_refused_port_is_told_in_the_runtimes_words),
        cmocka_unit_test(a_megabyte_of_error_text_is_cut),
        cmocka_unit_test(close_sends_what_waits_and_says_goodbye),
        cmocka_unit_test(close_does_not_wait_for_long),
        cmocka_unit_test(close_is_fine_in_every_state),
        cmocka_unit_test(every_allocation_fails_once),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* OpenSSL's own writes */
    log_open(NULL, NULL, LOG_LEVEL_ERROR);
    return unit_run(tests);
}
