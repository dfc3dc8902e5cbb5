#include "client/names_check.h"

#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <string.h>
#include <uv.h>

#include "common/dns.h"
#include "common/mem.h"

#define QUERY_MAX 512
#define ANSWER_MAX 4096

struct names_check {
    uv_udp_t udp;
    uv_timer_t timer;
    int handles; /* that are not closed yet */
    int tries;
    uint16_t id;
    uint8_t query[QUERY_MAX], answer[ANSWER_MAX];
    size_t query_size;
    bool is_done;
    void (*on_done)(void *context, int result);
    void *context;
};

static void done(struct names_check *check, int result)
{
    if (check->is_done)
        return;
    check->is_done = true;
    (void)uv_timer_stop(&check->timer);
    (void)uv_udp_recv_stop(&check->udp);
    check->on_done(check->context, result);
}

static void on_timer(uv_timer_t *timer)
{
    struct names_check *check = timer->data;
    if (check->tries++ == NAMES_CHECK_TRIES) {
        done(check, -ETIMEDOUT);
        return;
    }
    uv_buf_t buffer = uv_buf_init((char *)check->query, (unsigned)check->query_size);
    int rc = uv_udp_try_send(&check->udp, &buffer, 1, NULL);
    if (rc < 0 && rc != UV_EAGAIN && rc != UV_ECONNREFUSED)
        done(check, rc);
}

static void on_alloc(uv_handle_t *handle, size_t suggested KT_UNUSED, uv_buf_t *buffer)
{
    struct names_check *check = handle->data;
    *buffer = uv_buf_init((char *)check->answer, sizeof check->answer);
}

static void on_answer(uv_udp_t *udp, ssize_t size, const uv_buf_t *buffer KT_UNUSED, const struct sockaddr *from,
                      unsigned flags KT_UNUSED)
{
    struct names_check *check = udp->data;
    struct dns_answer answer;
    if (size <= 0 || from == NULL || dns_parse_answer(&answer, check->answer, (size_t)size) != 0 ||
        answer.id != check->id)
        return;
    struct address address;
    done(check, dns_first_address(&address, check->answer, (size_t)size));
}

static int connect_udp(struct names_check *check, const struct address *server)
{
    struct sockaddr_storage to = {0};
    if (server->family == ADDRESS_V4) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)&to;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(53);
        memcpy(&v4->sin_addr, server->bytes, 4);
    } else {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&to;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(53);
        memcpy(&v6->sin6_addr, server->bytes, 16);
    }
    return uv_udp_connect(&check->udp, (const struct sockaddr *)&to);
}

static void on_closed(uv_handle_t *handle)
{
    struct names_check *check = handle->data;
    if (--check->handles == 0)
        kt_free(check);
}

int names_check_start(struct names_check **out, struct uv_loop_s *loop, const struct names_check_options *options,
                      void (*on_done)(void *context, int result), void *context)
{
    struct names_check *check = kt_calloc(1, sizeof *check);
    if (check == NULL)
        return -ENOMEM;
    *check = (struct names_check){.id = (uint16_t)randombytes_uniform(65536), .on_done = on_done, .context = context};
    check->udp.data = check->timer.data = check;
    int size = dns_put_query(check->query, sizeof check->query, check->id, options->name, DNS_A, 0);
    int rc = size < 0 ? size : uv_udp_init(loop, &check->udp);
    if (rc != 0) {
        kt_free(check);
        return rc;
    }
    check->query_size = (size_t)size;
    check->handles = 2;
    (void)uv_timer_init(loop, &check->timer);
    rc = connect_udp(check, &options->server);
    if (rc == 0)
        rc = uv_udp_recv_start(&check->udp, on_alloc, on_answer);
    if (rc == 0)
        rc = uv_timer_start(&check->timer, on_timer, 0, options->try_ms > 0 ? options->try_ms : NAMES_CHECK_TRY_MS);
    if (rc != 0)
        names_check_close(check);
    else
        *out = check;
    return rc;
}

void names_check_close(struct names_check *check)
{
    if (check == NULL)
        return;
    check->is_done = true;
    uv_close((uv_handle_t *)&check->udp, on_closed);
    uv_close((uv_handle_t *)&check->timer, on_closed);
}
