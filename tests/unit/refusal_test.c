/* What a refusal means to the user: the API server's own words, a proxy's, a runtime's, and a liar's. */
#include "client/kube/refusal.h"

#include <errno.h>
#include <string.h>

#include "client/kube/channels.h"
#include "tests/unit/unit.h"

#define WHAT "forward a port to pod ems/agent"

static void answers_have_their_meaning(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *body;
        int rc;
        enum exit_code code;
        const char *words;
    } cases[] = {
        {403, "", -EACCES, EXIT_CODE_FORBIDDEN, "sub-protocols " CHANNELS_OFFER},
        {403, "{\"kind\":\"Status\",\"message\":\"pods is forbidden\"}", -EACCES, EXIT_CODE_FORBIDDEN,
         "pods is forbidden"},
        {400, "Upgrade request required", -EPROTO, EXIT_CODE_UNREACHABLE, "let WebSockets pass"},
        {404, "{\"kind\":\"Status\",\"message\":\"pods \\\"agent\\\" not found\"}", -ENOENT, EXIT_CODE_NOT_FOUND,
         "not found"},
        {401, "", -EACCES, EXIT_CODE_UNAUTHORIZED, WHAT},
        {500, "failed to connect to localhost:4789 inside namespace", -EIO, EXIT_CODE_FAILED, "gVisor or Kata"},
        {418, "", -EIO, EXIT_CODE_FAILED, "answered 418"},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        struct error error = {0};
        int rc = refusal_of_answer(cases[i].status, cases[i].body, strlen(cases[i].body), WHAT, &error);
        if (rc != cases[i].rc || error.code != cases[i].code)
            print_message("%d %s: %d, exit code %d, %s\n", cases[i].status, cases[i].body, rc, error.code, error.text);
        assert_int_equal(rc, cases[i].rc);
        assert_int_equal(error.code, cases[i].code);
        assert_non_null(strstr(error.text, cases[i].words));
        assert_non_null(strstr(error.text, "cannot " WHAT));
    }
}

/* Other 400s are not the proxy's, and a body may have no end. */
static void a_bad_request_is_told_as_it_is(void **state)
{
    (void)state;
    struct error error;
    static const char body[] = "Upgrade request required";
    (void)refusal_of_answer(400, body, sizeof body - 2, WHAT, &error); /* the last letter is missing */
    assert_null(strstr(error.text, "let WebSockets pass"));
    (void)refusal_of_answer(400, "", 0, WHAT, &error);
    assert_non_null(strstr(error.text, "400"));
}

static void text_on_the_channel_has_its_meaning(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int rc;
        bool has_advice;
    } cases[] = {
        {"an error occurred forwarding 4789: dial tcp4 127.0.0.1:4789: connect: connection refused", -ECONNREFUSED,
         false},
        {"failed to connect to localhost:4789 inside namespace x: connection refused", -ECONNREFUSED, true},
        {"error forwarding: broken pipe", -ECONNRESET, false},
        {"", -ECONNRESET, false},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        struct error error;
        assert_int_equal(refusal_of_text(cases[i].text, strlen(cases[i].text), WHAT, &error), cases[i].rc);
        assert_int_equal(error.code, EXIT_CODE_AGENT);
        assert_non_null(strstr(error.text, cases[i].text));
        assert_int_equal(strstr(error.text, "gVisor") != NULL, cases[i].has_advice);
    }
}

/* It goes to a terminal: no control character of it does, and one line is one line. */
static void hostile_text_is_escaped_and_cut(void **state)
{
    (void)state;
    static char text[4 * ERROR_TEXT_MAX];
    struct error error;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i + 1); /* all of them, the NUL last */
    for (int i = 0; i < 2; i++) {
        (void)(i == 0 ? refusal_of_text(text, sizeof text, WHAT, &error)
                      : refusal_of_answer(500, text, sizeof text, WHAT, &error));
        assert_true(strlen(error.text) < sizeof error.text);
        for (const char *c = error.text; *c != '\0'; c++)
            assert_true((unsigned char)*c >= ' ' && *c != 0x7f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_have_their_meaning),
        cmocka_unit_test(a_bad_request_is_told_as_it_is),
        cmocka_unit_test(text_on_the_channel_has_its_meaning),
        cmocka_unit_test(hostile_text_is_escaped_and_cut),
    };
    return unit_run(tests);
}
