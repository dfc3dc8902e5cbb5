#include "unit.h"

#include <string.h>

#include "client/kube/proxy.h"
#include "common/mem.h"

static void what_is_a_proxys_url(void **state)
{
    (void)state;
    static const char *const good[] = {"http://p", "HTTPS://u:p@p:1/", "socks5://[::1]:1080"};
    static const char *const wrong[] = {"",          "p:1",        "ftp://p",    "http://",
                                        "http:///x", "socks4://p", "http://a b", "http://a\r\nb"};
    for (size_t i = 0; i < KT_ARRAY_LEN(good); i++)
        assert_true(proxy_is_url(good[i]));
    for (size_t i = 0; i < KT_ARRAY_LEN(wrong); i++)
        assert_false(proxy_is_url(wrong[i]));
}

static void expect(const char *none, const char *host, const char *port, const char *want)
{
    const struct proxy_environment environment = {.http = "http://h", .https = "s:3128", .none = none};
    char *got = proxy_choose(NULL, &environment, true, host, port);
    if (got == NULL || strcmp(got, want) != 0)
        fail_msg("%s, NO_PROXY=%s: '%s'", host, none != NULL ? none : "", got != NULL ? got : "");
    kt_free(got);
}

static void the_environment_is_obeyed_as_go_does(void **state)
{
    (void)state;
    static const char proxy[] = "http://s:3128";
    expect(NULL, "api.example", "443", proxy);
    expect("", "api.example", "443", proxy);
    expect("*", "api.example", "443", "");
    expect("other, example", "api.example", "443", "");
    expect("example", "example", "443", "");
    expect(".example", "example", "443", proxy);
    expect("*.example", "api.EXAMPLE", "443", "");
    expect("ample", "api.example", "443", proxy);
    expect("api.example:6443", "api.example", "443", proxy);
    expect("api.example:443", "api.example", "443", "");
    expect("10.0.0.0/8", "10.1.2.3", "443", "");
    expect("10.0.0.0/8", "11.1.2.3", "443", proxy);
    expect("[fd00::1]:443", "fd00::1", "443", "");
    expect("fd00::1", "fd00::1", "443", "");
    expect(",, ,", "api.example", "443", proxy);
    expect(NULL, "localhost", "443", "");
    expect(NULL, "127.3.2.1", "443", "");
    expect(NULL, "::1", "443", "");
}

static void the_kubeconfig_comes_first(void **state)
{
    (void)state;
    const struct proxy_environment environment = {.http = "http://h", .none = "*"};
    char *got = proxy_choose("socks5://p:1", &environment, true, "localhost", "443");
    assert_string_equal(got, "socks5h://p:1");
    kt_free(got);
    const struct proxy_environment all = {.http = "http://h"};
    got = proxy_choose(NULL, &all, false, "a", "80");
    assert_string_equal(got, "http://h");
    kt_free(got);
    got = proxy_choose(NULL, &all, true, "a", "443");
    assert_string_equal(got, "");
    kt_free(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_a_proxys_url),
        cmocka_unit_test(the_environment_is_obeyed_as_go_does),
        cmocka_unit_test(the_kubeconfig_comes_first),
    };
    return unit_run(tests);
}
