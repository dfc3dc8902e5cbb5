/* Bodies of control records: there and back, cut at every byte, and with each field out of its range. */
#include "common/wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"

#define BODY_MAX 4096

static struct wire_open an_open(void)
{
    return (struct wire_open){.mtu = WIRE_MTU,
                              .v4 = address_v4(0xc6120003),
                              .v6 = {.family = ADDRESS_V6, .bytes = {0xfd, 0x6b, [15] = 1}},
                              .run = {1, 2, 3, 4, 5, 6, 7, 8},
                              .name = "alice@laptop",
                              .slot = 3,
                              .is_lost = true};
}

static struct wire_accept an_accept(void)
{
    struct wire_accept accept = {.mtu = 1500,
                                 .abilities = WIRE_CAN_PING_V4,
                                 .idle_ms = 300000,
                                 .pod = address_v4(0x0ae80105),
                                 .server = {address_v4(0x0ade000a), {.family = ADDRESS_V6, .bytes = {0xfd, 1}}},
                                 .servers = 2,
                                 .search = {"ems.svc.cluster.local", "svc.cluster.local", "cluster.local"},
                                 .searches = 3};
    return accept;
}

static int put_open(uint8_t *out, size_t size)
{
    struct wire_open open = an_open();
    return wire_put_open(out, size, &open);
}

static int get_open(const uint8_t *body, size_t size)
{
    struct wire_open open;
    return wire_get_open(&open, body, size);
}

static int put_accept(uint8_t *out, size_t size)
{
    struct wire_accept accept = an_accept();
    return wire_put_accept(out, size, &accept);
}

static int get_accept(const uint8_t *body, size_t size)
{
    struct wire_accept accept;
    return wire_get_accept(&accept, body, size);
}

static int put_refuse(uint8_t *out, size_t size)
{
    struct wire_refuse refuse = {.reason = WIRE_REASON_FULL, .text = "256 sessions are here already"};
    return wire_put_refuse(out, size, &refuse);
}

static int get_refuse(const uint8_t *body, size_t size)
{
    struct wire_refuse refuse;
    return wire_get_refuse(&refuse, body, size);
}

static int put_use(uint8_t *out, size_t size)
{
    struct wire_use use = {.sequence = 7, .slots = 5};
    return wire_put_use(out, size, &use);
}

static int get_use(const uint8_t *body, size_t size)
{
    struct wire_use use;
    return wire_get_use(&use, body, size);
}

static const struct {
    int (*put)(uint8_t *out, size_t size);
    int (*get)(const uint8_t *body, size_t size);
} kinds[] = {{put_open, get_open}, {put_accept, get_accept}, {put_refuse, get_refuse}, {put_use, get_use}};

static void every_other_size_is_refused(void **state)
{
    (void)state;
    uint8_t body[BODY_MAX] = {0};
    for (size_t i = 0; i < KT_ARRAY_LEN(kinds); i++) {
        int size = kinds[i].put(body, sizeof body);
        assert_in_range(size, 5, sizeof body);
        assert_int_equal(kinds[i].get(body, (size_t)size), 0);
        for (int cut = 0; cut < size; cut++) {
            assert_int_equal(kinds[i].get(body, (size_t)cut), -EBADMSG);
            assert_int_equal(kinds[i].put(body + 1000, (size_t)cut), -EMSGSIZE);
        }
        for (size_t more = 1; more < 300; more++)
            assert_int_equal(kinds[i].get(body, (size_t)size + more), -EBADMSG);
    }
}

