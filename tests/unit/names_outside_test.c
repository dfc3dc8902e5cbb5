#include "tests/fake/dns_wire.h"

#include "client/names/names_listen.h"
#include "client/names/names_outside.h"
#include "common/mem.h"

#define SERVERS 2
#define TRY_MS 60
#define ID 0x1234

/* What a server does with a question. */
enum habit { ANSWERS, IS_SILENT, REFUSES, TRUNCATES, LIES, SAYS_NOTHING_OVER_TCP, ANSWERS_WITHOUT_CASE };

struct server {
    struct bed *bed;
    struct names_listen *listen;
    enum habit habit;
    size_t udp, tcp; /* questions */
    uint16_t id[64]; /* of each */
    uint16_t port[64];
    uint8_t query[512];
    size_t size;
};

struct bed {
    uv_loop_t loop;
    struct server server[SERVERS];
    struct names_upstream upstream[SERVERS];
    struct names_outside_room room;
    struct names_outside *outside;
    uint8_t query[512];
    size_t query_size;
    int done;
    uint8_t answer[DNS_MESSAGE_MAX];
    size_t size;
};

static void send_lies(struct server *server, const struct names_asker *asker, const uint8_t *query, size_t size)
{
    uint8_t lie[512];
    size_t lie_size = wire_answer(lie, query, size, 0, 66);
    lie[1] ^= 1; /* another id */
    names_listen_answer(server->listen, asker, lie, lie_size);
    lie_size = wire_answer(lie, query, size, 0, 66);
    lie[14] ^= 2; /* another name */
    names_listen_answer(server->listen, asker, lie, lie_size);
    lie_size = wire_answer(lie, query, size, 0, 66);
    lie[lie_size - 16 - 3] ^= 1; /* another type */
    names_listen_answer(server->listen, asker, lie, lie_size);
    names_listen_answer(server->listen, asker, query, size); /* no answer at all */
    names_listen_answer(server->listen, asker, query, 5);
}

static void on_query(void *context, const struct names_asker *asker, const uint8_t *query, size_t size)
{
    struct server *server = context;
    uint8_t answer[512];
    size_t count = server->udp + server->tcp;
    assert_true(count < KT_ARRAY_LEN(server->id) && size <= sizeof server->query);
    server->id[count] = (uint16_t)(query[0] << 8 | query[1]);
    server->port[count] = asker->from.sin_port;
    *(asker->is_tcp ? &server->tcp : &server->udp) += 1;
    memcpy(server->query, query, size);
    server->size = size;
    if (server->habit == IS_SILENT || (asker->is_tcp && server->habit == SAYS_NOTHING_OVER_TCP))
        return;
    if (server->habit == LIES)
        send_lies(server, asker, query, size);
    size_t answer_size = wire_answer(answer, query, size, server->habit == REFUSES ? DNS_REFUSED : DNS_NOERROR,
                                     server->habit == REFUSES ? 0 : (uint8_t)(server - server->bed->server + 1));
    if (!asker->is_tcp && (server->habit == TRUNCATES || server->habit == SAYS_NOTHING_OVER_TCP))
        answer[2] |= 0x02;
    if (server->habit == ANSWERS_WITHOUT_CASE)
        answer[13] |= 0x20;
    names_listen_answer(server->listen, asker, answer, answer_size);
}

static void on_done(void *context, uint8_t *message, size_t size)
{
    struct bed *bed = context;
    bed->done++;
    bed->size = message ? size : 0;
    if (message)
        memcpy(bed->answer, message, size);
}

static int open_bed(void **state)
{
    struct bed *bed = kt_calloc(1, sizeof *bed);
    *state = bed;
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    for (int i = 0; i < SERVERS; i++) {
        struct server *server = &bed->server[i];
        server->bed = bed;
        assert_int_equal(names_listen_open(&server->listen, &bed->loop, 8, 10000, on_query, server), 0);
        bed->upstream[i].address = address_v4(INADDR_LOOPBACK);
        bed->upstream[i].port = names_listen_port(server->listen);
    }
    bed->room.loop = &bed->loop;
    bed->room.upstream = bed->upstream;
    bed->room.upstreams = SERVERS;
    bed->room.try_ms = TRY_MS;
    int size = dns_put_query(bed->query, sizeof bed->query, ID, "www.example.com", DNS_A, 1232);
    assert_true(size > 0);
    bed->query_size = (size_t)size;
    bed->query[13] = 'W'; /* the first letter */
    return 0;
}

