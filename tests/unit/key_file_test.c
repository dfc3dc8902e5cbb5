/* The key file: made once, read by its owner only; hostile files. */
#include "client/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static char folder[] = "/tmp/ktvpn-key-XXXXXX";
static char path[128];
static struct error error;
static struct noise_keypair keys;

static int set_up(void **state KT_UNUSED)
{
    memcpy(folder + sizeof folder - 7, "XXXXXX", 6);
    if (mkdtemp(folder) == NULL)
        return -1;
    (void)snprintf(path, sizeof path, "%s/ktvpn/key", folder);
    return setenv("XDG_CONFIG_HOME", folder, 1);
}

static int tear_down(void **state KT_UNUSED)
{
    char inner[64];
    (void)unlink(path);
    (void)snprintf(inner, sizeof inner, "%s/ktvpn", folder);
    (void)rmdir(inner);
    return rmdir(folder);
}

static void write_key(const char *text, size_t size, mode_t mode)
{
    char inner[64];
    (void)snprintf(inner, sizeof inner, "%s/ktvpn", folder);
    (void)mkdir(inner, 0700);
    (void)unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, text, size), size);
    assert_int_equal(fchmod(fd, mode), 0);
    (void)close(fd);
}

static void run_key(const char *file, char text[static 64])
{
    FILE *out = fmemopen(text, 64, "w");
    assert_int_equal(key_file_run(file, out, &error), 0);
    (void)fclose(out);
}

static void test_made_once(void **state KT_UNUSED)
{
    char first[64] = "", second[64] = "";
    uint8_t public_key[NOISE_KEY_SIZE];
    size_t size;
    struct stat status;
    assert_int_equal(key_file_read(&keys, path, &error), -ENOENT);
    run_key(NULL, first);
    run_key(path, second);
    assert_string_equal(first, second);
    assert_int_equal(strlen(first), 45);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(key_file_read(&keys, path, &error), 0);
    assert_int_equal(sodium_base642bin(public_key, sizeof public_key, first, strlen(first), "\n", &size, NULL,
                                       sodium_base64_VARIANT_ORIGINAL),
                     0);
    assert_memory_equal(public_key, keys.public_key, NOISE_KEY_SIZE);
    assert_int_equal(key_file_make(path, &error), -EEXIST);
}

static void test_default_path(void **state KT_UNUSED)
{
    char found[KEY_FILE_PATH_MAX], longest[KEY_FILE_PATH_MAX + 8];
    assert_int_equal(key_file_default(found, &error), 0);
    assert_string_equal(found, path);
    (void)setenv("HOME", "/home/alice", 1);
    (void)setenv("XDG_CONFIG_HOME", "relative", 1); /* is to be ignored: XDG Base Directory Specification */
    assert_int_equal(key_file_default(found, &error), 0);
    assert_string_equal(found, "/home/alice/.config/ktvpn/key");
    memset(longest, 'a', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    (void)setenv("HOME", longest, 1);
    assert_int_equal(key_file_default(found, &error), -ENOENT);
    (void)unsetenv("HOME");
    assert_int_equal(key_file_default(found, &error), -ENOENT);
    assert_non_null(strstr(error.text, "--key"));
}

static void test_others_may_read_it(void **state KT_UNUSED)
{
    static const mode_t modes[] = {0644, 0640, 0604, 0660, 0601};
    for (size_t i = 0; i < KT_ARRAY_LEN(modes); i++) {
        write_key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n", 45, modes[i]);
        assert_int_equal(key_file_read(&keys, path, &error), -EPERM);
        assert_non_null(strstr(error.text, "chmod 600"));
    }
    assert_int_equal(key_file_read(&keys, folder, &error), -EBADMSG);
    assert_int_equal(key_file_read(&keys, "/dev/null", &error), -EBADMSG);
}

static void test_no_key_in_it(void **state KT_UNUSED)
{
    static const char *const texts[] = {"",
                                        "\n",
                                        "AAEC\n",
                                        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n",
                                        " AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                                        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
                                        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gIQ==",
                                        "-----BEGIN OPENSSH PRIVATE KEY-----\n"};
    for (size_t i = 0; i < KT_ARRAY_LEN(texts); i++) {
        write_key(texts[i], strlen(texts[i]), 0600);
        assert_int_equal(key_file_read(&keys, path, &error), -EBADMSG);
        assert_null(strstr(error.text, "BEGIN")); /* what is in it is never shown */
    }
    write_key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 44, 0600);
    assert_int_equal(key_file_read(&keys, path, &error), 0);
    assert_int_equal(keys.secret_key[31], 31);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_made_once), TEST(test_default_path), TEST(test_others_may_read_it),
                                       TEST(test_no_key_in_it)};
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
