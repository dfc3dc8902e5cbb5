/* v4.channel.k8s.io over a script of bytes: what the API server sends, in pieces of every size, and what it may not
 * send. */
#include "client/kube/channels.h"

#include <errno.h>
#include <string.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

#define PORT 8080
#define PORTS "\x82\x03\x00\x90\x1f\x82\x03\x01\x90\x1f"

struct script {
    const uint8_t *in;
    size_t in_size, in_at, piece;
    int end; /* what reading returns after the last byte */
    uint8_t out[512 * 1024];
    size_t out_size, room; /* bytes that writing takes until it says -EAGAIN */
    size_t stuck;          /* size of the write that said so; it has to come again */
    struct channels channels;
};

static ssize_t script_read(void *context, void *out, size_t size)
{
    struct script *s = context;
    size_t n = KT_MIN(KT_MIN(size, s->piece), s->in_size - s->in_at);
    assert_true(size > 0);
    if (n == 0)
        return s->end;
    memcpy(out, s->in + s->in_at, n);
    s->in_at += n;
    return (ssize_t)n;
}

static ssize_t script_write(void *context, const void *data, size_t size)
{
    struct script *s = context;
    size_t n = KT_MIN(KT_MIN(size, s->room), s->piece);
    if (s->stuck > 0)
        assert_int_equal(size, s->stuck);
    s->stuck = n == 0 ? size : 0;
    if (n == 0)
        return -EAGAIN;
    assert_true(s->out_size + n <= sizeof s->out);
    memcpy(s->out + s->out_size, data, n);
    s->out_size += n;
    s->room -= n;
    return (ssize_t)n;
}

static struct script *start(const void *in, size_t in_size, size_t piece)
{
    struct script *s = kt_calloc(1, sizeof *s);
    assert_non_null(s);
    s->in = in;
    s->in_size = in_size;
    s->piece = piece;
    s->end = -EAGAIN;
    s->room = SIZE_MAX;
    channels_init(&s->channels, &(struct channels_io){script_read, script_write, s}, PORT);
    return s;
}

/* Up to the moment at which the ports are right. */
static struct script *start_open(const void *in, size_t in_size, size_t piece)
{
    struct script *s = start(in, in_size, piece);
    assert_int_equal(channels_get_ports(&s->channels), 1);
    return s;
}

static void ports_are_checked_in_pieces_of_every_size(void **state)
{
    (void)state;
    for (size_t piece = 1; piece < sizeof PORTS; piece++) {
        for (size_t n = 0; n < sizeof PORTS - 1; n++) {
            struct script *s = start(PORTS, n, piece);
            assert_int_equal(channels_get_ports(&s->channels), 0);
            assert_true(s->channels.is_dry);
            s->in_size = sizeof PORTS - 1;
            assert_int_equal(channels_get_ports(&s->channels), 1);
            kt_free(s);
        }
    }
}

static void expect_ports(const char *in, size_t size, int rc)
{
    struct script *s = start(in, size, SIZE_MAX);
    assert_int_equal(channels_get_ports(&s->channels), rc);
    kt_free(s);
}
#define EXPECT_PORTS(text, rc) expect_ports(text, sizeof text - 1, rc)

static void wrong_ports_are_refused(void **state)
{
    (void)state;
    EXPECT_PORTS("\x82\x03\x01\x90\x1f\x82\x03\x00\x90\x1f", 1); /* which channel is first does not matter */
    EXPECT_PORTS("\x89\x00\x82\x00\x82\x03\x00\x90\x1f\x8a\x00\x82\x03\x01\x90\x1f", 1);
    EXPECT_PORTS("\x82\x03\x00\x1f\x90", -EPROTO);                     /* the other byte order */
    EXPECT_PORTS("\x82\x02\x00\x90", -EPROTO);                         /* too short */
    EXPECT_PORTS("\x82\x04\x00\x90\x1f\x00", -EPROTO);                 /* too long */
    EXPECT_PORTS("\x82\x03\x02\x90\x1f", -EPROTO);                     /* a channel that we did not ask for */
    EXPECT_PORTS("\x82\x03\x00\x90\x1f\x82\x03\x00\x90\x1f", -EPROTO); /* data before the other port */
    EXPECT_PORTS("\x82\x03\x00\x90\x1f\x82\x01\x00\x82\x03\x01\x90\x1f", -EPROTO); /* none at all is a message too */
    EXPECT_PORTS("\x81\x03\x00\x90\x1f", -EPROTO);                                 /* text */
    EXPECT_PORTS("\x82\x83\x00\x90\x1f", -EPROTO);                                 /* masked */
    EXPECT_PORTS("\x02\x03\x00\x90\x1f", -EPROTO);                                 /* a fragment */
    EXPECT_PORTS("\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00", -EPROTO);             /* 4 GiB */
    EXPECT_PORTS("\x88\x02\x03\xe8", -ECONNRESET);
}

