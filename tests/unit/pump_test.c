/* Two carriers, two pumps, one loop: over a socket pair, over TCP, and over a stream that misbehaves on purpose. */
#include "netstack/pump.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

struct end {
    struct fixture *f;
    struct carrier carrier;
    struct stream *stream;
    struct pump *pump;
    int opened, batches, rooms, died, error;
    char text[128];
    size_t records, bytes;
    size_t to_send;  /* packets that on_room and on_open go on with */
    int refuse;      /* what on_record answers */
    size_t close_at; /* close in on_record of this number */
    bool is_in_call; /* in a call of the owner's: no callback may run */
};

struct fixture {
    uv_loop_t loop;
    struct end client, agent;
    struct noise_keypair client_keys, agent_keys;
};

static uint8_t packet[60000];

static void shut(struct end *end)
{
    if (end->pump == NULL)
        return;
    struct pump *pump = end->pump;
    end->pump = NULL;
    pump_close(pump);
    carrier_deinit(&end->carrier);
}

static void flush(struct end *end)
{
    end->is_in_call = true;
    pump_flush(end->pump);
    end->is_in_call = false;
}

static void send_some(struct end *end)
{
    struct carrier_part part = {packet, sizeof packet};
    while (end->to_send > 0 && carrier_seal(&end->carrier, WIRE_PACKET, &part, 1) == 0)
        end->to_send--;
    flush(end);
}

static int on_record(void *context, const struct carrier_record *record)
{
    struct end *end = context;
    assert_false(end->is_in_call);
    end->records++;
    end->bytes += record->size;
    if (end->close_at == end->records)
        shut(end);
    return end->refuse;
}

static void on_batch(void *context)
{
    struct end *end = context;
    assert_false(end->is_in_call);
    end->batches++;
}

static void on_open(void *context)
{
    struct end *end = context;
    end->opened++;
    send_some(end);
}

static void on_room(void *context)
{
    struct end *end = context;
    assert_false(end->is_in_call);
    assert_true(carrier_has_room(&end->carrier));
    end->rooms++;
    send_some(end);
}

static void on_dead(void *context, int error, const char *text)
{
    struct end *end = context;
    assert_false(end->is_in_call);
    end->died++;
    end->error = error;
    (void)snprintf(end->text, sizeof end->text, "%s", text);
}

static const struct pump_ops ops = {
    .on_record = on_record, .on_batch = on_batch, .on_open = on_open, .on_room = on_room, .on_dead = on_dead};

