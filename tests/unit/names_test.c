#include "tests/fake/dns_wire.h"

#include <stdio.h>

#include "client/names.h"
#include "client/names/names_listen.h"
#include "common/mem.h"

#define TIMEOUT_MS 10000 /* where it must not matter */
#define SHORT_MS 300
#define ASKED_MAX 1200

/* A question that the cluster was asked. */
struct asked {
    uint32_t id;
    char name[DNS_NAME_MAX];
    uint16_t type;
    uint8_t message[512];
    size_t size;
};

struct bed {
    uv_loop_t loop;
    struct cidr_set ranges;
    struct names_listen *server; /* the machine's own */
    bool server_is_silent;
    size_t server_asked;
    uint8_t server_answer_size; /* 0: NXDOMAIN for all but example.com */
    char server_name[DNS_NAME_MAX];
    struct names *names;
    struct asked asked[ASKED_MAX];
    size_t count;
    int ask_result;
    int fd;
    uint8_t query[512];
    size_t query_size;
    uint8_t answer[DNS_MESSAGE_MAX];
    size_t size;
};

static int on_ask_cluster(void *context, uint32_t id, const uint8_t *message, size_t size)
{
    struct bed *bed = context;
    struct dns_question question;
    assert_true(bed->count < ASKED_MAX && size <= sizeof bed->asked->message);
    assert_int_equal(dns_parse_query(&question, message, size), 0);
    struct asked *asked = &bed->asked[bed->count++];
    asked->id = id;
    asked->type = question.type;
    memcpy(asked->name, question.name, sizeof asked->name);
    memcpy(asked->message, message, size);
    asked->size = size;
    return bed->ask_result;
}

static void on_server_query(void *context, const struct names_asker *asker, const uint8_t *query, size_t size)
{
    struct bed *bed = context;
    struct dns_question question;
    uint8_t answer[512];
    bed->server_asked++;
    if (bed->server_is_silent)
        return;
    if ((query[2] & 0x78) != 0) { /* an UPDATE: done */
        memcpy(answer, query, 12);
        answer[2] |= 0x80;
        names_listen_answer(bed->server, asker, answer, 12);
        return;
    }
    assert_int_equal(dns_parse_query(&question, query, size), 0);
    memcpy(bed->server_name, question.name, sizeof bed->server_name);
    bool is_known = dns_is_under(question.name, "example.com");
    size_t answer_size = wire_answer(answer, query, size, is_known ? DNS_NOERROR : DNS_NXDOMAIN, is_known ? 80 : 0);
    names_listen_answer(bed->server, asker, answer, answer_size);
}

static void open_names(struct bed *bed, uint64_t timeout_ms)
{
    struct names_upstream upstream = {.address = address_v4(INADDR_LOOPBACK), .port = names_listen_port(bed->server)};
    struct names_options options = {.cluster_domain = "cluster.local",
                                    .name_space = "ems",
                                    .upstream = &upstream,
                                    .upstreams = 1,
                                    .ranges = &bed->ranges,
                                    .timeout_ms = timeout_ms,
                                    .idle_ms = 500};
    struct names_ops ops = {.ask_cluster = on_ask_cluster};
    assert_int_equal(names_open(&bed->names, &bed->loop, &options, &ops, bed), 0);
    assert_int_equal(names_add(bed->names, NAMES_SERVICE, "dashboard-api"), 0);
    assert_int_equal(names_add(bed->names, NAMES_NAMESPACE, "kube-system"), 0);
}

static void reopen_names(struct bed *bed, uint64_t timeout_ms)
{
    names_close(bed->names);
    open_names(bed, timeout_ms);
    (void)close(bed->fd);
    bed->fd = wire_socket(SOCK_DGRAM, names_port(bed->names));
}

