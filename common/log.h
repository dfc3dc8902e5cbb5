/* Log lines: object, id, fact ("session 7: handshake done in 41 ms"), one line each, on a sink.
 *
 * Never keys, tokens or payload. Text that came from the network goes through log_escape(). Lines that a peer can cause
 * take a struct log_limit, so that it cannot cause a flood. */
#ifndef KTVPN_COMMON_LOG_H
#define KTVPN_COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/compiler.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

#define LOG_LINE_MAX 1024 /* longer lines are cut */

typedef void log_sink(void *context, enum log_level level, const char *line);

/* Where lines go; NULL is stderr. Lines above `level` are dropped. */
void log_open(log_sink *sink, void *context, enum log_level level);

void log_error(const char *format, ...) KT_PRINTF(1, 2);
void log_warning(const char *format, ...) KT_PRINTF(1, 2);
void log_info(const char *format, ...) KT_PRINTF(1, 2);
void log_debug(const char *format, ...) KT_PRINTF(1, 2);

/* At most `burst` lines in any `period_ms`: zero-initialise, then ask before each line. */
struct log_limit {
    uint64_t since_ms;
    unsigned count;
};
KT_MUST_USE bool log_allowed(struct log_limit *limit, unsigned burst, uint64_t period_ms, uint64_t now_ms);

/* Copies `text` with every byte that is not printable ASCII as \xNN, cut to fit; always ends with NUL. Returns out. */
const char *log_escape(char *out, size_t out_size, const char *text, size_t size);

#endif
