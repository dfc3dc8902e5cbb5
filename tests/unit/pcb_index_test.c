/* lwIP's globals, swapped: connections in their buckets, their clock, and sequence numbers that nobody guesses. */
#include "netstack/pcb_index.h"

#include <errno.h>
#include <string.h>
#include <uv.h>

#include "common/mem.h"
#include "lwip/priv/tcp_priv.h"
#include "netstack/lwip/hooks.h"
#include "netstack/pool.h"
#include "tests/unit/tcp_segment.h"
#include "tests/unit/unit.h"

#define PORT 8080
#define FIRST_PORT 10000                    /* of the clients: one per connection */
#define CLOCK_SLACK (10u * 1000 * 1000 / 4) /* 10 s in steps of 4 us */

struct bed {
    struct pcb_index index;
    struct tcp_pcb *pcb[PCB_BUCKETS];      /* one per bucket at most */
    unsigned synacks[PCB_BUCKETS], resets; /* that came out, by client */
    int arg[PCB_BUCKETS];
};

static err_t on_output(struct netif *netif, struct pbuf *packet, const ip4_addr_t *to)
{
    struct bed *bed = netif->state;
    uint8_t data[TCP_SEGMENT_MAX];
    (void)to;
    assert_true(packet->tot_len <= sizeof data);
    (void)pbuf_copy_partial(packet, data, packet->tot_len, 0);
    if ((tcp_segment_flags(data) & SEGMENT_RST) != 0)
        bed->resets++;
    else if ((tcp_segment_flags(data) & SEGMENT_SYN) != 0)
        bed->synacks[tcp_segment_target_port(data) - FIRST_PORT]++;
    return ERR_OK;
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t error)
{
    (void)arg;
    (void)pcb;
    return error;
}

static int open_bed(void **state)
{
    struct bed *bed = test_calloc(1, sizeof *bed);
    *state = bed;
    return pcb_index_init(&bed->index, 1500, bed, on_output, NULL, on_accept);
}

static void abort_all(struct bed *bed)
{
    for (unsigned bucket = 0; bucket < PCB_BUCKETS; bucket++) {
        pcb_index_enter(&bed->index, bucket);
        while (tcp_active_pcbs != NULL)
            tcp_abort(tcp_active_pcbs);
        pcb_index_leave(&bed->index);
    }
}

