#include "tests/fake/fake_agent.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cursor.h"
#include "tests/unit/unit.h"

#define HEAD 20

void fake_packet(uint8_t *out, size_t size, const struct address *source, const struct address *target,
                 uint32_t sequence)
{
    memset(out, 0, size);
    struct cursor cursor = cursor_writer(out, size);
    cursor_put_u16(&cursor, 0x4500);
    cursor_put_u16(&cursor, (uint16_t)size);
    cursor_seek(&cursor, 9);
    cursor_put_u8(&cursor, 253); /* a protocol for experiments */
    cursor_seek(&cursor, 12);
    cursor_put_bytes(&cursor, source->bytes, 4);
    cursor_put_bytes(&cursor, target->bytes, 4);
    cursor_put_u32(&cursor, sequence);
    assert_true(cursor_ok(&cursor));
}

uint32_t fake_packet_sequence(const uint8_t *packet)
{
    struct cursor cursor = cursor_reader(packet + HEAD, 4);
    return cursor_u32(&cursor);
}

static void end_connection(struct fake_connection *c)
{
    if (c->fd >= 0)
        (void)close(c->fd);
    c->fd = -1;
    if (c->pump == NULL)
        return;
    pump_close(c->pump);
    carrier_deinit(&c->carrier);
    c->pump = NULL;
    c->is_open = false;
}

static void seal(struct fake_connection *c, enum wire_type type, const void *body, size_t size)
{
    struct carrier_part part = {body, size};
    assert_int_equal(carrier_seal(&c->carrier, type, &part, 1), 0);
    pump_flush(c->pump);
}

static void answer_open(struct fake_connection *c, const struct carrier_record *record)
{
    struct fake_agent *agent = c->agent;
    uint8_t body[4096];
    int size;
    assert_int_equal(wire_get_open(&c->open, record->body, record->size), 0);
    if (agent->is_mute_on_open)
        return;
    if (agent->refuse != 0 && agent->refuse_times > 0) {
        agent->refuse_times--;
        struct wire_refuse refuse = {.reason = (uint8_t)agent->refuse, .text = "because"};
        size = wire_put_refuse(body, sizeof body, &refuse);
        seal(c, WIRE_REFUSE, body, (size_t)size);
        end_connection(c);
        return;
    }
    struct wire_accept accept = {.mtu = 1234, .idle_ms = 300000, .pod = address_v4(0x0ae80005)};
    size = wire_put_accept(body, sizeof body, &accept);
    assert_true(size > 0);
    seal(c, WIRE_ACCEPT, body, (size_t)size);
    c->is_open = true;
    agent->accepted++;
}

static void take_packet(struct fake_agent *agent, const struct carrier_record *record)
{
    uint32_t sequence = record->size >= HEAD + 4 ? fake_packet_sequence(record->body) : FAKE_AGENT_SEQUENCES;
    agent->packets++;
    if (sequence >= FAKE_AGENT_SEQUENCES) {
        agent->bad++;
        return;
    }
    agent->duplicates += agent->seen[sequence];
    agent->disorders += sequence < agent->last;
    agent->seen[sequence] = 1;
    agent->last = sequence;
}

static int on_record(void *context, const struct carrier_record *record)
{
    struct fake_connection *c = context;
    if (record->type == WIRE_OPEN) {
        answer_open(c, record);
    } else if (record->type == WIRE_PACKET) {
        take_packet(c->agent, record);
    } else if (record->type == WIRE_CLOSE) {
        c->agent->closes++;
        c->agent->last_close = record->body[0];
        end_connection(c);
    } else if (record->type == WIRE_USE) {
        c->agent->uses += wire_get_use(&c->agent->use, record->body, record->size) == 0;
    } else if (record->type == WIRE_DNS_QUERY) {
        seal(c, WIRE_DNS_ANSWER, record->body, record->size);
    } else {
        return -EPROTO;
    }
    return 0;
}

static void on_dead(void *context, int error, const char *text)
{
    (void)error;
    (void)text;
    end_connection(context);
}