static void open_comes_back(void **state)
{
    (void)state;
    uint8_t body[BODY_MAX];
    struct wire_open in = an_open(), out;
    assert_int_equal(wire_get_open(&out, body, (size_t)wire_put_open(body, sizeof body, &in)), 0);
    assert_int_equal(out.mtu, in.mtu);
    assert_true(address_equal(&out.v4, &in.v4) && address_equal(&out.v6, &in.v6));
    assert_string_equal(out.name, in.name);
    in.v4 = in.v6 = (struct address){0};
    memset(in.name, 'n', WIRE_NAME_MAX);
    assert_int_equal(wire_get_open(&out, body, (size_t)wire_put_open(body, sizeof body, &in)), 0);
    assert_int_equal(out.v4.family, ADDRESS_NONE);
    assert_int_equal(strlen(out.name), WIRE_NAME_MAX);
}

static void open_out_of_range_is_refused(void **state)
{
    (void)state;
    uint8_t body[BODY_MAX];
    struct wire_open open = an_open();
    static const uint16_t mtus[] = {0, 575, WIRE_MTU + 1, 65535};
    for (size_t i = 0; i < KT_ARRAY_LEN(mtus); i++) {
        open.mtu = mtus[i];
        assert_int_equal(get_open(body, (size_t)wire_put_open(body, sizeof body, &open)), -EBADMSG);
    }
    open = an_open();
    open.v6 = open.v4;
    assert_int_equal(get_open(body, (size_t)wire_put_open(body, sizeof body, &open)), -EBADMSG);
    open = an_open();
    open.v4 = open.v6;
    assert_int_equal(get_open(body, (size_t)wire_put_open(body, sizeof body, &open)), -EBADMSG);
    size_t size = (size_t)put_open(body, sizeof body);
    body[2] = 5; /* a family that does not exist */
    assert_int_equal(get_open(body, size), -EBADMSG);
    for (int byte = 0; byte < 256; byte++) { /* of the name */
        size = (size_t)put_open(body, sizeof body);
        body[size - 3] = (uint8_t)byte;
        assert_int_equal(get_open(body, size), byte >= 0x20 && byte < 0x7f ? 0 : -EBADMSG);
    }
    size = (size_t)put_open(body, sizeof body);
    size_t name_at = size - strlen("alice@laptop") - 1;
    body[name_at] = WIRE_NAME_MAX + 1;
    memset(body + name_at + 1, 'n', WIRE_NAME_MAX + 1);
    assert_int_equal(get_open(body, name_at + 1 + WIRE_NAME_MAX + 1), -EBADMSG);
}

static void accept_comes_back(void **state)
{
    (void)state;
    uint8_t body[BODY_MAX];
    struct wire_accept in = an_accept(), out;
    memset(&out, 0x55, sizeof out);
    assert_int_equal(wire_get_accept(&out, body, (size_t)wire_put_accept(body, sizeof body, &in)), 0);
    assert_memory_equal(&out, &in, sizeof in); /* what did not come is empty */
    memset(&in, 0, sizeof in);
    in.mtu = 576;
    assert_int_equal(wire_get_accept(&out, body, (size_t)wire_put_accept(body, sizeof body, &in)), 0);
    assert_int_equal(out.servers + out.searches, 0);
    in.servers = WIRE_SERVERS_MAX;
    in.searches = WIRE_SEARCH_MAX;
    for (int i = 0; i < WIRE_SEARCH_MAX; i++)
        memset(in.search[i], 'd', WIRE_DOMAIN_MAX);
    int size = wire_put_accept(body, sizeof body, &in);
    assert_int_equal(wire_get_accept(&out, body, (size_t)size), 0);
    assert_int_equal(strlen(out.search[WIRE_SEARCH_MAX - 1]), WIRE_DOMAIN_MAX);
}