static void end_before_the_ports_is_an_end(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof PORTS - 1; n++) {
        struct script *s = start(PORTS, n, SIZE_MAX);
        s->end = 0;
        assert_int_equal(channels_get_ports(&s->channels), -ECONNRESET);
        assert_int_equal(channels_get_ports(&s->channels), -ECONNRESET);
        kt_free(s);
    }
}

/* Ports, then frames of these sizes with a running byte, a ping and an empty message between them. Returns the size. */
static const size_t sizes[] = {1, 2, 124, 125, 126, 600, 32768, 1, 65535, 65536 - 1, 40};

static size_t make_frames(uint8_t *out, uint8_t *payload, size_t *payload_size)
{
    size_t n = sizeof PORTS - 1;
    uint8_t byte = 0;
    memcpy(out, PORTS, n);
    *payload_size = 0;
    for (size_t i = 0; i < KT_ARRAY_LEN(sizes); i++) {
        uint64_t size = sizes[i] + 1;
        uint8_t head[] = {0x82, 127, 0, 0, 0, 0, 0, (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size};
        if (size < 126) {
            out[n++] = 0x82;
            out[n++] = (uint8_t)size;
        } else if (size < 65536) {
            memcpy(out + n, (uint8_t[]){0x82, 126, head[8], head[9]}, 4);
            n += 4;
        } else {
            memcpy(out + n, head, sizeof head);
            n += sizeof head;
        }
        out[n++] = 0;
        for (size_t k = 0; k < sizes[i]; k++)
            payload[(*payload_size)++] = out[n++] = byte += 7;
        memcpy(out + n, "\x89\x02hi\x82\x00\x82\x01\x00", 9);
        n += 9;
    }
    return n;
}

static void payload_is_unwrapped_whatever_the_cuts(void **state)
{
    (void)state;
    static uint8_t in[256 * 1024], payload[256 * 1024], out[256 * 1024];
    static const size_t pieces[] = {1, 2, 3, 5, 511, 512, 513, 16384, 32774, SIZE_MAX};
    static const size_t rooms[] = {1, 7, 4096, 65537, sizeof out};
    size_t payload_size, size = make_frames(in, payload, &payload_size);
    for (size_t i = 0; i < KT_ARRAY_LEN(pieces) * KT_ARRAY_LEN(rooms); i++) {
        struct script *s = start_open(in, size, pieces[i / KT_ARRAY_LEN(rooms)]);
        size_t room = rooms[i % KT_ARRAY_LEN(rooms)], done = 0;
        ssize_t n;
        while (done < payload_size &&
               (n = channels_read(&s->channels, out + done, KT_MIN(room, sizeof out - done))) > 0)
            done += (size_t)n;
        assert_int_equal(done, payload_size);
        assert_memory_equal(out, payload, payload_size);
        assert_int_equal(channels_read(&s->channels, out, sizeof out), -EAGAIN);
        assert_true(s->channels.is_dry);
        assert_int_equal(channels_flush(&s->channels), 0);
        assert_memory_equal(s->out, "\x8a\x82\0\0\0\0hi", 8); /* the latest ping has its pong */
        assert_int_equal(s->out_size, 8);
        kt_free(s);
    }
}

static void error_text_comes_after_the_data_and_once_for_all(void **state)
{
    (void)state;
    static const char in[] = PORTS "\x82\x04\x00"
                                   "abc\x82\x07\x01refuse\x82\x02\x00x";
    for (size_t piece = 1; piece < sizeof in; piece++) {
        struct script *s = start_open(in, sizeof in - 1, piece);
        char out[8] = {0};
        size_t done = 0;
        ssize_t n;
        while ((n = channels_read(&s->channels, out + done, sizeof out - done)) > 0)
            done += (size_t)n;
        assert_int_equal(n, -EREMOTEIO);
        assert_string_equal(out, "abc");
        assert_int_equal(s->channels.text_size, 6);
        assert_memory_equal(s->channels.text, "refuse", 6);
        assert_int_equal(channels_read(&s->channels, out, sizeof out), -EREMOTEIO);
        kt_free(s);
    }
}

static void error_text_is_capped(void **state)
{
    (void)state;
    static uint8_t in[80 * 1024];
    memcpy(in, PORTS "\x82\x7f\0\0\0\0\0\x01\0\0\x01", 21);
    memset(in + 21, 'e', sizeof in - 21);
    struct script *s = start_open(in, sizeof in, SIZE_MAX);
    uint8_t out[16];
    assert_int_equal(channels_read(&s->channels, out, sizeof out), -EREMOTEIO);
    assert_int_equal(s->channels.text_size, CHANNELS_TEXT_MAX);
    kt_free(s);
}

static void expect_end(const char *frames, size_t size, int rc, bool is_end)
{
    char in[256], out[64];
    memcpy(in, PORTS, sizeof PORTS - 1);
    memcpy(in + sizeof PORTS - 1, frames, size);
    struct script *s = start_open(in, sizeof PORTS - 1 + size, 1);
    s->end = is_end ? 0 : -EAGAIN;
    assert_int_equal(channels_read(&s->channels, out, sizeof out), rc);
    kt_free(s);
}
#define EXPECT_END(text, rc) expect_end(text, sizeof text - 1, rc, false)

static void hostile_frames_end_it(void **state)
{
    (void)state;
    EXPECT_END("\x82\x02\x02x", -EPROTO); /* a channel that nobody asked for */
    EXPECT_END("\x82\x02\xffx", -EPROTO);
    EXPECT_END("\x81\x02\x00x", -EPROTO);            /* text */
    EXPECT_END("\x82\x82\x00\x00\x00\x00", -EPROTO); /* masked */
    EXPECT_END("\x02\x02\x00x", -EPROTO);            /* fragments */
    EXPECT_END("\x80\x02\x00x", -EPROTO);
    EXPECT_END("\xc2\x02\x00x", -EPROTO);
    EXPECT_END("\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x01", -EPROTO);
    EXPECT_END("\x89\x7e", -EPROTO);
    EXPECT_END("\x88\x00", -ECONNRESET);
    EXPECT_END("\x88\x02\x03\xe8", -ECONNRESET);
    EXPECT_END("\x88\x06\x03\xf3text", -ECONNRESET);
    expect_end("", 0, -ECONNRESET, true);
    expect_end("\x82\x05\x00", 3, -ECONNRESET, true); /* in the middle of a message */
}

static void pings_without_end_do_not_keep_the_loop(void **state)
{
    (void)state;
    static uint8_t in[64 * 1024];
    memcpy(in, PORTS, sizeof PORTS - 1);
    for (size_t i = sizeof PORTS - 1; i + 1 < sizeof in; i += 2)
        memcpy(in + i, "\x89\x00", 2);
    struct script *s = start_open(in, sizeof in, SIZE_MAX);
    uint8_t out[16];
    assert_int_equal(channels_read(&s->channels, out, sizeof out), -EAGAIN);
    assert_false(s->channels.is_dry);
    assert_true(s->in_at < sizeof in);
    kt_free(s);
}

/* Checks one frame at out + at and that its payload goes on with the running byte; returns where the next begins. */
static size_t expect_frame(const struct script *s, size_t at, uint8_t *byte, size_t *payload)
{
    const uint8_t *p = s->out + at;
    assert_int_equal(p[0], 0x82);
    assert_true(p[1] & 0x80);
    size_t head = 2, size = p[1] & 0x7f;
    if (size == 126) {
        size = (size_t)p[2] << 8 | p[3];
        head = 4;
    } else if (size == 127) {
        size = (size_t)p[7] << 16 | (size_t)p[8] << 8 | p[9];
        head = 10;
    }
    assert_memory_equal(p + head, "\0\0\0\0\0", 5); /* the mask's key, and the channel */
    for (size_t i = 1; i < size; i++)
        assert_int_equal(p[head + 4 + i], *byte += 3);
    *payload += size - 1;
    return at + head + 4 + size;
}

static void each_write_is_one_frame_and_nothing_is_lost_or_sent_twice(void **state)
{
    (void)state;
    static uint8_t data[300 * 1024];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(3 * (i + 1));
    static const size_t writes[] = {1, 125, 126, 65535, 131072, 100000, 5};
    for (size_t budget = 1; budget < 200000; budget = budget * 3 + 1) {
        struct script *s = start(NULL, 0, 16384);
        size_t taken = 0, payload = 0, at = 0, i = 0;
        s->room = 0;
        while (i < KT_ARRAY_LEN(writes)) {
            ssize_t n = channels_write(&s->channels, data + taken, writes[i]);
            if (n == -EAGAIN) {
                s->room += budget;
                continue;
            }
            assert_true(n > 0 && (size_t)n <= writes[i]);
            taken += (size_t)n;
            i++;
        }
        s->room = SIZE_MAX;
        assert_int_equal(channels_flush(&s->channels), 0);
        assert_false(channels_has_output(&s->channels));
        uint8_t byte = 0;
        while (at < s->out_size)
            at = expect_frame(s, at, &byte, &payload);
        assert_int_equal(at, s->out_size);
        assert_int_equal(payload, taken);
        kt_free(s);
    }
}

static void frames_are_short_on_a_slow_connection(void **state)
{
    (void)state;
    static uint8_t data[256 * 1024];
    struct script *s = start(NULL, 0, SIZE_MAX);
    assert_int_equal(channels_write(&s->channels, data, sizeof data), CHANNELS_FRAME_MAX);
    s->room = 1000;
    assert_int_equal(channels_write(&s->channels, data, sizeof data), CHANNELS_FRAME_MAX);
    assert_int_equal(channels_write(&s->channels, data, sizeof data), -EAGAIN);
    s->room = SIZE_MAX;
    assert_int_equal(channels_write(&s->channels, data, sizeof data), CHANNELS_FRAME_MIN);
    assert_int_equal(channels_write(&s->channels, data, sizeof data), 2 * CHANNELS_FRAME_MIN);
    kt_free(s);
}

static void pong_and_close_wait_for_the_frame_that_is_out(void **state)
{
    (void)state;
    static const char in[] = PORTS "\x89\x04ping\x89\x00\x82\x02\x00x";
    struct script *s = start_open(in, sizeof in - 1, SIZE_MAX);
    uint8_t out[16];
    s->room = 3;
    assert_int_equal(channels_write(&s->channels, "abc", 3), 3);
    assert_int_equal(channels_read(&s->channels, out, sizeof out), 1);
    channels_end(&s->channels);
    assert_int_equal(channels_flush(&s->channels), -EAGAIN);
    s->room = SIZE_MAX;
    assert_int_equal(channels_flush(&s->channels), 0);
    static const char want[] = "\x82\x84\0\0\0\0\0abc\x8a\x80\0\0\0\0\x88\x82\0\0\0\0\x03\xe8";
    assert_int_equal(s->out_size, sizeof want - 1);
    assert_memory_equal(s->out, want, sizeof want - 1);
    kt_free(s);
}

static void raw_bytes_go_first_and_the_rest_of_a_head_stays(void **state)
{
    (void)state;
    static const char in[] = "HTTP" PORTS "\x82\x02\x00x";
    struct script *s = start(in, sizeof in - 1, SIZE_MAX);
    size_t size;
    uint8_t out[4];
    assert_int_equal(channels_put_raw(&s->channels, "GET", 3), 0);
    assert_int_equal(channels_flush(&s->channels), 0);
    assert_int_equal(channels_receive(&s->channels), sizeof in - 1);
    assert_memory_equal(channels_received(&s->channels, &size), in, sizeof in - 1);
    channels_consume(&s->channels, 4);
    assert_int_equal(channels_get_ports(&s->channels), 1);
    assert_int_equal(channels_read(&s->channels, out, sizeof out), 1);
    assert_memory_equal(s->out, "GET", 3);
    kt_free(s);

    static uint8_t much[2 * CHANNELS_IN_SIZE], more[CHANNELS_FRAME_MAX + 64];
    s = start(much, sizeof much, SIZE_MAX);
    ssize_t n = 1;
    while (n > 0)
        n = channels_receive(&s->channels);
    assert_int_equal(n, -EMSGSIZE);
    assert_int_equal(channels_put_raw(&s->channels, more, sizeof more), -EMSGSIZE);
    kt_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports_are_checked_in_pieces_of_every_size),
        cmocka_unit_test(wrong_ports_are_refused),
        cmocka_unit_test(end_before_the_ports_is_an_end),
        cmocka_unit_test(payload_is_unwrapped_whatever_the_cuts),
        cmocka_unit_test(error_text_comes_after_the_data_and_once_for_all),
        cmocka_unit_test(error_text_is_capped),
        cmocka_unit_test(hostile_frames_end_it),
        cmocka_unit_test(pings_without_end_do_not_keep_the_loop),
        cmocka_unit_test(each_write_is_one_frame_and_nothing_is_lost_or_sent_twice),
        cmocka_unit_test(frames_are_short_on_a_slow_connection),
        cmocka_unit_test(pong_and_close_wait_for_the_frame_that_is_out),
        cmocka_unit_test(raw_bytes_go_first_and_the_rest_of_a_head_stays),
    };
    return unit_run(tests);
}
