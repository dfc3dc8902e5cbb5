/* The upgrade's answer: what the API server says, cut at each byte, and what proxies and enemies may say. */
#include "client/kube/upgrade.h"

#include <errno.h>
#include <string.h>

#include "client/kube/upgrade_request.h"
#include "tests/unit/unit.h"

#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define PROTOCOL "v4.channel.k8s.io"
#define SWITCHING "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
#define GOOD SWITCHING "Sec-WebSocket-Accept: " ACCEPT "\r\nSec-WebSocket-Protocol: " PROTOCOL "\r\n\r\n"

static const struct upgrade_request request = {.protocol = PROTOCOL, .key = KEY};

static void good_answer_is_taken_and_every_cut_of_it_waits(void **state)
{
    (void)state;
    static const char text[] = GOOD "\x82\x03"; /* frames follow */
    struct upgrade_answer answer;
    const char *why;
    for (size_t n = 0; n < sizeof GOOD - 1; n++)
        assert_int_equal(upgrade_get_answer(&answer, text, n), 0);
    for (size_t n = sizeof GOOD - 1; n < sizeof text; n++)
        assert_int_equal(upgrade_get_answer(&answer, text, n), 1);
    assert_int_equal(answer.status, 101);
    assert_int_equal(answer.head_size, sizeof GOOD - 1);
    assert_int_equal(upgrade_verify(&answer, &request, &why), 0);
}

static void spelling_does_not_matter_where_http_says_so(void **state)
{
    (void)state;
    static const char text[] = "HTTP/1.1 101\r\nUPGRADE: WebSocket\r\nconnection:keep-alive , upgrade\t\r\nX: \r\n"
                               "SEC-WEBSOCKET-ACCEPT:" ACCEPT " \r\nsec-websocket-protocol:  " PROTOCOL "\r\n\r\n";
    struct upgrade_answer answer;
    const char *why;
    assert_int_equal(upgrade_get_answer(&answer, text, sizeof text - 1), 1);
    assert_int_equal(upgrade_verify(&answer, &request, &why), 0);
}

static void expect_wrong(const char *text)
{
    struct upgrade_answer answer;
    const char *why = NULL;
    assert_int_equal(upgrade_get_answer(&answer, text, strlen(text)), 1);
    assert_int_equal(upgrade_verify(&answer, &request, &why), -EPROTO);
    assert_non_null(why);
}

static void another_answer_than_ours_is_refused(void **state)
{
    (void)state;
    expect_wrong("HTTP/1.1 200 OK\r\n\r\n");
    expect_wrong(SWITCHING "\r\n");
    expect_wrong(SWITCHING "Sec-WebSocket-Accept: " ACCEPT "\r\n\r\n");
    expect_wrong(SWITCHING "Sec-WebSocket-Protocol: " PROTOCOL "\r\n\r\n");
    expect_wrong(SWITCHING "Sec-WebSocket-Accept: x" ACCEPT "\r\nSec-WebSocket-Protocol: " PROTOCOL "\r\n\r\n");
    expect_wrong(SWITCHING "Sec-WebSocket-Accept: " ACCEPT "\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n");
    expect_wrong(SWITCHING "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: " PROTOCOL
                           "\r\n\r\n");
    expect_wrong(SWITCHING "Sec-WebSocket-Accept: " ACCEPT "\r\nSec-WebSocket-Protocol: " PROTOCOL
                           "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    expect_wrong("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " ACCEPT
                 "\r\nSec-WebSocket-Protocol: " PROTOCOL "\r\n\r\n");
    expect_wrong("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nSec-WebSocket-Accept: " ACCEPT
                 "\r\nSec-WebSocket-Protocol: " PROTOCOL "\r\n\r\n");
}

