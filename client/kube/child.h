/* A program that runs beside the loop: by an argument list (never a shell), with its standard output read and bounded.
 *
 * It dies with us, however we end (PR_SET_PDEATHSIG); it gets standard input, output and error and no other descriptor
 * of ours, default signal handlers and an empty signal mask. Not by uv_spawn(): that has no place for the former. */
#ifndef KTVPN_CLIENT_KUBE_CHILD_H
#define KTVPN_CLIENT_KUBE_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

struct uv_loop_s;
struct child;

struct child_options {
    const char *file;               /* the program's path */
    char *const *argv, *const *env; /* as for execve(2) */
    bool is_interactive;            /* it gets our standard input, and stays in our process group; else /dev/null */
    size_t output_max;
    unsigned limit_ms;
};

enum child_end { CHILD_EXITED, CHILD_KILLED, CHILD_TOO_LATE, CHILD_TOO_LONG };

struct child_result {
    enum child_end end;
    int number;            /* exit code, or the signal */
    const uint8_t *output; /* a NUL follows; valid in the callback only */
    size_t size;
};

/* on_end comes once, on the loop, when it has ended and its output is complete; then close. 0, -ENOMEM, or why it
 * cannot be started (-ENOENT, -EACCES, -ENOEXEC, ...). */
KT_MUST_USE int child_open(struct child **out, struct uv_loop_s *loop, const struct child_options *options,
                           void (*on_end)(void *context, const struct child_result *result), void *context);
/* Kills it if it runs, and reaps it; on_closed comes on the loop. May be called in on_end. */
void child_close(struct child *child, void (*on_closed)(void *context));

#endif
