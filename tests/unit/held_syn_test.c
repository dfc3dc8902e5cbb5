/* A SYN that was held: accepted, refused, unreachable, or nobody's fault but ours. */
#include "netstack/held_syn.h"

#include <errno.h>
#include <string.h>

#include "common/mem.h"
#include "lwip/priv/tcp_priv.h"
#include "netstack/icmp_error.h"
#include "netstack/pool.h"
#include "netstack/stack.h"
#include "tests/unit/tcp_segment.h"
#include "tests/unit/unit.h"

#define CLIENT_PORT 40000
#define PORT 8080

struct bed {
    struct netstack netstack;
    uint8_t last[256];
    size_t size, count;
    struct held_syn *syn;
    struct tcp_segment segment; /* what it was made from */
};

static int on_output(void *context, const struct carrier_part *parts, int count)
{
    struct bed *bed = context;
    bed->size = 0;
    bed->count++;
    for (int i = 0; i < count; i++) {
        assert_true(bed->size + parts[i].size <= sizeof bed->last);
        memcpy(bed->last + bed->size, parts[i].data, parts[i].size);
        bed->size += parts[i].size;
    }
    return 0;
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t error)
{
    (void)arg;
    (void)pcb;
    return error;
}

/* Holds a SYN that carries data, and overwrites what it came in. */
static int open_bed(void **state)
{
    struct bed *bed = test_calloc(1, sizeof *bed);
    *state = bed;
    bed->netstack.ops.output = on_output;
    bed->netstack.context = bed;
    bed->netstack.errors_left = 100;
    bed->segment = tcp_segment_make(CLIENT_PORT, PORT, SEGMENT_SYN, TCP_SEGMENT_SEQUENCE, 50);
    struct tcp_segment copy = bed->segment;
    bed->syn = held_syn_new(&copy.packet, copy.data);
    memset(&copy, 0xff, sizeof copy);
    assert_non_null(bed->syn);
    assert_int_equal(
        pcb_index_init(&bed->netstack.flows.pcbs, 1500, &bed->netstack, flow_output, flow_output_v6, on_accept), 0);
    pcb_index_enter(&bed->netstack.flows.pcbs, 0);
    return 0;
}

static int close_bed(void **state)
{
    struct bed *bed = *state;
    while (tcp_active_pcbs != NULL)
        tcp_abort(tcp_active_pcbs);
    pcb_index_leave(&bed->netstack.flows.pcbs);
    pcb_index_deinit(&bed->netstack.flows.pcbs);
    held_syn_free(bed->syn);
    held_syn_free(NULL);
    test_free(bed);
    pool_trim();
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static void refuse(struct bed *bed, int error)
{
    bed->count = 0;
    held_syn_refuse(bed->syn, &bed->netstack, &bed->netstack.flows.pcbs, error);
    assert_null(tcp_active_pcbs);
}

static void accepted_it_is_answered_without_its_data(void **state)
{
    struct bed *bed = *state;
    struct tcp_pcb *pcb = held_syn_accept(bed->syn, &bed->netstack.flows.pcbs, bed);
    assert_non_null(pcb);
    assert_ptr_equal(pcb->callback_arg, bed);
    assert_int_equal(bed->count, 1);
    assert_int_equal(tcp_segment_flags(bed->last) & (SEGMENT_SYN | SEGMENT_ACK | SEGMENT_RST),
                     SEGMENT_SYN | SEGMENT_ACK);
    assert_int_equal(tcp_segment_target_port(bed->last), CLIENT_PORT);
    assert_int_equal(tcp_segment_acknowledged(bed->last), TCP_SEGMENT_SEQUENCE + 1);
    assert_int_equal(pcb->local_port, PORT);
}

static void refused_it_gets_a_reset(void **state)
{
    struct bed *bed = *state;
    static const int errors[] = {-ECONNREFUSED, -ECONNRESET};
    for (size_t i = 0; i < KT_ARRAY_LEN(errors); i++) {
        refuse(bed, errors[i]);
        assert_int_equal(bed->count, 1);
        assert_int_equal(tcp_segment_flags(bed->last), SEGMENT_RST | SEGMENT_ACK);
        assert_int_equal(tcp_segment_acknowledged(bed->last), TCP_SEGMENT_SEQUENCE + 1);
    }
}

static void unreachable_it_is_quoted_in_an_icmp(void **state)
{
    struct bed *bed = *state;
    static const struct {
        int error, code;
    } cases[] = {{-EHOSTUNREACH, 1}, {-ENETUNREACH, 0}, {-EACCES, 13}};
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        refuse(bed, cases[i].error);
        assert_int_equal(bed->count, 1);
        assert_int_equal(bed->last[9], PACKET_ICMP);
        assert_int_equal(bed->last[IPV4_HEAD_SIZE + 1], cases[i].code);
        assert_int_equal(bed->size, 2 * IPV4_HEAD_SIZE + 8 + 8);
        assert_memory_equal(bed->last + IPV4_HEAD_SIZE + 8, bed->segment.data, IPV4_HEAD_SIZE + 8);
    }
}

