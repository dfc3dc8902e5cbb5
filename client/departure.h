/* When and how a running ktvpn ends: the first signal asks it to leave, the second and a clock end it at once, and then
 * what stays in the cluster is named.
 *
 * The owner's memory. Its handles keep the loop alive until departure_close(). */
#ifndef KTVPN_CLIENT_DEPARTURE_H
#define KTVPN_CLIENT_DEPARTURE_H

#include <stdbool.h>
#include <uv.h>

#include "common/compiler.h"

#define DEPARTURE_MS 8000 /* at most this long, then what is left is named */
#define DEPARTURE_SIGNALS 3

struct departure {
    uv_signal_t signal[DEPARTURE_SIGNALS];
    uv_timer_t timer;
    unsigned signals;
    void (*on_request)(void *context); /* the first signal */
    /* It ends at once, with what is there now; the loop is stopped. `is_wanted`: by a second signal, not by the clock.
     */
    void (*on_cut)(void *context, bool is_wanted);
    void *context;
};

/* SIGINT, SIGTERM and SIGHUP are taken from now on. */
void departure_init(struct departure *departure, uv_loop_t *loop, void (*on_request)(void *context),
                    void (*on_cut)(void *context, bool is_wanted), void *context);
/* It leaves: the clock runs. */
void departure_begin(struct departure *departure);
/* All has ended; the handles close, and with them the loop. */
void departure_close(struct departure *departure);

#endif
