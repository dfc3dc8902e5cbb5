/* The deletions of Jobs, with the test in the API server's place. */
#include "tests/fake/api_seam.h"

#include "client/kube/job_deletions.h"
#include "common/mem.h"

#define JOBS "/apis/batch/v1/namespaces/ems/jobs/"

static void on_done(void *context)
{
    ++*(int *)context;
}

static struct job_deletions begin(int *done)
{
    *done = 0;
    seam_reset();
    return (struct job_deletions){.name_space = "ems", .on_done = on_done, .context = done};
}

static void end(const struct job_deletions *deletions)
{
    assert_true(job_deletions_are_done(deletions));
    assert_int_equal(seam_open_count(), 0);
    seam_reset();
    assert_int_equal(kt_mem_live(), 0);
}

static void a_job_goes_with_what_it_owns(void **state)
{
    (void)state;
    int done;
    struct job_deletions deletions = begin(&done);
    assert_true(job_deletions_are_done(&deletions));
    job_deletions_start(&deletions, "ktvpn-agent-1");
    struct seam_request *request = seam_find("DELETE", JOBS "ktvpn-agent-1");
    assert_non_null(request);
    assert_string_equal(request->path, JOBS "ktvpn-agent-1");
    assert_non_null(strstr(request->body, "\"propagationPolicy\":\"Background\""));
    assert_false(job_deletions_are_done(&deletions));
    assert_int_equal(done, 0);
    seam_reply(request, 200, "{}");
    assert_int_equal(done, 1);
    end(&deletions);
}

/* In any order of their answers, and whatever these say: nothing is sent twice. */
static void several_end_one_by_one(void **state)
{
    (void)state;
    static const char *const jobs[] = {"first", "second", "third", "fourth"};
    static const size_t order[] = {1, 3, 0, 2};
    static const int status[] = {200, 404, 0, 500};
    int done;
    struct job_deletions deletions = begin(&done);
    for (size_t i = 0; i < KT_ARRAY_LEN(jobs); i++)
        job_deletions_start(&deletions, jobs[i]);
    for (size_t i = 0; i < KT_ARRAY_LEN(order); i++) {
        char path[128];
        assert_false(job_deletions_are_done(&deletions));
        (void)snprintf(path, sizeof path, JOBS "%s", jobs[order[i]]);
        seam_reply(seam_find("DELETE", path), status[i], NULL);
        assert_int_equal(done, (int)i + 1);
    }
    assert_int_equal(seam.count, KT_ARRAY_LEN(jobs));
    end(&deletions);
}

static void giving_up_cancels_all_and_calls_nobody(void **state)
{
    (void)state;
    int done;
    struct job_deletions deletions = begin(&done);
    job_deletions_start(&deletions, "first");
    job_deletions_start(&deletions, "second");
    job_deletions_give_up(&deletions);
    assert_int_equal(done, 0);
    end(&deletions);
    job_deletions_give_up(&deletions); /* nothing is left to give up */
}

static void without_memory_there_is_none(void **state)
{
    (void)state;
    int done;
    struct job_deletions deletions = begin(&done);
    kt_mem_fail_nth(1);
    job_deletions_start(&deletions, "job");
    kt_mem_fail_nth(0);
    assert_int_equal(seam.count, 0);
    assert_true(job_deletions_are_done(&deletions));
    seam.fail_nth = 1; /* the request's */
    job_deletions_start(&deletions, "job");
    assert_int_equal(done, 0);
    end(&deletions);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_goes_with_what_it_owns),
        cmocka_unit_test(several_end_one_by_one),
        cmocka_unit_test(giving_up_cancels_all_and_calls_nobody),
        cmocka_unit_test(without_memory_there_is_none),
    };
    return unit_run(tests);
}
