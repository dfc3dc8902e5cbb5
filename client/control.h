/* The control socket of a running ktvpn: `status` and `down` talk to it.
 *
 * A Unix socket, mode 0600, in the runtime folder. One request a connection: a line "status\n" or "down\n". status
 * answers one JSON object and closes; down answers nothing and closes when ktvpn has left, so that EOF means "done". */
#ifndef KTVPN_CLIENT_CONTROL_H
#define KTVPN_CLIENT_CONTROL_H

#include <stddef.h>

#include "client/error.h"

#define CONTROL_PEERS_MAX 16
#define CONTROL_LINE_MAX 64
#define CONTROL_ANSWER_MAX (1024 * 1024)
#define CONTROL_STATUS_MS 2000 /* how long `status` waits for an answer */
#define CONTROL_DOWN_MS 15000  /* how long `down` waits for the end */

struct uv_loop_s;
struct control;

struct control_ops {
    /* The JSON object as text, which becomes the control's; NULL: no memory. */
    char *(*on_status)(void *context);
    void (*on_down)(void *context);
};

/* 0, -ENOMEM, or the error of bind(). */
KT_MUST_USE int control_open(struct control **out, struct uv_loop_s *loop, const char *path,
                             const struct control_ops *ops, void *context);
/* Closes all connections: whoever asked for down sees EOF now. Memory goes later, on the loop. */
void control_close(struct control *control);

/* The other side, without a loop: sends the request and reads until EOF. 0 and *answer (the caller's, may be "");
 * -ETIMEDOUT, -ECONNREFUSED (nobody is there), -EMSGSIZE, -ENOMEM. */
KT_MUST_USE int control_ask(const char *path, const char *request, int timeout_ms, char **answer);

#endif