static int open_bed(void **state)
{
    struct bed *bed = kt_calloc(1, sizeof *bed);
    struct cidr cidr;
    *state = bed;
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    cidr_set_init(&bed->ranges);
    assert_int_equal(cidr_parse(&cidr, "10.222.0.0/16"), 0);
    assert_int_equal(cidr_set_add(&bed->ranges, &cidr), 0);
    assert_int_equal(names_listen_open(&bed->server, &bed->loop, 8, 10000, on_server_query, bed), 0);
    open_names(bed, TIMEOUT_MS);
    bed->fd = wire_socket(SOCK_DGRAM, names_port(bed->names));
    return 0;
}

static int close_bed(void **state)
{
    struct bed *bed = *state;
    (void)close(bed->fd);
    names_close(bed->names);
    names_listen_close(bed->server);
    (void)uv_run(&bed->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    kt_free(bed);
    assert_int_equal(kt_mem_live(), 0);
    return 0;
}

static void make_query(struct bed *bed, const char *name, uint16_t type, uint16_t udp_size)
{
    int size = dns_put_query(bed->query, sizeof bed->query, 0x4711, name, type, udp_size);
    assert_true(size > 0);
    bed->query_size = (size_t)size;
}

static void ask(struct bed *bed, const char *name, uint16_t type)
{
    make_query(bed, name, type, 0);
    assert_int_equal(send(bed->fd, bed->query, bed->query_size, 0), (ssize_t)bed->query_size);
}

/* Waits until the cluster was asked `count` times in all; the last question is for `name`. */
static struct asked *await_asked(struct bed *bed, size_t count, const char *name)
{
    for (int turn = 0; turn < WIRE_TURNS_MAX && bed->count < count; turn++) {
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
        (void)usleep(100);
    }
    assert_int_equal(bed->count, count);
    assert_string_equal(bed->asked[count - 1].name, name);
    return &bed->asked[count - 1];
}

static void cluster_says(struct bed *bed, const struct asked *asked, int rcode, uint8_t last)
{
    uint8_t answer[512];
    size_t size = wire_answer(answer, asked->message, asked->size, rcode, last);
    names_answer(bed->names, asked->id, answer, size);
}

/* The asker's answer, checked for its id and, byte for byte, its question. */
static void receive(struct bed *bed, int rcode, int records)
{
    struct dns_answer answer;
    struct dns_question question;
    bed->size = wire_receive(&bed->loop, bed->fd, bed->answer, sizeof bed->answer, false);
    assert_int_equal(dns_parse_answer(&answer, bed->answer, bed->size), 0);
    assert_int_equal(answer.id, 0x4711);
    assert_int_equal(answer.rcode, rcode);
    assert_int_equal(answer.records, records);
    assert_int_equal(dns_parse_query(&question, bed->query, bed->query_size), 0);
    assert_memory_equal(bed->answer + 12, bed->query + 12, question.end - 12);
}

static void check_address(const struct bed *bed, const char *expected)
{
    struct address address;
    char text[ADDRESS_STRLEN];
    assert_int_equal(dns_first_address(&address, bed->answer, bed->size), 0);
    assert_string_equal(address_print(&address, text), expected);
}

static void a_full_name_is_asked_as_it_is(void **state)
{
    struct bed *bed = *state;
    ask(bed, "dashboard-api.ems.svc.cluster.local", DNS_A);
    cluster_says(bed, await_asked(bed, 1, "dashboard-api.ems.svc.cluster.local"), DNS_NOERROR, 7);
    receive(bed, DNS_NOERROR, 1);
    check_address(bed, "192.0.2.7");
    ask(bed, "nothing.ems.svc.cluster.local", DNS_A);
    cluster_says(bed, await_asked(bed, 2, "nothing.ems.svc.cluster.local"), DNS_NXDOMAIN, 0);
    receive(bed, DNS_NXDOMAIN, 0);
    assert_int_equal(bed->server_asked, 0);
}

static void a_short_name_gets_a_cname(void **state)
{
    struct bed *bed = *state;
    ask(bed, "dashboard-api", DNS_A);
    cluster_says(bed, await_asked(bed, 1, "dashboard-api.ems.svc.cluster.local"), DNS_NOERROR, 7);
    receive(bed, DNS_NOERROR, 2);
    check_address(bed, "192.0.2.7");
}

static void the_search_list_is_walked_to_its_end(void **state)
{
    struct bed *bed = *state;
    ask(bed, "kube-dns.kube-system", DNS_A);
    cluster_says(bed, await_asked(bed, 1, "kube-dns.kube-system.ems.svc.cluster.local"), DNS_NXDOMAIN, 0);
    cluster_says(bed, await_asked(bed, 2, "kube-dns.kube-system.svc.cluster.local"), DNS_NOERROR, 9);
    receive(bed, DNS_NOERROR, 2);
    check_address(bed, "192.0.2.9");
    reopen_names(bed, 900); /* the silent server is asked again after a third of it */
    bed->server_is_silent = true;
    ask(bed, "host.kube-system", DNS_A);
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"host.kube-system.ems.svc.cluster.local",
                                            "host.kube-system.svc.cluster.local", "host.kube-system.cluster.local"};
        assert_int_equal(bed->server_asked, 0);
        cluster_says(bed, await_asked(bed, 3 + i, names[i]), DNS_NXDOMAIN, 0);
    }
    cluster_says(bed, &bed->asked[4], DNS_NOERROR, 9); /* once more: too late */
    bed->server_is_silent = false;
    receive(bed, DNS_NXDOMAIN, 0); /* by the machine's server */
    assert_true(bed->server_asked > 0);
    assert_string_equal(bed->server_name, "host.kube-system");
}

