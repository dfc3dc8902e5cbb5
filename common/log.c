#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>

/* A log is the whole program's: it is set once by main() and read everywhere. */
static struct {
    log_sink *sink;
    void *context;
    enum log_level level;
} target = {.level = LOG_LEVEL_INFO};

static void to_stderr(enum log_level level, const char *line)
{
    static const char *const prefix[] = {"error: ", "warning: ", "", "debug: "};
    (void)fprintf(stderr, "%s%s\n", prefix[level], line);
}

KT_PRINTF(2, 0) static void emit(enum log_level level, const char *format, va_list args)
{
    if (level > target.level)
        return;
    char line[LOG_LINE_MAX];
    (void)vsnprintf(line, sizeof line, format, args);
    if (target.sink != NULL)
        target.sink(target.context, level, line);
    else
        to_stderr(level, line);
}

void log_open(log_sink *sink, void *context, enum log_level level)
{
    target.sink = sink;
    target.context = context;
    target.level = level;
}

#define DEFINE_LEVEL(name, level)      \
    void name(const char *format, ...) \
    {                                  \
        va_list args;                  \
        va_start(args, format);        \
        emit(level, format, args);     \
        va_end(args);                  \
    }

DEFINE_LEVEL(log_error, LOG_LEVEL_ERROR)
DEFINE_LEVEL(log_warning, LOG_LEVEL_WARNING)
DEFINE_LEVEL(log_info, LOG_LEVEL_INFO)
DEFINE_LEVEL(log_debug, LOG_LEVEL_DEBUG)

bool log_allowed(struct log_limit *limit, unsigned burst, uint64_t period_ms, uint64_t now_ms)
{
    if (limit->count == 0 || now_ms - limit->since_ms >= period_ms) {
        limit->since_ms = now_ms;
        limit->count = 0;
    }
    return limit->count++ < burst;
}

const char *log_escape(char *out, size_t out_size, const char *text, size_t size)
{
    size_t at = 0;
    if (out_size == 0)
        return out;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        bool plain = byte >= 0x20 && byte < 0x7f && byte != '\\';
        size_t need = plain ? 1 : 4;
        if (at + need >= out_size)
            break;
        (void)snprintf(out + at, out_size - at, plain ? "%c" : "\\x%02x", byte);
        at += need;
    }
    out[at] = '\0';
    return out;
}
