/* Steps on a terminal and elsewhere. */
#include "client/progress.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static char *shown(bool is_terminal)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct progress progress;
    progress_init(&progress, out, is_terminal, 1000);
    progress_step(&progress, 1000, "first %d", 1);
    progress_rename(&progress, "first, found");
    progress_say(&progress, "a word in between");
    progress_step(&progress, 1250, "second");
    progress_abort(&progress);
    progress_done(&progress, 9000); /* nothing runs: nothing is shown */
    (void)fclose(out);
    return text;
}

static void test_plain(void **state KT_UNUSED)
{
    char *text = shown(false);
    assert_string_equal(text, "a word in between\n  first, found (0.25 s)\n");
    free(text);
}

static void test_terminal(void **state KT_UNUSED)
{
    char *text = shown(true);
    assert_non_null(strstr(text, "first 1 ..."));
    assert_non_null(strstr(text, "\r\033[K  first, found (0.25 s)\n"));
    assert_int_equal(text[strlen(text) - 1], '\n');
    free(text);
}

static void test_silent(void **state KT_UNUSED)
{
    struct progress progress;
    progress_init(&progress, NULL, false, 0);
    progress_step(&progress, 0, "x");
    progress_say(&progress, "y");
    progress_done(&progress, 1);
    progress_abort(&progress);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plain), cmocka_unit_test(test_terminal),
                                       cmocka_unit_test(test_silent)};
    return unit_run(tests);
}
