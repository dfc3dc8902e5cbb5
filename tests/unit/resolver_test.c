/* The resolver, against name servers on loopback that answer, lie, cut, stay silent or are not there. */
#include "agent/resolver.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/cursor.h"
#include "common/dns.h"
#include "common/mem.h"
#include "common/resolvconf.h"
#include "tests/unit/unit.h"

#define SERVERS 2

enum habit { ANSWERS, FAILS, SILENT, LIES_FIRST, CUTS, CUTS_WITHOUT_TCP, CUTS_WITH_BAD_TCP, CRUMBLES_TCP };

struct server {
    struct fixture *f;
    enum habit habit;
    uv_poll_t udp, tcp, client;
    int udp_fd, tcp_fd, client_fd;
    int asked, asked_tcp;
    uint16_t last_id;
};

struct fixture {
    uv_loop_t loop;
    struct resolver *resolver;
    struct server server[SERVERS];
    uint16_t port;
    int answers, nothing;
    uint32_t tag;
    uint8_t answer[DNS_MESSAGE_MAX];
    size_t size;
    bool closes, asks_again;
};

static size_t make_query(uint8_t *out, size_t size, uint16_t id)
{
    int n = dns_put_query(out, size, id, "dashboard-api.ems.svc.cluster.local", DNS_A, 0);
    assert_true(n > 0);
    return (size_t)n;
}

static size_t make_answer(uint8_t *out, size_t size, const uint8_t *query, size_t query_size, enum dns_rcode rcode)
{
    struct dns_question question;
    assert_int_equal(dns_parse_query(&question, query, query_size), 0);
    int n = dns_put_error(out, size, query, &question, rcode);
    assert_true(n > 0);
    return (size_t)n;
}

static void set_id(uint8_t *message, uint16_t id)
{
    struct cursor cursor = cursor_writer(message, 2);
    cursor_put_u16(&cursor, id);
}

static uint16_t get_id(const uint8_t *message)
{
    struct cursor cursor = cursor_reader(message, 2);
    return cursor_u16(&cursor);
}

static void reply(const struct server *server, const struct sockaddr_in *to, const uint8_t *message, size_t size)
{
    assert_int_equal(sendto(server->udp_fd, message, size, 0, (const struct sockaddr *)to, sizeof *to), (ssize_t)size);
}

/* Another id, another name, another type, a query instead of an answer, garbage; and from another socket the truth
 * itself. */
static void lie(const struct server *server, const struct sockaddr_in *to, const uint8_t *query, size_t size)
{
    uint8_t lies[600], other[600];
    size_t n = make_answer(lies, sizeof lies, query, size, DNS_NXDOMAIN);
    set_id(lies, (uint16_t)(get_id(query) + 1));
    reply(server, to, lies, n);
    int m = dns_put_query(other, sizeof other, get_id(query), "evil.test", DNS_A, 0);
    n = make_answer(lies, sizeof lies, other, (size_t)m, DNS_NXDOMAIN);
    reply(server, to, lies, n);
    m = dns_put_query(other, sizeof other, get_id(query), "dashboard-api.ems.svc.cluster.local", DNS_AAAA, 0);
    n = make_answer(lies, sizeof lies, other, (size_t)m, DNS_NXDOMAIN);
    reply(server, to, lies, n);
    reply(server, to, query, size);
    reply(server, to, (const uint8_t *)"x", 1);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    n = make_answer(lies, sizeof lies, query, size, DNS_NXDOMAIN);
    (void)sendto(fd, lies, n, 0, (const struct sockaddr *)to, sizeof *to);
    (void)close(fd);
}

