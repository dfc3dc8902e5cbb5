#include "client/machine_names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/file_watch.h"
#include "client/host/device.h"
#include "client/host/network.h"
#include "client/resolver_link.h"
#include "common/log.h"

#define LOOPBACK "lo"
#define RESOLVED_SOCKET "/run/systemd/resolve/io.systemd.Resolve" /* made anew when systemd-resolved starts */

static bool has_server(const struct machine *machine, const struct address *address)
{
    for (size_t i = 0; i < machine->servers; i++) {
        if (address_equal(&machine->server[i].address, address))
            return true;
    }
    return false;
}

static bool is_other_ktvpn(const char *device)
{
    return strncmp(device, DEVICE_PREFIX, strlen(DEVICE_PREFIX)) == 0;
}

/* Only one can answer for a name server: who came first. Two clusters are mostly both "cluster.local", so no query
 * tells which one it means. */
static void note_holder(struct machine *machine, const char *device)
{
    char name[NETWORK_ALIAS_MAX];
    network_alias(name, device);
    machine->is_held = true;
    (void)snprintf(
        machine->no_names, sizeof machine->no_names,
        "cluster names do not resolve, use addresses: the ktvpn '%s' (device %s) answers this machine's name "
        "server, for its own cluster",
        name, device);
}

/* Name servers that can be routed: not those of this machine itself, which no route leads away from. */
void machine_names_find(struct machine *machine)
{
    machine->is_resolved = resolved_is_asked(&machine->resolvconf);
    machine->is_held = false;
    machine->servers = 0;
    (void)snprintf(machine->no_names, sizeof machine->no_names,
                   "cluster names do not resolve, use addresses: the name servers of " MACHINE_RESOLV_CONF
                   " are on loopback, or have routes of their own");
    if (machine->is_resolved)
        return;
    for (size_t i = 0; i < machine->resolvconf.servers && machine->servers < DATAPATH_SERVERS_MAX; i++) {
        const struct address *address = &machine->resolvconf.server[i];
        struct network_route egress;
        bool is_without_v6 = address->family == ADDRESS_V6 && machine->names != NULL && !machine->device.has_v6;
        if (is_without_v6 || address_is_loopback(address) || address_is_link_local(address) ||
            has_server(machine, address) || network_egress(&egress, address) != 0 ||
            strcmp(egress.device, LOOPBACK) == 0)
            continue;
        if (is_other_ktvpn(egress.device)) {
            note_holder(machine, egress.device);
            continue;
        }
        struct datapath_server *server = &machine->server[machine->servers++];
        server->address = *address;
        memcpy(server->device, egress.device, sizeof server->device);
    }
}

static int on_ask_cluster(void *context, uint32_t id, const uint8_t *message, size_t size)
{
    struct machine *machine = context;
    return tunnel_ask_dns(machine->tunnel, id, message, size);
}

static void fill_upstream(struct names_upstream *upstream, const struct machine *machine)
{
    for (size_t i = 0; i < machine->servers; i++) {
        upstream[i] = (struct names_upstream){.address = machine->server[i].address};
        memcpy(upstream[i].device, machine->server[i].device, sizeof upstream[i].device);
    }
}

int machine_names_open(struct machine *machine, const char *name_space)
{
    struct names_upstream upstream[DATAPATH_SERVERS_MAX];
    fill_upstream(upstream, machine);
    struct names_options options = {.cluster_domain = machine->cluster_domain,
                                    .name_space = name_space,
                                    .upstream = upstream,
                                    .upstreams = machine->servers,
                                    .ranges = &machine->ranges};
    struct names_ops ops = {.ask_cluster = on_ask_cluster};
    return names_open(&machine->names, machine->loop, &options, &ops, machine);
}

/* The neighbour of our own address in ktvpn's range: nobody else on this machine goes there. */
void machine_names_add_own(struct machine *machine)
{
    if (!machine->is_resolved || machine->helper->resolved.pid <= 0)
        return;
    struct datapath_server *own = &machine->server[machine->servers++];
    *own = (struct datapath_server){.address = *tunnel_v4(machine->tunnel)};
    own->address.bytes[3] ^= 1;
}

/* Why no query passes through us, where there is more to say than machine_names_find() did. */
static void say_without(struct machine *machine)
{
    const struct wire_accept *accept = tunnel_accept(machine->tunnel);
    const struct address *own = &machine->resolvconf.server[0];
    char server[ADDRESS_STRLEN] = "the cluster's name server", text[ADDRESS_STRLEN];
    if (accept != NULL && accept->servers > 0)
        (void)address_print(&accept->server[0], server);
    if (machine->is_resolved)
        (void)snprintf(machine->no_names, sizeof machine->no_names,
                       "cluster names do not resolve, use addresses: systemd-resolved takes the settings of a device "
                       "only from root: run `sudo ktvpn up`");
    else if (!machine->is_held && address_is_loopback(own))
        (void)snprintf(machine->no_names, sizeof machine->no_names,
                       "cluster names do not resolve, use addresses: the name server in " MACHINE_RESOLV_CONF
                       " is on this machine (%s); let it ask %s for %s (dnsmasq: server=/%s/%s)",
                       address_print(own, text), server, machine->cluster_domain, machine->cluster_domain, server);
}