static int close_bed(void **state)
{
    struct bed *bed = *state;
    abort_all(bed);
    pcb_index_deinit(&bed->index);
    test_free(bed);
    pool_trim();
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static struct tcp_pcb *begin(struct bed *bed, unsigned bucket)
{
    struct tcp_segment syn =
        tcp_segment_make((uint16_t)(FIRST_PORT + bucket), PORT, SEGMENT_SYN, TCP_SEGMENT_SEQUENCE, 0);
    pcb_index_enter(&bed->index, bucket);
    struct tcp_pcb *pcb = pcb_index_accept(&bed->index, &syn.packet, syn.data, &bed->arg[bucket]);
    pcb_index_leave(&bed->index);
    return pcb;
}

static void the_number_of_buckets_is_a_prime(void **state)
{
    (void)state;
    for (unsigned n = 2; n * n <= PCB_BUCKETS; n++)
        assert_int_not_equal(PCB_BUCKETS % n, 0);
}

static void a_syn_makes_a_connection_in_its_bucket_alone(void **state)
{
    struct bed *bed = *state;
    struct tcp_pcb *pcb = begin(bed, 7);
    assert_non_null(pcb);
    assert_ptr_equal(pcb->callback_arg, &bed->arg[7]);
    assert_int_equal(bed->synacks[7], 1);
    assert_ptr_equal(bed->index.head[7], pcb);
    assert_null(tcp_active_pcbs); /* lwIP keeps nothing while nobody has entered */
    for (unsigned bucket = 0; bucket < PCB_BUCKETS; bucket++)
        assert_true(bucket == 7 || bed->index.head[bucket] == NULL);
}

static void what_has_no_connection_is_reset(void **state)
{
    struct bed *bed = *state;
    struct tcp_segment ack = tcp_segment_make(FIRST_PORT, PORT, SEGMENT_ACK, 1, 4);
    struct tcp_segment syn = tcp_segment_make(FIRST_PORT, PORT, SEGMENT_SYN, 1, 0);
    (void)begin(bed, 7); /* its port is not left open for lend and copy */
    pcb_index_enter(&bed->index, 8);
    pcb_index_lend(&bed->index, &ack.packet, ack.data);
    assert_int_equal(bed->resets, 1);
    assert_int_equal(pcb_index_copy(&bed->index, &ack.packet, ack.data), 0);
    assert_int_equal(bed->resets, 2);
    pcb_index_lend(&bed->index, &syn.packet, syn.data);
    assert_int_equal(bed->resets, 3);
    pcb_index_leave(&bed->index);
    assert_null(bed->index.head[8]);
}

static void without_memory_there_is_no_connection(void **state)
{
    struct bed *bed = *state;
    struct tcp_segment ack = tcp_segment_make(FIRST_PORT, PORT, SEGMENT_ACK, 1, 4);
    unsigned failed = 0;
    for (unsigned nth = 1; nth <= 8; nth++) { /* lwIP asks for a connection's memory more than once */
        pool_trim();
        kt_mem_fail_nth(nth);
        struct tcp_pcb *pcb = begin(bed, nth);
        kt_mem_fail_nth(0);
        failed += pcb == NULL;
        assert_ptr_equal(bed->index.head[nth], pcb);
        assert_int_equal(bed->synacks[nth], pcb != NULL);
    }
    assert_true(failed > 0 && failed < 8);
    pool_trim();
    pcb_index_enter(&bed->index, 0);
    kt_mem_fail_nth(1);
    assert_int_equal(pcb_index_copy(&bed->index, &ack.packet, ack.data), -ENOMEM);
    kt_mem_fail_nth(0);
    pcb_index_leave(&bed->index);
    assert_non_null(begin(bed, 9));
}

/* Each bucket's connections are seen by the timer, whatever their number is: lwIP's mark of 8 bits does not come round
 * to the same value. 128 buckets of two steps each are 256. */
static void tick_reaches_every_bucket(void **state)
{
    static const unsigned in_use[] = {1, 2, 127, 128, 129, 256, PCB_BUCKETS};
    struct bed *bed = *state;
    for (size_t i = 0; i < KT_ARRAY_LEN(in_use); i++) {
        memset(bed->synacks, 0, sizeof bed->synacks);
        for (unsigned n = 0; n < in_use[i]; n++)
            assert_non_null(begin(bed, (n * 3 + 5) % PCB_BUCKETS));
        for (int ms = 0; ms < 8000; ms += PCB_TICK_MS)
            pcb_index_tick(&bed->index);
        for (unsigned n = 0; n < in_use[i]; n++) /* the SYN-ACK once more, at least */
            assert_true(bed->synacks[(n * 3 + 5) % PCB_BUCKETS] >= 2);
        abort_all(bed);
    }
}

/* A connection's time is the sweep's, not the number of other buckets'. */
static void many_buckets_do_not_make_time_faster(void **state)
{
    struct bed *bed = *state;
    unsigned alone, among_many;
    assert_non_null(begin(bed, 0));
    for (int ms = 0; ms < 8000; ms += PCB_TICK_MS)
        pcb_index_tick(&bed->index);
    alone = bed->synacks[0];
    abort_all(bed);
    memset(bed->synacks, 0, sizeof bed->synacks);
    for (unsigned bucket = 0; bucket < 500; bucket++)
        assert_non_null(begin(bed, bucket));
    for (int ms = 0; ms < 8000; ms += PCB_TICK_MS)
        pcb_index_tick(&bed->index);
    among_many = bed->synacks[0];
    assert_true(among_many + 1 >= alone && among_many <= alone + 1);
}

/* ---- initial sequence numbers (RFC 6528) ---- */

static uint32_t isn(struct bed *bed, uint8_t key, uint16_t port)
{
    ip_addr_t local = IPADDR4_INIT(lwip_htonl(TCP_SEGMENT_TARGET)),
              remote = IPADDR4_INIT(lwip_htonl(TCP_SEGMENT_CLIENT));
    memset(bed->index.isn_key, key, sizeof bed->index.isn_key);
    pcb_index_enter(&bed->index, 0);
    uint32_t number = kt_lwip_isn(&local, PORT, &remote, port);
    pcb_index_leave(&bed->index);
    return number;
}

static bool is_far(uint32_t a, uint32_t b)
{
    return a - b > CLOCK_SLACK && b - a > CLOCK_SLACK;
}

static void the_same_connection_differs_between_keys(void **state)
{
    struct bed *bed = *state;
    for (uint8_t key = 1; key < 32; key++)
        assert_true(is_far(isn(bed, 0, FIRST_PORT), isn(bed, key, FIRST_PORT)));
}

static void connections_differ_under_one_key(void **state)
{
    struct bed *bed = *state;
    for (uint16_t i = 1; i < 32; i++)
        assert_true(is_far(isn(bed, 0, FIRST_PORT), isn(bed, 0, (uint16_t)(FIRST_PORT + i))));
}

/* A connection that comes back gets a number behind its last one's. */
static void the_clock_moves_it_on(void **state)
{
    struct bed *bed = *state;
    uint32_t before = isn(bed, 0, FIRST_PORT);
    uint64_t from = uv_hrtime();
    while (uv_hrtime() - from < 100000)
        continue;
    uint32_t after = isn(bed, 0, FIRST_PORT);
    assert_true(after - before >= 25 && after - before < CLOCK_SLACK);
}

static void keys_are_drawn(void **state)
{
    struct bed *bed = *state;
    static const uint8_t zero[PCB_KEY_SIZE];
    void *other;
    assert_memory_not_equal(bed->index.isn_key, zero, sizeof zero);
    assert_int_equal(open_bed(&other), 0);
    assert_memory_not_equal(bed->index.isn_key, ((struct bed *)other)->index.isn_key, sizeof zero);
    assert_non_null(begin(bed, 1)); /* and they do not meet */
    assert_null(((struct bed *)other)->index.head[1]);
    abort_all(other);
    pcb_index_deinit(&((struct bed *)other)->index);
    test_free(other);
}

int main(void)
{
#define PCB_INDEX_TEST(test) cmocka_unit_test_setup_teardown(test, open_bed, close_bed)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_number_of_buckets_is_a_prime),
        PCB_INDEX_TEST(a_syn_makes_a_connection_in_its_bucket_alone),
        PCB_INDEX_TEST(what_has_no_connection_is_reset),
        PCB_INDEX_TEST(without_memory_there_is_no_connection),
        PCB_INDEX_TEST(tick_reaches_every_bucket),
        PCB_INDEX_TEST(many_buckets_do_not_make_time_faster),
        PCB_INDEX_TEST(the_same_connection_differs_between_keys),
        PCB_INDEX_TEST(connections_differ_under_one_key),
        PCB_INDEX_TEST(the_clock_moves_it_on),
        PCB_INDEX_TEST(keys_are_drawn),
    };
    return unit_run(tests);
}