static void on_udp(uv_poll_t *poll, int status, int events KT_UNUSED)
{
    struct server *server = KT_CONTAINER_OF(poll, struct server, udp);
    struct sockaddr_in from;
    socklen_t from_size = sizeof from;
    uint8_t query[4096], answer[4096];
    assert_int_equal(status, 0);
    ssize_t n = recvfrom(server->udp_fd, query, sizeof query, 0, (struct sockaddr *)&from, &from_size);
    assert_true(n > 0);
    server->asked++;
    server->last_id = get_id(query);
    enum dns_rcode rcode = server->habit == FAILS ? DNS_SERVFAIL : DNS_NOERROR;
    size_t size = make_answer(answer, sizeof answer, query, (size_t)n, rcode);
    switch (server->habit) {
    case SILENT:
        return;
    case LIES_FIRST:
        lie(server, &from, query, (size_t)n);
        break;
    case CUTS:
    case CUTS_WITHOUT_TCP:
    case CUTS_WITH_BAD_TCP:
    case CRUMBLES_TCP:
        answer[2] |= 2; /* TC */
        break;
    case ANSWERS:
    case FAILS:
        break;
    }
    reply(server, &from, answer, size);
}

static void on_client(uv_poll_t *poll, int status KT_UNUSED, int events KT_UNUSED)
{
    struct server *server = KT_CONTAINER_OF(poll, struct server, client);
    uint8_t query[4096], answer[4096] = {0};
    ssize_t n = recv(server->client_fd, query, sizeof query, 0);
    if (n <= 0) {
        (void)uv_poll_stop(poll);
        return;
    }
    assert_true(n > 2);
    assert_int_equal(get_id(query), n - 2); /* the length in front */
    size_t size = make_answer(answer + 2, sizeof answer - 2, query + 2, (size_t)n - 2, DNS_NOERROR);
    if (server->habit == CUTS_WITH_BAD_TCP)
        set_id(answer + 2, (uint16_t)(get_id(query + 2) + 1));
    set_id(answer, (uint16_t)size);
    bool crumbles = server->habit == CRUMBLES_TCP;
    for (size_t at = 0; at < size + 2; at += crumbles ? 1 : size + 2)
        assert_true(send(server->client_fd, answer + at, crumbles ? 1 : size + 2, MSG_NOSIGNAL) > 0);
}

static void on_tcp(uv_poll_t *poll, int status KT_UNUSED, int events KT_UNUSED)
{
    struct server *server = KT_CONTAINER_OF(poll, struct server, tcp);
    server->asked_tcp++;
    int fd = accept4(server->tcp_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(fd >= 0 && server->client_fd < 0);
    server->client_fd = fd;
    assert_int_equal(uv_poll_init(&server->f->loop, &server->client, fd), 0);
    assert_int_equal(uv_poll_start(&server->client, UV_READABLE, on_client), 0);
}

static int try_bind(struct server *server, uint32_t address, uint16_t *port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address), .sin_port = htons(*port)};
    socklen_t size = sizeof in;
    server->udp_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    server->tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (bind(server->udp_fd, (struct sockaddr *)&in, sizeof in) != 0)
        return -errno;
    assert_int_equal(getsockname(server->udp_fd, (struct sockaddr *)&in, &size), 0);
    *port = ntohs(in.sin_port);
    if (bind(server->tcp_fd, (struct sockaddr *)&in, sizeof in) != 0)
        return -errno;
    return listen(server->tcp_fd, 8);
}

/* The same port, UDP and TCP, on 127.0.0.1 and 127.0.0.2; the kernel picks it, so it may take a few tries. */
static void bind_servers(struct fixture *f)
{
    for (int tries = 0; tries < 50; tries++) {
        f->port = 0;
        int rc = try_bind(&f->server[0], 0x7f000001, &f->port);
        if (rc == 0)
            rc = try_bind(&f->server[1], 0x7f000002, &f->port);
        if (rc == 0)
            return;
        for (int i = 0; i < SERVERS; i++) {
            (void)close(f->server[i].udp_fd);
            (void)close(f->server[i].tcp_fd);
        }
    }
    fail();
}

