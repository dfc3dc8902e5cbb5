#include "client/instance.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_MAX 80

void instance_name_of(char out[static INSTANCE_NAME_MAX], const char *text)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t size = strnlen(text, INSTANCE_NAME_MAX - 1);
    for (size_t i = 0; i < size; i++)
        out[i] = strchr(allowed, text[i]) != NULL ? text[i] : '-';
    out[size] = '\0';
    if (size == 0 || out[0] == '.')
        out[0] = '-';
    if (size == 0)
        out[1] = '\0';
}

static bool is_own_folder(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == geteuid() && (info.st_mode & 077) == 0;
}

static bool is_writable_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == geteuid() && access(path, W_OK) == 0;
}

/* The folder in which ours is made, and what ours is called there. */
static void choose_folder(char out[static FOLDER_MAX])
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char user[FOLDER_MAX];
    (void)snprintf(user, sizeof user, "/run/user/%u", (unsigned)geteuid());
    if (runtime != NULL && runtime[0] == '/' && strlen(runtime) + sizeof "/ktvpn" <= FOLDER_MAX &&
        is_writable_folder(runtime))
        (void)snprintf(out, FOLDER_MAX, "%.70s/ktvpn", runtime);
    else if (is_writable_folder(user))
        (void)snprintf(out, FOLDER_MAX, "%.70s/ktvpn", user);
    else if (geteuid() == 0)
        (void)snprintf(out, FOLDER_MAX, "/run/ktvpn");
    else
        (void)snprintf(out, FOLDER_MAX, "/tmp/ktvpn-%u", (unsigned)geteuid());
}

static int open_folder(char out[static FOLDER_MAX], struct error *error)
{
    choose_folder(out);
    if (mkdir(out, 0700) != 0 && errno != EEXIST)
        return error_set(error, EXIT_CODE_MACHINE, -errno, "cannot make the runtime folder %s: %s", out,
                         strerror(errno));
    if (!is_own_folder(out))
        return error_set(
            error, EXIT_CODE_MACHINE, -EPERM,
            "the runtime folder %s is not a folder that only you can enter; remove it, or set XDG_RUNTIME_DIR", out);
    return 0;
}

/* -ENAMETOOLONG when the socket's path would not fit sun_path. */
static int set_paths(struct instance *instance, const char *folder, const char *name)
{
    *instance = (struct instance){.lock_fd = -1};
    (void)snprintf(instance->name, sizeof instance->name, "%.63s", name);
    int size = snprintf(instance->socket_path, sizeof instance->socket_path, "%s/%s.sock", folder, instance->name);
    (void)snprintf(instance->lock_path, sizeof instance->lock_path, "%s/%s.lock", folder, instance->name);
    (void)snprintf(instance->log_path, sizeof instance->log_path, "%s/%s.log", folder, instance->name);
    return size >= INSTANCE_PATH_MAX ? -ENAMETOOLONG : 0;
}

/* Is the file that we locked still the one of that name? Its last holder may have removed it in between. */
static bool is_current(int fd, const char *path)
{
    struct stat locked, named;
    return fstat(fd, &locked) == 0 && stat(path, &named) == 0 && locked.st_ino == named.st_ino;
}

static int lock(struct instance *instance, struct error *error)
{
    for (;;) {
        int fd = open(instance->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return error_set(error, EXIT_CODE_MACHINE, -errno, "cannot open %s: %s", instance->lock_path,
                             strerror(errno));
        bool is_held = flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (is_held && is_current(fd, instance->lock_path)) {
            instance->lock_fd = fd;
            return 0;
        }
        (void)close(fd);
        if (!is_held)
            return error_set(
                error, EXIT_CODE_CONFLICT, -EBUSY,
                "another ktvpn named '%s' is running: `ktvpn down %s` ends it, `--name` gives this one another name",
                instance->name, instance->name);
    }
}

int instance_acquire(struct instance *instance, const char *name, struct error *error)
{
    char folder[FOLDER_MAX];
    *instance = (struct instance){.lock_fd = -1};
    int rc = open_folder(folder, error);
    if (rc != 0)
        return rc;
    if (set_paths(instance, folder, name) != 0)
        return error_set(error, EXIT_CODE_USAGE, -ENAMETOOLONG,
                         "the name '%s' is too long for a socket in %s: use --name", name, folder);
    rc = lock(instance, error);
    if (rc == 0)
        (void)unlink(instance->socket_path); /* of a holder that was killed */
    return rc;
}

void instance_release(struct instance *instance)
{
    if (instance->lock_fd < 0)
        return;
    (void)unlink(instance->socket_path);
    (void)unlink(instance->lock_path);
    (void)close(instance->lock_fd);
    instance->lock_fd = -1;
}

static bool is_running(const struct instance *instance)
{
    int fd = open(instance->lock_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool is_held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    (void)close(fd);
    return is_held;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct instance *)a)->name, ((const struct instance *)b)->name);
}

int instance_list(struct instance *out, int max, struct error *error)
{
    char folder[FOLDER_MAX];
    choose_folder(folder);
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return errno == ENOENT
                   ? 0
                   : error_set(error, EXIT_CODE_MACHINE, -errno, "cannot read %s: %s", folder, strerror(errno));
    int count = 0;
    const struct dirent *entry;
    while (count < max && (entry = readdir(dir)) != NULL) {
        size_t size = strlen(entry->d_name);
        if (size <= 5 || size - 5 >= INSTANCE_NAME_MAX || strcmp(entry->d_name + size - 5, ".lock") != 0)
            continue;
        char name[INSTANCE_NAME_MAX];
        memcpy(name, entry->d_name, size - 5);
        name[size - 5] = '\0';
        count += set_paths(&out[count], folder, name) == 0 && is_running(&out[count]);
    }
    (void)closedir(dir);
    qsort(out, (size_t)count, sizeof *out, by_name);
    return count;
}