static int close_bed(void **state)
{
    struct bed *bed = *state;
    names_outside_stop(bed->outside);
    assert_int_equal(bed->room.sockets, 0);
    for (int i = 0; i < SERVERS; i++)
        names_listen_close(bed->server[i].listen);
    (void)uv_run(&bed->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    kt_free(bed);
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static void start(struct bed *bed, bool is_tcp)
{
    struct names_outside_call call = {.message = bed->query,
                                      .size = bed->query_size,
                                      .question_end = bed->query_size - 11, /* the OPT record */
                                      .is_tcp = is_tcp,
                                      .context = bed,
                                      .done = on_done};
    uv_update_time(&bed->loop);
    bed->outside = names_outside_start(&bed->room, &call, uv_now(&bed->loop));
    assert_non_null(bed->outside);
    assert_int_equal(bed->done, 0);
}

static void await_done(struct bed *bed)
{
    for (int turn = 0; turn < WIRE_TURNS_MAX && !bed->done; turn++) {
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
        if (!bed->done)
            names_outside_tick(bed->outside, uv_now(&bed->loop));
        (void)usleep(100);
    }
    assert_int_equal(bed->done, 1);
}

/* The answer is server `i`'s. */
static void check_answer(const struct bed *bed, uint8_t i)
{
    assert_true(bed->size > 16);
    assert_int_equal(bed->answer[0] << 8 | bed->answer[1], ID);
    assert_int_equal(bed->answer[bed->size - 1], i + 1);
}

static void asks_the_first_server_unchanged_but_for_the_id(void **state)
{
    struct bed *bed = *state;
    start(bed, false);
    await_done(bed);
    check_answer(bed, 0);
    assert_int_equal(bed->server[1].udp, 0);
    assert_int_equal(bed->server[0].size, bed->query_size);
    assert_memory_equal(bed->server[0].query + 2, bed->query + 2, bed->query_size - 2);
}

static void asks_the_next_when_one_is_silent(void **state)
{
    struct bed *bed = *state;
    bed->server[0].habit = IS_SILENT;
    start(bed, false);
    await_done(bed);
    check_answer(bed, 1);
    assert_int_equal(bed->server[0].udp, 1);
}

static void asks_the_next_at_once_when_nobody_listens(void **state)
{
    struct bed *bed = *state;
    names_listen_close(bed->server[0].listen);
    bed->server[0].listen = NULL;
    for (int turn = 0; turn < 10; turn++)
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    bed->room.try_ms = 1000000;
    start(bed, false);
    await_done(bed);
    check_answer(bed, 1);
}

static void asks_the_next_when_one_refuses(void **state)
{
    struct bed *bed = *state;
    bed->server[0].habit = REFUSES;
    start(bed, false);
    await_done(bed);
    check_answer(bed, 1);
}

static void tells_the_refusal_when_all_refuse(void **state)
{
    struct bed *bed = *state;
    bed->server[0].habit = bed->server[1].habit = REFUSES;
    start(bed, false);
    await_done(bed);
    assert_int_equal(bed->answer[3] & 0x0f, DNS_REFUSED);
    assert_int_equal(bed->server[0].udp + bed->server[1].udp, 2);
}

static void gives_up_after_its_tries_each_with_its_own_id_and_port(void **state)
{
    struct bed *bed = *state;
    bed->room.upstreams = 1;
    bed->server[0].habit = IS_SILENT;
    start(bed, false);
    await_done(bed);
    assert_int_equal(bed->size, 0);
    const struct server *server = &bed->server[0];
    assert_int_equal(server->udp, NAMES_OUTSIDE_TRIES);
    assert_int_not_equal(server->port[0], server->port[1]);
    assert_true(server->id[0] != server->id[1] || server->id[1] != server->id[2]);
}

static void no_server_is_no_answer(void **state)
{
    struct bed *bed = *state;
    bed->room.upstreams = 0;
    start(bed, false);
    await_done(bed);
    assert_int_equal(bed->size, 0);
}

static void a_device_that_is_not_there_is_no_answer(void **state)
{
    struct bed *bed = *state;
    for (int i = 0; i < SERVERS; i++)
        memcpy(bed->upstream[i].device, "ktvpn-none", 11);
    start(bed, true);
    await_done(bed);
    assert_int_equal(bed->size, 0);
    assert_int_equal(bed->server[0].udp, 0);
}

static void a_device_of_its_own_is_used(void **state)
{
    struct bed *bed = *state;
    memcpy(bed->upstream[0].device, "lo", 3);
    start(bed, false);
    await_done(bed);
    check_answer(bed, 0);
}

static void believes_no_lie(void **state)
{
    struct bed *bed = *state;
    bed->server[0].habit = LIES;
    start(bed, false);
    await_done(bed);
    check_answer(bed, 0);
}

/* From another port than the one that was asked: as a forger's, the kernel drops it. */
static void believes_nobody_else(void **state)
{
    struct bed *bed = *state;
    uint8_t lie[512];
    bed->server[0].habit = IS_SILENT;
    bed->room.upstreams = 1;
    start(bed, false);
    for (int turn = 0; turn < WIRE_TURNS_MAX && bed->server[0].udp == 0; turn++)
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    size_t size = wire_answer(lie, bed->server[0].query, bed->server[0].size, 0, 66);
    int fd = wire_socket(SOCK_DGRAM, ntohs(bed->server[0].port[0]));
    assert_int_equal(send(fd, lie, size, 0), (ssize_t)size);
    for (int turn = 0; turn < 100; turn++)
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    assert_int_equal(bed->done, 0);
    (void)close(fd);
}

static void truncation_is_passed_on_to_who_came_by_udp(void **state)
{
    struct bed *bed = *state;
    bed->server[0].habit = TRUNCATES;
    start(bed, false);
    await_done(bed);
    assert_true(bed->answer[2] & 0x02);
    assert_int_equal(bed->server[0].tcp, 0);
}

static void truncation_is_asked_again_by_tcp_for_who_came_by_tcp(void **state)
{
    struct bed *bed = *state;
    bed->server[0].habit = TRUNCATES;
    start(bed, true);
    await_done(bed);
    check_answer(bed, 0);
    assert_false(bed->answer[2] & 0x02);
    assert_int_equal(bed->server[0].tcp, 1);
}

static void silence_over_tcp_leads_to_the_next_server(void **state)
{
    struct bed *bed = *state;
    bed->server[0].habit = SAYS_NOTHING_OVER_TCP;
    start(bed, true);
    await_done(bed);
    check_answer(bed, 1);
}

static void case_of_the_answer_does_not_matter(void **state)
{
    struct bed *bed = *state;
    bed->server[0].habit = ANSWERS_WITHOUT_CASE;
    start(bed, false);
    await_done(bed);
    check_answer(bed, 0);
}

static void survives_failed_allocations(void **state)
{
    struct bed *bed = *state;
    struct names_outside_call call = {
        .message = bed->query, .size = bed->query_size, .question_end = 12, .context = bed, .done = on_done};
    kt_mem_fail_nth(1);
    assert_null(names_outside_start(&bed->room, &call, uv_now(&bed->loop)));
    kt_mem_fail_nth(2); /* the first try */
    start(bed, false);
    kt_mem_fail_nth(0);
    await_done(bed);
    check_answer(bed, 1);
}

static void stop_in_the_middle(void **state)
{
    struct bed *bed = *state;
    bed->server[0].habit = SAYS_NOTHING_OVER_TCP;
    start(bed, true);
    for (int turn = 0; turn < WIRE_TURNS_MAX && bed->server[0].tcp == 0; turn++)
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    names_outside_stop(bed->outside);
    start(bed, true);
    names_outside_stop(bed->outside);
    bed->outside = NULL;
}

int main(void)
{
#define OUTSIDE_TEST(test) cmocka_unit_test_setup_teardown(test, open_bed, close_bed)
    static const struct CMUnitTest tests[] = {
        OUTSIDE_TEST(asks_the_first_server_unchanged_but_for_the_id),
        OUTSIDE_TEST(asks_the_next_when_one_is_silent),
        OUTSIDE_TEST(asks_the_next_at_once_when_nobody_listens),
        OUTSIDE_TEST(asks_the_next_when_one_refuses),
        OUTSIDE_TEST(tells_the_refusal_when_all_refuse),
        OUTSIDE_TEST(gives_up_after_its_tries_each_with_its_own_id_and_port),
        OUTSIDE_TEST(no_server_is_no_answer),
        OUTSIDE_TEST(a_device_that_is_not_there_is_no_answer),
        OUTSIDE_TEST(a_device_of_its_own_is_used),
        OUTSIDE_TEST(believes_no_lie),
        OUTSIDE_TEST(believes_nobody_else),
        OUTSIDE_TEST(truncation_is_passed_on_to_who_came_by_udp),
        OUTSIDE_TEST(truncation_is_asked_again_by_tcp_for_who_came_by_tcp),
        OUTSIDE_TEST(silence_over_tcp_leads_to_the_next_server),
        OUTSIDE_TEST(case_of_the_answer_does_not_matter),
        OUTSIDE_TEST(survives_failed_allocations),
        OUTSIDE_TEST(stop_in_the_middle),
    };
    return unit_run(tests);
}