static int setup(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    struct fixture *f = &fixture;
    assert_int_equal(uv_loop_init(&f->loop), 0);
    bind_servers(f);
    for (int i = 0; i < SERVERS; i++) {
        f->server[i].f = f;
        f->server[i].client_fd = -1;
        assert_int_equal(uv_poll_init(&f->loop, &f->server[i].udp, f->server[i].udp_fd), 0);
        assert_int_equal(uv_poll_start(&f->server[i].udp, UV_READABLE, on_udp), 0);
        assert_int_equal(uv_poll_init(&f->loop, &f->server[i].tcp, f->server[i].tcp_fd), 0);
        assert_int_equal(uv_poll_start(&f->server[i].tcp, UV_READABLE, on_tcp), 0);
    }
    struct resolvconf conf = {.servers = 2};
    conf.server[0] = address_v4(0x7f000001);
    conf.server[1] = address_v4(0x7f000002);
    assert_int_equal(resolver_open(&f->resolver, &f->loop, &conf, f->port), 0);
    *state = f;
    return 0;
}

static void take_away(struct server *server, bool udp, bool tcp)
{
    if (udp && server->udp_fd >= 0) {
        uv_close((uv_handle_t *)&server->udp, NULL);
        (void)close(server->udp_fd);
        server->udp_fd = -1;
    }
    if (tcp && server->tcp_fd >= 0) {
        uv_close((uv_handle_t *)&server->tcp, NULL);
        (void)close(server->tcp_fd);
        server->tcp_fd = -1;
    }
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    resolver_close(f->resolver);
    for (int i = 0; i < SERVERS; i++) {
        take_away(&f->server[i], true, true);
        if (f->server[i].client_fd >= 0) {
            uv_close((uv_handle_t *)&f->server[i].client, NULL);
            (void)close(f->server[i].client_fd);
        }
    }
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static void ask(struct fixture *f, uint32_t tag);

static void on_answer(void *context, uint32_t tag, const uint8_t *answer, size_t size)
{
    struct fixture *f = context;
    f->answers++;
    f->nothing += answer == NULL;
    f->tag = tag;
    f->size = size;
    if (answer != NULL)
        memcpy(f->answer, answer, size);
    if (f->asks_again) {
        f->asks_again = false;
        ask(f, tag + 1);
    }
    if (f->closes) {
        resolver_close(f->resolver);
        f->resolver = NULL;
    }
}

static void ask(struct fixture *f, uint32_t tag)
{
    uint8_t query[512];
    size_t size = make_query(query, sizeof query, 0x1234);
    int before = f->answers;
    assert_int_equal(resolver_ask(f->resolver, query, size, on_answer, f, tag), 0);
    assert_int_equal(f->answers, before);
}

static void run_until(struct fixture *f, int answers)
{
    while (f->answers < answers)
        assert_true(uv_run(&f->loop, UV_RUN_ONCE) != 0 || f->answers >= answers);
}

static void expect_answer(struct fixture *f, uint32_t tag, enum dns_rcode rcode)
{
    run_until(f, 1);
    assert_int_equal(f->answers, 1);
    assert_int_equal(f->nothing, 0);
    assert_int_equal(f->tag, tag);
    struct dns_answer answer;
    assert_int_equal(dns_parse_answer(&answer, f->answer, f->size), 0);
    assert_int_equal(answer.id, 0x1234);
    assert_int_equal(answer.rcode, rcode);
    assert_false(answer.is_truncated);
}

static void asks_and_answers(void **state)
{
    struct fixture *f = *state;
    ask(f, 7);
    expect_answer(f, 7, DNS_NOERROR);
    assert_int_equal(f->server[0].asked, 1);
    assert_int_equal(f->server[1].asked, 0);
}

static void lies_are_not_believed(void **state)
{
    struct fixture *f = *state;
    f->server[0].habit = LIES_FIRST;
    ask(f, 1);
    expect_answer(f, 1, DNS_NOERROR); /* the lies said NXDOMAIN */
    assert_int_equal(f->server[1].asked, 0);
}

static void silent_server_is_left_for_the_next(void **state)
{
    struct fixture *f = *state;
    f->server[0].habit = SILENT;
    ask(f, 1);
    expect_answer(f, 1, DNS_NOERROR);
    assert_int_equal(f->server[0].asked, 1);
    assert_int_equal(f->server[1].asked, 1);
}

static void absent_server_is_left_at_once(void **state)
{
    struct fixture *f = *state;
    take_away(&f->server[0], true, true);
    uint64_t started = uv_hrtime();
    ask(f, 1);
    expect_answer(f, 1, DNS_NOERROR);
    assert_true(uv_hrtime() - started < (uint64_t)RESOLVER_TRY_MS * 1000000);
}

static void failing_server_is_left_but_its_word_is_better_than_none(void **state)
{
    struct fixture *f = *state;
    f->server[0].habit = FAILS;
    ask(f, 1);
    expect_answer(f, 1, DNS_NOERROR);
    f->answers = 0;
    f->server[1].habit = FAILS;
    ask(f, 2);
    expect_answer(f, 2, DNS_SERVFAIL);
}

static void no_server_at_all_is_an_empty_answer(void **state)
{
    struct fixture *f = *state;
    take_away(&f->server[0], true, true);
    take_away(&f->server[1], true, true);
    ask(f, 9);
    run_until(f, 1);
    assert_int_equal(f->nothing, 1);
    assert_int_equal(f->tag, 9);
    assert_int_equal(f->size, 0);
}

static void silence_ends(void **state)
{
    struct fixture *f = *state;
    f->server[0].habit = f->server[1].habit = SILENT;
    ask(f, 9);
    run_until(f, 1);
    assert_int_equal(f->nothing, 1);
    assert_int_equal(f->server[0].asked + f->server[1].asked, RESOLVER_TRIES);
}

static void cut_answers_come_by_tcp(void **state)
{
    struct fixture *f = *state;
    f->server[0].habit = CUTS;
    ask(f, 1);
    expect_answer(f, 1, DNS_NOERROR);
    assert_int_equal(f->server[0].asked_tcp, 1);
}

static void tcp_answers_may_come_in_crumbs(void **state)
{
    struct fixture *f = *state;
    f->server[0].habit = CRUMBLES_TCP;
    ask(f, 1);
    expect_answer(f, 1, DNS_NOERROR);
}

static void bad_tcp_goes_to_the_next_server(void **state)
{
    struct fixture *f = *state;
    f->server[0].habit = CUTS_WITH_BAD_TCP;
    ask(f, 1);
    expect_answer(f, 1, DNS_NOERROR);
    assert_int_equal(f->server[1].asked, 1);
}

static void absent_tcp_goes_to_the_next_server(void **state)
{
    struct fixture *f = *state;
    f->server[0].habit = CUTS_WITHOUT_TCP;
    take_away(&f->server[0], false, true);
    ask(f, 1);
    expect_answer(f, 1, DNS_NOERROR);
    assert_int_equal(f->server[1].asked, 1);
}

static void many_at_once_up_to_the_cap(void **state)
{
    struct fixture *f = *state;
    uint8_t query[512];
    size_t size = make_query(query, sizeof query, 1);
    int asked = 0, rc;
    while ((rc = resolver_ask(f->resolver, query, size, on_answer, f, (uint32_t)asked)) == 0)
        asked++;
    assert_int_equal(rc, -ENOBUFS);
    assert_int_equal(asked, RESOLVER_PENDING_MAX);
    run_until(f, asked); /* each once; the servers' sockets have no room for all of such a burst */
    assert_int_equal(f->answers, asked);
    assert_true(f->nothing < asked / 2);
    ask(f, 1);
}

static void a_question_that_comes_again_is_asked_once(void **state)
{
    struct fixture *f = *state;
    uint8_t query[512];
    size_t size = make_query(query, sizeof query, 0x1234);
    ask(f, 7);
    assert_int_equal(resolver_ask(f->resolver, query, size, on_answer, f, 7), -EALREADY);
    expect_answer(f, 7, DNS_NOERROR);
    assert_int_equal(f->server[0].asked, 1);
    assert_int_equal(resolver_ask(f->resolver, query, size, on_answer, f, 7), 0); /* answered: a new one */
}

static void bad_questions_are_refused(void **state)
{
    struct fixture *f = *state;
    static uint8_t message[RESOLVER_QUERY_MAX + 1];
    size_t size = make_query(message, sizeof message, 1);
    assert_int_equal(resolver_ask(f->resolver, message, sizeof message, on_answer, f, 0), -EMSGSIZE);
    assert_int_equal(resolver_ask(f->resolver, message, size - 1, on_answer, f, 0), -EBADMSG);
    assert_int_equal(resolver_ask(f->resolver, message, 0, on_answer, f, 0), -EBADMSG);
    message[2] |= 0x80; /* an answer */
    assert_int_equal(resolver_ask(f->resolver, message, size, on_answer, f, 0), -EBADMSG);
    assert_int_equal(f->answers, 0);
}

static void forgotten_questions_are_not_answered(void **state)
{
    struct fixture *f = *state;
    struct fixture other = {.answers = 0};
    uint8_t query[512];
    size_t size = make_query(query, sizeof query, 1);
    assert_int_equal(resolver_ask(f->resolver, query, size, on_answer, &other, 5), 0);
    ask(f, 1);
    assert_int_equal(resolver_ask(f->resolver, query, size, on_answer, &other, 6), 0);
    resolver_forget(f->resolver, &other);
    expect_answer(f, 1, DNS_NOERROR);
    assert_int_equal(other.answers, 0);
}

static void may_be_asked_and_closed_in_its_callback(void **state)
{
    struct fixture *f = *state;
    f->asks_again = true;
    ask(f, 1);
    run_until(f, 2);
    assert_int_equal(f->tag, 2);
    f->closes = true;
    ask(f, 3);
    run_until(f, 3);
}

static void every_allocation_fails_once(void **state)
{
    struct fixture *f = *state;
    uint8_t query[512];
    size_t size = make_query(query, sizeof query, 1);
    struct resolver *other = NULL;
    kt_mem_fail_nth(1);
    assert_int_equal(resolver_open(&other, &f->loop, &(struct resolvconf){.servers = 1}, 1), -ENOMEM);
    kt_mem_fail_nth(1);
    assert_int_equal(resolver_ask(f->resolver, query, size, on_answer, f, 0), -ENOMEM);
    f->server[0].habit = f->server[1].habit = CUTS;
    for (unsigned long nth = 2; nth <= 4;
         nth++) { /* UDP attempt, TCP attempt, TCP's buffer: another try makes up for it */
        kt_mem_fail_nth(nth);
        f->answers = 0;
        ask(f, 1);
        expect_answer(f, 1, DNS_NOERROR);
        for (int i = 0; i < SERVERS; i++) {
            if (f->server[i].client_fd < 0)
                continue;
            uv_close((uv_handle_t *)&f->server[i].client, NULL);
            (void)uv_run(&f->loop, UV_RUN_NOWAIT);
            (void)close(f->server[i].client_fd);
            f->server[i].client_fd = -1;
        }
    }
    kt_mem_fail_nth(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(asks_and_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(lies_are_not_believed, setup, teardown),
        cmocka_unit_test_setup_teardown(silent_server_is_left_for_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(absent_server_is_left_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(failing_server_is_left_but_its_word_is_better_than_none, setup, teardown),
        cmocka_unit_test_setup_teardown(no_server_at_all_is_an_empty_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(silence_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(cut_answers_come_by_tcp, setup, teardown),
        cmocka_unit_test_setup_teardown(tcp_answers_may_come_in_crumbs, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_tcp_goes_to_the_next_server, setup, teardown),
        cmocka_unit_test_setup_teardown(absent_tcp_goes_to_the_next_server, setup, teardown),
        cmocka_unit_test_setup_teardown(many_at_once_up_to_the_cap, setup, teardown),
        cmocka_unit_test_setup_teardown(a_question_that_comes_again_is_asked_once, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_questions_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(forgotten_questions_are_not_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(may_be_asked_and_closed_in_its_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_fails_once, setup, teardown),
    };
    return unit_run(tests);
}
