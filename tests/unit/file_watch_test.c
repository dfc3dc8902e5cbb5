#include "client/file_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

#define EACH_MS 2
#define TURNS_MAX 2000

static char folder[] = "/tmp/ktvpn-watch-XXXXXX", path[64], other[64];
static uv_loop_t loop;
static struct file_watch *watch;
static int changes;

static void on_change(void *context)
{
    assert_ptr_equal(context, &changes);
    changes++;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int set_up(void **state KT_UNUSED)
{
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/conf", folder);
    (void)snprintf(other, sizeof other, "%s/new", folder);
    write_file(path, "one");
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(file_watch_open(&watch, &loop, path, EACH_MS, on_change, &changes), 0);
    changes = 0;
    return 0;
}

static int tear_down(void **state KT_UNUSED)
{
    file_watch_close(watch);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(kt_mem_live(), 0);
    (void)unlink(path);
    (void)unlink(other);
    (void)rmdir(folder);
    (void)snprintf(folder, sizeof folder, "/tmp/ktvpn-watch-XXXXXX");
    return 0;
}

static void expect(int count)
{
    for (int turn = 0; turn < TURNS_MAX && changes < count; turn++)
        (void)uv_run(&loop, UV_RUN_ONCE);
    for (int turn = 0; turn < 5; turn++) /* and no more */
        (void)uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(changes, count);
}

static void each_change_is_told_once(void **state KT_UNUSED)
{
    expect(0);
    write_file(path, "three");
    expect(1);
    write_file(other, "three");
    assert_int_equal(rename(other, path), 0); /* takes its place, with the same content */
    expect(2);
    assert_int_equal(unlink(path), 0);
    expect(3);
    write_file(path, "back");
    expect(4);
    file_watch_again(watch);
    expect(5);
}

static void a_links_target_counts(void **state KT_UNUSED)
{
    write_file(other, "target");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(other, path), 0);
    expect(1);
    write_file(other, "another target");
    expect(2);
}

static void no_memory_is_an_error(void **state KT_UNUSED)
{
    struct file_watch *second;
    kt_mem_fail_nth(1);
    assert_int_equal(file_watch_open(&second, &loop, path, 0, on_change, &changes), -ENOMEM);
    kt_mem_fail_nth(0);
    file_watch_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_change_is_told_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_links_target_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_memory_is_an_error, set_up, tear_down),
    };
    return unit_run(tests);
}
