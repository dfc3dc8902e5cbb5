#include "unit.h"

#include <curl/curl.h>
#include <string.h>

#include "client/kube/header.h"
#include "client/kube/kubeconfig.h"
#include "common/mem.h"

static void tokens_and_values(void **state)
{
    (void)state;
    assert_true(header_is_token("abc.DEF-_~"));
    assert_false(header_is_token(""));
    assert_false(header_is_token("a b"));
    assert_false(header_is_token("a\n"));
    assert_true(header_is_value("a b\t\xc3\xa4"));
    assert_true(header_is_value(""));
    assert_false(header_is_value("a\r\nb"));
    assert_false(header_is_value("a\x7f"));
}

static void impersonation_lines(void **state)
{
    (void)state;
    static char user[] = "jane", uid[] = "7", one[] = "a:", none[] = "", key[] = "Example.org/a%b", value[] = "v";
    char *groups[] = {one, none}, *values[] = {value};
    struct kubeconfig_extra extra = {.key = key, .values = {values, 1}};
    struct kubeconfig config = {
        .as = {.user = user, .uid = uid, .groups = {groups, 2}, .extras = &extra, .extras_count = 1}};
    static const char *const want[] = {"Impersonate-User: jane", "Impersonate-Uid: 7",
                                       "Impersonate-Group: a:", "Impersonate-Group;",
                                       "Impersonate-Extra-Example.org%2Fa%25b: v"};
    struct curl_slist *list = NULL, *at;
    assert_true(header_add_impersonation(&list, &config));
    at = list;
    for (size_t i = 0; i < KT_ARRAY_LEN(want); i++, at = at->next)
        assert_string_equal(at->data, want[i]);
    assert_null(at);
    header_free_all(list);
    for (unsigned long nth = 1; nth <= 6; nth++) {
        list = NULL;
        kt_mem_fail_nth(nth);
        assert_int_equal(header_add_impersonation(&list, &config), nth == 7);
        kt_mem_fail_nth(0);
        header_free_all(list);
    }
    config.as.user = NULL;
    list = NULL;
    assert_true(header_add_impersonation(&list, &config));
    assert_null(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tokens_and_values), cmocka_unit_test(impersonation_lines)};
    return unit_run(tests);
}
