/* The TUN device in a namespace of the test's own. */
#include "client/host/device.h"

#include <errno.h>
#include <stdlib.h>

#include "tests/unit/netns.h"

static struct address address_of(const char *text)
{
    struct address address;
    assert_int_equal(address_parse(&address, text), 0);
    return address;
}

static int make(const char *want, unsigned *index)
{
    char name[DEVICE_NAME_MAX];
    int fd = device_open_file();
    assert_true(fd >= 0);
    assert_int_equal(device_create(fd, name, index), 0);
    assert_string_equal(name, want);
    assert_int_equal(if_nametoindex(want), *index);
    return fd;
}

static void names_are_the_first_free_ones(void **state)
{
    (void)state;
    struct netns netns;
    unsigned index[3], other;
    char name[DEVICE_NAME_MAX];
    netns_enter(&netns);
    int zero = make("ktvpn0", &index[0]), one = make("ktvpn1", &index[1]);
    assert_int_not_equal(index[0], index[1]);
    assert_int_equal(close(zero), 0);
    assert_int_equal(if_nametoindex("ktvpn0"), 0); /* gone with its last descriptor */
    zero = make("ktvpn0", &other);
    assert_int_not_equal(index[0], other);
    assert_int_not_equal(device_create(zero, name, &other), 0); /* one descriptor, one device */
    (void)close(zero);
    (void)close(one);
    netns_leave(&netns);
}

static void routes_are_added_once_and_removed_once(void **state)
{
    (void)state;
    struct netns netns;
    struct rtnl rtnl;
    unsigned index;
    struct address v4 = address_of("198.18.0.2"), v6 = address_of("fd00::2"), none = {.family = ADDRESS_NONE};
    static const char *const ranges[] = {"10.222.0.0/16", "fd12::/64", "10.222.0.1/32", "fd12::1/128", "0.0.0.0/0"};
    netns_enter(&netns);
    int fd = make("ktvpn0", &index);
    assert_int_equal(rtnl_open(&rtnl), 0);
    assert_int_equal(device_bring_up(&rtnl, index, 65000), 0);
    assert_int_equal(device_add_address(&rtnl, index, &v4), 0);
    assert_int_equal(device_add_address(&rtnl, index, &v4), -EEXIST);
    assert_int_equal(device_add_address(&rtnl, index, &v6), 0);
    for (size_t i = 0; i < KT_ARRAY_LEN(ranges); i++) {
        struct cidr to;
        assert_int_equal(cidr_parse(&to, ranges[i]), 0);
        const struct address *source = to.address.family == ADDRESS_V6 ? &v6 : &v4;
        assert_int_equal(device_remove_route(&rtnl, index, &to), -ESRCH);
        assert_int_equal(device_add_route(&rtnl, index, &to, source), 0);
        assert_int_equal(device_add_route(&rtnl, index, &to, source), -EEXIST);
        assert_int_equal(device_remove_route(&rtnl, index, &to), 0);
        assert_int_equal(device_add_route(&rtnl, index, &to, &none), 0);
    }
    struct address foreign = address_of("192.0.2.1"); /* nobody here has it */
    struct cidr to = cidr_of_address(&foreign);
    assert_int_equal(device_add_route(&rtnl, index, &to, &foreign), -EINVAL);
    assert_int_equal(device_add_route(&rtnl, 777, &to, &v4), -ENODEV);
    assert_int_equal(device_bring_up(&rtnl, 777, 65000), -ENODEV);
    assert_int_equal(device_bring_up(&rtnl, index, 10), -EINVAL);
    rtnl_close(&rtnl);
    (void)close(fd);
    assert_int_equal(netns_lines_with("ktvpn"), 0);
    netns_leave(&netns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_the_first_free_ones),
        cmocka_unit_test(routes_are_added_once_and_removed_once),
    };
    return unit_run(tests);
}