static int setup(void **state)
{
    static struct fixture fixture;
    memset(&fixture, 0, sizeof fixture);
    struct fixture *f = &fixture;
    assert_int_equal(uv_loop_init(&f->loop), 0);
    noise_keypair_generate(&f->client_keys);
    noise_keypair_generate(&f->agent_keys);
    f->client.f = f->agent.f = f;
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    shut(&f->client);
    shut(&f->agent);
    (void)uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static void start(struct fixture *f, struct end *end, struct stream *stream)
{
    bool is_client = end == &f->client;
    end->stream = stream;
    assert_int_equal(carrier_init(&end->carrier, is_client ? &f->client_keys : &f->agent_keys,
                                  is_client ? f->agent_keys.public_key : NULL, WIRE_FEATURE_IPV4, uv_now(&f->loop)),
                     0);
    assert_int_equal(pump_open(&end->pump, &f->loop, end->stream, &end->carrier, &ops, end), 0);
}

static void start_both(struct fixture *f)
{
    int pair[2];
    struct stream *a = NULL, *b = NULL;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(stream_from_fd(&a, &f->loop, pair[0]), 0);
    assert_int_equal(stream_from_fd(&b, &f->loop, pair[1]), 0);
    start(f, &f->client, a);
    start(f, &f->agent, b);
}

/* Fails when nothing is left that could make it true. */
#define RUN_UNTIL(f, condition) \
    while (!(condition))        \
    assert_true(uv_run(&(f)->loop, UV_RUN_ONCE) != 0 || (condition))

static void shakes_hands(void **state)
{
    struct fixture *f = *state;
    start_both(f);
    RUN_UNTIL(f, f->client.opened && f->agent.opened);
    assert_memory_equal(f->agent.carrier.peer, f->client_keys.public_key, WIRE_KEY_SIZE);
    assert_int_equal(f->client.opened + f->agent.opened, 2);
}

static void moves_much_both_ways_with_little_room(void **state)
{
    struct fixture *f = *state;
    f->client.to_send = f->agent.to_send = 500;
    start_both(f);
    RUN_UNTIL(f, f->client.records == 500 && f->agent.records == 500);
    assert_int_equal(f->client.bytes, 500 * sizeof packet);
    assert_int_equal(f->agent.bytes, 500 * sizeof packet);
    assert_true(f->client.rooms > 0 && f->agent.rooms > 0);
    assert_true(f->client.batches > 0 && (size_t)f->client.batches <= f->client.records);
    assert_int_equal(f->client.died + f->agent.died, 0);
}

static void paused_end_stops_the_other_until_it_goes_on(void **state)
{
    struct fixture *f = *state;
    start_both(f);
    RUN_UNTIL(f, f->client.opened && f->agent.opened);
    pump_pause(f->agent.pump, true);
    f->client.to_send = 100;
    send_some(&f->client);
    for (int i = 0; i < 20; i++)
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_true(f->client.to_send > 0);
    assert_int_equal(f->agent.records, 0);
    pump_pause(f->agent.pump, false);
    RUN_UNTIL(f, f->agent.records == 100);
}

static void other_end_closes(void **state)
{
    struct fixture *f = *state;
    start_both(f);
    RUN_UNTIL(f, f->client.opened && f->agent.opened);
    shut(&f->agent);
    RUN_UNTIL(f, f->client.died);
    assert_int_equal(f->client.error, -ECONNRESET);
    assert_string_equal(f->client.text, "the other end closed the connection");
    pump_flush(f->client.pump); /* a dead pump takes calls and does nothing */
    pump_pause(f->client.pump, true);
    for (int i = 0; i < 5; i++)
        (void)uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_int_equal(f->client.died, 1);
    assert_int_equal(f->agent.died, 0);
}

/* The reason may be in the socket behind which the other end has gone: it is read although writing fails first. */
static void last_record_is_read_before_a_write_error_is_told(void **state)
{
    struct fixture *f = *state;
    start_both(f);
    RUN_UNTIL(f, f->client.opened && f->agent.opened);
    struct carrier_part part = {"why", 3};
    assert_int_equal(carrier_seal(&f->agent.carrier, WIRE_CLOSE, &part, 1), 0);
    flush(&f->agent);
    shut(&f->agent);
    f->client.to_send = 1;
    send_some(&f->client);
    RUN_UNTIL(f, f->client.died);
    assert_int_equal(f->client.records, 1);
    assert_int_equal(f->client.bytes, 3);
}

static void owner_closes_in_the_middle_of_a_batch(void **state)
{
    struct fixture *f = *state;
    f->client.to_send = 50;
    f->agent.close_at = 3;
    start_both(f);
    RUN_UNTIL(f, f->client.died);
    assert_int_equal(f->agent.records, 3);
    assert_int_equal(f->agent.died, 0);
    assert_int_equal(f->agent.batches, 0);
}

static void owner_refuses_a_record(void **state)
{
    struct fixture *f = *state;
    f->client.to_send = 1;
    f->agent.refuse = -EBADMSG;
    start_both(f);
    RUN_UNTIL(f, f->agent.died);
    assert_int_equal(f->agent.error, -EBADMSG);
}

static void garbage_kills_only_the_carrier(void **state)
{
    struct fixture *f = *state;
    int pair[2];
    struct stream *stream = NULL;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(stream_from_fd(&stream, &f->loop, pair[0]), 0);
    start(f, &f->agent, stream);
    static const char noise[200] = "GET / HTTP/1.1\r\n";
    assert_int_equal(write(pair[1], noise, sizeof noise), sizeof noise);
    RUN_UNTIL(f, f->agent.died);
    assert_int_equal(f->agent.error, -EPROTONOSUPPORT);
    (void)close(pair[1]);
}

/* A stream that hides its bytes from poll (as TLS does), gives one byte a read and takes seven a write. */
struct odd_stream {
    struct stream stream;
    struct odd_stream *other;
    uv_idle_t idle;
    uint8_t data[1 << 16];
    size_t start, end;
    int wanted, failing;
    bool hides; /* never says READABLE */
};

static struct odd_stream *odd_of(struct stream *stream)
{
    return KT_CONTAINER_OF(stream, struct odd_stream, stream);
}

static ssize_t odd_read(struct stream *stream, void *out, size_t size)
{
    struct odd_stream *odd = odd_of(stream);
    assert_true(size > 0);
    if (odd->start == odd->end)
        return -EAGAIN;
    *(uint8_t *)out = odd->data[odd->start++];
    return 1;
}

static ssize_t odd_write(struct stream *stream, const void *data, size_t size)
{
    struct odd_stream *odd = odd_of(stream);
    if (odd->failing != 0)
        return odd->failing;
    struct odd_stream *to = odd->other;
    size_t n = KT_MIN(size, 7);
    if (to->start == to->end)
        to->start = to->end = 0;
    if (to->end + n > sizeof to->data)
        return -EAGAIN;
    memcpy(to->data + to->end, data, n);
    to->end += n;
    return (ssize_t)n;
}

static void on_odd_idle(uv_idle_t *idle)
{
    struct odd_stream *odd = KT_CONTAINER_OF(idle, struct odd_stream, idle);
    int events = odd->wanted & (STREAM_WRITABLE | (odd->start < odd->end && !odd->hides ? STREAM_READABLE : 0));
    if (events != 0)
        odd->stream.on_ready(&odd->stream, events);
}

static void odd_want(struct stream *stream, int events)
{
    odd_of(stream)->wanted = events;
}

static void on_odd_closed(uv_handle_t *handle)
{
    struct odd_stream *odd = KT_CONTAINER_OF((uv_idle_t *)handle, struct odd_stream, idle);
    odd->stream.on_closed(&odd->stream);
}

static void odd_close(struct stream *stream)
{
    odd_of(stream)->wanted = 0;
    uv_close((uv_handle_t *)&odd_of(stream)->idle, on_odd_closed);
}

static const struct stream_ops odd_ops = {odd_read, odd_write, odd_want, odd_close};

static void start_odd(struct fixture *f, struct odd_stream odd[2])
{
    for (int i = 0; i < 2; i++) {
        memset(&odd[i], 0, sizeof odd[i]);
        odd[i].stream.ops = &odd_ops;
        odd[i].other = &odd[1 - i];
        assert_int_equal(uv_idle_init(&f->loop, &odd[i].idle), 0);
        assert_int_equal(uv_idle_start(&odd[i].idle, on_odd_idle), 0);
    }
    start(f, &f->client, &odd[0].stream);
    start(f, &f->agent, &odd[1].stream);
}

static void crumbs_are_enough(void **state)
{
    struct fixture *f = *state;
    static struct odd_stream odd[2];
    f->client.to_send = f->agent.to_send = 4;
    start_odd(f, odd);
    RUN_UNTIL(f, f->client.records == 4 && f->agent.records == 4);
}

static void bytes_that_no_poll_shows_are_read_at_start_and_after_a_pause(void **state)
{
    struct fixture *f = *state;
    static struct odd_stream odd[2];
    start_odd(f, odd);
    odd[0].hides = true;
    pump_flush(f->agent.pump); /* HELLO is there before the client's first turn */
    RUN_UNTIL(f, f->client.carrier.state == CARRIER_HANDSHAKE);
    RUN_UNTIL(f, f->agent.opened && odd[0].start < odd[0].end);
    pump_pause(f->client.pump, true);
    pump_pause(f->client.pump, false);
    RUN_UNTIL(f, f->client.opened);
}

static void write_error_is_told_on_the_loop(void **state)
{
    struct fixture *f = *state;
    static struct odd_stream odd[2];
    start_odd(f, odd);
    RUN_UNTIL(f, f->client.opened && f->agent.opened);
    odd[0].failing = -EIO;
    f->client.to_send = 1;
    send_some(&f->client); /* asserts that on_dead does not come inside */
    assert_int_equal(f->client.died, 0);
    RUN_UNTIL(f, f->client.died);
    assert_int_equal(f->client.error, -EIO);
}

static void stream_failure_is_passed_on_with_its_text(void **state)
{
    struct fixture *f = *state;
    static struct odd_stream odd[2];
    start_odd(f, odd);
    odd[0].stream.on_failed(&odd[0].stream, -EHOSTUNREACH, "the pod is gone");
    assert_int_equal(f->client.died, 1);
    assert_int_equal(f->client.error, -EHOSTUNREACH);
    assert_string_equal(f->client.text, "the pod is gone");
}

static void no_memory_leaves_the_stream_to_its_owner(void **state)
{
    struct fixture *f = *state;
    int pair[2];
    struct stream *stream = NULL;
    struct pump *pump = NULL;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(stream_from_fd(&stream, &f->loop, pair[0]), 0);
    kt_mem_fail_nth(1);
    assert_int_equal(pump_open(&pump, &f->loop, stream, &f->client.carrier, &ops, NULL), -ENOMEM);
    assert_null(stream->on_ready);
    stream_close(stream);
    (void)close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shakes_hands, setup, teardown),
        cmocka_unit_test_setup_teardown(moves_much_both_ways_with_little_room, setup, teardown),
        cmocka_unit_test_setup_teardown(paused_end_stops_the_other_until_it_goes_on, setup, teardown),
        cmocka_unit_test_setup_teardown(other_end_closes, setup, teardown),
        cmocka_unit_test_setup_teardown(last_record_is_read_before_a_write_error_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(owner_closes_in_the_middle_of_a_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(owner_refuses_a_record, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage_kills_only_the_carrier, setup, teardown),
        cmocka_unit_test_setup_teardown(crumbs_are_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_that_no_poll_shows_are_read_at_start_and_after_a_pause, setup, teardown),
        cmocka_unit_test_setup_teardown(write_error_is_told_on_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(stream_failure_is_passed_on_with_its_text, setup, teardown),
        cmocka_unit_test_setup_teardown(no_memory_leaves_the_stream_to_its_owner, setup, teardown),
    };
    return unit_run(tests);
}
