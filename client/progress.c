#include "client/progress.h"

#include <stdarg.h>

#define ERASE_LINE "\r\033[K"

void progress_init(struct progress *progress, FILE *out, bool is_terminal, uint64_t now_ms)
{
    *progress = (struct progress){.out = out, .is_terminal = is_terminal, .began_ms = now_ms, .step_ms = now_ms};
}

static void show_running(const struct progress *progress)
{
    if (progress->out == NULL || !progress->is_terminal || !progress->is_running)
        return;
    (void)fprintf(progress->out, ERASE_LINE "  %s ...", progress->text);
    (void)fflush(progress->out);
}

static void erase(const struct progress *progress)
{
    if (progress->is_terminal && progress->is_running)
        (void)fputs(ERASE_LINE, progress->out);
}

KT_PRINTF(2, 0) static void set_text(struct progress *progress, const char *format, va_list args)
{
    (void)vsnprintf(progress->text, sizeof progress->text, format, args);
    show_running(progress);
}

void progress_step(struct progress *progress, uint64_t now_ms, const char *format, ...)
{
    progress_done(progress, now_ms);
    progress->is_running = true;
    progress->step_ms = now_ms;
    va_list args;
    va_start(args, format);
    set_text(progress, format, args);
    va_end(args);
}

void progress_rename(struct progress *progress, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_text(progress, format, args);
    va_end(args);
}

void progress_done(struct progress *progress, uint64_t now_ms)
{
    if (!progress->is_running)
        return;
    if (progress->out != NULL) {
        erase(progress);
        double seconds = (double)(now_ms - progress->step_ms) / 1000;
        (void)fprintf(progress->out, "  %s (%.2f s)\n", progress->text, seconds);
        (void)fflush(progress->out);
    }
    progress->is_running = false;
}

void progress_abort(struct progress *progress)
{
    if (progress->is_running && progress->out != NULL && progress->is_terminal)
        (void)fputc('\n', progress->out);
    progress->is_running = false;
}

void progress_say(struct progress *progress, const char *format, ...)
{
    if (progress->out == NULL)
        return;
    erase(progress);
    va_list args;
    va_start(args, format);
    (void)vfprintf(progress->out, format, args);
    va_end(args);
    (void)fputc('\n', progress->out);
    (void)fflush(progress->out);
    show_running(progress);
}
