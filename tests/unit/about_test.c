/* What the agent says of its pod, here of this machine. */
#include "agent/about.h"

#include <stdio.h>
#include <string.h>

#include "netstack/netstack.h"
#include "tests/unit/unit.h"

static struct resolvconf conf;
static struct wire_accept accept;

static int setup(void **state KT_UNUSED)
{
    memset(&conf, 0, sizeof conf);
    return 0;
}

static void lists_are_cut_to_the_wires_size(void **state KT_UNUSED)
{
    conf.servers = RESOLVCONF_SERVERS_MAX;
    for (size_t i = 0; i < conf.servers; i++)
        conf.server[i] = address_v4(0x0a000001 + (uint32_t)i);
    conf.searches = RESOLVCONF_SEARCH_MAX;
    for (size_t i = 0; i < conf.searches; i++)
        (void)snprintf(conf.search[i], sizeof conf.search[i], "d%zu.test", i);
    about_fill(&accept, &conf);
    assert_int_equal(accept.servers, 3);
    assert_true(address_equal(&accept.server[2], &conf.server[2]));
    assert_int_equal(accept.searches, WIRE_SEARCH_MAX);
    assert_string_equal(accept.search[7], "d7.test");
    accept.mtu = WIRE_MTU;
    uint8_t body[8192];
    struct wire_accept again;
    int size = wire_put_accept(body, sizeof body, &accept);
    assert_true(size > 0);
    assert_int_equal(wire_get_accept(&again, body, (size_t)size), 0);
}

static void own_address_is_never_a_local_one(void **state KT_UNUSED)
{
    conf.servers = 1;
    conf.server[0] = address_v4(0x7f000001); /* a server on loopback says nothing about the pod's address */
    about_fill(&accept, &conf);
    assert_false(address_is_loopback(&accept.pod));
    assert_false(address_is_link_local(&accept.pod));
    conf.servers = 0;
    about_fill(&accept, &conf);
    assert_int_equal(accept.servers, 0);
    assert_int_equal(!!(accept.abilities & WIRE_CAN_PING_V4), netstack_can_ping(ADDRESS_V4));
    assert_int_equal(!!(accept.abilities & WIRE_CAN_PING_V6), netstack_can_ping(ADDRESS_V6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(lists_are_cut_to_the_wires_size, setup),
        cmocka_unit_test_setup(own_address_is_never_a_local_one, setup),
    };
    return unit_run(tests);
}
