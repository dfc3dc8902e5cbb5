/* The kernel's routes as ktvpn reads them, each test in a namespace of its own. */
#include "client/host/network.h"

#include <errno.h>
#include <stdlib.h>

#include "client/host/device.h"
#include "tests/unit/netns.h"

static struct address address_of(const char *text)
{
    struct address address;
    assert_int_equal(address_parse(&address, text), 0);
    return address;
}

static const struct network_route *find(const struct network *network, const char *range, const char *device)
{
    struct cidr cidr;
    assert_int_equal(cidr_parse(&cidr, range), 0);
    for (size_t i = 0; i < network->routes; i++) {
        const struct network_route *route = &network->route[i];
        if (address_equal(&route->to.address, &cidr.address) && route->to.prefix == cidr.prefix &&
            strcmp(route->device, device) == 0)
            return route;
    }
    return NULL;
}

static struct network *read_all(void)
{
    static struct network network;
    struct error error;
    assert_int_equal(network_read(&network, &error), 0);
    return &network;
}

static void an_empty_namespace_has_no_routes(void **state)
{
    (void)state;
    struct netns netns;
    struct network_route route;
    struct address to = address_of("192.0.2.1");
    netns_enter(&netns);
    assert_int_equal(read_all()->routes, 0);
    assert_int_equal(network_egress(&route, &to), -ENETUNREACH);
    netns_leave(&netns);
}

static void routes_of_both_families_are_read(void **state)
{
    (void)state;
    struct netns netns;
    netns_enter(&netns);
    netns_run("ip link add lan0 type veth peer name lan1 && ip link set lan0 up && ip link set lan1 up");
    netns_run("ip addr add 192.0.2.10/24 dev lan0 && ip -6 addr add 2001:db8::10/64 dev lan0 nodad");
    netns_run("ip route add default via 192.0.2.1 && ip -6 route add default via 2001:db8::1");
    netns_run("ip route add 198.51.100.0/24 via 192.0.2.2");
    netns_run("ip route add 203.0.113.0/24 nexthop via 192.0.2.3 nexthop via 192.0.2.4");
    netns_run("ip route add 198.51.101.0/24 via inet6 2001:db8::5 dev lan0");
    netns_run("ip route add unreachable 10.9.0.0/16 && ip route add 10.8.0.0/16 via 192.0.2.2 table 77");
    netns_run("ip route add 10.7.0.0/16 dev lo");

    const struct network *network = read_all();
    const struct network_route *lan = find(network, "192.0.2.0/24", "lan0");
    assert_non_null(lan);
    assert_int_equal(lan->gateway.family, ADDRESS_NONE);
    static const struct {
        const char *to, *gateway;
    } want[] = {{"0.0.0.0/0", "192.0.2.1"},
                {"::/0", "2001:db8::1"},
                {"198.51.100.0/24", "192.0.2.2"},
                {"203.0.113.0/24", "192.0.2.3"},
                {"198.51.101.0/24", "2001:db8::5"}};
    for (size_t i = 0; i < KT_ARRAY_LEN(want); i++) {
        const struct network_route *route = find(network, want[i].to, "lan0");
        struct address gateway = address_of(want[i].gateway);
        assert_non_null(route);
        assert_true(address_equal(&route->gateway, &gateway));
    }
    assert_non_null(find(network, "2001:db8::/64", "lan0"));
    for (size_t i = 0; i < network->routes; i++) {
        assert_string_not_equal(network->route[i].device, "lo");
        assert_false(network->route[i].to.address.bytes[0] == 10); /* other tables, types, and loopback */
    }
    netns_leave(&netns);
}

static void egress_is_the_kernels_choice(void **state)
{
    (void)state;
    struct netns netns;
    struct network_route route;
    netns_enter(&netns);
    netns_run("ip link add lan0 type veth peer name lan1 && ip link set lan0 up && ip link set lan1 up");
    netns_run("ip addr add 192.0.2.10/24 dev lan0 && ip -6 addr add 2001:db8::10/64 dev lan0 nodad");
    netns_run("ip route add default via 192.0.2.1 && ip route add unreachable 10.9.0.0/16");
    struct address near = address_of("192.0.2.77"), far = address_of("8.8.8.8"), own = address_of("192.0.2.10");
    struct address six = address_of("2001:db8::77"), none = address_of("10.9.1.1"), gateway = address_of("192.0.2.1");

    assert_int_equal(network_egress(&route, &near), 0);
    assert_string_equal(route.device, "lan0");
    assert_int_equal(route.gateway.family, ADDRESS_NONE);
    assert_true(address_equal(&route.to.address, &near));
    assert_int_equal(route.to.prefix, 32);
    assert_int_equal(network_egress(&route, &far), 0);
    assert_string_equal(route.device, "lan0");
    assert_true(address_equal(&route.gateway, &gateway));
    assert_int_equal(network_egress(&route, &own), 0);
    assert_string_equal(route.device, "lo");
    assert_int_equal(network_egress(&route, &six), 0);
    assert_string_equal(route.device, "lan0");
    assert_int_equal(network_egress(&route, &none), -ENETUNREACH);
    struct address nothing = {.family = ADDRESS_NONE};
    assert_int_equal(network_egress(&route, &nothing), -ENETUNREACH);
    netns_leave(&netns);
}

static void too_many_routes_are_cut(void **state)
{
    (void)state;
    struct netns netns;
    netns_enter(&netns);
    netns_run("ip link add lan0 type veth peer name lan1 && ip link set lan0 up && ip link set lan1 up");
    netns_run(
        "for i in 0 1 2 3; do for k in $(seq 0 199); do echo route add 10.$i.$k.0/24 dev lan0; done; done | ip -batch "
        "-");
    assert_int_equal(read_all()->routes, NETWORK_ROUTES_MAX);
    netns_leave(&netns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_namespace_has_no_routes),
        cmocka_unit_test(routes_of_both_families_are_read),
        cmocka_unit_test(egress_is_the_kernels_choice),
        cmocka_unit_test(too_many_routes_are_cut),
    };
    return unit_run(tests);
}
