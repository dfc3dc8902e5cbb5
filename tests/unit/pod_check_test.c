/* What becomes of an agent's pod, as its owner hears it. */
#include "client/kube/pod_check.h"

#include "tests/fake/api_seam.h"

#define POD "/api/v1/namespaces/ems/pods/p"
#define WITH(status) "{\"metadata\":{\"name\":\"p\"},\"spec\":{\"nodeName\":\"n1\"},\"status\":{" status "}}"
#define CONTAINER(state) WITH("\"containerStatuses\":[{\"name\":\"agent\",\"state\":{" state "}}]")

static struct pod_check check;
static struct pod_check_answer got;
static char why[1024];
static int answers;

static void on_answer(void *context, const struct pod_check_answer *answer)
{
    assert_ptr_equal(context, &answers);
    answers++;
    got = *answer;
    (void)snprintf(why, sizeof why, "%s", answer->why);
}

static void ask(int status, const char *body)
{
    seam_reset();
    pod_check_start(&check, NULL, "ems", "p", on_answer, &answers);
    seam_reply(seam_find("GET", POD), status, body);
}

static void test_answers(void **state KT_UNUSED)
{
    static const struct {
        int status;
        const char *body;
        bool is_running, has_crashed;
        const char *words;
    } cases[] = {
        {200, CONTAINER("\"running\":{}"), true, false, ""},
        {404, "{}", false, false, "is gone"},
        {500, "{}", true, false, "the server says 500"},
        {0, NULL, true, false, "the server says 0"},
        {200, "[]", true, false, ""},
        {200, CONTAINER("\"terminated\":{\"reason\":\"OOMKilled\",\"exitCode\":137}"), false, true, "OOMKilled"},
        {200, CONTAINER("\"terminated\":{\"reason\":\"Completed\",\"exitCode\":0}"), false, false, "Completed"},
        {200, WITH("\"phase\":\"Failed\",\"reason\":\"Evicted\",\"message\":\"low on memory\""), false, false,
         "Evicted: low on memory"},
        {200, CONTAINER("\"waiting\":{\"reason\":\"ContainerCreating\"}"), false, false, "does not run"},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(cases); i++) {
        ask(cases[i].status, cases[i].body);
        assert_int_equal(answers, i + 1);
        assert_int_equal(got.is_running, cases[i].is_running);
        assert_int_equal(got.has_crashed, cases[i].has_crashed);
        assert_non_null(strstr(why, cases[i].words));
    }
    assert_int_equal(got.starts, 0);
    ask(200, CONTAINER("\"running\":{}"));
    assert_int_equal(got.starts, 1);
}

static void test_one_at_a_time(void **state KT_UNUSED)
{
    seam_reset();
    answers = 0;
    pod_check_cancel(&check);
    pod_check_start(&check, NULL, "ems", "p", on_answer, &answers);
    pod_check_start(&check, NULL, "ems", "p", on_answer, &answers);
    assert_int_equal(seam_open_count(), 1);
    pod_check_cancel(&check);
    assert_int_equal(seam_open_count(), 0);
    seam.fail_nth = 1;
    pod_check_start(&check, NULL, "ems", "p", on_answer, &answers);
    pod_check_cancel(&check);
    assert_int_equal(answers, 0);
    seam_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_answers), cmocka_unit_test(test_one_at_a_time)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