static void what_is_no_http_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\x15\x03\x01",
        "HTTP/2",
        "HTTP/1.x 101 x\r\n\r\n",
        "HTTP/1.1  101 x\r\n\r\n",
        "HTTP/1.1 10\r\n\r\n",
        "HTTP/1.1 099 x\r\n\r\n",
        "HTTP/1.1 1010\r\n\r\n",
        "HTTP/1.1 1e1 x\r\n\r\n",
        "HTTP/1.1 101 x\r\nno colon\r\n\r\n",
        "HTTP/1.1 101 x\r\nUpgrade : websocket\r\n\r\n",
        "HTTP/1.1 101 x\r\n: websocket\r\n\r\n",
        "HTTP/1.1 101 x\r\nUpgrade: a\r\n folded: b\r\n\r\n",
        "HTTP/1.1 101 x\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 x\r\nA: \x01\r\n\r\n",
        "HTTP/1.1 101 x\r\nA: \x7f\r\n\r\n",
        "HTTP/1.1 101 x\r\nSec-WebSocket-Accept: a\r\nSec-WebSocket-Accept: a\r\n\r\n",
        "HTTP/1.1 101 x\r\nSec-WebSocket-Protocol: "
        "0123456789012345678901234567890123456789012345678901234567890123\r\n\r\n",
        "HTTP/1.1 403 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 403 x\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 403 x\r\nContent-Length: \r\n\r\n",
        "HTTP/1.1 403 x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    };
    struct upgrade_answer answer;
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        if (upgrade_get_answer(&answer, cases[i], strlen(cases[i])) != -EPROTO)
            fail_msg("taken: %s", cases[i]);
    }
    static const char with_nul[] = "HTTP/1.1 101 x\r\nA: \0\r\n\r\n";
    assert_int_equal(upgrade_get_answer(&answer, with_nul, sizeof with_nul - 1), -EPROTO);
}

static struct upgrade_answer answer_of(const char *head)
{
    struct upgrade_answer answer;
    assert_int_equal(upgrade_get_answer(&answer, head, strlen(head)), 1);
    return answer;
}

static void body_ends_at_its_length(void **state)
{
    (void)state;
    struct upgrade_answer answer = answer_of("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\n");
    char body[] = "textmore";
    size_t size = 3;
    assert_false(upgrade_get_body(&answer, body, &size));
    size = 8;
    assert_true(upgrade_get_body(&answer, body, &size));
    assert_int_equal(size, 4);
    answer = answer_of("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    size = 0;
    assert_true(upgrade_get_body(&answer, body, &size));
    answer = answer_of("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n");
    assert_false(upgrade_get_body(&answer, body, &size)); /* until the connection ends */
}

static void chunks_are_unwrapped(void **state)
{
    (void)state;
    static const char chunks[] = "4\r\n{\"a\"\r\n00a;x=y\r\n:\"1234567\"\r\n1\r\n}\r\n0\r\n\r\n";
    struct upgrade_answer answer = answer_of("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n");
    char body[sizeof chunks];
    for (size_t n = 0; n < sizeof chunks - sizeof "\r\n"; n++) {
        size_t size = n;
        memcpy(body, chunks, sizeof chunks);
        assert_false(upgrade_get_body(&answer, body, &size));
        assert_memory_equal(body, chunks, sizeof chunks);
    }
    size_t size = sizeof chunks - 1;
    assert_true(upgrade_get_body(&answer, body, &size));
    assert_int_equal(size, 15);
    assert_memory_equal(body, "{\"a\":\"1234567\"}", 15);
}

static void wrong_chunks_end_the_body(void **state)
{
    (void)state;
    static const char *const cases[] = {"\r\n", "x\r\nabc", "-1\r\n", "ffffffffffffffff\r\nabc", "40000001\r\n"};
    struct upgrade_answer answer = answer_of("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        char body[32];
        size_t size = strlen(cases[i]);
        memcpy(body, cases[i], size);
        assert_true(upgrade_get_body(&answer, body, &size));
        assert_int_equal(size, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_answer_is_taken_and_every_cut_of_it_waits),
        cmocka_unit_test(spelling_does_not_matter_where_http_says_so),
        cmocka_unit_test(another_answer_than_ours_is_refused),
        cmocka_unit_test(what_is_no_http_is_refused),
        cmocka_unit_test(body_ends_at_its_length),
        cmocka_unit_test(chunks_are_unwrapped),
        cmocka_unit_test(wrong_chunks_end_the_body),
    };
    return unit_run(tests);
}
