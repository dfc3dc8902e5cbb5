/* An error that a user sees: one line that says what failed, why and what to do, and the exit code of the program.
 *
 * Functions of client/ that can fail for a user's reason take a `struct error *`, fill it and return -errno. */
#ifndef KTVPN_CLIENT_ERROR_H
#define KTVPN_CLIENT_ERROR_H

#include "common/compiler.h"

#define ERROR_TEXT_MAX 1024

/* Documented in README.md and --help; scripts rely on them. */
enum exit_code {
    EXIT_CODE_OK = 0,
    EXIT_CODE_FAILED = 1,       /* anything without a code of its own */
    EXIT_CODE_USAGE = 2,        /* the command line */
    EXIT_CODE_KUBECONFIG = 3,   /* no kubeconfig, broken, unknown context */
    EXIT_CODE_UNREACHABLE = 4,  /* the API server does not answer */
    EXIT_CODE_TLS = 5,          /* its certificate is not to be trusted, or ours was refused */
    EXIT_CODE_UNAUTHORIZED = 6, /* 401 */
    EXIT_CODE_FORBIDDEN = 7,    /* 403, or a right that is missing */
    EXIT_CODE_AGENT = 8,        /* the agent could not be started, or was lost for good */
    EXIT_CODE_MACHINE = 9,      /* no TUN, no CAP_NET_ADMIN, no usable name server */
    EXIT_CODE_CONFLICT = 10,    /* overlapping ranges, or another ktvpn has the name or range */
    EXIT_CODE_NOT_RUNNING = 11, /* status, down: there is no such ktvpn */
    EXIT_CODE_NOT_FOUND = 12,   /* namespace, service or pod that does not exist */
    EXIT_CODE_INTERRUPTED = 130 /* a second Ctrl-C: left at once */
};

struct error {
    enum exit_code code;
    char text[ERROR_TEXT_MAX]; /* no newline at the end; text from the network is escaped */
};

/* Fills `error` and returns `rc`, so that `return error_set(...)` reads well. A text that is too long is cut. */
int error_set(struct error *error, enum exit_code code, int rc, const char *format, ...) KT_PRINTF(4, 5);

#endif
