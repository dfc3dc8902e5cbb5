/* Long work shows its step and the time it took: on a terminal a line that is completed in place, else one plain line a
 * step.
 *
 *   on a terminal      . rights ... 0.04 s           elsewhere     rights (0.04 s)
 *
 * Takes `now`; writes to one FILE. */
#ifndef KTVPN_CLIENT_PROGRESS_H
#define KTVPN_CLIENT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/compiler.h"

#define PROGRESS_TEXT_MAX 200

struct progress {
    FILE *out; /* NULL: silent */
    bool is_terminal;
    bool is_running; /* a step is under way */
    uint64_t began_ms, step_ms;
    char text[PROGRESS_TEXT_MAX];
};

void progress_init(struct progress *progress, FILE *out, bool is_terminal, uint64_t now_ms);
/* Ends the running step, if any, and begins another. */
void progress_step(struct progress *progress, uint64_t now_ms, const char *format, ...) KT_PRINTF(3, 4);
/* Changes what the running step is called: what it waits for, or what it found. */
void progress_rename(struct progress *progress, const char *format, ...) KT_PRINTF(2, 3);
void progress_done(struct progress *progress, uint64_t now_ms);
/* The running step is given up; its line ends, so that an error can follow. */
void progress_abort(struct progress *progress);
/* A line of its own; a running step goes on after it. */
void progress_say(struct progress *progress, const char *format, ...) KT_PRINTF(2, 3);

#endif
