/* A client for tests of the agent's modules: a carrier and a pump on one end of a socket. Each test says what it sends;
 * what comes is counted, and the last of each kind is kept. */
#ifndef KTVPN_TESTS_TEST_CLIENT_H
#define KTVPN_TESTS_TEST_CLIENT_H

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "common/carrier.h"
#include "common/cursor.h"
#include "common/session.h"
#include "netstack/pump.h"
#include "netstack/stream.h"
#include "tests/unit/unit.h"

struct test_client {
    uv_loop_t *loop;
    struct noise_keypair keys;
    struct carrier carrier;
    struct pump *pump;
    struct address v4, v6;
    int opened, accepts, refuses, closes, packets, answers, rooms, died, error;
    struct wire_accept accept;
    struct wire_refuse refuse; /* the last REFUSE or CLOSE */
    uint32_t answer_id;
    size_t answer_size;
    uint8_t answer[2048], packet[2048];
    size_t packet_size;
};

/* Fails when nothing is left that could make it true. */
#define RUN_UNTIL(loop, condition) \
    while (!(condition))           \
    assert_true(uv_run(loop, UV_RUN_ONCE) != 0 || (condition))

static int on_client_record(void *context, const struct carrier_record *record)
{
    struct test_client *client = context;
    if (record->type == WIRE_ACCEPT) {
        client->accepts++;
        assert_int_equal(wire_get_accept(&client->accept, record->body, record->size), 0);
    } else if (record->type == WIRE_REFUSE || record->type == WIRE_CLOSE) {
        client->refuses += record->type == WIRE_REFUSE;
        client->closes += record->type == WIRE_CLOSE;
        assert_int_equal(wire_get_refuse(&client->refuse, record->body, record->size), 0);
    } else if (record->type == WIRE_PACKET) {
        client->packets++;
        client->packet_size = record->size;
        memcpy(client->packet, record->body, KT_MIN(record->size, sizeof client->packet));
    } else if (record->type == WIRE_DNS_ANSWER) {
        struct cursor cursor = cursor_reader(record->body, record->size);
        client->answers++;
        client->answer_id = cursor_u32(&cursor);
        client->answer_size = cursor_left(&cursor);
        assert_true(cursor_ok(&cursor) && client->answer_size <= sizeof client->answer);
        cursor_copy(&cursor, client->answer, client->answer_size);
    } else {
        fail();
    }
    return 0;
}

static void on_client_batch(void *context KT_UNUSED)
{
}

static void on_client_open(void *context)
{
    ((struct test_client *)context)->opened++;
}

static void on_client_room(void *context)
{
    ((struct test_client *)context)->rooms++;
}

static void on_client_dead(void *context, int error, const char *text KT_UNUSED)
{
    ((struct test_client *)context)->died++;
    ((struct test_client *)context)->error = error;
}

static const struct pump_ops client_pump_ops = {.on_record = on_client_record,
                                                .on_batch = on_client_batch,
                                                .on_open = on_client_open,
                                                .on_room = on_client_room,
                                                .on_dead = on_client_dead};

/* Sets the counters to 0 and the key to a new one. */
static void KT_UNUSED client_init(struct test_client *client, uv_loop_t *loop)
{
    memset(client, 0, sizeof *client);
    client->loop = loop;
    noise_keypair_generate(&client->keys);
    session_addresses(client->keys.public_key, &client->v4, &client->v6);
}

static void KT_UNUSED client_start(struct test_client *client, int fd, const uint8_t *agent_key)
{
    struct stream *stream = NULL;
    assert_int_equal(stream_from_fd(&stream, client->loop, fd), 0);
    assert_int_equal(carrier_init(&client->carrier, &client->keys, agent_key, WIRE_FEATURE_IPV4, uv_now(client->loop)),
                     0);
    assert_int_equal(pump_open(&client->pump, client->loop, stream, &client->carrier, &client_pump_ops, client), 0);
}

static void KT_UNUSED client_stop(struct test_client *client)
{
    if (client->pump == NULL)
        return;
    pump_close(client->pump);
    carrier_deinit(&client->carrier);
    client->pump = NULL;
}

static void KT_UNUSED client_send(struct test_client *client, enum wire_type type, const void *body, size_t size)
{
    struct carrier_part part = {body, size};
    assert_int_equal(carrier_seal(&client->carrier, type, &part, 1), 0);
    pump_flush(client->pump);
}

static struct wire_open KT_UNUSED client_wish(const struct test_client *client)
{
    return (struct wire_open){.mtu = WIRE_MTU, .v4 = client->v4, .v6 = client->v6, .name = "dev@laptop"};
}

static void KT_UNUSED client_send_open(struct test_client *client, const struct wire_open *open)
{
    uint8_t body[256];
    int size = wire_put_open(body, sizeof body, open);
    assert_true(size > 0);
    client_send(client, WIRE_OPEN, body, (size_t)size);
}

static void KT_UNUSED client_send_close(struct test_client *client, enum wire_reason reason)
{
    uint8_t body[256];
    struct wire_close close = {.reason = (uint8_t)reason};
    int size = wire_put_refuse(body, sizeof body, &close);
    assert_true(size > 0);
    client_send(client, WIRE_CLOSE, body, (size_t)size);
}

static void KT_UNUSED client_ask(struct test_client *client, uint32_t id, const void *message, size_t size)
{
    uint8_t body[2048];
    struct cursor cursor = cursor_writer(body, sizeof body);
    cursor_put_u32(&cursor, id);
    cursor_put_bytes(&cursor, message, size);
    assert_true(cursor_ok(&cursor));
    client_send(client, WIRE_DNS_QUERY, body, 4 + size);
}

#endif
