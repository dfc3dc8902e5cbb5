/* Which targets a client may have. */
#include "agent/policy.h"

#include "common/cidr.h"
#include "common/session.h"
#include "tests/unit/unit.h"

static enum netstack_verdict verdict(const char *target)
{
    struct netstack_flow flow = {.protocol = NETSTACK_TCP, .target_port = 80, .source_port = 1};
    assert_int_equal(address_parse(&flow.target, target), 0);
    return policy_verdict(&flow);
}

static void the_network_is_dialled(void **state)
{
    (void)state;
    static const char *const good[] = {"10.232.0.7",        "192.168.1.1",    "8.8.8.8",    "198.17.255.255",
                                       "198.20.0.0",        "1.0.0.1",        "fd00:10::7", "2001:db8::1",
                                       "fd6b:7476:706f::1", "::ffff:10.1.2.3"};
    for (size_t i = 0; i < KT_ARRAY_LEN(good); i++)
        assert_int_equal(verdict(good[i]), NETSTACK_DIAL);
}

static void the_pod_itself_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"127.0.0.1",        "127.255.0.9",    "::1",
                                      "::ffff:127.0.0.1", "::127.0.0.2",    "169.254.169.254",
                                      "fe80::1",          "febf::1",        "::ffff:169.254.169.254",
                                      "198.18.0.0",       "198.19.255.255", "fd6b:7476:706e::1"};
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++)
        assert_int_equal(verdict(bad[i]), NETSTACK_REFUSE);
}

static void what_nobody_can_dial_is_dropped(void **state)
{
    (void)state;
    static const char *const bad[] = {"0.0.0.0",   "0.1.2.3",         "::",      "224.0.0.251",      "239.255.255.250",
                                      "240.0.0.1", "255.255.255.255", "ff02::1", "::ffff:224.0.0.1", "::ffff:0.0.0.0"};
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++)
        assert_int_equal(verdict(bad[i]), NETSTACK_DROP);
    struct netstack_flow none = {.protocol = NETSTACK_UDP};
    assert_int_equal(policy_verdict(&none), NETSTACK_DROP);
}

static void every_sessions_addresses_are_in_the_refused_ranges(void **state)
{
    (void)state;
    struct address v4, v6;
    struct netstack_flow flow = {.protocol = NETSTACK_TCP};
    for (uint8_t i = 0; i < 100; i++) {
        uint8_t key[WIRE_KEY_SIZE] = {i};
        session_addresses(key, &v4, &v6);
        flow.target = v4;
        assert_int_equal(policy_verdict(&flow), NETSTACK_REFUSE);
        flow.target = v6;
        assert_int_equal(policy_verdict(&flow), NETSTACK_REFUSE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_network_is_dialled),
        cmocka_unit_test(the_pod_itself_is_refused),
        cmocka_unit_test(what_nobody_can_dial_is_dropped),
        cmocka_unit_test(every_sessions_addresses_are_in_the_refused_ranges),
    };
    return unit_run(tests);
}