static void a_name_without_such_records_ends_the_search(void **state)
{
    struct bed *bed = *state;
    ask(bed, "dashboard-api", DNS_AAAA);
    cluster_says(bed, await_asked(bed, 1, "dashboard-api.ems.svc.cluster.local"), DNS_NOERROR, 0);
    bed->size = wire_receive(&bed->loop, bed->fd, bed->answer, sizeof bed->answer, false);
    assert_int_equal(bed->answer[3] & 0x0f, DNS_NOERROR);
    assert_int_equal(bed->count, 1);
    assert_int_equal(bed->server_asked, 0);
}

static void other_names_go_to_the_machines_server(void **state)
{
    struct bed *bed = *state;
    ask(bed, "www.example.com", DNS_A);
    receive(bed, DNS_NOERROR, 1);
    check_address(bed, "192.0.2.80");
    ask(bed, "dashboard-api.corp", DNS_A);
    receive(bed, DNS_NXDOMAIN, 0);
    assert_int_equal(bed->count, 0);
}

static void what_the_watch_takes_away_is_outside(void **state)
{
    struct bed *bed = *state;
    names_remove(bed->names, NAMES_SERVICE, "dashboard-api");
    ask(bed, "dashboard-api", DNS_A);
    receive(bed, DNS_NXDOMAIN, 0);
    assert_int_equal(bed->count, 0);
}

static void reverse_names_of_the_ranges_are_the_clusters(void **state)
{
    struct bed *bed = *state;
    ask(bed, "10.0.222.10.in-addr.arpa", DNS_PTR);
    cluster_says(bed, await_asked(bed, 1, "10.0.222.10.in-addr.arpa"), DNS_NXDOMAIN, 0);
    receive(bed, DNS_NXDOMAIN, 0);
    ask(bed, "1.1.168.192.in-addr.arpa", DNS_PTR);
    receive(bed, DNS_NXDOMAIN, 0);
    assert_int_equal(bed->count, 1);
    assert_int_equal(bed->server_asked, 1);
}

static void the_case_of_the_question_comes_back(void **state)
{
    struct bed *bed = *state;
    static const char *const names[] = {"dashboard-api", "dashboard-api.ems.svc.cluster.local", "www.example.com"};
    for (size_t i = 0; i < KT_ARRAY_LEN(names); i++) {
        make_query(bed, names[i], DNS_A, 0);
        bed->query[13] ^= 0x20;
        assert_int_equal(send(bed->fd, bed->query, bed->query_size, 0), (ssize_t)bed->query_size);
        if (i < 2)
            cluster_says(bed, await_asked(bed, i + 1, "dashboard-api.ems.svc.cluster.local"), DNS_NOERROR, 7);
        receive(bed, DNS_NOERROR, i == 0 ? 2 : 1);
    }
}

