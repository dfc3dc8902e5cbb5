/* States, and what is read in them:
 *
 *   LOGIN: a credential is awaited, before the first dial and, once, after a 401
 *
 *   CONNECTING ─► ANSWER ─► PORTS ─► OPEN ─► LINGER ─► CLOSING
 *      libcurl     head │   frames   frames   anything
 *                       └► BODY ─► FAILED
 *                          text of a refusal
 *
 * Each state but LINGER and CLOSING may go to FAILED; that is told from the loop by the idle handle, never inside a
 * call. The same handle makes the stream readable when bytes lie in TLS or in our buffer, where poll() does not see
 * them. */
#include "client/kube/portforward.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <uv.h>

#include "client/kube/connection.h"
#include "client/kube/credential.h"
#include "client/kube/header.h"
#include "client/kube/refusal.h"
#include "client/kube/upgrade.h"
#include "client/kube/upgrade_request.h"
#include "common/mem.h"

#define DRAIN_READS 16 /* in one turn of LINGER */
#define TO "forward a port to "

enum portforward_state {
    PORTFORWARD_LOGIN,
    PORTFORWARD_CONNECTING,
    PORTFORWARD_ANSWER,
    PORTFORWARD_BODY,
    PORTFORWARD_PORTS,
    PORTFORWARD_OPEN,
    PORTFORWARD_FAILED, /* `failure` is told, or will be by the idle handle */
    PORTFORWARD_LINGER,
    PORTFORWARD_CLOSING
};

struct portforward {
    struct stream stream;
    enum portforward_state state;
    struct api *api;
    struct connection *connection;
    CURL *easy; /* the connection's */
    struct credential_wait login;
    unsigned generation; /* of the credential that the connection uses */
    bool was_refused;    /* by 401 */
    char *path;
    uint16_t port;
    struct uv_loop_s *loop;
    uv_timer_t timer;
    uv_idle_t idle;
    unsigned handles;
    int wanted; /* STREAM_* of the user */
    char *what; /* "forward a port to pod NS/POD" */
    struct upgrade_request request;
    struct upgrade_answer answer;
    int failure;
    struct error error;
    struct channels channels;
};

static struct portforward *portforward_of(struct stream *stream)
{
    return KT_CONTAINER_OF(stream, struct portforward, stream);
}

static void on_idle(uv_idle_t *idle);
static void on_timer(uv_timer_t *timer);

static int events_of(const struct portforward *pf)
{
    int output = channels_has_output(&pf->channels) ? STREAM_WRITABLE : 0;
    switch (pf->state) {
    case PORTFORWARD_ANSWER:
    case PORTFORWARD_BODY:
    case PORTFORWARD_PORTS:
    case PORTFORWARD_LINGER:
        return STREAM_READABLE | output;
    case PORTFORWARD_OPEN:
        return pf->wanted | output;
    case PORTFORWARD_LOGIN:
    case PORTFORWARD_CONNECTING:
    case PORTFORWARD_FAILED:
    case PORTFORWARD_CLOSING:
        return 0;
    }
    return 0;
}

static bool has_hidden_bytes(const struct portforward *pf)
{
    return pf->state == PORTFORWARD_OPEN && (pf->wanted & STREAM_READABLE) && !pf->channels.is_dry;
}

/* Makes poll and idle handle fit the state: at the end of whatever changed it. */
static void watch(struct portforward *pf)
{
    if (pf->state == PORTFORWARD_CLOSING)
        return;
    if (pf->connection != NULL)
        connection_want(pf->connection, events_of(pf));
    if (pf->failure != 0 || has_hidden_bytes(pf))
        (void)uv_idle_start(&pf->idle, on_idle);
    else
        (void)uv_idle_stop(&pf->idle);
}

/* `error` has its text. */
static void fail(struct portforward *pf, int error)
{
    if (pf->state == PORTFORWARD_FAILED)
        return;
    pf->state = PORTFORWARD_FAILED;
    pf->failure = error;
    (void)uv_timer_stop(&pf->timer);
    watch(pf);
}

