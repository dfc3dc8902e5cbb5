#include "client/names/names_rebind.h"

#include "tests/unit/unit.h"

static bool is_local(const char *text)
{
    struct address address;
    assert_int_equal(address_parse(&address, text), 0);
    return names_rebind_is_local(&address);
}

static void own_addresses_in_each_disguise(void **state)
{
    (void)state;
    static const char *const own[] = {"127.0.0.1",
                                      "127.255.255.254",
                                      "169.254.169.254",
                                      "0.0.0.0",
                                      "0.1.2.3",
                                      "::",
                                      "::1",
                                      "fe80::1",
                                      "febf::1",
                                      "::ffff:127.0.0.1",
                                      "::ffff:169.254.1.1",
                                      "::ffff:0.0.0.0",
                                      "::127.0.0.1",
                                      "::169.254.1.1"};
    for (size_t i = 0; i < KT_ARRAY_LEN(own); i++)
        assert_true(is_local(own[i]));
}

static void the_clusters_addresses_are_none(void **state)
{
    (void)state;
    static const char *const others[] = {"10.222.0.10", "192.168.1.1",      "128.0.0.1",           "169.253.0.1",
                                         "198.18.0.2",  "fd00:222::10",     "2001:db8::127.0.0.1", "::ffff:10.0.0.1",
                                         "fec0::1",     "::1:0:0:127.0.0.1"};
    for (size_t i = 0; i < KT_ARRAY_LEN(others); i++)
        assert_false(is_local(others[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_addresses_in_each_disguise),
        cmocka_unit_test(the_clusters_addresses_are_none),
    };
    return unit_run(tests);
}
