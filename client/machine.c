#include "client/machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "client/host/device.h"
#include "client/host/link_watch.h"
#include "client/host/ranges.h"
#include "client/machine_names.h"
#include "client/names_check.h"
#include "client/options.h"
#include "client/report.h"
#include "common/log.h"
#include "common/mem.h"

#define RESTORES_MAX 3                 /* of a device that was set down, ... */
#define RESTORES_MS 60000              /* ... each this soon after the one before */
#define CLUSTER_DOMAIN "cluster.local" /* when the agent's search list does not tell */

const char *machine_device_of(void *context, const struct address *to)
{
    const struct machine *machine = context;
    for (size_t i = 0; i < machine->servers; i++) {
        if (address_equal(&machine->server[i].address, to))
            return machine->server[i].device;
    }
    return NULL;
}

int machine_look(struct machine *machine, struct error *error)
{
    machine->device.fd = -1;
    machine->names_result = 1;
    int rc = network_read(&machine->network, error);
    if (rc != 0)
        return rc;
    rc = resolvconf_read(&machine->resolvconf, MACHINE_RESOLV_CONF);
    if (rc != 0)
        return error_set(error, EXIT_CODE_MACHINE, rc, "cannot read %s: %s", MACHINE_RESOLV_CONF, strerror(-rc));
    machine_names_find(machine);
    return 0;
}

/* What must never enter the tunnel: the API server or agent, the gateways, the resolvers (these come back one by one,
 * see datapath.h). */
static size_t outside_addresses(const struct machine *machine, const struct machine_plan *plan, struct address *out,
                                size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < plan->peers_count && count < max; i++)
        out[count++] = plan->peers[i];
    if (plan->options->agent.family != ADDRESS_NONE && count < max)
        out[count++] = plan->options->agent;
    for (size_t i = 0; i < machine->network.routes && count < max; i++) {
        const struct network_route *route = &machine->network.route[i];
        if (route->to.prefix == 0 && route->gateway.family != ADDRESS_NONE)
            out[count++] = route->gateway;
    }
    for (size_t i = 0; i < machine->resolvconf.servers && count < max; i++)
        out[count++] = machine->resolvconf.server[i];
    return count;
}

static int add_cidrs(struct cidr_set *set, const struct options_cidrs *cidrs)
{
    cidr_set_init(set);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < cidrs->count; i++)
        rc = cidr_set_add(set, &cidrs->cidr[i]);
    return rc;
}

int machine_plan(struct machine *machine, const struct machine_plan *plan, struct error *error)
{
    struct address outside[RANGES_OUTSIDE_MAX];
    struct cidr_set *also = kt_calloc(2, sizeof *also);
    if (also == NULL)
        return error_set(error, EXIT_CODE_FAILED, -ENOMEM, "out of memory");
    struct cidr_set *exclude = also + 1;
    int rc = add_cidrs(also, &plan->options->also);
    if (rc == 0)
        rc = add_cidrs(exclude, &plan->options->exclude);
    struct ranges_wish wish = {.name = plan->name,
                               .name_of = network_alias,
                               .services = plan->services,
                               .pods = plan->pods,
                               .also = also,
                               .exclude = exclude,
                               .outside = outside,
                               .outside_count = outside_addresses(machine, plan, outside, KT_ARRAY_LEN(outside))};
    if (rc == 0)
        rc = ranges_plan(&machine->ranges, &wish, &machine->network, error);
    else
        (void)error_set(error, EXIT_CODE_USAGE, rc, "too many ranges in --also and --exclude");
    kt_free(also);
    return rc;
}

/* A pod's search list begins with NS.svc.DOMAIN, svc.DOMAIN, DOMAIN (Kubernetes pkg/kubelet/network/dns); what follows
 * is the node's own, and may look alike. */
static const char *find_domain(const struct wire_accept *accept)
{
    for (size_t i = 1; accept != NULL && i < accept->searches; i++) {
        const char *first = accept->search[0], *svc = accept->search[i];
        size_t before = strlen(first) > strlen(svc) ? strlen(first) - strlen(svc) : 0;
        if (strncmp(svc, "svc.", 4) == 0 && svc[4] != '\0' && before > 0 && first[before - 1] == '.' &&
            strcmp(first + before, svc) == 0)
            return svc + 4;
    }
    return CLUSTER_DOMAIN;
}

static bool has_v6_ranges(const struct cidr_set *ranges)
{
    bool has = false;
    for (size_t i = 0; i < ranges->count; i++)
        has = has || ranges->range[i].address.family == ADDRESS_V6;
    return has;
}

