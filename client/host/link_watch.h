/* Tells when a network device is set down (rtnetlink, read only, no privilege). The descriptor of a TUN does not:
 * reading it goes on and on without a packet. */
#ifndef KTVPN_CLIENT_HOST_LINK_WATCH_H
#define KTVPN_CLIENT_HOST_LINK_WATCH_H

#include "common/compiler.h"

struct uv_loop_s;
struct link_watch;

/* on_down: the device is there and down now; maybe more than once for one time. It may call link_watch_close(). 0 or
 * -errno. */
KT_MUST_USE int link_watch_open(struct link_watch **out, struct uv_loop_s *loop, const char *device,
                                void (*on_down)(void *context), void *context);
/* Memory goes later, on the loop. NULL is fine. */
void link_watch_close(struct link_watch *watch);

#endif