static void fail_because(struct portforward *pf, enum exit_code code, int error, const char *why)
{
    if (pf->state == PORTFORWARD_OPEN)
        fail(pf, error_set(&pf->error, code, error, "the port-forward to %s ended: %s", pf->what + sizeof TO - 1, why));
    else
        fail(pf, error_set(&pf->error, code, error, "cannot %s: %s", pf->what, why));
}

static void tell_failure(struct portforward *pf)
{
    int error = pf->failure;
    pf->failure = 0;
    (void)uv_idle_stop(&pf->idle);
    if (pf->stream.on_failed != NULL)
        pf->stream.on_failed(&pf->stream, error, pf->error.text);
}

static void fail_by_text(struct portforward *pf)
{
    fail(pf, refusal_of_text(pf->channels.text, pf->channels.text_size, pf->what, &pf->error));
}

/* A negative result of channels_*(). */
static void fail_by_channels(struct portforward *pf, int error)
{
    if (error == -EREMOTEIO)
        fail_by_text(pf);
    else if (error == -EPROTO)
        fail_because(pf, EXIT_CODE_FAILED, error, "the server broke the WebSocket protocol");
    else
        fail_because(pf, EXIT_CODE_UNREACHABLE, error, "the API server ended the connection");
}

static ssize_t io_read(void *context, void *out, size_t size)
{
    struct portforward *pf = context;
    return connection_read(pf->connection, out, size);
}

static ssize_t io_write(void *context, const void *data, size_t size)
{
    struct portforward *pf = context;
    return connection_write(pf->connection, data, size);
}

static void read_body(struct portforward *pf, bool is_late)
{
    for (;;) {
        char *body = (char *)pf->channels.in + pf->channels.in_start;
        size_t size = pf->channels.in_end - pf->channels.in_start;
        bool is_complete = upgrade_get_body(&pf->answer, body, &size);
        ssize_t n = is_complete || is_late ? 0 : channels_receive(&pf->channels);
        if (n == -EAGAIN)
            return;
        if (n <= 0) {
            fail(pf, refusal_of_answer(pf->answer.status, body, size, pf->what, &pf->error));
            return;
        }
    }
}

static void start_channels(struct portforward *pf)
{
    bool is_spdy = strcasecmp(pf->answer.protocol, CHANNELS_SPDY_NAME) == 0;
    int rc = channels_start(&pf->channels, is_spdy ? CHANNELS_SPDY : CHANNELS_V4);
    if (rc == 0)
        rc = channels_flush(&pf->channels);
    if (rc != 0 && rc != -EAGAIN)
        fail_by_channels(pf, rc);
    else
        pf->state = PORTFORWARD_PORTS;
}

/* Dials once more with a new credential, when the old connection is gone. */
static bool log_in_again(struct portforward *pf)
{
    if (pf->was_refused || !credential_refused(api_credential(pf->api), pf->generation))
        return false;
    pf->was_refused = true;
    pf->state = PORTFORWARD_LOGIN;
    (void)uv_timer_stop(&pf->timer);
    connection_close(pf->connection);
    return true;
}

static void on_answer(struct portforward *pf)
{
    const char *why;
    if (pf->answer.status == 401 && log_in_again(pf))
        return;
    channels_consume(&pf->channels, pf->answer.head_size);
    if (pf->answer.status != 101) {
        pf->state = PORTFORWARD_BODY;
        (void)uv_timer_start(&pf->timer, on_timer, PORTFORWARD_BODY_MS, 0);
    } else if (upgrade_verify(&pf->answer, &pf->request, &why) == 0) {
        start_channels(pf);
    } else {
        fail(pf, error_set(&pf->error, EXIT_CODE_FAILED, -EPROTO, "%s: the answer to the upgrade is wrong: %s",
                           pf->what, why));
    }
}

