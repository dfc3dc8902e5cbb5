#include "common/address.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct address parse(const char *text)
{
    struct address address;
    assert_int_equal(address_parse(&address, text), 0);
    return address;
}

static void expect_text(const char *in, const char *out)
{
    struct address address = parse(in);
    char text[ADDRESS_STRLEN];
    assert_string_equal(address_print(&address, text), out);
}

static void parsed_and_printed(void **state)
{
    (void)state;
    expect_text("10.1.2.3", "10.1.2.3");
    expect_text("255.255.255.255", "255.255.255.255");
    expect_text("::", "::");
    expect_text("FD00:0:0::0001", "fd00::1"); /* RFC 5952 */
    expect_text("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1");
    expect_text("::ffff:1.2.3.4", "::ffff:1.2.3.4");
    char text[ADDRESS_STRLEN];
    struct address address = parse("10.1.2.3");
    assert_string_equal(address_print_port(&address, 80, text), "10.1.2.3:80");
    address = parse("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255");
    assert_string_equal(address_print_port(&address, 65535, text), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
    address = (struct address){0};
    assert_string_equal(address_print(&address, text), "-");
    assert_int_equal(address_size(&address), 0);
}

static void what_is_no_address_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "1",
                                      "1.2.3",
                                      "1.2.3.4.5",
                                      "256.1.1.1",
                                      "1.2.3.4 ",
                                      " 1.2.3.4",
                                      "1.2.3.4/8",
                                      "0x1.2.3.4",
                                      "1..2.3",
                                      "-1.2.3.4",
                                      ":",
                                      ":::",
                                      "[::1]",
                                      "::1%eth0",
                                      "1::2::3",
                                      "fd00::12345",
                                      "::1.2.3",
                                      "1:2:3:4:5:6:7:8:9"};
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++) {
        struct address address = address_v4(7), before = address;
        assert_int_equal(address_parse(&address, bad[i]), -EINVAL);
        assert_memory_equal(&address, &before, sizeof address); /* untouched */
    }
    char longest[5000];
    memset(longest, '1', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    struct address address;
    assert_int_equal(address_parse(&address, longest), -EINVAL);
    longest[1] = ':';
    assert_int_equal(address_parse(&address, longest), -EINVAL);
}

static void bytes_and_numbers(void **state)
{
    (void)state;
    struct address a = address_v4(0x0a010203), b = parse("10.1.2.3");
    assert_memory_equal(&a, &b, sizeof a);
    static const uint8_t bytes[16] = {10, 1, 2, 3, 9, 9, 9, 9};
    a = address_from_bytes(ADDRESS_V4, bytes);
    assert_memory_equal(&a, &b, sizeof a); /* the rest is zero */
    assert_true(address_equal(&a, &b));
    a = address_from_bytes(ADDRESS_V6, bytes);
    assert_int_equal(address_size(&a), 16);
    assert_false(address_equal(&a, &b));
}

static void ordered_by_family_then_value(void **state)
{
    (void)state;
    static const char *const sorted[] = {"0.0.0.0", "9.255.255.255", "10.0.0.0", "200.0.0.1", "::", "::1", "fd00::"};
    for (size_t i = 0; i < KT_ARRAY_LEN(sorted); i++) {
        for (size_t k = 0; k < KT_ARRAY_LEN(sorted); k++) {
            struct address a = parse(sorted[i]), b = parse(sorted[k]);
            int order = address_compare(&a, &b);
            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
        }
    }
}

static void kinds(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool loopback, link_local, multicast, unspecified;
    } rows[] = {
        {"127.0.0.1", 1, 0, 0, 0}, {"127.255.0.9", 1, 0, 0, 0}, {"::1", 1, 0, 0, 0},
        {"7f00::", 0, 0, 0, 0},    {"169.254.1.1", 0, 1, 0, 0}, {"169.253.1.1", 0, 0, 0, 0},
        {"fe80::1", 0, 1, 0, 0},   {"febf::", 0, 1, 0, 0},      {"fec0::", 0, 0, 0, 0},
        {"224.0.0.1", 0, 0, 1, 0}, {"239.9.9.9", 0, 0, 1, 0},   {"240.0.0.1", 0, 0, 0, 0},
        {"ff02::1", 0, 0, 1, 0},   {"0.0.0.0", 0, 0, 0, 1},     {"255.255.255.255", 0, 0, 1, 0},
        {"::", 0, 0, 0, 1},        {"10.0.0.1", 0, 0, 0, 0},    {"a9fe::", 0, 0, 0, 0},
        {"e000::", 0, 0, 0, 0},
    };
    for (size_t i = 0; i < KT_ARRAY_LEN(rows); i++) {
        struct address address = parse(rows[i].text);
        assert_int_equal(address_is_loopback(&address), rows[i].loopback);
        assert_int_equal(address_is_link_local(&address), rows[i].link_local);
        assert_int_equal(address_is_multicast(&address), rows[i].multicast);
        assert_int_equal(address_is_unspecified(&address), rows[i].unspecified);
    }
    struct address none = {0};
    assert_false(address_is_loopback(&none));
    assert_false(address_is_link_local(&none));
    assert_false(address_is_multicast(&none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parsed_and_printed),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(bytes_and_numbers),
        cmocka_unit_test(ordered_by_family_then_value),
        cmocka_unit_test(kinds),
    };
    return unit_run(tests);
}
