/* Takes questions on 127.0.0.1, by UDP and by TCP (RFC 7766) at one port, and gives the answers back. Knows nothing of
 * DNS but the length in front of a message over TCP.
 *
 * Each question that was handed out must get one answer: a TCP connection with too many unanswered ones is not read. */
#ifndef KTVPN_CLIENT_NAMES_LISTEN_H
#define KTVPN_CLIENT_NAMES_LISTEN_H

#include <netinet/in.h>
#include <stdbool.h>

#include "common/dns.h"

#define NAMES_LISTEN_UNANSWERED_MAX 32       /* of one connection; then it is not read */
#define NAMES_LISTEN_UNSENT_MAX (256 * 1024) /* bytes of answers that an asker does not read; then it is cut off */

struct uv_loop_s;
struct names_listen;

struct names_asker {
    bool is_tcp;
    uint64_t connection;     /* TCP */
    struct sockaddr_in from; /* UDP */
};

/* `message` has at least one byte, and is valid during the call only. */
typedef void names_on_query(void *context, const struct names_asker *asker, const uint8_t *message, size_t size);

/* `connections_max`: one more takes the place of the one that was idle for longest, or is refused. 0 or -errno. */
KT_MUST_USE int names_listen_open(struct names_listen **out, struct uv_loop_s *loop, size_t connections_max,
                                  uint64_t idle_ms, names_on_query *on_query, void *context);
/* Memory goes later, on the loop. NULL is fine. */
void names_listen_close(struct names_listen *listen);
uint16_t names_listen_port(const struct names_listen *listen);

/* Copies the answer. An asker that has gone, or takes nothing, is no error. */
void names_listen_answer(struct names_listen *listen, const struct names_asker *asker, const uint8_t *message,
                         size_t size);

#endif
