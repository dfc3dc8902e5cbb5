/* The live query, against a name server on port 53 of a network namespace of the test's own. */
#include "client/names_check.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/dns.h"
#include "common/mem.h"
#include "tests/unit/unit.h"

#define TRY_MS 50 /* an answer on loopback is there long before */

enum manner { ANSWERS, KNOWS_NOTHING, WRONG_ID, NONSENSE, SILENT };

struct fixture {
    uv_loop_t loop;
    uv_udp_t server;
    enum manner manner;
    uint8_t query[512];
    int queries;
    struct names_check *check;
    int result;
    bool is_done;
};

static int enter_namespace(void **state KT_UNUSED)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    if (unshare(CLONE_NEWNET) != 0)
        return -1;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc = ioctl(fd, SIOCSIFFLAGS, &request);
    (void)close(fd);
    return rc;
}

/* The query with one A record, 10.222.0.1, behind its question. */
static size_t put_answer(uint8_t *out, const struct fixture *fixture, size_t size)
{
    static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 222, 0, 1};
    memcpy(out, fixture->query, size);
    out[2] |= 0x80;
    if (fixture->manner == WRONG_ID)
        out[0] ^= 0xff;
    if (fixture->manner == KNOWS_NOTHING) {
        out[3] = DNS_NXDOMAIN;
        return size;
    }
    out[7] = 1;
    memcpy(out + size, record, sizeof record);
    return size + sizeof record;
}

static void on_alloc(uv_handle_t *handle, size_t suggested KT_UNUSED, uv_buf_t *buffer)
{
    struct fixture *fixture = handle->data;
    *buffer = uv_buf_init((char *)fixture->query, sizeof fixture->query);
}

static void on_query(uv_udp_t *udp, ssize_t size, const uv_buf_t *buffer KT_UNUSED, const struct sockaddr *from,
                     unsigned flags KT_UNUSED)
{
    struct fixture *fixture = udp->data;
    if (size <= 0 || from == NULL)
        return;
    fixture->queries++;
    uint8_t answer[600] = "nonsense";
    size_t answer_size = fixture->manner == NONSENSE ? 8 : put_answer(answer, fixture, (size_t)size);
    uv_buf_t out = uv_buf_init((char *)answer, (unsigned)answer_size);
    if (fixture->manner != SILENT)
        (void)uv_udp_try_send(udp, &out, 1, from);
}

static void on_done(void *context, int result)
{
    struct fixture *fixture = context;
    fixture->result = result;
    fixture->is_done = true;
    names_check_close(fixture->check);
    uv_close((uv_handle_t *)&fixture->server, NULL);
}

static void ask(struct fixture *fixture, enum manner manner)
{
    *fixture = (struct fixture){.manner = manner};
    struct names_check_options options = {
        .server = address_v4(0x7f000001), .name = "kubernetes.default.svc.cluster.local", .try_ms = TRY_MS};
    struct sockaddr_in local = {
        .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    fixture->server.data = fixture;
    assert_int_equal(uv_udp_init(&fixture->loop, &fixture->server), 0);
    assert_int_equal(uv_udp_bind(&fixture->server, (const struct sockaddr *)&local, 0), 0);
    assert_int_equal(uv_udp_recv_start(&fixture->server, on_alloc, on_query), 0);
    assert_int_equal(names_check_start(&fixture->check, &fixture->loop, &options, on_done, fixture), 0);
    assert_false(fixture->is_done); /* never inside the call */
    (void)uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    assert_true(fixture->is_done);
    assert_int_equal(kt_mem_live(), 0);
}

static void test_answers(void **state KT_UNUSED)
{
    struct fixture fixture;
    ask(&fixture, ANSWERS);
    assert_int_equal(fixture.result, 0);
    assert_int_equal(fixture.queries, 1);
    ask(&fixture, KNOWS_NOTHING);
    assert_int_equal(fixture.result, -ENOENT);
}

static void test_what_is_no_answer(void **state KT_UNUSED)
{
    static const enum manner manners[] = {WRONG_ID, NONSENSE, SILENT};
    for (size_t i = 0; i < KT_ARRAY_LEN(manners); i++) {
        struct fixture fixture;
        ask(&fixture, manners[i]);
        assert_int_equal(fixture.result, -ETIMEDOUT);
        assert_int_equal(fixture.queries, NAMES_CHECK_TRIES);
    }
}

static void test_bad_start(void **state KT_UNUSED)
{
    uv_loop_t loop;
    struct names_check *check = NULL;
    struct names_check_options options = {.server = address_v4(0x7f000001), .name = ".."};
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(names_check_start(&check, &loop, &options, on_done, NULL), -EINVAL);
    options.name = "a.b";
    kt_mem_fail_nth(1);
    assert_int_equal(names_check_start(&check, &loop, &options, on_done, NULL), -ENOMEM);
    names_check_close(NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers), cmocka_unit_test(test_what_is_no_answer),
                                       cmocka_unit_test(test_bad_start)};
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, enter_namespace, NULL);
}
