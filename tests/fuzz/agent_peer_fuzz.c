/* What an authenticated client may send to the agent after its handshake: records of any type and body, in any order.
 *
 * Input: one byte of flags (1: a valid OPEN goes first; 2: a second carrier joins in the middle), then records as type
 * u8, size u16, body. Netstack and resolver are replaced, so that nothing leaves the process. */
#include "agent/guests.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/cursor.h"
#include "common/log.h"
#include "netstack/pump.h"
#include "netstack/stream.h"
#include "tests/unit/fake_netstack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FLAG_OPEN 1
#define FLAG_SECOND 2
#define TURNS_MAX 200

/* Answers in the order of the questions, when told to. */
static struct {
    resolver_answer *on_answer;
    void *context;
    uint32_t tag;
} asked;

int resolver_ask(struct resolver *resolver KT_UNUSED, const uint8_t *message, size_t size, resolver_answer *on_answer,
                 void *context, uint32_t tag)
{
    if (size == 0 || message[0] == 0xff)
        return -EBADMSG;
    if (asked.on_answer != NULL)
        asked.on_answer(asked.context, asked.tag, message, size);
    asked.on_answer = on_answer;
    asked.context = context;
    asked.tag = tag;
    return 0;
}

void resolver_forget(struct resolver *resolver KT_UNUSED, const void *context KT_UNUSED)
{
    asked.on_answer = NULL;
}

/* The client: whatever the agent says is fine. */
struct test_client {
    uv_loop_t *loop;
    struct noise_keypair keys;
    struct carrier carrier;
    struct pump *pump;
    bool opened, died;
};

static int on_client_record(void *context KT_UNUSED, const struct carrier_record *record KT_UNUSED)
{
    return 0;
}

static void on_client_open(void *context)
{
    ((struct test_client *)context)->opened = true;
}

static void on_client_dead(void *context, int error KT_UNUSED, const char *text KT_UNUSED)
{
    ((struct test_client *)context)->died = true;
}

static const struct pump_ops client_pump_ops = {
    .on_record = on_client_record, .on_open = on_client_open, .on_dead = on_client_dead};

static void client_start(struct test_client *client, int fd, const uint8_t *key)
{
    struct stream *stream = NULL;
    if (stream_from_fd(&stream, client->loop, fd) != 0 ||
        carrier_init(&client->carrier, &client->keys, key, WIRE_FEATURE_IPV4, uv_now(client->loop)) != 0 ||
        pump_open(&client->pump, client->loop, stream, &client->carrier, &client_pump_ops, client) != 0)
        abort();
}

static void client_stop(struct test_client *client)
{
    if (client->pump == NULL)
        return;
    pump_close(client->pump);
    carrier_deinit(&client->carrier);
    client->pump = NULL;
}

static void quiet(void *context KT_UNUSED, enum log_level level KT_UNUSED, const char *line KT_UNUSED)
{
}

static void turn(uv_loop_t *loop, int turns)
{
    for (int i = 0; i < turns; i++)
        (void)uv_run(loop, UV_RUN_NOWAIT);
}

static void connect_to(struct guests *guests, struct test_client *client, const uint8_t *key)
{
    int pair[2];
    struct address from = address_v4(0x7f000001);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        abort();
    guests_take(guests, pair[0], &from, 1);
    client_start(client, pair[1], key);
    for (int i = 0; i < TURNS_MAX && !client->opened; i++)
        turn(client->loop, 1);
}

/* A full or dead carrier takes nothing more, which is fine. */
static void send_record(struct test_client *client, uint8_t type, const uint8_t *body, size_t size)
{
    struct carrier_part part = {body, size};
    if (client->died || carrier_seal(&client->carrier, (enum wire_type)type, &part, 1) != 0)
        return;
    pump_flush(client->pump);
}

static void send_wish(struct test_client *client)
{
    uint8_t body[256];
    struct wire_open open = {.mtu = WIRE_MTU, .name = "dev@laptop"};
    session_addresses(client->keys.public_key, &open.v4, &open.v6);
    int size = wire_put_open(body, sizeof body, &open);
    send_record(client, WIRE_OPEN, body, (size_t)size);
    turn(client->loop, 3);
}

static void send_records(struct guests *guests, struct test_client *client, struct test_client *second,
                         const uint8_t *key, const uint8_t *data, size_t size)
{
    struct cursor cursor = cursor_reader(data, size);
    int flags = cursor_u8(&cursor), count = 0;
    if (flags & FLAG_OPEN)
        send_wish(client);
    while (cursor_left(&cursor) > 0 && count < 64) {
        uint8_t type = cursor_u8(&cursor);
        size_t want = cursor_u16(&cursor), have = KT_MIN(want, cursor_left(&cursor));
        const uint8_t *body = cursor_bytes(&cursor, have);
        send_record(client, type, body, have);
        turn(client->loop, 2);
        if ((flags & FLAG_SECOND) && ++count == 2) {
            connect_to(guests, second, key);
            send_wish(second);
        }
    }
    turn(client->loop, 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct test_client client, second;
    static struct noise_keypair keys;
    struct guests *guests = NULL;
    uv_loop_t loop;
    log_open(quiet, NULL, LOG_LEVEL_DEBUG);
    if (sodium_init() < 0 || uv_loop_init(&loop) != 0)
        abort();
    if (sodium_is_zero(keys.secret_key, sizeof keys.secret_key))
        noise_keypair_generate(&keys);
    asked.on_answer = NULL;
    struct guests_setup setup = {.keys = &keys, .idle_ms = 1000};
    if (guests_open(&guests, &loop, &setup) != 0)
        abort();
    client = (struct test_client){.loop = &loop};
    noise_keypair_generate(&client.keys);
    second = client;
    connect_to(guests, &client, keys.public_key);
    send_records(guests, &client, &second, keys.public_key, data, size);
    client_stop(&client);
    client_stop(&second);
    turn(&loop, 3);
    guests_close(guests, NULL, NULL);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&loop) != 0 || fake_first != NULL || kt_mem_live() != 0)
        abort();
    return 0;
}
