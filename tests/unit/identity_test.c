/* Who joins what, from the command line, a kubeconfig and a runtime folder of the test's own. */
#include "client/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/key_file.h"
#include "common/mem.h"
#include "tests/unit/unit.h"

static char folder[] = "/tmp/ktvpn-identity-XXXXXX";
static char path[64];
static struct error error;

static const char CONFIG[] = "apiVersion: v1\nkind: Config\ncurrent-context: me@kt\n"
                             "clusters: [{name: kt, cluster: {server: 'https://192.0.2.1:6443'}}]\n"
                             "users: [{name: me, user: {token: t}}]\n"
                             "contexts: [{name: me@kt, context: {cluster: kt, user: me, namespace: ems}}]\n";

static int set_up(void **state KT_UNUSED)
{
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    if (mkdtemp(folder) == NULL || setenv("XDG_RUNTIME_DIR", folder, 1) != 0 || setenv("HOME", "/nowhere", 1) != 0)
        return -1;
    (void)snprintf(path, sizeof path, "%s/config", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ssize_t written = write(fd, CONFIG, strlen(CONFIG));
    (void)close(fd);
    return written != (ssize_t)strlen(CONFIG) || setenv("KUBECONFIG", path, 1) != 0;
}

static int tear_down(void **state KT_UNUSED)
{
    char runtime[64];
    assert_int_equal(kt_mem_live(), 0);
    (void)unlink(path);
    (void)snprintf(runtime, sizeof runtime, "%s/ktvpn", folder);
    (void)rmdir(runtime);
    return rmdir(folder);
}

static void test_of_the_context(void **state KT_UNUSED)
{
    struct identity identity;
    struct options options = {0};
    assert_int_equal(identity_find(&identity, &options, &error), 0);
    assert_string_equal(identity.config->server, "https://192.0.2.1:6443");
    assert_string_equal(identity.name_space, "ems");
    assert_string_equal(identity.instance.name, "me-kt");
    assert_non_null(strchr(identity.owner, '@'));
    identity_release(&identity);
    identity_release(&identity);
}

static void test_key_file(void **state KT_UNUSED)
{
    struct identity identity;
    char file[128], config[96];
    struct options options = {.key_file = "/nowhere/key"};
    assert_int_equal(identity_find(&identity, &options, &error), -ENOENT);
    identity_release(&identity);
    (void)setenv("XDG_CONFIG_HOME", folder, 1);
    (void)snprintf(config, sizeof config, "%s/ktvpn", folder);
    (void)snprintf(file, sizeof file, "%s/key", config);
    assert_int_equal(key_file_make(file, &error), 0);
    options = (struct options){.agent = {.family = ADDRESS_NONE}};
    assert_int_equal(identity_find(&identity, &options, &error), 0);
    assert_false(identity.has_keys); /* a session by the API draws its own */
    identity_release(&identity);
    options.agent = address_v4(0x0a000001);
    assert_int_equal(identity_find(&identity, &options, &error), 0);
    assert_true(identity.has_keys);
    identity_forget_keys(&identity);
    assert_true(sodium_is_zero((const unsigned char *)&identity.keys, sizeof identity.keys));
    identity_release(&identity);
    (void)unlink(file);
    assert_int_equal(identity_find(&identity, &options, &error), 0); /* it need not be there */
    assert_false(identity.has_keys);
    identity_release(&identity);
}

static void test_of_the_command_line(void **state KT_UNUSED)
{
    struct identity identity;
    struct options options = {.name_space = "shop", .name = "mine"};
    assert_int_equal(identity_find(&identity, &options, &error), 0);
    assert_string_equal(identity.name_space, "shop");
    assert_string_equal(identity.instance.name, "mine");
    identity_release(&identity);
}

/* With --agent no kubeconfig is looked for. */
static void test_of_an_agent(void **state KT_UNUSED)
{
    struct identity identity;
    struct options options = {.agent = address_v4(0x7f000001)};
    assert_int_equal(setenv("KUBECONFIG", "/nowhere/at.all", 1), 0);
    assert_int_equal(identity_find(&identity, &options, &error), 0);
    assert_null(identity.config);
    assert_string_equal(identity.name_space, "default");
    assert_string_equal(identity.instance.name, "agent");
    identity_release(&identity);
}

static void test_errors(void **state KT_UNUSED)
{
    struct identity identity, second;
    struct options options = {.context = "another"};
    assert_int_equal(identity_find(&identity, &options, &error), -ENOENT);
    assert_int_equal(error.code, EXIT_CODE_KUBECONFIG);
    identity_release(&identity);
    options = (struct options){.name_space = "a123456789b123456789c123456789d123456789e123456789f123456789g123"};
    assert_int_equal(identity_find(&identity, &options, &error), -EINVAL); /* not cut to another namespace's name */
    assert_int_equal(error.code, EXIT_CODE_USAGE);
    identity_release(&identity);
    options.name_space = NULL;
    assert_int_equal(identity_find(&identity, &options, &error), 0);
    assert_int_equal(identity_find(&second, &options, &error), -EBUSY);
    assert_int_equal(error.code, EXIT_CODE_CONFLICT);
    identity_release(&second);
    identity_release(&identity);
}

static void test_no_memory(void **state KT_UNUSED)
{
    struct identity identity;
    struct options options = {0};
    int rc = -1;
    for (unsigned long nth = 1; rc != 0 && nth < 500; nth++) {
        kt_mem_fail_nth(nth);
        rc = identity_find(&identity, &options, &error);
        kt_mem_fail_nth(0);
        identity_release(&identity);
        assert_int_equal(kt_mem_live(), 0);
    }
    assert_int_equal(rc, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_of_the_context, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_of_the_command_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_of_an_agent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_memory, set_up, tear_down),
    };
    return unit_run(tests);
}