static void accept_out_of_range_is_refused(void **state)
{
    (void)state;
    uint8_t body[BODY_MAX];
    struct wire_accept accept = {.mtu = 1500};
    size_t size = (size_t)wire_put_accept(body, sizeof body, &accept);
    assert_int_equal(size, 13); /* mtu, abilities, idle, no address, no server, no search */
    memset(body + size, 0, 100);
    for (uint8_t count = 0; count < 100; count++) {
        body[11] = count; /* servers without an address are one byte each */
        assert_int_equal(get_accept(body, size + count), count <= WIRE_SERVERS_MAX ? 0 : -EBADMSG);
        body[11] = 0;
        body[12] = count;
        assert_int_equal(get_accept(body, size + count), count <= WIRE_SEARCH_MAX ? 0 : -EBADMSG);
        body[12] = 0;
    }
    body[10] = 1;
    assert_int_equal(get_accept(body, size), -EBADMSG);
    accept.mtu = 575;
    assert_int_equal(get_accept(body, (size_t)wire_put_accept(body, sizeof body, &accept)), -EBADMSG);
    body[12] = 1;
    body[13] = 254; /* a domain of 254 bytes */
    memset(body + 14, 'd', 254);
    body[0] = 2;
    assert_int_equal(get_accept(body, 14 + 254), -EBADMSG);
}

static void refuse_comes_back(void **state)
{
    (void)state;
    uint8_t body[BODY_MAX];
    struct wire_refuse in = {.text = ""}, out;
    for (int reason = 0; reason < 256; reason++) {
        in.reason = (uint8_t)reason;
        int rc = wire_get_refuse(&out, body, (size_t)wire_put_refuse(body, sizeof body, &in));
        assert_int_equal(rc, reason >= WIRE_REASON_BYE && reason <= WIRE_REASON_TAKEN ? 0 : -EBADMSG);
    }
    in.reason = WIRE_REASON_BYE;
    memset(in.text, 't', WIRE_TEXT_MAX);
    int size = wire_put_refuse(body, sizeof body, &in);
    assert_int_equal(wire_get_refuse(&out, body, (size_t)size), 0);
    assert_string_equal(out.text, in.text);
    body[1] = WIRE_TEXT_MAX + 1;
    body[size] = 't';
    assert_int_equal(wire_get_refuse(&out, body, (size_t)size + 1), -EBADMSG);
}

/* Whatever a user's or host's name is made of, the other side must be able to read it. */
static void texts_are_made_printable(void **state)
{
    (void)state;
    uint8_t body[BODY_MAX];
    struct wire_open in = an_open(), out;
    (void)snprintf(in.name, sizeof in.name, "j\xc3\xbcrgen@b\xc3\xbcro\n");
    assert_int_equal(wire_get_open(&out, body, (size_t)wire_put_open(body, sizeof body, &in)), 0);
    assert_string_equal(out.name, "j??rgen@b??ro?");
}

static void hello_comes_back(void **state)
{
    (void)state;
    uint8_t bytes[WIRE_HELLO_SIZE];
    struct wire_hello in = {.version = WIRE_VERSION, .features = 0x01020304, .random = {9, 8, 7}}, out;
    wire_put_hello(bytes, &in);
    assert_memory_equal(bytes, "KTVPN\n\0\1\1\2\3\4\x09\x08\x07", 15);
    assert_int_equal(wire_get_hello(&out, bytes), 0);
    assert_memory_equal(&out, &in, sizeof in);
    for (size_t i = 0; i < WIRE_MAGIC_SIZE; i++) {
        bytes[i] ^= 0x20;
        assert_int_equal(wire_get_hello(&out, bytes), -EPROTO);
        bytes[i] ^= 0x20;
    }
    bytes[7] = 2;
    assert_int_equal(wire_get_hello(&out, bytes), -EPROTONOSUPPORT);
    static const uint8_t other[WIRE_HELLO_SIZE] = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n";
    assert_int_equal(wire_get_hello(&out, other), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_other_size_is_refused),    cmocka_unit_test(open_comes_back),
        cmocka_unit_test(open_out_of_range_is_refused),   cmocka_unit_test(accept_comes_back),
        cmocka_unit_test(accept_out_of_range_is_refused), cmocka_unit_test(refuse_comes_back),
        cmocka_unit_test(texts_are_made_printable),       cmocka_unit_test(hello_comes_back),
    };
    return unit_run(tests);
}
