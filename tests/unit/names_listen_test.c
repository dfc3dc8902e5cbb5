#include "tests/fake/dns_wire.h"

#include "client/names/names_listen.h"
#include "common/mem.h"

#define CONNECTIONS 3
#define IDLE_MS 100

struct bed {
    uv_loop_t loop;
    struct names_listen *listen;
    bool is_echo; /* answers at once; else the test does */
    size_t count;
    struct names_asker asker[256];
    uint8_t last[DNS_MESSAGE_MAX];
    size_t last_size;
};

static void on_query(void *context, const struct names_asker *asker, const uint8_t *message, size_t size)
{
    struct bed *bed = context;
    assert_true(bed->count < KT_ARRAY_LEN(bed->asker) && size > 0);
    bed->asker[bed->count++] = *asker;
    memcpy(bed->last, message, size);
    bed->last_size = size;
    if (bed->is_echo)
        names_listen_answer(bed->listen, asker, message, size);
}

static void open_with_idle(struct bed *bed, uint64_t idle_ms)
{
    names_listen_close(bed->listen);
    assert_int_equal(names_listen_open(&bed->listen, &bed->loop, CONNECTIONS, idle_ms, on_query, bed), 0);
}

static int open_bed(void **state)
{
    struct bed *bed = kt_calloc(1, sizeof *bed);
    *state = bed;
    bed->is_echo = true;
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    open_with_idle(bed, IDLE_MS);
    return 0;
}

static int close_bed(void **state)
{
    struct bed *bed = *state;
    names_listen_close(bed->listen);
    (void)uv_run(&bed->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    kt_free(bed);
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static void await_count(struct bed *bed, size_t count)
{
    for (int turn = 0; turn < WIRE_TURNS_MAX && bed->count < count; turn++) {
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
        (void)usleep(100);
    }
    assert_int_equal(bed->count, count);
}

static void answers_by_udp(void **state)
{
    struct bed *bed = *state;
    uint8_t in[64];
    int a = wire_socket(SOCK_DGRAM, names_listen_port(bed->listen)),
        b = wire_socket(SOCK_DGRAM, names_listen_port(bed->listen));
    assert_int_equal(send(a, "one", 3, 0), 3);
    assert_int_equal(send(b, "seven", 5, 0), 5);
    assert_int_equal(wire_receive(&bed->loop, a, in, sizeof in, false), 3);
    assert_int_equal(wire_receive(&bed->loop, b, in, sizeof in, false), 5);
    assert_memory_equal(in, "seven", 5);
    (void)close(a);
    (void)close(b);
}

static void answers_by_tcp_on_the_same_port(void **state)
{
    struct bed *bed = *state;
    static uint8_t large[DNS_MESSAGE_MAX], in[DNS_MESSAGE_MAX];
    memset(large, 'x', sizeof large);
    int fd = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
    wire_send_tcp(fd, (const uint8_t *)"one", 3);
    wire_send_tcp(fd, (const uint8_t *)"seven", 5);
    assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), 3);
    assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), 5);
    for (int i = 0; i < 2; i++) {
        wire_send_tcp(fd, large, 40000);
        assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), 40000);
    }
    (void)close(fd);
}

static void takes_a_message_byte_by_byte(void **state)
{
    struct bed *bed = *state;
    uint8_t in[64];
    int fd = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(send(fd, &"\0\003one"[i], 1, MSG_NOSIGNAL), 1);
        for (int turn = 0; turn < 20; turn++)
            (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
        assert_int_equal(bed->count, i == 4 ? 1 : 0);
    }
    assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), 3);
    (void)close(fd);
}

static void answers_out_of_order_and_late(void **state)
{
    struct bed *bed = *state;
    uint8_t in[64];
    bed->is_echo = false;
    int fd = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
    wire_send_tcp(fd, (const uint8_t *)"a", 1);
    wire_send_tcp(fd, (const uint8_t *)"b", 1);
    await_count(bed, 2);
    names_listen_answer(bed->listen, &bed->asker[1], (const uint8_t *)"bb", 2);
    names_listen_answer(bed->listen, &bed->asker[0], (const uint8_t *)"a", 1);
    assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), 2);
    wire_send_tcp(fd, (const uint8_t *)"c", 1);
    await_count(bed, 3);
    (void)close(fd);
    for (int turn = 0; turn < 100; turn++)
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    names_listen_answer(bed->listen, &bed->asker[2], (const uint8_t *)"c", 1); /* nobody there */
}

/* One more than may be unanswered waits, and is taken when one was answered. */
static void does_not_read_who_asks_too_much(void **state)
{
    struct bed *bed = *state;
    uint8_t in[64];
    bed->is_echo = false;
    int fd = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
    for (int i = 0; i < NAMES_LISTEN_UNANSWERED_MAX + 2; i++)
        wire_send_tcp(fd, (const uint8_t *)"a", 1);
    await_count(bed, NAMES_LISTEN_UNANSWERED_MAX);
    for (int turn = 0; turn < 100; turn++)
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    assert_int_equal(bed->count, NAMES_LISTEN_UNANSWERED_MAX);
    names_listen_answer(bed->listen, &bed->asker[0], (const uint8_t *)"a", 1);
    assert_int_equal(bed->count, NAMES_LISTEN_UNANSWERED_MAX); /* not inside the call */
    await_count(bed, NAMES_LISTEN_UNANSWERED_MAX + 1);
    names_listen_answer(bed->listen, &bed->asker[1], (const uint8_t *)"a", 1);
    await_count(bed, NAMES_LISTEN_UNANSWERED_MAX + 2);
    assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), 1);
    (void)close(fd);
}