static void read_answer(struct portforward *pf)
{
    for (;;) {
        size_t size;
        const char *head = (const char *)channels_received(&pf->channels, &size);
        int rc = upgrade_get_answer(&pf->answer, head, size);
        ssize_t n = rc == 0 ? channels_receive(&pf->channels) : rc;
        if (rc == 1) {
            on_answer(pf);
            return;
        }
        if (n == -EAGAIN)
            return;
        if (n == -EMSGSIZE || n == -EPROTO) {
            fail_because(pf, EXIT_CODE_FAILED, (int)n, "the server does not answer as HTTP/1.1 asks");
            return;
        }
        if (n <= 0) {
            fail_because(pf, EXIT_CODE_UNREACHABLE, -ECONNRESET,
                         "the API server ended the connection without an answer");
            return;
        }
    }
}

static void read_ports(struct portforward *pf)
{
    int rc = channels_get_ports(&pf->channels);
    if (rc < 0)
        fail_by_channels(pf, rc);
    if (rc != 1)
        return;
    pf->state = PORTFORWARD_OPEN;
    pf->channels.is_dry = false;
    (void)uv_timer_stop(&pf->timer);
    if (pf->stream.on_open != NULL)
        pf->stream.on_open(&pf->stream);
}

/* Reads through the states of opening as far as the bytes go. */
static void read_opening(struct portforward *pf)
{
    if (pf->state == PORTFORWARD_ANSWER)
        read_answer(pf);
    if (pf->state == PORTFORWARD_BODY)
        read_body(pf, false);
    if (pf->state == PORTFORWARD_PORTS)
        read_ports(pf);
}

static void free_all(struct portforward *pf)
{
    kt_free(pf->what);
    kt_free(pf->path);
    upgrade_request_deinit(&pf->request);
    kt_free(pf);
}

static void closed_one(struct portforward *pf)
{
    if (--pf->handles > 0)
        return;
    if (pf->stream.on_closed != NULL)
        pf->stream.on_closed(&pf->stream);
    free_all(pf);
}

static void on_idle_closed(uv_handle_t *handle)
{
    closed_one(KT_CONTAINER_OF((uv_idle_t *)handle, struct portforward, idle));
}

static void on_timer_closed(uv_handle_t *handle)
{
    closed_one(KT_CONTAINER_OF((uv_timer_t *)handle, struct portforward, timer));
}

static void on_connection_closed(void *context)
{
    struct portforward *pf = context;
    pf->connection = NULL;
    if (pf->state == PORTFORWARD_LOGIN)
        credential_await(api_credential(pf->api), &pf->login);
    if (pf->handles > 0)
        closed_one(pf);
}

static void destroy(struct portforward *pf)
{
    pf->state = PORTFORWARD_CLOSING;
    pf->handles = pf->connection != NULL ? 3 : 2;
    credential_forget(&pf->login);
    uv_close((uv_handle_t *)&pf->timer, on_timer_closed);
    uv_close((uv_handle_t *)&pf->idle, on_idle_closed);
    if (pf->connection != NULL)
        connection_close(pf->connection);
}

/* Reads what still comes, so that the kernel sends no RST over our last bytes, until the server ends. */
static void linger(struct portforward *pf)
{
    int rc = channels_flush(&pf->channels);
    ssize_t n = rc == 0 || rc == -EAGAIN ? 1 : rc;
    for (int i = 0; i < DRAIN_READS && n > 0; i++)
        n = connection_read(pf->connection, pf->channels.in, sizeof pf->channels.in);
    if (n <= 0 && n != -EAGAIN)
        destroy(pf);
}

static void stream_ready(struct portforward *pf, int events)
{
    if (channels_has_output(&pf->channels)) /* a frame that is not out yet comes first */
        events &= ~STREAM_WRITABLE;
    if ((events & pf->wanted) != 0 && pf->stream.on_ready != NULL)
        pf->stream.on_ready(&pf->stream, events & pf->wanted);
}

static void ready(struct portforward *pf, int events)
{
    int rc = events & STREAM_WRITABLE ? channels_flush(&pf->channels) : 0;
    if (rc != 0 && rc != -EAGAIN && pf->state != PORTFORWARD_LINGER)
        fail_by_channels(pf, rc);
    if (pf->state == PORTFORWARD_OPEN)
        stream_ready(pf, events);
    else if (pf->state == PORTFORWARD_LINGER)
        linger(pf);
    else if (pf->state != PORTFORWARD_FAILED)
        read_opening(pf);
    watch(pf);
}

