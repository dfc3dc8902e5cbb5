#include "client/error.h"

#include <stdarg.h>
#include <stdio.h>

int error_set(struct error *error, enum exit_code code, int rc, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    error->code = code;
    return rc;
}