static const struct pump_ops pump_ops = {.on_record = on_record, .on_dead = on_dead};

static void serve(struct fake_connection *c, int fd)
{
    if (carrier_init(&c->carrier, &c->agent->keys, NULL, WIRE_FEATURE_IPV4, uv_now(c->agent->loop)) != 0) {
        (void)close(fd);
        return;
    }
    if (stream_from_fd(&c->stream, c->agent->loop, fd) != 0) {
        carrier_deinit(&c->carrier);
        (void)close(fd);
        return;
    }
    if (pump_open(&c->pump, c->agent->loop, c->stream, &c->carrier, &pump_ops, c) == 0)
        return;
    c->pump = NULL;
    c->stream->on_closed = NULL;
    stream_close(c->stream);
    carrier_deinit(&c->carrier);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct fake_agent *agent = KT_CONTAINER_OF(poll, struct fake_agent, poll);
    (void)status;
    (void)events;
    int fd = accept4(agent->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    assert_true(agent->connections < FAKE_AGENT_CONNECTIONS);
    struct fake_connection *c = &agent->connection[agent->connections++];
    *c = (struct fake_connection){.agent = agent, .fd = -1};
    if (!agent->is_hanging && !agent->has_odd_hello) {
        serve(c, fd);
        return;
    }
    c->fd = fd;
    uint8_t hello[WIRE_HELLO_SIZE];
    wire_put_hello(hello, &(struct wire_hello){.version = WIRE_VERSION + 1});
    if (agent->has_odd_hello)
        assert_int_equal(write(fd, hello, sizeof hello), sizeof hello);
}

void fake_agent_start(struct fake_agent *agent, uv_loop_t *loop)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(agent->port)};
    socklen_t size = sizeof address;
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    agent->loop = loop;
    agent->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(agent->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    assert_int_equal(bind(agent->fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(agent->fd, 64), 0);
    assert_int_equal(getsockname(agent->fd, (struct sockaddr *)&address, &size), 0);
    if (agent->port == 0)
        noise_keypair_generate(&agent->keys);
    agent->port = ntohs(address.sin_port);
    assert_int_equal(uv_poll_init(loop, &agent->poll, agent->fd), 0);
    assert_int_equal(uv_poll_start(&agent->poll, UV_READABLE, on_connection), 0);
}

void fake_agent_stop(struct fake_agent *agent)
{
    if (agent->fd < 0)
        return;
    uv_close((uv_handle_t *)&agent->poll, NULL);
    (void)close(agent->fd);
    agent->fd = -1;
}

void fake_agent_cut(struct fake_agent *agent)
{
    for (size_t i = 0; i < agent->connections; i++)
        end_connection(&agent->connection[i]);
}

void fake_agent_cut_one(struct fake_agent *agent, size_t connection)
{
    end_connection(&agent->connection[connection]);
}

void fake_agent_freeze(struct fake_agent *agent, bool is_frozen)
{
    for (size_t i = 0; i < agent->connections; i++) {
        if (agent->connection[i].pump != NULL)
            pump_pause(agent->connection[i].pump, is_frozen);
    }
}

void fake_agent_send(struct fake_agent *agent, enum wire_type type, const void *body, size_t size)
{
    for (size_t i = 0; i < agent->connections; i++) {
        if (agent->connection[i].is_open)
            seal(&agent->connection[i], type, body, size);
    }
}

void fake_agent_say_close(struct fake_agent *agent, enum wire_reason reason)
{
    struct wire_close end = {.reason = (uint8_t)reason};
    uint8_t body[sizeof end];
    int size = wire_put_refuse(body, sizeof body, &end);
    assert_true(size > 0);
    fake_agent_send(agent, WIRE_CLOSE, body, (size_t)size);
}

size_t fake_agent_live(const struct fake_agent *agent)
{
    size_t live = 0;
    for (size_t i = 0; i < agent->connections; i++)
        live += agent->connection[i].is_open;
    return live;
}