static void nonsense_from_the_cluster_is_a_failure(void **state)
{
    struct bed *bed = *state;
    for (int i = 0; i < 5; i++) {
        uint8_t answer[512];
        ask(bed, "dashboard-api", DNS_A);
        struct asked *asked = await_asked(bed, (size_t)i + 1, "dashboard-api.ems.svc.cluster.local");
        size_t size = wire_answer(answer, asked->message, asked->size, 0, 7);
        answer[1] ^= i == 0;        /* another id */
        answer[14] ^= 2 * (i == 1); /* another name */
        answer[7] += 3 * (i == 2);  /* records that are not there */
        size = i == 3 ? 0 : i == 4 ? 7 : size;
        names_answer(bed->names, asked->id, answer, size);
        receive(bed, DNS_SERVFAIL, 0);
        names_answer(bed->names, asked->id, answer, size); /* again */
    }
    names_answer(bed->names, 0, bed->answer, 12);
    names_answer(bed->names, 12345, bed->answer, 12);
    struct names_stats stats;
    names_stats(bed->names, &stats);
    assert_int_equal(stats.failed, 5);
    assert_int_equal(stats.cluster, 5);
}

static void a_tunnel_that_is_down_is_waited_for_in_time(void **state)
{
    struct bed *bed = *state;
    reopen_names(bed, SHORT_MS);
    bed->ask_result = -ENOTCONN;
    ask(bed, "dashboard-api", DNS_A);
    receive(bed, DNS_SERVFAIL, 0);
    assert_int_equal(bed->server_asked, 0);
    assert_true(bed->count > 10);
}

static void a_question_that_was_lost_is_asked_again(void **state)
{
    struct bed *bed = *state;
    reopen_names(bed, 3 * SHORT_MS);
    ask(bed, "dashboard-api.ems.svc.cluster.local", DNS_A);
    const struct asked *again = await_asked(bed, 2, "dashboard-api.ems.svc.cluster.local");
    assert_int_equal(bed->asked[0].id, again->id);
    assert_memory_equal(bed->asked[0].message, again->message, again->size);
    cluster_says(bed, again, DNS_NOERROR, 7);
    receive(bed, DNS_NOERROR, 1);
    cluster_says(bed, again, DNS_NOERROR, 8); /* the first one's answer, late */
    check_address(bed, "192.0.2.7");
}

static void silence_is_a_failure_in_time(void **state)
{
    struct bed *bed = *state;
    reopen_names(bed, SHORT_MS);
    bed->server_is_silent = true;
    ask(bed, "dashboard-api", DNS_A);
    receive(bed, DNS_SERVFAIL, 0);
    ask(bed, "www.example.com", DNS_A);
    receive(bed, DNS_SERVFAIL, 0);
}

static void long_answers_are_cut_for_udp_only(void **state)
{
    struct bed *bed = *state;
    uint8_t answer[1400], in[2048];
    for (int i = 0; i < 3; i++) { /* without EDNS; with it; by TCP */
        make_query(bed, "dashboard-api.ems.svc.cluster.local", DNS_A, i == 1 ? 1400 : 0);
        int fd = i == 2 ? wire_socket(SOCK_STREAM, names_port(bed->names)) : bed->fd;
        if (i == 2)
            wire_send_tcp(fd, bed->query, bed->query_size);
        else
            assert_int_equal(send(fd, bed->query, bed->query_size, 0), (ssize_t)bed->query_size);
        struct asked *asked = await_asked(bed, (size_t)i + 1, "dashboard-api.ems.svc.cluster.local");
        memset(answer, 0, sizeof answer);
        size_t head = wire_answer(answer, asked->message, asked->size, 0, 7), end = head - 16;
        for (size_t at = head; at + 16 <= 1000; at += 16) { /* the same record again */
            memcpy(answer + at, answer + end, 16);
            answer[7]++;
            head = at + 16;
        }
        names_answer(bed->names, asked->id, answer, head);
        size_t size =
            i == 2 ? wire_receive_tcp(&bed->loop, fd, in) : wire_receive(&bed->loop, fd, in, sizeof in, false);
        assert_int_equal(size, i == 0 ? end : head);
        assert_int_equal((in[2] & 0x02) != 0, i == 0);
        if (i == 2)
            (void)close(fd);
    }
}

