/* What the privileged helper takes from its parent, and what it must not. */
#include "client/host/helper_request.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct address address_of(const char *text)
{
    struct address address = {.family = ADDRESS_NONE};
    if (*text != '\0')
        assert_int_equal(address_parse(&address, text), 0);
    return address;
}

static int check(const struct helper_request *request)
{
    struct helper_request out;
    return helper_request_check(&out, request, sizeof *request);
}

static int check_open(uint16_t mtu, const char *v4, const char *v6)
{
    struct helper_request request = {
        .operation = HELPER_OPEN_TUN, .mtu = mtu, .v4 = address_of(v4), .v6 = address_of(v6)};
    return check(&request);
}

static int check_route(const char *range)
{
    struct helper_request request = {.operation = HELPER_ADD_ROUTE};
    assert_int_equal(cidr_parse(&request.to, range), 0);
    int add = check(&request);
    request.operation = HELPER_REMOVE_ROUTE;
    assert_int_equal(check(&request), add);
    return add;
}

static void right_ones_are_taken(void **state)
{
    (void)state;
    assert_int_equal(check_open(65000, "198.18.0.2", "fd00::2"), 0);
    assert_int_equal(check_open(1280, "", ""), 0);
    assert_int_equal(check_open(65535, "198.18.0.2", ""), 0);
    assert_int_equal(check_route("10.222.0.0/16"), 0);
    assert_int_equal(check_route("10.222.0.1/32"), 0);
    assert_int_equal(check_route("fd00::/64"), 0);
}

static void aliases(void **state)
{
    (void)state;
    struct helper_request request = {.operation = HELPER_OPEN_TUN, .mtu = 65000};
    memcpy(request.alias, "kubernetes-admin_kt.1", 22);
    assert_int_equal(check(&request), 0);
    request.alias[30] = 'x'; /* behind the end */
    assert_int_equal(check(&request), -EBADMSG);
    memset(request.alias, 'x', sizeof request.alias); /* no end */
    assert_int_equal(check(&request), -EBADMSG);
    request.alias[sizeof request.alias - 1] = '\0';
    assert_int_equal(check(&request), 0);
    request.alias[3] = '\n';
    assert_int_equal(check(&request), -EBADMSG);
}

static void wrong_addresses_are_refused(void **state)
{
    (void)state;
    assert_int_equal(check_open(1279, "198.18.0.2", ""), -EBADMSG);
    assert_int_equal(check_open(0, "198.18.0.2", ""), -EBADMSG);
    assert_int_equal(check_open(65000, "127.0.0.1", ""), -EBADMSG);
    assert_int_equal(check_open(65000, "224.0.0.1", ""), -EBADMSG);
    assert_int_equal(check_open(65000, "0.0.0.0", ""), -EBADMSG);
    assert_int_equal(check_open(65000, "fd00::2", ""), -EBADMSG); /* of the other family */
    assert_int_equal(check_open(65000, "", "198.18.0.2"), -EBADMSG);
    assert_int_equal(check_open(65000, "", "::"), -EBADMSG);
    assert_int_equal(check_open(65000, "", "ff02::1"), -EBADMSG);
    struct helper_request request = {.operation = HELPER_OPEN_TUN, .mtu = 65000, .v4 = address_of("198.18.0.2")};
    request.v4.bytes[15] = 1;
    assert_int_equal(check(&request), -EBADMSG);
    request.v4 = (struct address){.family = 99};
    assert_int_equal(check(&request), -EBADMSG);
}

static void wrong_ranges_are_refused(void **state)
{
    (void)state;
    struct helper_request request = {.operation = HELPER_ADD_ROUTE};
    assert_int_equal(check(&request), -EBADMSG); /* no family */
    request.to = (struct cidr){.address = address_v4(0x0a000000), .prefix = 33};
    assert_int_equal(check(&request), -EBADMSG);
    request.to.prefix = 255;
    assert_int_equal(check(&request), -EBADMSG);
    request.to = (struct cidr){.address = address_v4(0x0a000001), .prefix = 8}; /* host bits */
    assert_int_equal(check(&request), -EBADMSG);
    request.to = (struct cidr){.address = {.family = ADDRESS_V6}, .prefix = 129};
    assert_int_equal(check(&request), -EBADMSG);
    request.to = (struct cidr){.address = {.family = 17}, .prefix = 0};
    assert_int_equal(check(&request), -EBADMSG);
}

static void wrong_sizes_and_operations_are_refused(void **state)
{
    (void)state;
    uint8_t data[sizeof(struct helper_request) + 8] = {0};
    struct helper_request out = {.operation = 77}, request = {.operation = HELPER_OPEN_TUN, .mtu = 65000};
    memcpy(data, &request, sizeof request);
    for (size_t size = 0; size < sizeof data; size++)
        assert_int_equal(helper_request_check(&out, data, size), size == sizeof request ? 0 : -EBADMSG);
    assert_int_equal(out.operation, HELPER_OPEN_TUN);
    for (uint32_t operation = 0; operation < 300; operation++) {
        request.operation = operation;
        if (operation != HELPER_OPEN_TUN && operation != HELPER_RESTORE_TUN)
            assert_int_equal(check(&request), -EBADMSG);
    }
    request.operation = UINT32_MAX;
    assert_int_equal(check(&request), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right_ones_are_taken),
        cmocka_unit_test(aliases),
        cmocka_unit_test(wrong_addresses_are_refused),
        cmocka_unit_test(wrong_ranges_are_refused),
        cmocka_unit_test(wrong_sizes_and_operations_are_refused),
    };
    return unit_run(tests);
}