static void go_without_v6(struct machine *machine, const char *why)
{
    size_t kept = 0;
    for (size_t i = 0; i < machine->ranges.count; i++) {
        if (machine->ranges.range[i].address.family != ADDRESS_V6)
            machine->ranges.range[kept++] = machine->ranges.range[i];
    }
    machine->ranges.count = kept;
    machine->without_v6 = why;
}

static bool has_v6_server(const struct machine *machine)
{
    bool has = false;
    for (size_t i = 0; i < machine->servers; i++)
        has = has || machine->server[i].address.family == ADDRESS_V6;
    return has;
}

/* Those of IPv4 alone are left; names go their old way if there is none. */
static void drop_v6_servers(struct machine *machine)
{
    size_t kept = 0;
    for (size_t i = 0; i < machine->servers; i++) {
        if (machine->server[i].address.family != ADDRESS_V6)
            machine->server[kept++] = machine->server[i];
    }
    machine->servers = kept;
}

/* The tunnel's own IPv6 address if the cluster's IPv6 or a name server's is to be routed, else none; without it the
 * ranges are dropped, so that nothing leads to an address that cannot answer. */
static struct address choose_v6(struct machine *machine)
{
    const struct wire_accept *accept = tunnel_accept(machine->tunnel);
    bool can = accept != NULL && (accept->abilities & WIRE_CAN_IPV6) != 0;
    bool has_ranges = has_v6_ranges(&machine->ranges);
    if (has_ranges && !can)
        go_without_v6(machine, "the cluster's IPv6 addresses stay out of reach: the agent or its pod has no IPv6");
    bool is_used = (has_ranges && can) || has_v6_server(machine);
    return is_used ? *tunnel_v6(machine->tunnel) : (struct address){.family = ADDRESS_NONE};
}

static int open_device(struct machine *machine, const char *name, struct error *error)
{
    struct helper_tun tun = {
        .mtu = WIRE_MTU, .v4 = *tunnel_v4(machine->tunnel), .v6 = choose_v6(machine), .alias = name};
    int rc = helper_open_tun(machine->helper, &machine->device, &tun, error);
    if (rc != 0 || tun.v6.family == ADDRESS_NONE || machine->device.has_v6)
        return rc;
    drop_v6_servers(machine);
    if (has_v6_ranges(&machine->ranges))
        go_without_v6(machine, "the cluster's IPv6 addresses stay out of reach: IPv6 is switched off on this machine "
                               "(net.ipv6.conf.all.disable_ipv6)");
    return 0;
}

static int add_routes(struct machine *machine, struct error *error)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < machine->ranges.count; i++)
        rc = helper_add_route(machine->helper, &machine->ranges.range[i], error);
    return rc != 0 ? rc : machine_names_route(machine, error);
}

/* After the device was set down: what is there still, or again, is fine. */
static int add_routes_again(struct machine *machine, struct error *error)
{
    int rc = 0;
    for (size_t i = 0; (rc == 0 || rc == -EEXIST) && i < machine->ranges.count; i++)
        rc = helper_add_route(machine->helper, &machine->ranges.range[i], error);
    for (size_t i = 0; (rc == 0 || rc == -EEXIST) && i < machine->servers; i++) {
        struct cidr one = cidr_of_address(&machine->server[i].address);
        rc = helper_add_route(machine->helper, &one, error);
    }
    return rc == -EEXIST ? 0 : rc;
}

static void on_datapath_failed(void *context, int rc)
{
    struct machine *machine = context;
    struct error error;
    (void)error_set(&error, EXIT_CODE_MACHINE, rc, "the network device %s is gone: %s", machine->device.name,
                    strerror(-rc));
    machine->on_failed(machine->context, &error);
}

/* A network manager, a script at resume or a person: put right, but not for ever against somebody's will. */
static void on_device_down(void *context)
{
    struct machine *machine = context;
    struct error error;
    uint64_t now_ms = uv_now(machine->loop);
    if (now_ms - machine->restored_ms > RESTORES_MS)
        machine->restores = 0;
    machine->restored_ms = now_ms;
    int rc = 0;
    if (++machine->restores > RESTORES_MAX)
        rc = error_set(&error, EXIT_CODE_MACHINE, -ENETDOWN,
                       "something sets the network device %s down again and again: keep your network manager from it",
                       machine->device.name);
    if (rc == 0)
        rc = helper_restore_tun(machine->helper, &error);
    if (rc == 0)
        rc = add_routes_again(machine, &error);
    if (rc == 0)
        log_warning("the network device %s was set down: it is up again, with its routes", machine->device.name);
    else if (rc == -ENODEV) /* the last word of a device that is deleted is that it is down */
        on_datapath_failed(machine, rc);
    else
        machine->on_failed(machine->context, &error);
}