/* As many records as one message holds. */
static size_t long_answer(uint8_t *out, size_t max, const struct asked *asked)
{
    size_t size = wire_answer(out, asked->message, asked->size, 0, 7);
    uint16_t records = 1;
    for (; size + 16 <= max; size += 16, records++)
        memcpy(out + size, out + size - 16, 16);
    out[6] = (uint8_t)(records >> 8);
    out[7] = (uint8_t)records;
    return size;
}

static void sixty_kilobytes_come_by_tcp(void **state)
{
    struct bed *bed = *state;
    static uint8_t answer[DNS_MESSAGE_MAX], in[DNS_MESSAGE_MAX];
    static const char *const names[] = {"dashboard-api", "dashboard-api.ems.svc.cluster.local"};
    int fd = wire_socket(SOCK_STREAM, names_port(bed->names));
    for (size_t i = 0; i < KT_ARRAY_LEN(names); i++) {
        make_query(bed, names[i], DNS_A, 1232);
        wire_send_tcp(fd, bed->query, bed->query_size);
        const struct asked *asked = await_asked(bed, i + 1, names[1]);
        size_t size = long_answer(answer, 65000, asked);
        names_answer(bed->names, asked->id, answer, size);
        size_t got = wire_receive_tcp(&bed->loop, fd, in);
        assert_true(got >= size && got < size + 64);
        assert_memory_equal(in + got - 16 + 2, answer + size - 16 + 2, 14); /* the owner's pointer may differ */
        assert_int_equal(in[2] & 0x02, 0);
    }
    (void)close(fd);
    make_query(bed, names[0], DNS_A, 65535); /* more than a datagram takes, or its asker's buffer: cut */
    assert_int_equal(send(bed->fd, bed->query, bed->query_size, 0), (ssize_t)bed->query_size);
    const struct asked *asked = await_asked(bed, 3, names[1]);
    names_answer(bed->names, asked->id, answer, long_answer(answer, 65000, asked));
    assert_true(wire_receive(&bed->loop, bed->fd, in, sizeof in, false) >= 12);
}

static void own_addresses_are_left_out(void **state)
{
    struct bed *bed = *state;
    static const uint8_t own[][4] = {{127, 0, 0, 1}, {169, 254, 169, 254}, {0, 0, 0, 0}};
    static const char *const names[] = {"dashboard-api", "dashboard-api.ems.svc.cluster.local"};
    for (size_t i = 0; i < 2 * KT_ARRAY_LEN(own); i++) {
        uint8_t answer[512];
        ask(bed, names[i % 2], DNS_A);
        const struct asked *asked = await_asked(bed, i + 1, names[1]);
        size_t size = wire_answer(answer, asked->message, asked->size, 0, 7);
        memcpy(answer + size - 4, own[i / 2], 4);
        names_answer(bed->names, asked->id, answer, size);
        receive(bed, DNS_NOERROR, 0);
    }
}

