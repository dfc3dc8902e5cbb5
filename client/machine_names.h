/* The machine's name servers: which of them are led through us, and how. A part of client/machine.h.
 *
 *   /etc/resolv.conf names         then
 *   a server elsewhere             its address is routed into the TUN (client/datapath.h)
 *   systemd-resolved's stub        the device gets a name server and domains of its own there (client/resolver_link.h)
 *   another resolver on loopback   nothing can be routed: cluster names do not resolve, and we say what to do
 *
 * /etc/resolv.conf is looked at again whenever it changes (another Wi-Fi), and never written. */
#ifndef KTVPN_CLIENT_MACHINE_NAMES_H
#define KTVPN_CLIENT_MACHINE_NAMES_H

#include "client/machine.h"

/* Fills machine->server from machine->resolvconf. */
void machine_names_find(struct machine *machine);
KT_MUST_USE int machine_names_open(struct machine *machine, const char *name_space);
/* Once the names and the tunnel are there, before the datapath: the server behind the device, for systemd-resolved. */
void machine_names_add_own(struct machine *machine);
/* Routes the servers into the device. */
KT_MUST_USE int machine_names_route(struct machine *machine, struct error *error);
/* Follows changes, and tells systemd-resolved. Without either, names go on as they are. */
void machine_names_follow(struct machine *machine, const char *name_space);
void machine_names_close(struct machine *machine);

#endif
