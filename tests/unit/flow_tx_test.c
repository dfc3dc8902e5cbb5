/* From the socket to packets, against the kernel's own TCP on both sides: readers and links that are slow, stop, or
 * die. */
#include "tests/unit/tcp_pair.h"

static void test_bulk(void **state)
{
    (void)state;
    bulk(false, true, false);
    bulk(false, true, true);
    assert_true(flows_become(0));
}

/* A link that takes one packet a turn, as a carrier does: nothing is lost, nobody starves. */
static void test_bulk_with_back_pressure(void **state)
{
    size_t room = 65536;
    struct pair pairs[4];
    struct stream streams[16];
    (void)state;
    fixture_call(fixture, set_room, &room);
    bulk(true, true, false);
    for (size_t i = 0; i < KT_ARRAY_LEN(pairs); i++) {
        pairs[i] = connected();
        streams[4 * i] = (struct stream){.fd = pairs[i].server, .size = 8 << 20, .sends = true};
        streams[4 * i + 1] = (struct stream){.fd = pairs[i].client, .size = 8 << 20};
        streams[4 * i + 2] = (struct stream){.fd = pairs[i].client, .size = 8 << 20, .sends = true};
        streams[4 * i + 3] = (struct stream){.fd = pairs[i].server, .size = 8 << 20};
    }
    run_streams(streams, KT_ARRAY_LEN(streams));
    for (size_t i = 0; i < KT_ARRAY_LEN(pairs); i++)
        close_pair(pairs[i]);
}

static void test_stalled_client(void **state)
{
    (void)state;
    stall(false);
}

/* A reader that stalls for longer than any timer, after the writer has closed: it loses nothing. */
static void test_slow_reader_after_close(void **state)
{
    (void)state;
    struct pair pair = connected();
    char byte;
    shutdown(pair.client, SHUT_WR); /* so that lwIP goes to LAST_ACK */
    assert_int_equal(recv(pair.server, &byte, 1, 0), 0);
    size_t sent = stuff(pair.server);
    close(pair.server);
    struct pollfd never = {.fd = -1};
    poll(&never, 1, 3000);
    struct stream reader = {.fd = pair.client, .size = sent};
    run_streams(&reader, 1);
    assert_int_equal(recv(pair.client, &byte, 1, 0), 0);
    close(pair.client);
    assert_true(flows_become(0));
}

/* The last segment, with the FIN, is larger than the window that is open: it goes out in two, and the end stays behind
 * its bytes. */
static void test_last_segment_larger_than_the_window(void **state)
{
    (void)state;
    for (size_t size = 600000; size < 680000; size += 10000) {
        struct pair pair = connected();
        struct pollfd never = {.fd = -1};
        char got[32768];
        size_t sum = 0;
        int large = 1 << 20;
        assert_int_equal(setsockopt(pair.server, SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof large), 0);
        uint8_t *data = calloc(1, size);
        assert_int_equal(send(pair.server, data, size, 0), size);
        close(pair.server);
        for (ssize_t n = 1; n > 0; sum += (size_t)n) {
            poll(&never, 1, 30);
            n = recv(pair.client, got, sizeof got, 0);
            assert_true(n >= 0);
        }
        assert_int_equal(sum, size);
        close(pair.client);
        free(data);
    }
    assert_true(flows_become(0));
}

static void test_bytes_then_reset(void **state)
{
    (void)state;
    reset_behind_bytes(false);
}

/* ---- a carrier that dies ---- */

static void cut(struct fixture *f, void *argument)
{
    (void)argument;
    f->is_cut = true;
}

static void freeze(struct fixture *f, void *argument)
{
    (void)argument;
    f->is_paused = true;
    netstack_freeze(f->netstack);
}

static void thaw(struct fixture *f, void *argument)
{
    (void)argument;
    f->is_cut = f->is_paused = false;
    netstack_thaw(f->netstack);
}

static void test_freeze_and_thaw(void **state)
{
    (void)state;
    struct pair pair = connected();
    char got[8] = "";
    struct pollfd wait = {.fd = pair.client, .events = POLLIN};
    echo(pair.server, pair.client, "before");
    fixture_call(fixture, cut, NULL); /* what is sent now dies with the carrier */
    assert_int_equal(send(pair.server, "lost", 4, 0), 4);
    assert_int_equal(poll(&wait, 1, 200), 0);
    fixture_call(fixture, freeze, NULL);
    assert_int_equal(send(pair.server, "late", 4, 0), 4);
    assert_int_equal(poll(&wait, 1, 1500), 0);
    fixture_call(fixture, thaw, NULL);
    uint64_t before = fixture_now_us();
    assert_int_equal(recv(pair.client, got, 8, MSG_WAITALL), 8);
    assert_memory_equal(got, "lostlate", 8);
    assert_true(fixture_now_us() - before < 200000); /* not after a back-off */
    close_pair(pair);
}

static void *outages(void *argument)
{
    struct pollfd never = {.fd = -1};
    (void)argument;
    for (int i = 0; i < 4; i++) {
        poll(&never, 1, 50);
        fixture_call(fixture, cut, NULL);
        poll(&never, 1, 5);
        fixture_call(fixture, freeze, NULL);
        poll(&never, 1, 100);
        fixture_call(fixture, thaw, NULL);
    }
    return NULL;
}

static void test_bulk_through_outages(void **state)
{
    pthread_t thread;
    (void)state;
    pthread_create(&thread, NULL, outages, NULL);
    bulk(true, true, false);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TCP_PAIR_TEST(test_bulk),
        TCP_PAIR_TEST(test_bulk_with_back_pressure),
        TCP_PAIR_TEST(test_stalled_client),
        TCP_PAIR_TEST(test_slow_reader_after_close),
        TCP_PAIR_TEST(test_last_segment_larger_than_the_window),
        TCP_PAIR_TEST(test_bytes_then_reset),
        TCP_PAIR_TEST(test_freeze_and_thaw),
        TCP_PAIR_TEST(test_bulk_through_outages),
    };
    return tcp_pair_run(tests);
}
