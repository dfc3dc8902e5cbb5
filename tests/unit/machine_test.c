/* The machine's side of `up` with the real kernel, each test in a network namespace of its own. The tunnel and the
 * helper are in their place here: the one takes notes, the other makes device and routes in this process. */
#include "client/machine.h"

#include <errno.h>
#include <time.h>
#include <uv.h>

#include "client/host/device.h"
#include "client/options.h"
#include "client/report.h"
#include "common/mem.h"
#include "tests/unit/netns.h"
#include "tests/unit/resolv_conf.h"

#define WAIT_MS 10000
#define SERVER "192.0.2.53"

static char resolv_conf[] = "/tmp/ktvpn-machine-XXXXXX";

struct bed {
    struct netns netns;
    uv_loop_t loop;
    struct machine machine;
    struct error error;
    struct cidr_set services, pods;
    struct options options;
    struct address peer[2];
    struct report report;

    /* the tunnel */
    struct address v4, v6;
    struct wire_accept accept;
    bool has_accept, answers_names;
    int packets;

    /* the helper */
    struct rtnl rtnl;
    struct helper_device device;
    int open_rc, routes, restored, fail_route; /* this one fails */
    int removed;

    int verified, result, failed;
};

static struct bed *bed;

/* --- in place of tunnel.c ----------------------------------------------------------------------------------------- */

const struct address *tunnel_v4(const struct tunnel *tunnel KT_UNUSED)
{
    return &bed->v4;
}

const struct address *tunnel_v6(const struct tunnel *tunnel KT_UNUSED)
{
    return &bed->v6;
}

const struct wire_accept *tunnel_accept(const struct tunnel *tunnel KT_UNUSED)
{
    return bed->has_accept ? &bed->accept : NULL;
}

int tunnel_send(struct tunnel *tunnel KT_UNUSED, const struct carrier_part *parts KT_UNUSED, int count KT_UNUSED)
{
    bed->packets++;
    return 0;
}

void tunnel_flush(struct tunnel *tunnel KT_UNUSED)
{
}

static uint32_t asked_id;
static uint8_t asked[600];
static size_t asked_size;

int tunnel_ask_dns(struct tunnel *tunnel KT_UNUSED, uint32_t id, const uint8_t *message, size_t size)
{
    assert_true(size < 500);
    asked_id = id;
    asked_size = size;
    memcpy(asked, message, size);
    return bed->answers_names ? 0 : -ENOTCONN;
}

/* --- in place of helper.c ----------------------------------------------------------------------------------------- */

int helper_open_tun(struct helper *helper KT_UNUSED, struct helper_device *device, const struct helper_tun *tun,
                    struct error *error)
{
    if (bed->open_rc != 0)
        return error_set(error, EXIT_CODE_MACHINE, bed->open_rc, "no device");
    device->fd = device_open_file();
    assert_true(device->fd >= 0);
    assert_int_equal(device_create(device->fd, device->name, &device->index), 0);
    assert_int_equal(device_set_alias(&bed->rtnl, device->index, tun->alias), 0);
    assert_int_equal(device_bring_up(&bed->rtnl, device->index, tun->mtu), 0);
    assert_int_equal(device_add_address(&bed->rtnl, device->index, &tun->v4), 0);
    device->has_v6 = tun->v6.family == ADDRESS_V6 && device_add_address(&bed->rtnl, device->index, &tun->v6) == 0;
    bed->device = *device;
    return 0;
}

int helper_remove_route(struct helper *helper KT_UNUSED, const struct cidr *to, struct error *error KT_UNUSED)
{
    bed->removed++;
    return device_remove_route(&bed->rtnl, bed->device.index, to);
}

int helper_add_route(struct helper *helper KT_UNUSED, const struct cidr *to, struct error *error)
{
    int rc = ++bed->routes == bed->fail_route
                 ? -EPERM
                 : device_add_route(&bed->rtnl, bed->device.index, to,
                                    to->address.family == ADDRESS_V6 ? &bed->v6 : &bed->v4);
    return rc == 0 ? 0 : error_set(error, EXIT_CODE_CONFLICT, rc, "no route: %s", strerror(-rc));
}

int helper_restore_tun(struct helper *helper KT_UNUSED, struct error *error)
{
    int rc = bed->open_rc != 0 ? bed->open_rc : device_bring_up(&bed->rtnl, bed->device.index, 1400);
    if (rc == 0 && bed->device.has_v6)
        rc = device_add_address(&bed->rtnl, bed->device.index, &bed->v6);
    bed->restored++;
    return rc == 0 ? 0 : error_set(error, EXIT_CODE_MACHINE, rc, "not up");
}

