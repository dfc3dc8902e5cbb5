/* Names, locks and the runtime folder. */
#include "client/instance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static char folder[] = "/tmp/ktvpn-instance-XXXXXX";
static struct error error;

static int set_up(void **state KT_UNUSED)
{
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    return mkdtemp(folder) == NULL || setenv("XDG_RUNTIME_DIR", folder, 1) != 0;
}

static int tear_down(void **state KT_UNUSED)
{
    char path[64];
    (void)snprintf(path, sizeof path, "%s/ktvpn", folder);
    (void)rmdir(path);
    (void)unlink(path);
    return rmdir(folder);
}

static void test_names(void **state KT_UNUSED)
{
    char name[INSTANCE_NAME_MAX];
    instance_name_of(name, "admin@kt:6443/x y");
    assert_string_equal(name, "admin-kt-6443-x-y");
    instance_name_of(name, "../etc");
    assert_string_equal(name, "-.-etc");
    instance_name_of(name, "");
    assert_string_equal(name, "-");
    char longest[200];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    instance_name_of(name, longest);
    assert_int_equal(strlen(name), INSTANCE_NAME_MAX - 1);
}

static void test_one_holder(void **state KT_UNUSED)
{
    struct instance one, two, list[4];
    assert_int_equal(instance_list(list, 4, &error), 0);
    assert_int_equal(instance_acquire(&one, "kt", &error), 0);
    assert_int_equal(instance_acquire(&two, "kt", &error), -EBUSY);
    assert_int_equal(error.code, EXIT_CODE_CONFLICT);
    assert_non_null(strstr(error.text, "'kt'"));
    assert_int_equal(instance_acquire(&two, "another", &error), 0);
    assert_int_equal(instance_list(list, 4, &error), 2);
    assert_string_equal(list[0].name, "another");
    assert_string_equal(list[1].socket_path, one.socket_path);
    instance_release(&two);
    instance_release(&one);
    instance_release(&one);
    assert_int_equal(instance_list(list, 4, &error), 0);
    assert_int_equal(access(one.lock_path, F_OK), -1);
}

static void test_killed_holder_leaves_nothing(void **state KT_UNUSED)
{
    pid_t pid = fork();
    if (pid == 0) {
        struct instance theirs;
        _exit(instance_acquire(&theirs, "kt", &error) == 0 ? 0 : 1); /* without a release, as by SIGKILL */
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    struct instance list[4], mine;
    assert_int_equal(instance_list(list, 4, &error), 0);
    assert_int_equal(instance_acquire(&mine, "kt", &error), 0);
    instance_release(&mine);
}

static void test_folder_of_others_is_refused(void **state KT_UNUSED)
{
    char path[64];
    struct instance mine;
    (void)snprintf(path, sizeof path, "%s/ktvpn", folder);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_int_equal(chmod(path, 0755), 0);
    assert_int_equal(instance_acquire(&mine, "kt", &error), -EPERM);
    assert_non_null(strstr(error.text, path));
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink("/tmp", path), 0);
    assert_int_equal(instance_acquire(&mine, "kt", &error), -EPERM);
}

static void test_too_long(void **state KT_UNUSED)
{
    char path[96] = "", name[INSTANCE_NAME_MAX];
    (void)snprintf(path, sizeof path, "%s/%s", folder, "a-folder-with-a-name-that-is-long");
    assert_int_equal(mkdir(path, 0700), 0);
    (void)setenv("XDG_RUNTIME_DIR", path, 1);
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    struct instance mine;
    assert_int_equal(instance_acquire(&mine, name, &error), -ENAMETOOLONG);
    (void)strncat(path, "/ktvpn", sizeof path - strlen(path) - 1);
    assert_int_equal(rmdir(path), 0);
    path[strlen(path) - 6] = '\0';
    assert_int_equal(rmdir(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup_teardown(test_one_holder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed_holder_leaves_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_folder_of_others_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_long, set_up, tear_down),
    };
    return unit_run(tests);
}
