/* The upgrade's request, byte by byte, and the header lines that may not be in it. */
#include "client/kube/upgrade_request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

#define PROTOCOL "v4.channel.k8s.io"
#define AGENT "User-Agent: ktvpn/" KTVPN_VERSION "\r\n"

static struct upgrade_request begin(void)
{
    struct upgrade_request request;
    assert_int_equal(upgrade_request_init(&request, PROTOCOL), 0);
    return request;
}

static void end(struct upgrade_request *request)
{
    upgrade_request_deinit(request);
    upgrade_request_deinit(request); /* twice is fine */
    assert_int_equal(kt_mem_live(), 0);
}

static void expect_text(const struct upgrade_request *request, const char *url, const char *target, const char *host,
                        const char *headers)
{
    char want[1024];
    char *text = upgrade_request_text(request, url);
    assert_non_null(text);
    (void)snprintf(want, sizeof want,
                   "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: " PROTOCOL "\r\n"
                   "%s\r\n",
                   target, host, request->key, headers);
    assert_string_equal(text, want);
    kt_free_secret(text, strlen(text));
}

static void it_asks_for_what_the_url_says(void **state)
{
    (void)state;
    static const char target[] = "/prefix/api/v1/namespaces/ems/pods/agent/portforward?ports=8080";
    static const struct {
        const char *before, *host;
    } cases[] = {{"https://[fd00::1]:6443", "[fd00::1]:6443"},
                 {"http://api.example:80", "api.example:80"},
                 {"https://user:a@secret@api", "secret@api"},
                 {"https://user@api", "api"},
                 {"api:1", "api:1"}};
    struct upgrade_request request = begin();
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        char url[256];
        (void)snprintf(url, sizeof url, "%s%s", cases[i].before, target);
        expect_text(&request, url, target, cases[i].host, AGENT);
    }
    expect_text(&request, "https://api/a@b", "/a@b", "api", AGENT); /* an @ behind the slash is no user's */
    end(&request);
}

static void each_request_has_its_own_key(void **state)
{
    (void)state;
    struct upgrade_request one = begin(), two = begin();
    assert_int_equal(strlen(one.key), WEBSOCKET_KEY_SIZE - 1);
    assert_string_not_equal(one.key, two.key);
    upgrade_request_deinit(&one);
    end(&two);
}

static void headers_follow_in_their_order(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "Authorization: Bearer secret", "Accept:", "X-Empty;", "", "Impersonate-Group: a:", "Impersonate-Group: b;"};
    struct upgrade_request request = begin();
    for (size_t i = 0; i < KT_ARRAY_LEN(lines); i++)
        assert_int_equal(upgrade_request_add_header(&request, lines[i]), 0);
    expect_text(&request, "https://api:6443/x", "/x", "api:6443",
                AGENT
                "Authorization: Bearer secret\r\nX-Empty: \r\nImpersonate-Group: a:\r\nImpersonate-Group: b;\r\n");
    end(&request);
}

static void a_host_line_takes_the_urls_place(void **state)
{
    (void)state;
    struct upgrade_request request = begin();
    assert_int_equal(upgrade_request_add_header(&request, "Host: first"), 0);
    assert_int_equal(upgrade_request_add_header(&request, "hOST: kubernetes"), 0);
    expect_text(&request, "https://127.0.0.1:6443/x", "/x", "kubernetes", AGENT);
    end(&request);
}

static void no_line_smuggles_another(void **state)
{
    (void)state;
    static const char *const lines[] = {"A: b\r\nC: d", "A: b\n", "A: b\r", "\r\n", "Host: a\r\nB: c", "A\n:"};
    struct upgrade_request request = begin();
    for (size_t i = 0; i < KT_ARRAY_LEN(lines); i++)
        assert_int_equal(upgrade_request_add_header(&request, lines[i]), -EINVAL);
    expect_text(&request, "https://api/x", "/x", "api", AGENT);
    end(&request);
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    struct upgrade_request request;
    kt_mem_fail_nth(1);
    assert_int_equal(upgrade_request_init(&request, PROTOCOL), -ENOMEM);
    end(&request);
    request = begin();
    kt_mem_fail_nth(1);
    assert_int_equal(upgrade_request_add_header(&request, "A: b"), -ENOMEM);
    kt_mem_fail_nth(1);
    assert_int_equal(upgrade_request_add_header(&request, "Host: b"), -ENOMEM);
    for (unsigned long nth = 1; nth <= 2; nth++) {
        kt_mem_fail_nth(nth);
        assert_null(upgrade_request_text(&request, "https://api/x"));
    }
    kt_mem_fail_nth(0);
    expect_text(&request, "https://api/x", "/x", "api", AGENT); /* as if nothing had been asked */
    end(&request);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_asks_for_what_the_url_says), cmocka_unit_test(each_request_has_its_own_key),
        cmocka_unit_test(headers_follow_in_their_order), cmocka_unit_test(a_host_line_takes_the_urls_place),
        cmocka_unit_test(no_line_smuggles_another),      cmocka_unit_test(every_allocation_fails_once),
    };
    return unit_run(tests);
}