static void a_fault_of_ours_is_told_to_nobody(void **state)
{
    struct bed *bed = *state;
    static const int errors[] = {-ENOMEM, -EMFILE, -ENODEV, -EADDRNOTAVAIL};
    for (size_t i = 0; i < KT_ARRAY_LEN(errors); i++) {
        refuse(bed, errors[i]);
        assert_int_equal(bed->count, 0);
    }
}

static void the_longest_headers_fit(void **state)
{
    struct bed *bed = *state;
    uint8_t data[120] = {0};
    struct packet packet = {.source = address_v4(TCP_SEGMENT_CLIENT),
                            .target = address_v4(TCP_SEGMENT_TARGET),
                            .protocol = PACKET_TCP,
                            .source_port = CLIENT_PORT,
                            .target_port = PORT,
                            .head_size = 60,
                            .size = sizeof data};
    struct tcp_segment plain = tcp_segment_make(CLIENT_PORT, PORT, SEGMENT_SYN, 5, 0);
    memcpy(data + 60, plain.data + IPV4_HEAD_SIZE, 20);
    data[60 + 12] = 0xf0;     /* 60 bytes of TCP header */
    memset(data + 80, 1, 40); /* no-ops */
    struct held_syn *syn = held_syn_new(&packet, data);
    assert_non_null(syn);
    assert_non_null(held_syn_accept(syn, &bed->netstack.flows.pcbs, bed));
    assert_int_equal(tcp_segment_acknowledged(bed->last), 6);
    held_syn_free(syn);
}

/* What came over IPv6 with extension headers of any size is kept, accepted and quoted without them. */
static void extension_headers_are_left_out(void **state)
{
    struct bed *bed = *state;
    static uint8_t data[40 + 2048 + 20];
    struct packet packet;
    struct ip_head head = {.protocol = 60, .body_size = sizeof data - 40};
    struct cursor cursor = cursor_writer(data, sizeof data);
    struct tcp_segment plain = tcp_segment_make(CLIENT_PORT, PORT, SEGMENT_SYN, 5, 0);
    assert_int_equal(address_parse(&head.source, "fd6b:7476:706e::5"), 0);
    assert_int_equal(address_parse(&head.target, "fd00:10::1"), 0);
    ip_head_put(&cursor, &head);
    data[40] = PACKET_TCP;
    data[41] = 255;
    memcpy(data + 40 + 2048, plain.data + IPV4_HEAD_SIZE, 20);
    assert_int_equal(packet_parse(&packet, data, sizeof data), 0);
    assert_int_equal(packet.head_size, 40 + 2048);
    struct held_syn *syn = held_syn_new(&packet, data);
    assert_non_null(syn);
    held_syn_refuse(syn, &bed->netstack, &bed->netstack.flows.pcbs, -ENETUNREACH);
    assert_int_equal(bed->count, 1);
    assert_int_equal(bed->last[6], PACKET_ICMPV6);
    assert_int_equal(bed->last[40] << 8 | bed->last[41], 0x0100); /* no route to destination */
    assert_int_equal(bed->size, 40 + 8 + 40 + 20);
    assert_int_equal(bed->last[48 + 6], PACKET_TCP);
    assert_memory_equal(bed->last + 48 + 40, plain.data + IPV4_HEAD_SIZE, 20);
    assert_non_null(held_syn_accept(syn, &bed->netstack.flows.pcbs, bed));
    assert_int_equal(bed->last[6], PACKET_TCP);
    assert_memory_equal(bed->last + 8, head.target.bytes, 16);
    assert_memory_equal(bed->last + 24, head.source.bytes, 16);
    assert_int_equal(bed->last[40 + 13], SEGMENT_SYN | SEGMENT_ACK);
    held_syn_free(syn);
}

static void without_memory_there_is_none(void **state)
{
    struct bed *bed = *state;
    pool_trim();
    kt_mem_fail_nth(1);
    assert_null(held_syn_new(&bed->segment.packet, bed->segment.data));
    unsigned failed = 0;
    for (unsigned long nth = 1; nth <= 8; nth++) { /* lwIP asks for a connection's memory more than once */
        bed->count = 0;
        pool_trim();
        kt_mem_fail_nth(nth);
        struct tcp_pcb *pcb = held_syn_accept(bed->syn, &bed->netstack.flows.pcbs, bed);
        kt_mem_fail_nth(0);
        failed += pcb == NULL;
        assert_int_equal(bed->count, pcb != NULL);
        if (pcb != NULL)
            tcp_abort(pcb);
    }
    assert_true(failed > 0);
    assert_non_null(held_syn_accept(bed->syn, &bed->netstack.flows.pcbs, bed)); /* it is still held */
}

int main(void)
{
#define HELD_SYN_TEST(test) cmocka_unit_test_setup_teardown(test, open_bed, close_bed)
    const struct CMUnitTest tests[] = {
        HELD_SYN_TEST(accepted_it_is_answered_without_its_data),
        HELD_SYN_TEST(refused_it_gets_a_reset),
        HELD_SYN_TEST(unreachable_it_is_quoted_in_an_icmp),
        HELD_SYN_TEST(a_fault_of_ours_is_told_to_nobody),
        HELD_SYN_TEST(the_longest_headers_fit),
        HELD_SYN_TEST(extension_headers_are_left_out),
        HELD_SYN_TEST(without_memory_there_is_none),
    };
    return unit_run(tests);
}