/* --- the owner ---------------------------------------------------------------------------------------------------- */

static void on_verified(void *context, int result)
{
    assert_ptr_equal(context, bed);
    bed->verified++;
    bed->result = result;
}

static void on_failed(void *context, const struct error *error)
{
    assert_ptr_equal(context, bed);
    bed->failed++;
    bed->error = *error;
}

static void turn(void)
{
    struct timespec ms = {.tv_nsec = 1000000};
    if (uv_run(&bed->loop, UV_RUN_NOWAIT) == 0)
        (void)nanosleep(&ms, NULL);
}

static void add(struct cidr_set *set, const char *text)
{
    struct cidr cidr;
    assert_int_equal(cidr_parse(&cidr, text), 0);
    assert_int_equal(cidr_set_add(set, &cidr), 0);
}

static void name(struct options_cidrs *cidrs, const char *text)
{
    assert_int_equal(cidr_parse(&cidrs->cidr[cidrs->count++], text), 0);
}

static bool is_routed(const char *text)
{
    struct address address;
    assert_int_equal(address_parse(&address, text), 0);
    return cidr_set_contains(&bed->machine.ranges, &address);
}

static int set_up(void **state KT_UNUSED)
{
    bed = test_calloc(1, sizeof *bed);
    netns_enter(&bed->netns);
    netns_make_lan();
    netns_run("ip route add default via 192.0.2.1");
    resolv_conf_write(resolv_conf, "nameserver " SERVER "\n");
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    assert_int_equal(rtnl_open(&bed->rtnl), 0);
    bed->v4 = address_v4(0xc6120005);
    assert_int_equal(address_parse(&bed->v6, "fd6b:7476:706e::5"), 0);
    bed->machine.on_verified = on_verified;
    bed->machine.on_failed = on_failed;
    bed->machine.context = bed;
    cidr_set_init(&bed->services);
    cidr_set_init(&bed->pods);
    add(&bed->services, "10.222.0.0/16");
    add(&bed->pods, "10.232.0.0/16");
    return 0;
}

