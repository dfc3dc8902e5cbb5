#include "client/file_watch.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>

#include "common/mem.h"

/* What tells one content from the next. All zero: no file. */
struct look {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed;
};

struct file_watch {
    uv_timer_t timer;
    const char *path;
    struct look last;
    bool is_due;
    void (*on_change)(void *context);
    void *context;
};

static struct look look_at(const char *path)
{
    struct stat stat_now;
    if (stat(path, &stat_now) != 0)
        return (struct look){0};
    return (struct look){stat_now.st_dev, stat_now.st_ino, stat_now.st_size, stat_now.st_ctim};
}

static bool is_same(const struct look *a, const struct look *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static void look_again(struct file_watch *watch)
{
    struct look now = look_at(watch->path);
    bool has_changed = watch->is_due || !is_same(&now, &watch->last);
    watch->last = now;
    watch->is_due = false;
    if (has_changed)
        watch->on_change(watch->context);
}

static void on_timer(uv_timer_t *timer)
{
    look_again(timer->data);
}

int file_watch_open(struct file_watch **out, struct uv_loop_s *loop, const char *path, uint64_t interval_ms,
                    void (*on_change)(void *context), void *context)
{
    struct file_watch *watch = kt_calloc(1, sizeof *watch);
    if (watch == NULL)
        return -ENOMEM;
    *watch = (struct file_watch){.path = path, .last = look_at(path), .on_change = on_change, .context = context};
    watch->timer.data = watch;
    (void)uv_timer_init(loop, &watch->timer);
    uint64_t each_ms = interval_ms > 0 ? interval_ms : FILE_WATCH_MS;
    (void)uv_timer_start(&watch->timer, on_timer, each_ms, each_ms);
    *out = watch;
    return 0;
}

void file_watch_again(struct file_watch *watch)
{
    watch->is_due = true;
}

static void on_closed(uv_handle_t *handle)
{
    kt_free(handle->data);
}

void file_watch_close(struct file_watch *watch)
{
    if (watch != NULL)
        uv_close((uv_handle_t *)&watch->timer, on_closed);
}
