/* Finding and reading a kubeconfig's files. What is in them is kubeconfig_test's business. */
#include "client/kube/kubeconfig_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/mem.h"
#include "tests/unit/unit.h"

static char folder[] = "/tmp/ktvpn-files-XXXXXX";
static char one[64], two[64], nowhere[64];
static struct kubeconfig_files files;
static struct error error;

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static int load(const char *path, const char *list, const char *home)
{
    struct kubeconfig_choice choice = {.path = path, .list = list, .home = home};
    files = (struct kubeconfig_files){0};
    error = (struct error){.code = EXIT_CODE_OK};
    return kubeconfig_files_load(&files, &choice, &error);
}

static void test_order(void **state KT_UNUSED)
{
    char list[256];
    (void)snprintf(list, sizeof list, ":%s:%s::%s", nowhere, two, one);
    assert_int_equal(load(NULL, list, NULL), 0); /* missing and empty parts are skipped */
    assert_int_equal(files.count, 2);
    assert_string_equal(files.file[0].path, two);
    assert_string_equal(files.file[1].path, one);
    kubeconfig_files_deinit(&files);
    assert_int_equal(load(one, list, NULL), 0); /* --kubeconfig wins */
    assert_int_equal(files.count, 1);
    assert_string_equal(files.file[0].path, one);
    kubeconfig_files_deinit(&files);
}

static void test_none(void **state KT_UNUSED)
{
    assert_int_equal(load(nowhere, NULL, NULL), -ENOENT);
    assert_int_equal(error.code, EXIT_CODE_KUBECONFIG);
    assert_non_null(strstr(error.text, nowhere));
    kubeconfig_files_deinit(&files);
    assert_int_equal(load(NULL, NULL, folder), -ENOENT);
    assert_non_null(strstr(error.text, "--kubeconfig"));
    kubeconfig_files_deinit(&files);
}

static void test_broken(void **state KT_UNUSED)
{
    write_file(nowhere, "clusters:\n- name: [\n");
    assert_int_equal(load(nowhere, NULL, NULL), -EINVAL);
    assert_int_equal(error.code, EXIT_CODE_KUBECONFIG);
    assert_non_null(strstr(error.text, nowhere));
    assert_non_null(strstr(error.text, "line 3"));
    kubeconfig_files_deinit(&files);
    write_file(nowhere, "clusters: 7\n");
    assert_int_equal(load(nowhere, NULL, NULL), -EINVAL);
    assert_non_null(strstr(error.text, "line 1"));
    kubeconfig_files_deinit(&files);
    (void)unlink(nowhere);
}

static void test_reading(void **state KT_UNUSED)
{
    struct kubeconfig_blob blob = {0};
    assert_int_equal(kubeconfig_read_file(&blob, one), 0);
    assert_string_equal((const char *)blob.data, "kind: Config\n");
    assert_int_equal(blob.size, strlen("kind: Config\n"));
    kt_free(blob.data);
    assert_int_equal(kubeconfig_read_file(&blob, nowhere), -ENOENT);
    assert_int_equal(kubeconfig_read_file(&blob, folder), -EISDIR);
    FILE *file = fopen(nowhere, "w");
    assert_non_null(file);
    assert_int_equal(ftruncate(fileno(file), KUBECONFIG_FILE_MAX + 1), 0);
    (void)fclose(file);
    assert_int_equal(kubeconfig_read_file(&blob, nowhere), -EFBIG);
    (void)unlink(nowhere);
}

static void test_no_memory(void **state KT_UNUSED)
{
    long before = kt_mem_live();
    int rc = -ENOMEM;
    for (unsigned long nth = 1; rc == -ENOMEM; nth++) {
        kt_mem_fail_nth(nth);
        rc = load(one, NULL, NULL);
        kubeconfig_files_deinit(&files);
        assert_int_equal(kt_mem_live(), before);
    }
    kt_mem_fail_nth(0);
    assert_int_equal(rc, 0);
}

static int set_up(void **state KT_UNUSED)
{
    if (mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(one, sizeof one, "%s/one", folder);
    (void)snprintf(two, sizeof two, "%s/two", folder);
    (void)snprintf(nowhere, sizeof nowhere, "%s/nowhere", folder);
    write_file(one, "kind: Config\n");
    write_file(two, "kind: Config\n");
    return 0;
}

static int tear_down(void **state KT_UNUSED)
{
    (void)unlink(one);
    (void)unlink(two);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order), cmocka_unit_test(test_none),
                                       cmocka_unit_test(test_broken), cmocka_unit_test(test_reading),
                                       cmocka_unit_test(test_no_memory)};
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, set_up, tear_down);
}
