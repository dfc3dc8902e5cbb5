/* Tells when a file that somebody else writes has changed: by looking at it once a second. A look follows symbolic
 * links and sees a file that took another's place; inotify would need a watch on each directory on the way, and on the
 * new ones when a link changes. */
#ifndef KTVPN_CLIENT_FILE_WATCH_H
#define KTVPN_CLIENT_FILE_WATCH_H

#include <stdint.h>

#include "common/compiler.h"

#define FILE_WATCH_MS 1000

struct uv_loop_s;
struct file_watch;

/* on_change comes on the loop when the file has another content, inode or is gone or there again; `path` must outlive
 * it. `interval_ms` 0: FILE_WATCH_MS. 0 or -ENOMEM. */
KT_MUST_USE int file_watch_open(struct file_watch **out, struct uv_loop_s *loop, const char *path, uint64_t interval_ms,
                                void (*on_change)(void *context), void *context);
/* on_change comes at the next look in any case. */
void file_watch_again(struct file_watch *watch);
/* Memory goes later, on the loop. NULL is fine. */
void file_watch_close(struct file_watch *watch);

#endif
