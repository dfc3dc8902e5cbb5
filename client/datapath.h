/* The packets of this machine: TUN <-> tunnel, and what goes to the machine's own name servers.
 *
 *   app -- TUN --+-- to a name server's address --> netstack --+-- port 53 --> names, on 127.0.0.1
 *                |                                             +-- else     --> the real host, by the device that led
 * there before
 *                +-- everything else --> tunnel --> agent
 *
 * A name server's address is routed into the TUN so that its queries pass here; whatever else that host serves (it may
 * be the gateway or the API server) is re-originated, so it works as before, and when this process dies the route is
 * gone and all is as it was. Owns none of what it connects, but the TUN and the netstack. */
#ifndef KTVPN_CLIENT_DATAPATH_H
#define KTVPN_CLIENT_DATAPATH_H

#include "client/host/tun.h"
#include "client/tunnel.h"
#include "netstack/netstack.h"

#define DATAPATH_SERVERS_MAX 3

struct datapath_server {
    struct address address;
    char device[NETSTACK_DEVICE_MAX]; /* by which it was reached before; empty: nobody is there but us, at port 53 */
};

struct datapath_options {
    int tun_fd; /* becomes the datapath's on success */
    uint16_t mtu;
    const struct datapath_server *server; /* at most DATAPATH_SERVERS_MAX */
    size_t servers;
    uint16_t names_port; /* of names, on 127.0.0.1 */
};

struct datapath;

KT_MUST_USE int datapath_open(struct datapath **out, struct uv_loop_s *loop, struct tunnel *tunnel,
                              const struct datapath_options *options, void (*on_failed)(void *context, int error),
                              void *context);
/* Memory goes later, on the loop. NULL is fine. */
void datapath_close(struct datapath *datapath);

/* From now on it is these; flows that are open stay. */
void datapath_set_servers(struct datapath *datapath, const struct datapath_server *server, size_t servers);

/* The tunnel's callbacks. */
void datapath_on_packet(struct datapath *datapath, const uint8_t *packet, size_t size);
void datapath_on_room(struct datapath *datapath);

void datapath_stats(const struct datapath *datapath, struct tun_stats *stats);

#endif