static void on_ready(void *context, int events)
{
    ready(context, events);
}

static void on_idle(uv_idle_t *idle)
{
    struct portforward *pf = KT_CONTAINER_OF(idle, struct portforward, idle);
    if (pf->failure != 0)
        tell_failure(pf);
    else
        ready(pf, STREAM_READABLE);
}

static void on_timer(uv_timer_t *timer)
{
    struct portforward *pf = KT_CONTAINER_OF(timer, struct portforward, timer);
    if (pf->state == PORTFORWARD_LINGER)
        destroy(pf);
    else if (pf->state == PORTFORWARD_BODY)
        read_body(pf, true);
    else
        fail_because(pf, EXIT_CODE_UNREACHABLE, -ETIMEDOUT, "the API server does not answer");
}

/* Puts the request where flush finds it. */
static int put_request(struct portforward *pf)
{
    const char *url = NULL;
    if (curl_easy_getinfo(pf->easy, CURLINFO_EFFECTIVE_URL, &url) != CURLE_OK || url == NULL)
        return -EINVAL;
    char *text = upgrade_request_text(&pf->request, url);
    int rc = text == NULL ? -ENOMEM : channels_put_raw(&pf->channels, text, strlen(text));
    kt_free_secret(text, text == NULL ? 0 : strlen(text));
    return rc;
}

static void on_connected(void *context, int curl_code)
{
    struct portforward *pf = context;
    if (pf->state != PORTFORWARD_CONNECTING) /* too late: it has failed by its timer */
        return;
    if (curl_code != CURLE_OK) {
        fail(pf, api_easy_error(pf->api, pf->easy, curl_code, pf->what, &pf->error));
        return;
    }
    int rc = put_request(pf);
    if (rc != 0) {
        fail_because(pf, EXIT_CODE_FAILED, rc, rc == -ENOMEM ? "no memory" : "the request is too long");
        return;
    }
    pf->state = PORTFORWARD_ANSWER;
    ready(pf, STREAM_WRITABLE);
}

static const struct connection_ops connection_ops = {
    .on_connected = on_connected, .on_ready = on_ready, .on_closed = on_connection_closed};

/* What is wrong is told by on_failed alone, so that it is told once. */
static ssize_t portforward_read(struct stream *stream, void *out, size_t size)
{
    struct portforward *pf = portforward_of(stream);
    if (pf->state != PORTFORWARD_OPEN)
        return -EAGAIN;
    ssize_t n = channels_read(&pf->channels, out, size);
    int rc = channels_has_output(&pf->channels) ? channels_flush(&pf->channels) : 0; /* pongs */
    if (n < 0 && n != -EAGAIN) {
        fail_by_channels(pf, (int)n);
        return -EAGAIN;
    }
    if (rc != 0 && rc != -EAGAIN && n == -EAGAIN)
        fail_by_channels(pf, rc);
    watch(pf);
    return n;
}

static ssize_t portforward_write(struct stream *stream, const void *data, size_t size)
{
    struct portforward *pf = portforward_of(stream);
    if (pf->state != PORTFORWARD_OPEN)
        return -EAGAIN;
    ssize_t n = channels_write(&pf->channels, data, size);
    if (n < 0 && n != -EAGAIN) {
        fail_by_channels(pf, (int)n);
        return -EAGAIN;
    }
    if (channels_has_output(&pf->channels))
        watch(pf);
    return n;
}

static void portforward_want(struct stream *stream, int events)
{
    struct portforward *pf = portforward_of(stream);
    if (pf->wanted == events)
        return;
    pf->wanted = events;
    watch(pf);
}