static void leave(void)
{
    machine_leave(&bed->machine);
    assert_int_equal(netns_lines_with("ktvpn"), 0); /* at once */
    machine_leave(&bed->machine);
    assert_int_equal(uv_run(&bed->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(kt_mem_live(), 0);
}

static int tear_down(void **state KT_UNUSED)
{
    leave();
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    rtnl_close(&bed->rtnl);
    netns_leave(&bed->netns);
    test_free(bed);
    return 0;
}

static void look(void)
{
    assert_int_equal(machine_look(&bed->machine, &bed->error), 0);
}

static int plan(void)
{
    struct machine_plan wish = {.services = &bed->services,
                                .pods = &bed->pods,
                                .options = &bed->options,
                                .peers = bed->peer,
                                .peers_count = KT_ARRAY_LEN(bed->peer)};
    return machine_plan(&bed->machine, &wish, &bed->error);
}

static int join(void)
{
    struct machine_join wish = {.loop = &bed->loop, .name = "kt", .name_space = "ems"};
    return machine_join(&bed->machine, &wish, &bed->error);
}

static void look_plan_and_join(void)
{
    look();
    assert_int_equal(plan(), 0);
    assert_int_equal(join(), 0);
}

/* --- looking and planning ----------------------------------------------------------------------------------------- */

static void test_finds_its_name_servers(void **state KT_UNUSED)
{
    resolv_conf_write(resolv_conf, "nameserver 127.0.0.53\nnameserver " SERVER "\nnameserver 198.51.100.53\n");
    look();
    assert_int_equal(bed->machine.servers, 2);
    assert_string_equal(bed->machine.server[0].device, "ktt0");
    assert_string_equal(bed->machine.server[1].device, "ktt0");
}

/* An address of this machine's own: no route leads its packets into the tunnel, so it is as one on loopback. */
static void test_name_server_is_this_machine(void **state KT_UNUSED)
{
    resolv_conf_write(resolv_conf, "nameserver 192.0.2.2\n");
    look();
    assert_int_equal(bed->machine.servers, 0);
}

static void test_name_server_named_twice(void **state KT_UNUSED)
{
    resolv_conf_write(resolv_conf, "nameserver " SERVER "\nnameserver " SERVER "\n");
    look_plan_and_join();
    assert_int_equal(bed->machine.servers, 1);
}

static void test_plans(void **state KT_UNUSED)
{
    look();
    name(&bed->options.also, "198.51.100.0/24");
    name(&bed->options.exclude, "10.222.128.0/17");
    assert_int_equal(address_parse(&bed->peer[0], "198.51.100.7"), 0);
    assert_int_equal(address_parse(&bed->peer[1], "10.222.0.7"), 0);
    assert_int_equal(address_parse(&bed->options.agent, "198.51.100.8"), 0);
    assert_int_equal(plan(), 0);
    assert_true(is_routed("10.222.0.6"));
    assert_true(is_routed("10.232.0.1"));
    assert_true(is_routed("198.51.100.6"));
    assert_false(is_routed("198.51.100.7"));
    assert_false(is_routed("198.51.100.8"));
    assert_false(is_routed("10.222.0.7"));
    assert_false(is_routed("10.222.128.1"));
    assert_int_equal(netns_lines_with("ktvpn"), 0); /* nothing is changed so far */
}

/* Part of the machine's own network, by the user's wish: gateway and name server stay outside. */
static void test_plans_around_gateway_and_name_server(void **state KT_UNUSED)
{
    look();
    name(&bed->options.also, "192.0.2.0/25");
    assert_int_equal(plan(), 0);
    assert_true(is_routed("192.0.2.3"));
    assert_false(is_routed("192.0.2.1"));
    assert_false(is_routed(SERVER));
}

static void test_refuses_the_machines_network(void **state KT_UNUSED)
{
    look();
    add(&bed->pods, "192.0.2.0/24");
    assert_int_equal(plan(), -EADDRINUSE);
    assert_int_equal(bed->error.code, EXIT_CODE_CONFLICT);
}

/* --- joining and leaving ------------------------------------------------------------------------------------------ */

static void add_v6_cluster(uint32_t abilities)
{
    add(&bed->services, "fd31:222::/112");
    add(&bed->pods, "fd31:232::/64");
    bed->has_accept = true;
    bed->accept.abilities = abilities;
}

static void test_joins_and_leaves(void **state KT_UNUSED)
{
    look_plan_and_join();
    assert_true(netns_says("ip route", "10.222.0.0/16 dev ktvpn0"));
    assert_true(netns_says("ip route", "10.232.0.0/16 dev ktvpn0"));
    assert_true(netns_says("ip route", SERVER " dev ktvpn0"));
    assert_true(netns_says("ip addr show dev ktvpn0", "198.18.0.5/32"));
    netns_run("ping -c 1 -W 1 10.222.0.1 >/dev/null 2>&1 || true");
    turn();
    assert_true(bed->packets > 0);
    machine_report(&bed->machine, &bed->report);
    assert_string_equal(bed->report.device, "ktvpn0");
    assert_int_equal(bed->report.nameservers, 1);
    assert_int_equal(bed->report.warnings, 0);
}

static void test_no_device(void **state KT_UNUSED)
{
    bed->open_rc = -EPIPE;
    look();
    assert_int_equal(plan(), 0);
    assert_int_equal(join(), -EPIPE);
    assert_int_equal(bed->error.code, EXIT_CODE_MACHINE);
}

static void test_no_route(void **state KT_UNUSED)
{
    bed->fail_route = 2;
    look();
    assert_int_equal(plan(), 0);
    assert_int_equal(join(), -EPERM);
    assert_int_equal(netns_lines_with("ktvpn0:"), 1); /* leave() takes it away */
}

/* Another VPN or the administrator has a route to the name server alone: --exclude could not help there. */
static void test_name_server_has_a_route_already(void **state KT_UNUSED)
{
    netns_run("ip route add " SERVER "/32 dev ktt0");
    look_plan_and_join();
    assert_int_equal(bed->machine.servers, 0);
    assert_int_equal(machine_verify(&bed->machine), -ENOTSUP);
    machine_report(&bed->machine, &bed->report);
    assert_int_equal(bed->report.warnings, 1);
    assert_non_null(strstr(bed->report.warning[0], "do not resolve"));
}

/* C12: another ktvpn has come first. */
static void test_name_server_is_held_by_another(void **state KT_UNUSED)
{
    netns_run(
        "ip link add ktvpn9 type veth peer name ktt9 && ip link set ktt9 up && ip link set ktvpn9 up alias prod && ip "
        "route add " SERVER "/32 dev ktvpn9");
    look_plan_and_join();
    assert_int_equal(bed->machine.servers, 0);
    assert_int_equal(machine_verify(&bed->machine), -ENOTSUP);
    machine_report(&bed->machine, &bed->report);
    assert_non_null(strstr(bed->report.warning[0], "the ktvpn 'prod' (device ktvpn9)"));
    netns_run("ip link del ktvpn9");
}

static void test_device_is_deleted(void **state KT_UNUSED)
{
    look_plan_and_join();
    netns_run("ip link del ktvpn0");
    for (int i = 0; i < WAIT_MS && bed->failed == 0; i++)
        turn();
    assert_int_equal(bed->failed, 1);
    assert_int_equal(bed->error.code, EXIT_CODE_MACHINE);
    assert_non_null(strstr(bed->error.text, "ktvpn0 is gone"));
}

static void set_down(void)
{
    int before = bed->restored;
    netns_run("ip link set ktvpn0 down");
    for (int i = 0; i < WAIT_MS && bed->restored == before && bed->failed == 0; i++)
        turn();
}

static void test_device_is_set_down(void **state KT_UNUSED)
{
    add_v6_cluster(WIRE_CAN_IPV6);
    look_plan_and_join();
    set_down();
    assert_int_equal(bed->restored, 1);
    assert_int_equal(bed->failed, 0);
    assert_true(netns_says("ip route", "10.222.0.0/16 dev ktvpn0"));
    assert_true(netns_says("ip route", SERVER " dev ktvpn0"));
    assert_true(netns_says("ip -6 route get fd31:232::7", "src fd6b:7476:706e::5"));
}

/* A fight with somebody is not ours to win. */
static void test_device_is_set_down_again_and_again(void **state KT_UNUSED)
{
    look_plan_and_join();
    for (int i = 0; i < 4; i++)
        set_down();
    assert_int_equal(bed->restored, 3);
    assert_int_equal(bed->failed, 1);
    assert_non_null(strstr(bed->error.text, "again and again"));
}

static void test_device_cannot_be_restored(void **state KT_UNUSED)
{
    look_plan_and_join();
    bed->open_rc = -EPIPE;
    set_down();
    assert_int_equal(bed->failed, 1);
    assert_non_null(strstr(bed->error.text, "not up"));
}

static void test_no_memory(void **state KT_UNUSED)
{
    int rc = -1, tries = 0;
    look();
    for (unsigned long nth = 1; rc != 0 && nth < 200; nth++, tries++) {
        bed->machine.servers = 1;
        kt_mem_fail_nth(nth);
        rc = plan();
        rc = rc != 0 ? rc : join();
        kt_mem_fail_nth(0);
        if (rc != 0)
            leave();
    }
    assert_int_equal(rc, 0);
    assert_in_range(tries, 4, 100);
}

/* --- IPv6 --------------------------------------------------------------------------------------------------------- */

static void test_joins_both_families(void **state KT_UNUSED)
{
    add_v6_cluster(WIRE_CAN_IPV6);
    look_plan_and_join();
    assert_null(bed->machine.without_v6);
    assert_true(netns_says("ip -6 addr show dev ktvpn0", "fd6b:7476:706e::5/128"));
    assert_true(netns_says("ip -6 route", "fd31:222::/112 dev ktvpn0"));
    assert_true(netns_says("ip -6 route get fd31:232::7", "src fd6b:7476:706e::5"));
    assert_true(netns_says("ip link show dev ktvpn0", "alias kt"));
    machine_report(&bed->machine, &bed->report);
    assert_true(bed->report.has_v6);
    assert_int_equal(bed->report.warnings, 0);
}

/* Also where the cluster has no IPv6. */
static void test_name_server_by_v6(void **state KT_UNUSED)
{
    netns_run("ip addr add 2001:db8::2/64 dev ktt0 nodad");
    resolv_conf_write(resolv_conf, "nameserver fe80::1\nnameserver 2001:db8::53\n");
    look_plan_and_join();
    assert_int_equal(bed->machine.servers, 1);
    assert_true(netns_says("ip -6 route", "2001:db8::53 dev ktvpn0"));
    assert_true(netns_says("ip -6 route get 2001:db8::53", "src fd6b:7476:706e::5"));
    assert_null(bed->machine.without_v6);
}

static void test_name_server_by_v6_alone_cannot_be(void **state KT_UNUSED)
{
    netns_run("ip addr add 2001:db8::2/64 dev ktt0 nodad; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
    resolv_conf_write(resolv_conf, "nameserver 2001:db8::53\nnameserver " SERVER "\n");
    look_plan_and_join();
    assert_int_equal(bed->machine.servers, 1);
    assert_int_equal(bed->machine.server[0].address.family, ADDRESS_V4);
    assert_true(netns_says("ip -6 route get 2001:db8::53", "dev ktt0"));
}

static bool has_no_v6(void)
{
    return !netns_says("ip -6 addr show dev ktvpn0", "inet6") && !netns_says("ip -6 route", "ktvpn0") &&
           netns_says("ip route", "10.222.0.0/16 dev ktvpn0");
}

/* Then no name of the cluster can lead to an address that does not answer. */
static void test_cluster_without_v6(void **state KT_UNUSED)
{
    bed->has_accept = true;
    bed->accept.abilities = WIRE_CAN_IPV6;
    look_plan_and_join();
    assert_true(has_no_v6());
    assert_null(bed->machine.without_v6);
}

static void test_agent_without_v6(void **state KT_UNUSED)
{
    add_v6_cluster(0);
    look_plan_and_join();
    assert_true(has_no_v6());
    assert_non_null(strstr(bed->machine.without_v6, "agent"));
    machine_report(&bed->machine, &bed->report);
    assert_false(bed->report.has_v6);
    assert_ptr_equal(bed->report.warning[0], bed->machine.without_v6);
}

static void test_machine_without_v6(void **state KT_UNUSED)
{
    netns_run("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
    add_v6_cluster(WIRE_CAN_IPV6);
    look_plan_and_join();
    assert_true(has_no_v6());
    assert_non_null(strstr(bed->machine.without_v6, "switched off"));
}

static void test_plans_around_v6(void **state KT_UNUSED)
{
    netns_run("ip addr add 2001:db8::2/64 dev ktt0 nodad && ip route add default via 2001:db8::1");
    resolv_conf_write(resolv_conf, "nameserver 2001:db8::53\n");
    look();
    name(&bed->options.also, "2001:db8::/65");
    assert_int_equal(address_parse(&bed->peer[0], "2001:db8::6443"), 0);
    assert_int_equal(plan(), 0);
    assert_true(is_routed("2001:db8::7"));
    assert_false(is_routed("2001:db8::6443"));
    assert_false(is_routed("2001:db8::1"));
    assert_false(is_routed("2001:db8::53"));
}

static void test_refuses_the_machines_v6_network(void **state KT_UNUSED)
{
    netns_run("ip addr add 2001:db8::2/64 dev ktt0 nodad");
    look();
    add(&bed->pods, "2001:db8::/64");
    assert_int_equal(plan(), -EADDRINUSE);
    assert_non_null(strstr(bed->error.text, "2001:db8::/64"));
    assert_non_null(strstr(bed->error.text, "--exclude"));
}

/* --- names -------------------------------------------------------------------------------------------------------- */

static void learn(const char *a, const char *b, const char *c)
{
    bed->has_accept = true;
    bed->accept.searches = 3;
    (void)snprintf(bed->accept.search[0], sizeof bed->accept.search[0], "%s", a);
    (void)snprintf(bed->accept.search[1], sizeof bed->accept.search[1], "%s", b);
    (void)snprintf(bed->accept.search[2], sizeof bed->accept.search[2], "%s", c);
    assert_int_equal(join(), 0);
    leave();
}

static void test_learns_the_domain(void **state KT_UNUSED)
{
    const char *domain = bed->machine.cluster_domain;
    look();
    assert_int_equal(plan(), 0);
    bed->machine.servers = 0;
    assert_int_equal(join(), 0);
    assert_string_equal(domain, "cluster.local");
    leave();
    learn("ems.svc.kt.test", "svc.kt.test", "kt.test");
    assert_string_equal(domain, "kt.test");
    learn("svc.svc.kt.test", "svc.kt.test", "kt.test"); /* in a namespace of that name */
    assert_string_equal(domain, "kt.test");
    learn("ems.svc.kt.test", "svc.kt.test", "svc.example.com"); /* the node's own comes last */
    assert_string_equal(domain, "kt.test");
    learn("example.com", "svc.", "ems.svc.");
    assert_string_equal(domain, "cluster.local");
}

static bool kernel_routes(const char *to)
{
    char command[128];
    (void)snprintf(command, sizeof command, "ip route get %s", to);
    return netns_says(command, "dev ktvpn");
}

static void await_servers(size_t servers)
{
    for (int i = 0; i < 1000 && bed->machine.servers != servers; i++)
        (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_int_equal(bed->machine.servers, servers);
}

/* Another Wi-Fi: the file is written anew. */
static void test_follows_changes_of_resolv_conf(void **state KT_UNUSED)
{
    look_plan_and_join();
    assert_true(kernel_routes(SERVER));
    resolv_conf_write(resolv_conf, "nameserver 192.0.2.54\nnameserver 192.0.2.55\n");
    await_servers(2);
    assert_int_equal(bed->removed, 1);
    assert_false(kernel_routes(SERVER));
    assert_true(kernel_routes("192.0.2.54") && kernel_routes("192.0.2.55"));
    assert_string_equal(bed->machine.server[1].device, "ktt0"); /* not our own device */

    resolv_conf_write(resolv_conf, "nameserver 127.0.0.1\n");
    await_servers(0);
    assert_false(kernel_routes("192.0.2.54") || kernel_routes("192.0.2.55"));
    assert_non_null(strstr(bed->machine.no_names, "on this machine (127.0.0.1)"));
    resolv_conf_write(resolv_conf, "nameserver " SERVER "\n");
    await_servers(1);
    assert_true(kernel_routes(SERVER));
}

/* The query leaves by a socket of this machine, and comes back through the TUN to the tunnel. */
static void test_verifies(void **state KT_UNUSED)
{
    static const uint8_t record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 222, 0, 1};
    bed->answers_names = true;
    asked_size = 0;
    look_plan_and_join();
    assert_int_equal(machine_verify(&bed->machine), 0);
    for (int i = 0; i < WAIT_MS && asked_size == 0; i++)
        turn();
    assert_true(asked_size > 0);
    asked[2] |= 0x80, asked[7] = 1;
    memcpy(asked + asked_size, record, sizeof record);
    names_answer(bed->machine.names, asked_id, asked, asked_size + sizeof record);
    for (int i = 0; i < WAIT_MS && bed->verified == 0; i++)
        turn();
    assert_int_equal(bed->verified, 1);
    assert_int_equal(bed->result, 0);
    machine_report(&bed->machine, &bed->report);
    assert_int_equal(bed->report.names.cluster, 1);
}

static void test_does_not_verify(void **state KT_UNUSED)
{
    look_plan_and_join();
    assert_int_equal(machine_verify(&bed->machine), 0);
    while (bed->verified == 0) /* as long as the query waits for a tunnel that does not come */
        (void)uv_run(&bed->loop, UV_RUN_ONCE);
    assert_true(bed->result < 0);
    machine_report(&bed->machine, &bed->report);
    assert_int_equal(bed->report.warnings, 1);
}

static int enter(void **state KT_UNUSED)
{
    int fd = mkstemp(resolv_conf);
    (void)close(fd);
    if (geteuid() == 0)
        resolv_conf_enter(resolv_conf);
    return fd < 0;
}

static int end(void **state KT_UNUSED)
{
    if (geteuid() == 0)
        resolv_conf_leave(resolv_conf);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_finds_its_name_servers),
        TEST(test_name_server_is_this_machine),
        TEST(test_name_server_named_twice),
        TEST(test_plans),
        TEST(test_plans_around_gateway_and_name_server),
        TEST(test_refuses_the_machines_network),
        TEST(test_joins_and_leaves),
        TEST(test_no_device),
        TEST(test_no_route),
        TEST(test_name_server_has_a_route_already),
        TEST(test_name_server_is_held_by_another),
        TEST(test_device_is_deleted),
        TEST(test_device_is_set_down),
        TEST(test_device_is_set_down_again_and_again),
        TEST(test_device_cannot_be_restored),
        TEST(test_no_memory),
        TEST(test_joins_both_families),
        TEST(test_cluster_without_v6),
        TEST(test_name_server_by_v6),
        TEST(test_name_server_by_v6_alone_cannot_be),
        TEST(test_agent_without_v6),
        TEST(test_machine_without_v6),
        TEST(test_plans_around_v6),
        TEST(test_refuses_the_machines_v6_network),
        TEST(test_learns_the_domain),
        TEST(test_follows_changes_of_resolv_conf),
        TEST(test_verifies),
        TEST(test_does_not_verify),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, enter, end);
}
