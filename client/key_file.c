#include "client/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BASE64_MAX sodium_base64_ENCODED_LEN(NOISE_KEY_SIZE, sodium_base64_VARIANT_ORIGINAL)
#define FILE_MAX 256

int key_file_default(char path[static KEY_FILE_PATH_MAX], struct error *error)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    bool has_config = config != NULL && config[0] == '/', has_home = home != NULL && home[0] == '/';
    int size = has_config ? snprintf(path, KEY_FILE_PATH_MAX, "%s/ktvpn/key", config)
                          : snprintf(path, KEY_FILE_PATH_MAX, "%s/.config/ktvpn/key", has_home ? home : "");
    if ((!has_config && !has_home) || size < 0 || size >= KEY_FILE_PATH_MAX)
        return error_set(error, EXIT_CODE_FAILED, -ENOENT,
                         "cannot tell where your key file is: HOME is not set; name it with --key FILE");
    return 0;
}

/* One line; a newline at its end may be missing. */
int key_file_parse(uint8_t secret[static NOISE_KEY_SIZE], const char *text, size_t size)
{
    size_t found = 0;
    if (size > 0 && text[size - 1] == '\n')
        size--;
    int rc = sodium_base642bin(secret, NOISE_KEY_SIZE, text, size, NULL, &found, NULL, sodium_base64_VARIANT_ORIGINAL);
    if (rc == 0 && found == NOISE_KEY_SIZE)
        return 0;
    sodium_memzero(secret, NOISE_KEY_SIZE);
    return -EBADMSG;
}

static int check_owner(int fd, const char *path, struct error *error)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return error_set(error, EXIT_CODE_FAILED, -errno, "cannot look at %s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(error, EXIT_CODE_FAILED, -EBADMSG, "%s is no file", path);
    if ((status.st_mode & 077) != 0)
        return error_set(error, EXIT_CODE_FAILED, -EPERM,
                         "%s holds a secret, and others may read it (mode %04o): chmod 600 it", path,
                         (unsigned)status.st_mode & 07777);
    return 0;
}

static int read_secret(uint8_t secret[static NOISE_KEY_SIZE], int fd, const char *path, struct error *error)
{
    char text[FILE_MAX];
    ssize_t size = read(fd, text, sizeof text);
    int rc = size < 0 ? -errno : key_file_parse(secret, text, (size_t)size);
    sodium_memzero(text, sizeof text);
    if (rc == 0)
        return 0;
    return error_set(error, EXIT_CODE_FAILED, rc, "%s holds no key: %s", path,
                     rc == -EBADMSG ? "`ktvpn key` makes one" : strerror(-rc));
}

int key_file_read(struct noise_keypair *keys, const char *path, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return error_set(error, EXIT_CODE_FAILED, -errno, "cannot open the key file %s: %s", path, strerror(errno));
    int rc = check_owner(fd, path, error);
    if (rc == 0)
        rc = read_secret(keys->secret_key, fd, path, error);
    (void)close(fd);
    if (rc == 0)
        (void)crypto_scalarmult_base(keys->public_key, keys->secret_key);
    return rc;
}

/* Every folder on the way; what is there stays as it is. */
static void make_folders(const char *path)
{
    char folder[KEY_FILE_PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", path);
    for (char *slash = strchr(folder + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(folder, 0700);
        *slash = '/';
    }
}

/* All or nothing: half a key would be there for good. */
static int write_key(int fd)
{
    struct noise_keypair keys;
    char text[BASE64_MAX + 1];
    noise_keypair_generate(&keys);
    (void)sodium_bin2base64(text, BASE64_MAX, keys.secret_key, sizeof keys.secret_key, sodium_base64_VARIANT_ORIGINAL);
    size_t size = strlen(text);
    text[size++] = '\n';
    ssize_t written = write(fd, text, size);
    int rc = written < 0 ? -errno : (size_t)written < size ? -ENOSPC : fsync(fd) != 0 ? -errno : 0;
    sodium_memzero(text, sizeof text);
    sodium_memzero(&keys, sizeof keys);
    return rc;
}

int key_file_make(const char *path, struct error *error)
{
    make_folders(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : write_key(fd);
    if (fd >= 0)
        (void)close(fd);
    if (rc == 0)
        return 0;
    if (fd >= 0)
        (void)unlink(path);
    return error_set(error, EXIT_CODE_FAILED, rc, "cannot make the key file %s: %s", path, strerror(-rc));
}

int key_file_run(const char *path, FILE *out, struct error *error)
{
    char standard[KEY_FILE_PATH_MAX], text[BASE64_MAX];
    struct noise_keypair keys;
    if (path == NULL) {
        int rc = key_file_default(standard, error);
        if (rc != 0)
            return rc;
        path = standard;
    }
    int rc = key_file_read(&keys, path, error);
    if (rc == -ENOENT) {
        rc = key_file_make(path, error);
        if (rc == 0)
            rc = key_file_read(&keys, path, error);
    }
    if (rc != 0)
        return rc;
    (void)sodium_bin2base64(text, sizeof text, keys.public_key, sizeof keys.public_key, sodium_base64_VARIANT_ORIGINAL);
    sodium_memzero(&keys, sizeof keys);
    return fprintf(out, "%s\n", text) > 0 && fflush(out) == 0
               ? 0
               : error_set(error, EXIT_CODE_FAILED, -EIO, "cannot print the key");
}