static void portforward_close(struct stream *stream)
{
    struct portforward *pf = portforward_of(stream);
    if (pf->state == PORTFORWARD_LINGER || pf->state == PORTFORWARD_CLOSING)
        return;
    if (pf->state != PORTFORWARD_OPEN) {
        destroy(pf);
        return;
    }
    pf->state = PORTFORWARD_LINGER;
    channels_end(&pf->channels);
    int rc = channels_flush(&pf->channels);
    if (rc != 0 && rc != -EAGAIN) {
        destroy(pf);
        return;
    }
    (void)uv_timer_start(&pf->timer, on_timer, PORTFORWARD_CLOSE_MS, 0);
    watch(pf);
}

static const struct stream_ops portforward_ops = {
    .read = portforward_read, .write = portforward_write, .want = portforward_want, .close = portforward_close};

static int take_headers(struct portforward *pf, struct curl_slist *list)
{
    upgrade_request_deinit(&pf->request);
    int rc = upgrade_request_init(&pf->request, CHANNELS_OFFER);
    for (struct curl_slist *at = list; at != NULL && rc == 0; at = at->next)
        rc = upgrade_request_add_header(&pf->request, at->data);
    header_free_all(list);
    return rc;
}

/* A DNS name, as Kubernetes asks of pods and namespaces: nothing in it needs to be escaped. */
static bool is_name(const char *name)
{
    return name[0] != '\0' && name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.")] == '\0';
}

static int dial(struct portforward *pf)
{
    struct curl_slist *list = NULL;
    channels_init(&pf->channels, &(struct channels_io){io_read, io_write, pf}, pf->port);
    pf->easy = api_new_easy(pf->api, pf->path, &list, &pf->generation);
    if (pf->easy == NULL)
        return -ENOMEM;
    int rc = take_headers(pf, list);
    if (rc == 0)
        rc = connection_open(&pf->connection, pf->loop, pf->easy, &connection_ops, pf);
    if (rc != 0)
        curl_easy_cleanup(pf->easy);
    return rc;
}

static void on_login(void *context, const struct error *error)
{
    struct portforward *pf = context;
    if (pf->state != PORTFORWARD_LOGIN)
        return;
    if (error != NULL) {
        fail(pf, error_set(&pf->error, error->code, -EACCES, "cannot %s: %.900s", pf->what, error->text));
        return;
    }
    pf->state = PORTFORWARD_CONNECTING;
    (void)uv_timer_start(&pf->timer, on_timer, PORTFORWARD_OPEN_MS, 0);
    int rc = dial(pf);
    if (rc != 0)
        fail_because(pf, EXIT_CODE_FAILED, rc, strerror(-rc));
}

/* Dials at once where nobody has to be waited for. */
static int start(struct portforward *pf)
{
    struct credential_value login;
    if (credential_get(api_credential(pf->api), &login)) {
        pf->state = PORTFORWARD_CONNECTING;
        return dial(pf);
    }
    pf->state = PORTFORWARD_LOGIN;
    credential_await(api_credential(pf->api), &pf->login);
    return 0;
}

int portforward_open(struct stream **out, struct api *api, struct uv_loop_s *loop, const char *name_space,
                     const char *pod, uint16_t port)
{
    if (!is_name(name_space) || !is_name(pod))
        return -EINVAL;
    struct portforward *pf = kt_calloc(1, sizeof *pf);
    if (pf == NULL)
        return -ENOMEM;
    pf->stream.ops = &portforward_ops;
    pf->api = api;
    pf->loop = loop;
    pf->port = port;
    pf->login = (struct credential_wait){.on_ready = on_login, .context = pf};
    pf->what = kt_asprintf(TO "pod %s/%s", name_space, pod);
    pf->path = kt_asprintf("/api/v1/namespaces/%s/pods/%s/portforward?ports=%u", name_space, pod, (unsigned)port);
    int rc = pf->what == NULL || pf->path == NULL ? -ENOMEM : start(pf);
    if (rc != 0) {
        free_all(pf);
        return rc;
    }
    (void)uv_idle_init(loop, &pf->idle); /* neither can fail */
    (void)uv_timer_init(loop, &pf->timer);
    if (pf->state == PORTFORWARD_CONNECTING)
        (void)uv_timer_start(&pf->timer, on_timer, PORTFORWARD_OPEN_MS, 0);
    *out = &pf->stream;
    return 0;
}