/* One that has a route of its own already (another VPN's) is left to it: names go the way they went. */
int machine_names_route(struct machine *machine, struct error *error)
{
    size_t kept = 0;
    for (size_t i = 0; i < machine->servers; i++) {
        struct cidr one = cidr_of_address(&machine->server[i].address);
        int rc = helper_add_route(machine->helper, &one, error);
        if (rc != 0 && rc != -EEXIST)
            return rc;
        if (rc == 0)
            machine->server[kept++] = machine->server[i];
    }
    machine->servers = kept;
    if (kept == 0)
        say_without(machine);
    return 0;
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

/* With our routes in place the kernel would say that all servers are behind our own device. */
static void remove_routes(struct machine *machine)
{
    struct error error;
    for (size_t i = 0; i < machine->servers; i++) {
        struct cidr one = cidr_of_address(&machine->server[i].address);
        if (helper_remove_route(machine->helper, &one, &error) != 0)
            log_debug("machine: %s", error.text);
    }
}

static void look_again(struct machine *machine)
{
    struct names_upstream upstream[DATAPATH_SERVERS_MAX];
    struct error error = {.text = ""};
    struct resolvconf now;
    if (resolvconf_read(&now, MACHINE_RESOLV_CONF) != 0)
        return;
    remove_routes(machine);
    machine->resolvconf = now;
    machine_names_find(machine);
    int rc = machine_names_route(machine, &error);
    fill_upstream(upstream, machine);
    names_set_upstream(machine->names, upstream, machine->servers);
    datapath_set_servers(machine->datapath, machine->server, machine->servers);
    log_info("machine: %s has changed: %zu name servers pass through us%s%s", MACHINE_RESOLV_CONF, machine->servers,
             rc != 0 ? ": " : "", error.text);
    if (machine->servers == 0) { /* the network may not be there yet */
        log_warning("%s", machine->no_names);
        if (!address_is_loopback(&now.server[0]))
            file_watch_again(machine->watch);
    }
}

/* Whoever had systemd-resolved keeps it: its own file changes with each of its networks, and nothing follows for us. */
static void on_conf_changed(void *context)
{
    struct machine *machine = context;
    if (!machine->is_resolved)
        look_again(machine);
}

static void on_resolved_restarted(void *context)
{
    struct machine *machine = context;
    if (access(RESOLVED_SOCKET, F_OK) == 0)
        resolver_link_refresh(machine->link);
}

static void on_link_done(void *context, int result)
{
    struct machine *machine = context;
    machine->is_setting_link = false;
    if (result == 0)
        result = machine->is_to_check ? machine_check(machine) : 0;
    if (result != 0 && machine->is_to_check)
        machine->on_verified(machine->context, machine->names_result = result);
}

static void open_link(struct machine *machine, const char *name_space)
{
    struct resolver_link_options options = {.device = machine->device.name,
                                            .server = machine->server[0].address,
                                            .cluster_domain = machine->cluster_domain,
                                            .name_space = name_space,
                                            .ranges = &machine->ranges};
    int rc =
        resolver_link_open(&machine->link, machine->loop, &machine->helper->resolved, &options, on_link_done, machine);
    machine->is_setting_link = rc == 0;
    if (rc == 0)
        rc =
            file_watch_open(&machine->restart_watch, machine->loop, RESOLVED_SOCKET, 0, on_resolved_restarted, machine);
    if (rc != 0)
        log_warning("systemd-resolved: %s", strerror(-rc));
}

void machine_names_follow(struct machine *machine, const char *name_space)
{
    if (machine->is_resolved && machine->servers > 0)
        open_link(machine, name_space);
    int rc = file_watch_open(&machine->watch, machine->loop, MACHINE_RESOLV_CONF, 0, on_conf_changed, machine);
    if (rc != 0)
        log_warning("machine: changes of %s will not be seen: %s", MACHINE_RESOLV_CONF, strerror(-rc));
}

void machine_names_close(struct machine *machine)
{
    file_watch_close(machine->watch);
    file_watch_close(machine->restart_watch);
    resolver_link_close(machine->link);
    machine->watch = machine->restart_watch = NULL;
    machine->link = NULL;
}
