/* What an HTTP answer that is no success means to the user. Failed connections are in api_test, with a real server. */
#include "client/kube/api.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct error error;

static int tell(int status, const char *body)
{
    error = (struct error){.code = EXIT_CODE_OK};
    return api_status_error(status, body, body != NULL ? strlen(body) : 0, "create the agent's Job", &error);
}

static void test_codes(void **state KT_UNUSED)
{
    static const struct {
        int status, rc;
        enum exit_code code;
    } rows[] = {
        {401, -EACCES, EXIT_CODE_UNAUTHORIZED}, {403, -EACCES, EXIT_CODE_FORBIDDEN},
        {404, -ENOENT, EXIT_CODE_NOT_FOUND},    {409, -EEXIST, EXIT_CODE_FAILED},
        {422, -EINVAL, EXIT_CODE_FAILED},       {429, -EAGAIN, EXIT_CODE_FAILED},
        {503, -EIO, EXIT_CODE_UNREACHABLE},     {418, -EIO, EXIT_CODE_FAILED},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(rows); i++) {
        assert_int_equal(tell(rows[i].status, NULL), rows[i].rc);
        assert_int_equal(error.code, rows[i].code);
        assert_non_null(strstr(error.text, "cannot create the agent's Job: "));
    }
    assert_non_null(strstr(error.text, "418"));
}

static void test_the_servers_own_words(void **state KT_UNUSED)
{
    (void)tell(403, "{\"kind\":\"Status\",\"message\":\"jobs.batch is forbidden: exceeded quota\"}");
    assert_non_null(strstr(error.text, ": jobs.batch is forbidden: exceeded quota"));
    (void)tell(500, "failed to connect\r\n\n");
    assert_string_equal(error.text, "cannot create the agent's Job: the API server answered 500: failed to connect");
    (void)tell(403, "{\"kind\":\"Status\"}"); /* JSON without a message is not shown */
    assert_null(strchr(error.text, '{'));
    (void)tell(401, "{\"message\":\"Unauthorized\"}"); /* says nothing that our text does not */
    assert_null(strstr(error.text, "Unauthorized"));
}

static void test_hostile_words(void **state KT_UNUSED)
{
    (void)tell(500, "\033[2Jgone\n");
    assert_null(strchr(error.text, '\033'));
    assert_non_null(strstr(error.text, "\\x1b[2Jgone"));
    static char longest[100000];
    memset(longest, 'a', sizeof longest - 1);
    (void)tell(500, longest);
    assert_true(strlen(error.text) < sizeof error.text);
    (void)tell(500, "");
    assert_string_equal(error.text, "cannot create the agent's Job: the API server answered 500");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_codes), cmocka_unit_test(test_the_servers_own_words),
                                       cmocka_unit_test(test_hostile_words)};
    return unit_run(tests);
}