static void an_empty_message_ends_the_connection(void **state)
{
    struct bed *bed = *state;
    uint8_t in[64];
    int fd = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
    assert_int_equal(send(fd, "\0\0\0\1x", 5, MSG_NOSIGNAL), 5);
    assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), 0);
    assert_int_equal(bed->count, 0);
    (void)close(fd);
}

static void an_idle_connection_ends(void **state)
{
    struct bed *bed = *state;
    uint8_t in[64];
    int fd = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
    assert_int_equal(send(fd, "\0\11slow", 6, MSG_NOSIGNAL), 6); /* a message that never ends */
    assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), 0);
    (void)close(fd);
}

static void a_question_that_takes_long_keeps_its_connection(void **state)
{
    struct bed *bed = *state;
    uint8_t in[64];
    bed->is_echo = false;
    int fd = wire_socket(SOCK_STREAM, names_listen_port(bed->listen)), idle;
    wire_send_tcp(fd, (const uint8_t *)"a", 1);
    await_count(bed, 1);
    for (int i = 0; i < 2; i++) { /* as long as two idle ones live, one after the other */
        idle = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
        assert_int_equal(wire_receive_tcp(&bed->loop, idle, in), 0);
        (void)close(idle);
    }
    names_listen_answer(bed->listen, &bed->asker[0], (const uint8_t *)"a", 1);
    assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), 1);
    (void)close(fd);
}

static void a_new_connection_takes_the_place_of_the_idlest(void **state)
{
    struct bed *bed = *state;
    uint8_t in[64];
    bed->is_echo = false;
    open_with_idle(bed, 1000000);
    int fd[CONNECTIONS + 1];
    for (int i = 0; i < CONNECTIONS; i++) { /* 0 has an unanswered question, so 1 is the idlest */
        fd[i] = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
        wire_send_tcp(fd[i], (const uint8_t *)"a", 1);
        await_count(bed, (size_t)i + 1);
    }
    names_listen_answer(bed->listen, &bed->asker[1], (const uint8_t *)"a", 1);
    assert_int_equal(wire_receive_tcp(&bed->loop, fd[1], in), 1);
    fd[CONNECTIONS] = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
    wire_send_tcp(fd[CONNECTIONS], (const uint8_t *)"a", 1);
    assert_int_equal(wire_receive_tcp(&bed->loop, fd[1], in), 0);
    await_count(bed, CONNECTIONS + 1);
    names_listen_answer(bed->listen, &bed->asker[0], (const uint8_t *)"a", 1);
    assert_int_equal(wire_receive_tcp(&bed->loop, fd[0], in), 1);
    for (int i = 0; i <= CONNECTIONS; i++)
        (void)close(fd[i]);
}

static void a_new_connection_is_refused_when_all_are_busy(void **state)
{
    struct bed *bed = *state;
    uint8_t in[64];
    bed->is_echo = false;
    open_with_idle(bed, 1000000);
    int fd[CONNECTIONS];
    for (int i = 0; i < CONNECTIONS; i++) {
        fd[i] = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
        wire_send_tcp(fd[i], (const uint8_t *)"a", 1);
    }
    await_count(bed, CONNECTIONS);
    int refused = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
    assert_int_equal(wire_receive_tcp(&bed->loop, refused, in), 0);
    (void)close(refused);
    for (int i = 0; i < CONNECTIONS; i++)
        (void)close(fd[i]);
}

static void who_reads_no_answers_is_cut_off(void **state)
{
    struct bed *bed = *state;
    static uint8_t large[DNS_MESSAGE_MAX];
    bed->is_echo = false;
    int fd = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
    int small = 4096;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    for (int i = 0; i < 200; i++) {
        ssize_t sent = send(fd, "\0\1a", 3, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0)
            break;
        size_t before = bed->count;
        for (int turn = 0; turn < 50 && bed->count == before; turn++)
            (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
        if (bed->count == before)
            break;
        names_listen_answer(bed->listen, &bed->asker[bed->count - 1], large, sizeof large);
    }
    assert_true(bed->count < 200);
    (void)close(fd);
}

static void survives_failed_allocations(void **state)
{
    struct bed *bed = *state;
    struct names_listen *listen;
    kt_mem_fail_nth(1);
    assert_int_equal(names_listen_open(&listen, &bed->loop, 1, IDLE_MS, on_query, bed), -ENOMEM);
    uint8_t in[64];
    for (unsigned long nth = 1; nth <= 2; nth++) { /* the connection; the answer */
        int fd = wire_socket(SOCK_STREAM, names_listen_port(bed->listen));
        wire_send_tcp(fd, (const uint8_t *)"a", 1);
        kt_mem_fail_nth(nth);
        assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), nth == 1 ? 1 : 0); /* later; never */
        kt_mem_fail_nth(0);
        (void)close(fd);
    }
}

int main(void)
{
#define LISTEN_TEST(test) cmocka_unit_test_setup_teardown(test, open_bed, close_bed)
    static const struct CMUnitTest tests[] = {
        LISTEN_TEST(answers_by_udp),
        LISTEN_TEST(answers_by_tcp_on_the_same_port),
        LISTEN_TEST(takes_a_message_byte_by_byte),
        LISTEN_TEST(answers_out_of_order_and_late),
        LISTEN_TEST(does_not_read_who_asks_too_much),
        LISTEN_TEST(an_empty_message_ends_the_connection),
        LISTEN_TEST(an_idle_connection_ends),
        LISTEN_TEST(a_question_that_takes_long_keeps_its_connection),
        LISTEN_TEST(a_new_connection_takes_the_place_of_the_idlest),
        LISTEN_TEST(a_new_connection_is_refused_when_all_are_busy),
        LISTEN_TEST(who_reads_no_answers_is_cut_off),
        LISTEN_TEST(survives_failed_allocations),
    };
    return unit_run(tests);
}