static void a_datagram_that_comes_again_is_asked_once(void **state)
{
    struct bed *bed = *state;
    bed->server_is_silent = true;
    for (int i = 0; i < 3; i++) {
        ask(bed, "dashboard-api", DNS_A);
        ask(bed, "www.example.com", DNS_A);
    }
    bed->query[1]++; /* another question */
    assert_int_equal(send(bed->fd, bed->query, bed->query_size, 0), (ssize_t)bed->query_size);
    for (int turn = 0; turn < WIRE_TURNS_MAX && bed->server_asked < 2; turn++)
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    assert_int_equal(bed->server_asked, 2);
    const struct asked *asked = await_asked(bed, 1, "dashboard-api.ems.svc.cluster.local");
    make_query(bed, "dashboard-api", DNS_A, 0);
    cluster_says(bed, asked, DNS_NOERROR, 7);
    receive(bed, DNS_NOERROR, 2);
    ask(bed, "dashboard-api", DNS_A); /* it has had its answer: a new one */
    (void)await_asked(bed, 2, "dashboard-api.ems.svc.cluster.local");
}

static void edns_of_another_version_is_told_so(void **state)
{
    struct bed *bed = *state;
    make_query(bed, "dashboard-api", DNS_A, 1232);
    bed->query[bed->query_size - 5] = 1;
    assert_int_equal(send(bed->fd, bed->query, bed->query_size, 0), (ssize_t)bed->query_size);
    bed->size = wire_receive(&bed->loop, bed->fd, bed->answer, sizeof bed->answer, false);
    assert_int_equal(bed->size, bed->query_size);
    assert_int_equal(bed->answer[bed->size - 6], 1); /* 16 >> 4 */
    assert_int_equal(bed->answer[bed->size - 5], 0); /* the version that is known */
    assert_int_equal(bed->count, 0);
}

static void without_outside_servers_the_rest_is_refused(void **state)
{
    struct bed *bed = *state;
    struct names_options options = {.cluster_domain = "cluster.local", .name_space = "ems", .ranges = &bed->ranges};
    struct names_ops ops = {.ask_cluster = on_ask_cluster};
    names_close(bed->names);
    assert_int_equal(names_open(&bed->names, &bed->loop, &options, &ops, bed), 0);
    (void)close(bed->fd);
    bed->fd = wire_socket(SOCK_DGRAM, names_port(bed->names));
    ask(bed, "www.example.com", DNS_A);
    receive(bed, DNS_REFUSED, 0);
    ask(bed, "nothing.ems", DNS_A);
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"nothing.ems.ems.svc.cluster.local", "nothing.ems.svc.cluster.local",
                                            "nothing.ems.cluster.local"};
        cluster_says(bed, await_asked(bed, i + 1, names[i]), DNS_NXDOMAIN, 0);
    }
    receive(bed, DNS_NXDOMAIN, 0);
}

static void other_servers_are_asked_anew(void **state)
{
    struct bed *bed = *state;
    struct names_upstream good = {.address = address_v4(INADDR_LOOPBACK), .port = names_listen_port(bed->server)};
    bed->server_is_silent = true;
    ask(bed, "www.example.com", DNS_A);
    for (int turn = 0; turn < WIRE_TURNS_MAX && bed->server_asked < 1; turn++)
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    bed->server_is_silent = false;
    names_set_upstream(bed->names, &good, 1);
    receive(bed, DNS_NOERROR, 1);
    assert_int_equal(bed->server_asked, 2);
    bed->server_is_silent = true;
    ask(bed, "www.example.com", DNS_A);
    for (int turn = 0; turn < WIRE_TURNS_MAX && bed->server_asked < 3; turn++)
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    names_set_upstream(bed->names, NULL, 0);
    receive(bed, DNS_REFUSED, 0);
}

static void an_update_goes_to_the_machines_server(void **state)
{
    struct bed *bed = *state;
    uint8_t update[12] = {0x12, 0x34, 0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0}, in[64]; /* opcode 5, no zone */
    assert_int_equal(send(bed->fd, update, sizeof update, 0), 12);
    assert_int_equal(wire_receive(&bed->loop, bed->fd, in, sizeof in, false), 12);
    assert_int_equal(in[0] << 8 | in[1], 0x1234);
    assert_int_equal(bed->server_asked, 1);
}

