/* The channels by SPDY over a script of bytes: SPDY frames that lie across WebSocket frames at every place. The rest is
 * channels_test.c's. */
#include "client/kube/channels.h"

#include <errno.h>
#include <string.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

#define REPLIES                                          \
    "\x80\x03\x00\x02\x00\x00\x00\x06\x00\x00\x00\x01??" \
    "\x80\x03\x00\x02\x00\x00\x00\x06\x00\x00\x00\x03??"

struct script {
    uint8_t in[8192];
    size_t in_size, in_at, piece;
    int end;
    uint8_t out[8192];
    size_t out_size;
    struct channels channels;
};

static ssize_t script_read(void *context, void *out, size_t size)
{
    struct script *s = context;
    size_t n = KT_MIN(KT_MIN(size, s->piece), s->in_size - s->in_at);
    if (n == 0)
        return s->end;
    memcpy(out, s->in + s->in_at, n);
    s->in_at += n;
    return (ssize_t)n;
}

static ssize_t script_write(void *context, const void *data, size_t size)
{
    struct script *s = context;
    assert_true(s->out_size + size <= sizeof s->out);
    memcpy(s->out + s->out_size, data, size);
    s->out_size += size;
    return (ssize_t)size;
}

/* The bytes as messages of `message` bytes each; every second one in two fragments, as gorilla/websocket sends them. */
static void put(struct script *s, const void *data, size_t size, size_t message)
{
    const uint8_t *bytes = data;
    for (size_t at = 0, i = 0; at < size; i++) {
        size_t n = KT_MIN(message, size - at);
        assert_true(n < 126 && s->in_size + n + 4 <= sizeof s->in);
        s->in[s->in_size++] = i % 2 == 0 ? 0x82 : 0x02;
        s->in[s->in_size++] = (uint8_t)n;
        memcpy(s->in + s->in_size, bytes + at, n);
        s->in_size += n;
        at += n;
        if (i % 2 == 1) {
            s->in[s->in_size++] = 0x80;
            s->in[s->in_size++] = 0;
        }
    }
}

static struct script *start(const void *in, size_t size, size_t message)
{
    struct script *s = kt_calloc(1, sizeof *s);
    assert_non_null(s);
    s->piece = SIZE_MAX;
    s->end = -EAGAIN;
    put(s, in, size, message);
    channels_init(&s->channels, &(struct channels_io){script_read, script_write, s}, 8080);
    assert_int_equal(channels_start(&s->channels, CHANNELS_SPDY), 0);
    assert_int_equal(channels_flush(&s->channels), 0);
    return s;
}

static void both_streams_are_opened_in_one_message(void **state)
{
    (void)state;
    struct script *s = start("", 0, 1);
    struct spdy_frame frame;
    static const uint32_t types[] = {SPDY_SYN_STREAM, SPDY_DATA, SPDY_SYN_STREAM};
    assert_memory_equal(s->out, "\x82\xfe", 2); /* one frame, masked, 126 to 65,535 bytes */
    size_t at = 8;
    for (size_t i = 0; i < KT_ARRAY_LEN(types); i++) {
        assert_true(at + SPDY_HEAD_SIZE <= s->out_size);
        assert_int_equal(spdy_get_head(&frame, s->out + at), 0);
        assert_int_equal(frame.type, types[i]);
        assert_true(frame.type != SPDY_DATA || (frame.stream == 1 && frame.is_fin && frame.size == 0));
        at += SPDY_HEAD_SIZE + frame.size;
    }
    assert_int_equal(at, s->out_size);
    assert_non_null(memmem(s->out, s->out_size, "streamtype\0\0\0\5error", 19));
    assert_non_null(memmem(s->out, s->out_size, "streamtype\0\0\0\4data", 18));
    kt_free(s);
}

/* Control frames of every kind between the data. */
#define TALK                                                                                   \
    REPLIES "\x00\x00\x00\x03\x00\x00\x00\x05hello"                                            \
            "\x80\x03\x00\x04\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x64" \
            "\x00\x00\x00\x03\x00\x00\x00\x00"                                                 \
            "\x80\x03\x00\x09\x00\x00\x00\x08\x00\x00\x00\x03\x00\x01\x00\x00"                 \
            "\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x02"                                 \
            "\x00\x00\x00\x03\x00\x00\x00\x06 world"                                           \
            "\x80\x03\x00\x07\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00"

static void data_is_read_whatever_the_cuts(void **state)
{
    (void)state;
    for (size_t message = 1; message < 126; message++) {
        for (size_t piece = 1; piece < 40; piece++) {
            struct script *s = start(TALK, sizeof TALK - 1, message);
            uint8_t out[64];
            size_t n = 0;
            s->piece = piece;
            assert_int_equal(channels_get_ports(&s->channels), 1);
            for (ssize_t got = 1; got > 0; n += (size_t)KT_MAX(got, 0))
                got = channels_read(&s->channels, out + n, KT_MIN(3, sizeof out - n));
            assert_int_equal(n, 11);
            assert_memory_equal(out, "hello world", 11);
            s->out_size = 0;
            assert_true(channels_has_output(&s->channels));
            assert_int_equal(channels_flush(&s->channels), 0);
            assert_memory_equal(s->out, "\x82\x8c\0\0\0\0\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x02", 18);
            kt_free(s);
        }
    }
}