static int open_datapath(struct machine *machine, struct error *error)
{
    struct datapath_options options = {.tun_fd = machine->device.fd,
                                       .mtu = WIRE_MTU,
                                       .server = machine->server,
                                       .servers = machine->servers,
                                       .names_port = names_port(machine->names)};
    int rc = datapath_open(&machine->datapath, machine->loop, machine->tunnel, &options, on_datapath_failed, machine);
    if (rc == 0)
        return 0;
    (void)close(machine->device.fd);
    return error_set(error, EXIT_CODE_MACHINE, rc, "cannot use the network device: %s", strerror(-rc));
}

static int watch_device(struct machine *machine, struct error *error)
{
    int rc = link_watch_open(&machine->link_watch, machine->loop, machine->device.name, on_device_down, machine);
    return rc == 0 ? 0 : error_set(error, EXIT_CODE_MACHINE, rc, "cannot watch the network device: %s", strerror(-rc));
}

int machine_join(struct machine *machine, const struct machine_join *join, struct error *error)
{
    machine->loop = join->loop;
    machine->helper = join->helper;
    machine->tunnel = join->tunnel;
    (void)snprintf(machine->cluster_domain, sizeof machine->cluster_domain, "%s",
                   find_domain(tunnel_accept(machine->tunnel)));
    int rc = machine_names_open(machine, join->name_space);
    if (rc != 0)
        return error_set(error, EXIT_CODE_MACHINE, rc, "cannot open the name server on 127.0.0.1: %s", strerror(-rc));
    machine_names_add_own(machine);
    rc = open_device(machine, join->name, error);
    if (rc == 0)
        rc = open_datapath(machine, error);
    if (rc == 0)
        rc = add_routes(machine, error);
    if (rc == 0)
        machine_names_follow(machine, join->name_space);
    return rc != 0 ? rc : watch_device(machine, error);
}

static void on_check_done(void *context, int result)
{
    struct machine *machine = context;
    machine->names_result = result;
    machine->on_verified(machine->context, result);
}

int machine_check(struct machine *machine)
{
    char name[WIRE_DOMAIN_MAX + 32];
    (void)snprintf(name, sizeof name, "kubernetes.default.svc.%s", machine->cluster_domain);
    bool by_resolved = machine->link != NULL;
    struct names_check_options options = {
        .server = by_resolved ? machine->resolvconf.server[0] : machine->server[0].address, .name = name};
    return names_check_start(&machine->check, machine->loop, &options, on_check_done, machine);
}

int machine_verify(struct machine *machine)
{
    if (machine->servers == 0)
        return -ENOTSUP;
    machine->is_to_check = true;
    return machine->is_setting_link ? 0 : machine_check(machine);
}

void machine_leave(struct machine *machine)
{
    machine_names_close(machine);
    names_check_close(machine->check);
    link_watch_close(machine->link_watch);
    datapath_close(machine->datapath);
    names_close(machine->names);
    machine->check = NULL;
    machine->link_watch = NULL;
    machine->datapath = NULL;
    machine->names = NULL;
}

void machine_packet(struct machine *machine, uint8_t *packet, size_t size)
{
    if (machine->datapath != NULL)
        datapath_on_packet(machine->datapath, packet, size);
}

void machine_room(struct machine *machine)
{
    if (machine->datapath != NULL)
        datapath_on_room(machine->datapath);
}

void machine_dns_answer(struct machine *machine, uint32_t id, const uint8_t *message, size_t size)
{
    if (machine->names != NULL)
        names_answer(machine->names, id, message, size);
}

void machine_name(struct machine *machine, enum names_kind kind, const char *name, bool is_there)
{
    if (machine->names == NULL)
        return;
    if (!is_there)
        names_remove(machine->names, kind, name);
    else if (names_add(machine->names, kind, name) != 0)
        log_debug("names: no room for %s", name);
}

void machine_report(const struct machine *machine, struct report *report)
{
    report->device = machine->device.name;
    report->cluster_domain = machine->cluster_domain;
    report->ranges = &machine->ranges;
    report->has_v6 = machine->device.has_v6;
    if (machine->without_v6 != NULL)
        report->warning[report->warnings++] = machine->without_v6;
    for (size_t i = 0; i < machine->servers; i++)
        report->nameserver[report->nameservers++] = machine->server[i].address;
    if (machine->names != NULL)
        names_stats(machine->names, &report->names);
    if (machine->datapath != NULL)
        datapath_stats(machine->datapath, &report->tun);
    if (machine->datapath != NULL && machine->servers == 0)
        report->warning[report->warnings++] = machine->no_names;
    if (machine->names_result < 0)
        report->warning[report->warnings++] = "cluster names did not resolve at the start";
}