static void noise_is_left_alone(void **state)
{
    struct bed *bed = *state;
    uint8_t noise[600];
    for (size_t size = 1; size < sizeof noise; size += 13) {
        randombytes_buf(noise, sizeof noise);
        noise[2] |= 0x80; /* an answer */
        assert_int_equal(send(bed->fd, noise, size, 0), (ssize_t)size);
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    }
    ask(bed, "www.example.com", DNS_A);
    receive(bed, DNS_NOERROR, 1); /* nothing else came back */
    assert_int_equal(bed->count, 0);
    assert_int_equal(bed->server_asked, 1);

    uint8_t in[64];
    int fd = wire_socket(SOCK_STREAM, names_port(bed->names));
    wire_send_tcp(fd, noise, 5);
    assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), 12);
    assert_int_equal(in[3] & 0x0f, DNS_FORMERR);
    (void)close(fd);
}

/* One more than `max`, and no time-out: only the first gets an answer. */
static void check_the_oldest_fails(struct bed *bed, const char *name, size_t max)
{
    reopen_names(bed, 1000000);
    bed->server_is_silent = true;
    make_query(bed, name, DNS_A, 0);
    for (size_t i = 0; i <= max; i++) {
        bed->query[0] = (uint8_t)(i >> 8);
        bed->query[1] = (uint8_t)i;
        assert_int_equal(send(bed->fd, bed->query, bed->query_size, 0), (ssize_t)bed->query_size);
        (void)uv_run(&bed->loop, UV_RUN_NOWAIT);
    }
    size_t size = wire_receive(&bed->loop, bed->fd, bed->answer, sizeof bed->answer, false);
    assert_true(size >= 12);
    assert_int_equal(bed->answer[0] << 8 | bed->answer[1], 0);
    assert_int_equal(bed->answer[3] & 0x0f, DNS_SERVFAIL);
    struct names_stats stats;
    names_stats(bed->names, &stats);
    assert_int_equal(stats.failed, 1);
}

static void the_oldest_gives_way_when_there_are_too_many(void **state)
{
    check_the_oldest_fails(*state, "dashboard-api", NAMES_PENDING_MAX);
}

static void sockets_outside_are_bounded(void **state)
{
    check_the_oldest_fails(*state, "www.example.com", NAMES_OUTSIDE_MAX);
}

static void several_questions_over_one_connection(void **state)
{
    struct bed *bed = *state;
    uint8_t in[512];
    int fd = wire_socket(SOCK_STREAM, names_port(bed->names));
    make_query(bed, "dashboard-api", DNS_A, 0);
    wire_send_tcp(fd, bed->query, bed->query_size);
    make_query(bed, "www.example.com", DNS_A, 0);
    bed->query[0]++;
    wire_send_tcp(fd, bed->query, bed->query_size);
    assert_true(wire_receive_tcp(&bed->loop, fd, in) > 12); /* the second is answered first */
    assert_int_equal(in[0], 0x48);
    cluster_says(bed, await_asked(bed, 1, "dashboard-api.ems.svc.cluster.local"), DNS_NOERROR, 7);
    assert_true(wire_receive_tcp(&bed->loop, fd, in) > 12);
    assert_int_equal(in[0], 0x47);
    assert_int_equal(wire_receive_tcp(&bed->loop, fd, in), 0); /* idle */
    (void)close(fd);
}

static void closing_with_queries_under_way(void **state)
{
    struct bed *bed = *state;
    bed->server_is_silent = true;
    ask(bed, "www.example.com", DNS_A);
    ask(bed, "dashboard-api", DNS_A);
    (void)await_asked(bed, 1, "dashboard-api.ems.svc.cluster.local");
}

static void refuses_bad_options(void **state)
{
    struct bed *bed = *state;
    struct names *names;
    struct names_ops ops = {.ask_cluster = on_ask_cluster};
    struct names_options bad[] = {{.cluster_domain = "", .name_space = "ems"},
                                  {.cluster_domain = "cluster.local", .name_space = ""},
                                  {.cluster_domain = "cluster.local", .name_space = "ems", .upstreams = 4}};
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++)
        assert_int_equal(names_open(&names, &bed->loop, &bad[i], &ops, bed), -EINVAL);
    names_close(NULL);
}

