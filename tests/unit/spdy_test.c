#include "client/kube/spdy.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

static const struct spdy_header headers[] = {{"streamtype", "data"}, {"port", "8080"}};

static void syn_stream_is_as_the_servers_read_it(void **state)
{
    (void)state;
    static const uint8_t expected[] = "\x80\x03\x00\x01\x00\x00\x00\x40" /* version 3, SYN_STREAM, no flags, 64 bytes */
                                      "\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00" /* stream 3 */
                                      "\x78\x01"                                 /* zlib, no dictionary */
                                      "\x00\x2a\x00\xd5\xff"                     /* a stored block of 42 bytes */
                                      "\x00\x00\x00\x02"
                                      "\x00\x00\x00\x0astreamtype\x00\x00\x00\x04"
                                      "data"
                                      "\x00\x00\x00\x04port\x00\x00\x00\x04"
                                      "8080"
                                      "\x00\x00\x00\xff\xff"; /* an empty one, which flushes */
    uint8_t out[SPDY_SYN_STREAM_MAX];
    size_t size = spdy_put_syn_stream(out, 3, true, headers, KT_ARRAY_LEN(headers));
    assert_int_equal(size, sizeof expected - 1);
    assert_memory_equal(out, expected, size);
    assert_int_equal(spdy_put_syn_stream(out, 5, false, headers, KT_ARRAY_LEN(headers)), size - 2);
    assert_memory_equal(out + 18, expected + 20, size - 20);
}

static void own_heads_are_read_back(void **state)
{
    (void)state;
    struct spdy_frame frame;
    uint8_t head[SPDY_HEAD_SIZE], ping[SPDY_PING_SIZE];
    spdy_put_data_head(head, 3, false, 100000);
    assert_int_equal(spdy_get_head(&frame, head), 0);
    assert_true(frame.type == SPDY_DATA && frame.stream == 3 && !frame.is_fin && frame.size == 100000);
    spdy_put_data_head(head, 1, true, 0);
    assert_int_equal(spdy_get_head(&frame, head), 0);
    assert_true(frame.type == SPDY_DATA && frame.stream == 1 && frame.is_fin && frame.size == 0);
    spdy_put_ping(ping, 6);
    assert_int_equal(spdy_get_head(&frame, ping), 0);
    assert_true(frame.type == SPDY_PING && frame.size == 4);
    assert_memory_equal(ping + SPDY_HEAD_SIZE, "\x00\x00\x00\x06", 4);
}

static void hostile_heads_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "\x80\x02\x00\x02\x00\x00\x00\x04", /* SPDY/2 */
        "\xff\xff\x00\x02\x00\x00\x00\x04", /* another version */
        "\x80\x03\x00\x00\x00\x00\x00\x04", /* types that nobody defined */
        "\x80\x03\x00\x05\x00\x00\x00\x04", "\x80\x03\xff\xff\x00\x00\x00\x04",
        "\x80\x03\x00\x02\x00\x00\x00\x03",                                     /* shorter than its words */
        "\x80\x03\x00\x03\x00\x00\x00\x07", "\x80\x03\x00\x02\x00\x00\x40\x01", /* larger than SPDY_CONTROL_MAX */
        "\x80\x03\x00\x02\x00\xff\xff\xff",
    };
    struct spdy_frame frame;
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++)
        assert_int_equal(spdy_get_head(&frame, (const uint8_t *)cases[i]), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(syn_stream_is_as_the_servers_read_it),
        cmocka_unit_test(own_heads_are_read_back),
        cmocka_unit_test(hostile_heads_are_refused),
    };
    return unit_run(tests);
}