static void first_data_may_precede_the_reply(void **state)
{
    (void)state;
    static const char in[] = "\x00\x00\x00\x03\x00\x00\x00\x02hi" REPLIES;
    struct script *s = start(in, sizeof in - 1, 100);
    uint8_t out[8];
    assert_int_equal(channels_get_ports(&s->channels), 1);
    assert_int_equal(channels_read(&s->channels, out, sizeof out), 2);
    assert_int_equal(channels_read(&s->channels, out, sizeof out), -EAGAIN);
    kt_free(s);
}

static void writes_are_data_frames(void **state)
{
    (void)state;
    struct script *s = start(REPLIES, sizeof REPLIES - 1, 100);
    assert_int_equal(channels_get_ports(&s->channels), 1);
    s->out_size = 0;
    assert_int_equal(channels_write(&s->channels, "abc", 3), 3);
    assert_int_equal(s->out_size, 6 + 8 + 3);
    assert_memory_equal(s->out,
                        "\x82\x8b\0\0\0\0\x00\x00\x00\x03\x00\x00\x00\x03"
                        "abc",
                        17);
    kt_free(s);
}

static void expect(const char *more, size_t size, ssize_t rc, const char *text)
{
    char in[256] = REPLIES;
    memcpy(in + sizeof REPLIES - 1, more, size);
    for (size_t message = 1; message < 60; message += 7) {
        struct script *s = start(in, sizeof REPLIES - 1 + size, message);
        uint8_t out[64];
        ssize_t n = channels_get_ports(&s->channels);
        while (n > 0)
            n = channels_read(&s->channels, out, sizeof out);
        if (n != rc)
            fail_msg("%zd, not %zd", n, rc);
        assert_int_equal(s->channels.text_size, strlen(text));
        assert_memory_equal(s->channels.text, text, strlen(text));
        assert_true(n == -EAGAIN || channels_read(&s->channels, out, sizeof out) == rc);
        kt_free(s);
    }
}
#define EXPECT(more, rc, text) expect(more, sizeof more - 1, rc, text)

static void ends_are_told(void **state)
{
    (void)state;
    EXPECT("\x00\x00\x00\x01\x00\x00\x00\x04oops", -EREMOTEIO, "oops");
    EXPECT("\x00\x00\x00\x03\x00\x00\x00\x02hi\x00\x00\x00\x01\x00\x00\x00\x04oops", -EREMOTEIO, "oops");
    EXPECT("\x00\x00\x00\x01\x01\x00\x00\x00", -EAGAIN, "");       /* no errors will come: fine */
    EXPECT("\x00\x00\x00\x03\x01\x00\x00\x02hi", -ECONNRESET, ""); /* the data's end */
    EXPECT("\x00\x00\x00\x03\x01\x00\x00\x00", -ECONNRESET, "");
    EXPECT("\x80\x03\x00\x03\x00\x00\x00\x08\x00\x00\x00\x03\x00\x00\x00\x03", -ECONNRESET, ""); /* RST_STREAM */
}

static void hostile_frames_end_it(void **state)
{
    (void)state;
    EXPECT("\x00\x00\x00\x05\x00\x00\x00\x02hi", -EPROTO, ""); /* a stream that nobody opened */
    EXPECT("\x80\x03\x00\x02\x00\x00\x00\x04\x00\x00\x00\x05", -EPROTO, "");
    EXPECT("\x80\x03\x00\x01\x00\x00\x00\x0a\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00", -EPROTO,
           ""); /* the server's own */
    EXPECT("\x80\x02\x00\x02\x00\x00\x00\x04\x00\x00\x00\x01", -EPROTO, "");
    EXPECT("\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01", -EAGAIN, ""); /* an answer to no ping of ours */
}

static void expect_raw(const char *frames, size_t size, int rc)
{
    struct script *s = start("", 0, 1);
    memcpy(s->in, frames, size);
    s->in_size = size;
    assert_int_equal(channels_get_ports(&s->channels), rc);
    kt_free(s);
}

static void wrong_fragments_end_it(void **state)
{
    (void)state;
    expect_raw("\x80\x00", 2, -EPROTO);               /* goes on with nothing */
    expect_raw("\x02\x01\x80\x82\x00", 5, -EPROTO);   /* a new one inside a message */
    expect_raw("\x02\x01\x80\x89\x00\x80\x00", 7, 0); /* a ping may lie between */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_streams_are_opened_in_one_message),
        cmocka_unit_test(data_is_read_whatever_the_cuts),
        cmocka_unit_test(first_data_may_precede_the_reply),
        cmocka_unit_test(writes_are_data_frames),
        cmocka_unit_test(ends_are_told),
        cmocka_unit_test(hostile_frames_end_it),
        cmocka_unit_test(wrong_fragments_end_it),
    };
    return unit_run(tests);
}
