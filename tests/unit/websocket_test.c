/* RFC 6455 framing: the RFC's own examples, every size of length, and frames that no server may send. */
#include "client/kube/websocket.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "tests/unit/unit.h"

static void accept_of_the_rfcs_example(void **state)
{
    (void)state;
    char accept[WEBSOCKET_ACCEPT_SIZE];
    websocket_accept_of(accept, "dGhlIHNhbXBsZSBub25jZQ=="); /* RFC 6455, 1.3 */
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void keys_are_16_random_bytes(void **state)
{
    (void)state;
    char key[WEBSOCKET_KEY_SIZE], other[WEBSOCKET_KEY_SIZE];
    uint8_t raw[16];
    size_t size;
    websocket_new_key(key);
    websocket_new_key(other);
    assert_int_equal(strlen(key), WEBSOCKET_KEY_SIZE - 1);
    assert_int_equal(
        sodium_base642bin(raw, sizeof raw, key, strlen(key), NULL, &size, NULL, sodium_base64_VARIANT_ORIGINAL), 0);
    assert_int_equal(size, sizeof raw);
    assert_string_not_equal(key, other);
}

static void expect_put(enum websocket_opcode opcode, uint64_t size, const char *hex)
{
    uint8_t head[WEBSOCKET_HEAD_MAX];
    char text[2 * WEBSOCKET_HEAD_MAX + 1];
    size_t n = websocket_put_head(head, opcode, size);
    assert_string_equal(sodium_bin2hex(text, sizeof text, head, n), hex);
}

static void heads_out_are_final_masked_and_minimal(void **state)
{
    (void)state;
    expect_put(WEBSOCKET_BINARY, 0, "828000000000");
    expect_put(WEBSOCKET_BINARY, 125, "82fd00000000");
    expect_put(WEBSOCKET_BINARY, 126, "82fe007e00000000");
    expect_put(WEBSOCKET_BINARY, 65535, "82feffff00000000");
    expect_put(WEBSOCKET_BINARY, 65536, "82ff000000000001000000000000");
    expect_put(WEBSOCKET_PONG, 4, "8a8400000000");
    expect_put(WEBSOCKET_CLOSE, 2, "888200000000");
}

struct head_case {
    const char *hex;
    int rc;
    enum websocket_opcode opcode;
    size_t head_size, size;
};

static void expect_get(const struct head_case *want)
{
    uint8_t data[16];
    size_t size = 0;
    struct websocket_frame frame = {0};
    assert_int_equal(sodium_hex2bin(data, sizeof data, want->hex, strlen(want->hex), NULL, &size, NULL), 0);
    assert_int_equal(websocket_get_head(&frame, data, size), want->rc);
    if (want->rc != 1)
        return;
    assert_int_equal(frame.opcode, want->opcode);
    assert_int_equal(frame.head_size, want->head_size);
    assert_int_equal(frame.size, want->size);
    for (size_t n = 0; n < frame.head_size; n++) /* every shorter one is incomplete, not wrong */
        assert_int_equal(websocket_get_head(&frame, data, n), 0);
}

static void heads_of_a_server_are_read(void **state)
{
    (void)state;
    static const struct head_case cases[] = {
        {"820300901f", 1, WEBSOCKET_BINARY, 2, 3}, /* the first frame that Kubernetes sends */
        {"8200", 1, WEBSOCKET_BINARY, 2, 0},
        {"827d", 1, WEBSOCKET_BINARY, 2, 125},
        {"827e007e", 1, WEBSOCKET_BINARY, 4, 126},
        {"827e8001", 1, WEBSOCKET_BINARY, 4, 32769}, /* the largest that it sends */
        {"827f0000000000010000", 1, WEBSOCKET_BINARY, 10, 65536},
        {"8100", 1, WEBSOCKET_TEXT, 2, 0},
        {"880203e8", 1, WEBSOCKET_CLOSE, 2, 2},
        {"8900", 1, WEBSOCKET_PING, 2, 0},
        {"8a7d", 1, WEBSOCKET_PONG, 2, 125},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++)
        expect_get(&cases[i]);
}

static void hostile_heads_are_refused(void **state)
{
    (void)state;
    static const struct head_case cases[] = {
        {.hex = "c2", .rc = -EPROTO},                   /* RSV1 */
        {.hex = "a2", .rc = -EPROTO},                   /* RSV2 */
        {.hex = "92", .rc = -EPROTO},                   /* RSV3 */
        {.hex = "83", .rc = -EPROTO},                   /* an opcode that nobody defined */
        {.hex = "8b", .rc = -EPROTO},                   /* a control opcode that nobody defined */
        {.hex = "8280", .rc = -EPROTO},                 /* masked */
        {.hex = "09", .rc = -EPROTO},                   /* a fragmented ping */
        {.hex = "897e", .rc = -EPROTO},                 /* a ping above 125 bytes */
        {.hex = "887f", .rc = -EPROTO},                 /* a close above 125 bytes */
        {.hex = "827e007d", .rc = -EPROTO},             /* not the shortest length */
        {.hex = "827f000000000000ffff", .rc = -EPROTO}, /* nor this */
        {.hex = "827f0000000000010001", .rc = -EPROTO}, /* too large */
        {.hex = "827fffffffffffffffff", .rc = -EPROTO}, /* far too large */
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++)
        expect_get(&cases[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accept_of_the_rfcs_example),
        cmocka_unit_test(keys_are_16_random_bytes),
        cmocka_unit_test(heads_out_are_final_masked_and_minimal),
        cmocka_unit_test(heads_of_a_server_are_read),
        cmocka_unit_test(hostile_heads_are_refused),
    };
    return unit_run(tests);
}
