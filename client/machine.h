/* Everything that `up` looks at and changes on this machine: ranges, device, routes, name server.
 *
 *   machine_look()   reads network and resolver settings
 *   machine_plan()   decides the ranges; refuses what collides. Nothing is changed so far
 *   machine_join()   device, addresses, routes, name server
 *   machine_leave()  undoes it: with the device go its addresses and routes
 *
 * The kernel does machine_leave()'s work when the process dies. */
#ifndef KTVPN_CLIENT_MACHINE_H
#define KTVPN_CLIENT_MACHINE_H

#include "client/datapath.h"
#include "client/error.h"
#include "client/host/helper.h"
#include "client/host/network.h"
#include "client/names.h"
#include "client/tunnel.h"
#include "common/resolvconf.h"

#define MACHINE_RESOLV_CONF "/etc/resolv.conf"

struct file_watch;
struct link_watch;
struct names_check;
struct options;
struct report;
struct resolver_link;

struct machine {
    struct uv_loop_s *loop;
    struct helper *helper;
    struct tunnel *tunnel;
    struct network network;
    struct resolvconf resolvconf;
    struct datapath_server server[DATAPATH_SERVERS_MAX]; /* name servers whose queries pass through us */
    size_t servers;
    struct cidr_set ranges; /* that are routed into the tunnel */
    const char *without_v6; /* why the cluster's IPv6 ranges are not, though there are some; else NULL */
    struct helper_device device;
    struct names *names;
    struct datapath *datapath;
    struct names_check *check;
    struct link_watch *link_watch;
    uint64_t restored_ms; /* the device was set down by somebody, and up again by us */
    unsigned restores;
    bool is_resolved;           /* systemd-resolved is this machine's resolver */
    struct resolver_link *link; /* its settings of the device */
    bool is_setting_link, is_to_check;
    struct file_watch *watch, *restart_watch; /* of resolv.conf; of systemd-resolved */
    bool is_held;                             /* another ktvpn has the name server */
    char cluster_domain[WIRE_DOMAIN_MAX + 1];
    char no_names[1024]; /* with no name server: why, as a sentence */
    int names_result;    /* of the live query: 0, 1 (not asked yet), or -errno */
    void (*on_verified)(void *context, int result);
    void (*on_failed)(void *context, const struct error *error);
    void *context;
};

struct machine_plan {
    const char *name;                       /* of this ktvpn */
    const struct cidr_set *services, *pods; /* of the cluster */
    const struct options *options;          /* --also, --exclude, --agent */
    const struct address *peers;            /* of the API server's connections */
    size_t peers_count;
};

/* `machine` is zeroed memory. */
KT_MUST_USE int machine_look(struct machine *machine, struct error *error);
KT_MUST_USE int machine_plan(struct machine *machine, const struct machine_plan *plan, struct error *error);

struct machine_join {
    struct uv_loop_s *loop;
    struct helper *helper;
    struct tunnel *tunnel;
    const char *name, *name_space; /* of this ktvpn; of the cluster */
};
/* The tunnel must be UP. IPv6 takes part if the cluster has ranges of it, the agent can, and it is not switched off on
 * this machine; if only the latter two are missing, machine->without_v6 says which, and the rest goes on without it.
 * A device that somebody sets down is set up again; on_failed: it is gone, or does not stay up. After an error:
 * machine_leave(). */
KT_MUST_USE int machine_join(struct machine *machine, const struct machine_join *join, struct error *error);
/* Asks this machine's name server for a cluster name; on_verified gets 0, -ENOENT, -ETIMEDOUT ... later. -ENOTSUP: no
 * name server's queries pass through us, on_verified does not come; machine->no_names says why. */
KT_MUST_USE int machine_verify(struct machine *machine);
/* Of machine_names.c: the query itself, once systemd-resolved knows the device. */
KT_MUST_USE int machine_check(struct machine *machine);
/* The device by which connections to `to` must go so that they do not enter the tunnel: of an address that is routed
 * into it for its port 53. NULL: any. `machine` is a struct machine, after machine_look(). */
const char *machine_device_of(void *machine, const struct address *to);
/* What comes for this machine, from the tunnel and from the cluster; before machine_join() and after machine_leave() it
 * is dropped. */
void machine_packet(struct machine *machine, uint8_t *packet, size_t size);
void machine_room(struct machine *machine);
void machine_dns_answer(struct machine *machine, uint32_t id, const uint8_t *message, size_t size);
void machine_name(struct machine *machine, enum names_kind kind, const char *name, bool is_there);
/* Fine at any time. Memory of what was open goes later, on the loop. */
void machine_leave(struct machine *machine);

/* Fills the report's part of device, ranges, names and packets. */
void machine_report(const struct machine *machine, struct report *report);

#endif