static void survives_failed_allocations(void **state)
{
    struct bed *bed = *state;
    struct names *names;
    struct names_ops ops = {.ask_cluster = on_ask_cluster};
    struct names_options options = {.cluster_domain = "cluster.local", .name_space = "ems", .ranges = &bed->ranges};
    for (unsigned long nth = 1; nth <= 2; nth++) {
        kt_mem_fail_nth(nth);
        assert_int_equal(names_open(&names, &bed->loop, &options, &ops, bed), -ENOMEM);
    }
    static const char *const name[] = {"dashboard-api", "www.example.com", "www.example.com"};
    for (unsigned long nth = 1; nth <= 2; nth++) { /* the query; what is asked outside */
        ask(bed, name[nth], DNS_A);
        kt_mem_fail_nth(nth);
        bed->size = wire_receive(&bed->loop, bed->fd, bed->answer, sizeof bed->answer, false);
        kt_mem_fail_nth(0);
        assert_int_equal(bed->answer[3] & 0x0f, DNS_SERVFAIL);
    }
}

static void knows_no_more_names_than_it_may(void **state)
{
    struct bed *bed = *state;
    char name[32];
    int rc = 0;
    size_t i = 0;
    for (; rc == 0 && i <= NAMES_KNOWN_MAX; i++) {
        (void)snprintf(name, sizeof name, "n%zu", i);
        rc = names_add(bed->names, i % 2 ? NAMES_SERVICE : NAMES_NAMESPACE, name);
    }
    assert_int_equal(rc, -E2BIG);
    assert_int_equal(i, NAMES_KNOWN_MAX - 2 + 1);
}

int main(void)
{
#define NAMES_TEST(test) cmocka_unit_test_setup_teardown(test, open_bed, close_bed)
    static const struct CMUnitTest tests[] = {
        NAMES_TEST(a_full_name_is_asked_as_it_is),
        NAMES_TEST(a_short_name_gets_a_cname),
        NAMES_TEST(the_search_list_is_walked_to_its_end),
        NAMES_TEST(a_name_without_such_records_ends_the_search),
        NAMES_TEST(other_names_go_to_the_machines_server),
        NAMES_TEST(what_the_watch_takes_away_is_outside),
        NAMES_TEST(reverse_names_of_the_ranges_are_the_clusters),
        NAMES_TEST(the_case_of_the_question_comes_back),
        NAMES_TEST(nonsense_from_the_cluster_is_a_failure),
        NAMES_TEST(a_tunnel_that_is_down_is_waited_for_in_time),
        NAMES_TEST(a_question_that_was_lost_is_asked_again),
        NAMES_TEST(silence_is_a_failure_in_time),
        NAMES_TEST(long_answers_are_cut_for_udp_only),
        NAMES_TEST(sixty_kilobytes_come_by_tcp),
        NAMES_TEST(own_addresses_are_left_out),
        NAMES_TEST(a_datagram_that_comes_again_is_asked_once),
        NAMES_TEST(edns_of_another_version_is_told_so),
        NAMES_TEST(without_outside_servers_the_rest_is_refused),
        NAMES_TEST(other_servers_are_asked_anew),
        NAMES_TEST(an_update_goes_to_the_machines_server),
        NAMES_TEST(noise_is_left_alone),
        NAMES_TEST(the_oldest_gives_way_when_there_are_too_many),
        NAMES_TEST(sockets_outside_are_bounded),
        NAMES_TEST(several_questions_over_one_connection),
        NAMES_TEST(closing_with_queries_under_way),
        NAMES_TEST(refuses_bad_options),
        NAMES_TEST(survives_failed_allocations),
        NAMES_TEST(knows_no_more_names_than_it_may),
    };
    return unit_run(tests);
}
