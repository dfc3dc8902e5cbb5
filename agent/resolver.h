/* Asks the pod's name servers what clients want to know: a DNS message goes in, the answer's message comes out.
 *
 * Over UDP, to the next server when one does not answer, over TCP when the answer was cut. Each question goes out from
 * a socket of its own, connected, with an id of its own: whoever wants to forge an answer must be the server, or on the
 * path to it. Never reads the answer beyond that check, never caches. */
#ifndef KTVPN_AGENT_RESOLVER_H
#define KTVPN_AGENT_RESOLVER_H

#include <stddef.h>
#include <stdint.h>

#include "common/address.h"

#define RESOLVER_PENDING_MAX 1024 /* questions at a time */
#define RESOLVER_QUERY_MAX 2048   /* bytes; real ones have less than 512 */
#define RESOLVER_TRY_MS 1500      /* one server's time over UDP, or for TCP's whole exchange */
#define RESOLVER_TRIES 3          /* in all: below the 5 s after which the asker's own resolver asks again */

struct uv_loop_s;
struct resolver;
struct resolvconf;

/* `answer` has the id of the question; NULL and 0 when no server gave one. */
typedef void resolver_answer(void *context, uint32_t tag, const uint8_t *answer, size_t size);

/* `port` is 53, but for tests. */
KT_MUST_USE int resolver_open(struct resolver **out, struct uv_loop_s *loop, const struct resolvconf *conf,
                              uint16_t port);
/* Forgets all questions; memory goes later, on the loop. NULL is fine. */
void resolver_close(struct resolver *resolver);

/* 0: on_answer follows, once. -EALREADY: this context's tag is being asked already, its answer follows once. -EBADMSG:
 * no query; -EMSGSIZE; -ENOBUFS: RESOLVER_PENDING_MAX; -ENOMEM. */
KT_MUST_USE int resolver_ask(struct resolver *resolver, const uint8_t *message, size_t size, resolver_answer *on_answer,
                             void *context, uint32_t tag);
/* No answer comes for this context any more. */
void resolver_forget(struct resolver *resolver, const void *context);

#endif
