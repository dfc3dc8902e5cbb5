/* A live query to the machine's own name server address, as any program would send it: proof that cluster names resolve
 * here, through TUN, netstack, names, tunnel and agent. */
#ifndef KTVPN_CLIENT_NAMES_CHECK_H
#define KTVPN_CLIENT_NAMES_CHECK_H

#include "common/address.h"

#define NAMES_CHECK_TRIES 4
#define NAMES_CHECK_TRY_MS 1000

struct uv_loop_s;
struct names_check;

struct names_check_options {
    struct address server; /* port 53 */
    const char *name;
    uint64_t try_ms; /* 0: NAMES_CHECK_TRY_MS */
};

/* Asks the server for the A record of the name, up to NAMES_CHECK_TRIES times. on_done gets 0 (an address came),
 * -ENOENT (answered, but the name is unknown), -ETIMEDOUT, or the error of sending. 0, -EINVAL (no such name), -ENOMEM
 * or the loop's error. */
KT_MUST_USE int names_check_start(struct names_check **out, struct uv_loop_s *loop,
                                  const struct names_check_options *options, void (*on_done)(void *context, int result),
                                  void *context);
/* on_done will not come. Call it after on_done too: the memory goes later, on the loop. NULL is fine. */
void names_check_close(struct names_check *check);

#endif
