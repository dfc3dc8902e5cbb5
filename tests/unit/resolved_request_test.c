#include "client/host/resolved_request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/cidr.h"
#include "tests/unit/unit.h"

static struct resolved_request good(void)
{
    struct resolved_request request = {.device = "ktvpn12", .server = address_v4(0xc6120005)};
    resolved_request_add(&request, "", "ems.svc.cluster.local");
    resolved_request_add(&request, "~", "svc");
    assert_int_equal(request.domains, 2);
    return request;
}

static int check(const struct resolved_request *request)
{
    struct resolved_request out;
    return resolved_request_check(&out, request, sizeof *request);
}

static void a_good_one_passes(void **state KT_UNUSED)
{
    struct resolved_request request = good(), out;
    assert_int_equal(check(&request), 0);
    assert_int_equal(resolved_request_check(&out, &request, sizeof request - 1), -EBADMSG);
    assert_int_equal(resolved_request_check(&out, &request, 0), -EBADMSG);
}

static void other_devices_are_refused(void **state KT_UNUSED)
{
    static const char *const names[] = {"eth0", "ktvpn", "ktvpn0x", "ktvpn0 eth0", "", "-h", "xktvpn0", "ktvpn-1"};
    for (size_t i = 0; i < KT_ARRAY_LEN(names); i++) {
        struct resolved_request request = good();
        memset(request.device, 0, sizeof request.device);
        memcpy(request.device, names[i], strlen(names[i]));
        assert_int_equal(check(&request), -EBADMSG);
    }
    struct resolved_request request = good();
    memset(request.device, '0', sizeof request.device); /* without an end */
    memcpy(request.device, "ktvpn", 5);
    assert_int_equal(check(&request), -EBADMSG);
}

static void what_is_no_domain_is_refused(void **state KT_UNUSED)
{
    static const char *const names[] = {"", "~", ".", "~.", "-x", "~-x", "a..b", "a.", "a b", "a;b", "A", "a/b", "~~a"};
    for (size_t i = 0; i < KT_ARRAY_LEN(names); i++) {
        struct resolved_request request = good();
        (void)snprintf(request.domain[1], sizeof request.domain[1], "%s", names[i]);
        assert_int_equal(check(&request), -EBADMSG);
        request.domains = 1;
        resolved_request_add(&request, "", names[i]);
        assert_int_equal(request.domains, 1);
    }
    struct resolved_request request = good();
    memset(request.domain[0], 'a', sizeof request.domain[0]);
    assert_int_equal(check(&request), -EBADMSG);
    request = good();
    request.domains = RESOLVED_DOMAINS_MAX + 1;
    assert_int_equal(check(&request), -EBADMSG);
    request.domains = 0;
    assert_int_equal(check(&request), -EBADMSG);
    request = good();
    request.server = (struct address){.family = 9};
    assert_int_equal(check(&request), -EBADMSG);
    request.server = address_v4(0);
    assert_int_equal(check(&request), -EBADMSG);
}

static void check_reverse(const char *range, const char *zones)
{
    struct resolved_request request = {.domains = 0};
    char got[2048] = "";
    struct cidr cidr;
    size_t at = 0;
    assert_int_equal(cidr_parse(&cidr, range), 0);
    resolved_request_add_reverse(&request, &cidr);
    for (uint32_t i = 0; i < request.domains; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, "%s%s", i > 0 ? " " : "", request.domain[i]);
    assert_string_equal(got, zones);
}

static void ranges_have_their_zones(void **state KT_UNUSED)
{
    check_reverse("10.222.0.0/16", "~222.10.in-addr.arpa");
    check_reverse("10.232.4.0/22", "~4.232.10.in-addr.arpa ~5.232.10.in-addr.arpa ~6.232.10.in-addr.arpa "
                                   "~7.232.10.in-addr.arpa");
    check_reverse("10.1.2.3/32", "~3.2.1.10.in-addr.arpa");
    check_reverse("10.0.0.0/8", "~10.in-addr.arpa");
    check_reverse("10.0.0.0/9", "");
    check_reverse("0.0.0.0/0", "");
    check_reverse("fd00:222::/32", "~2.2.2.0.0.0.d.f.ip6.arpa");
    check_reverse("fd00:220::/30", "~0.2.2.0.0.0.d.f.ip6.arpa ~1.2.2.0.0.0.d.f.ip6.arpa ~2.2.2.0.0.0.d.f.ip6.arpa "
                                   "~3.2.2.0.0.0.d.f.ip6.arpa");
    check_reverse("fd00:2000::/19", "~2.0.0.d.f.ip6.arpa ~3.0.0.d.f.ip6.arpa");
}

static void no_more_than_there_is_room_for(void **state KT_UNUSED)
{
    struct resolved_request request = good();
    for (int i = 0; i < 2 * RESOLVED_DOMAINS_MAX; i++)
        resolved_request_add(&request, "~", "svc");
    assert_int_equal(request.domains, RESOLVED_DOMAINS_MAX);
    assert_int_equal(check(&request), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_one_passes),
        cmocka_unit_test(other_devices_are_refused),
        cmocka_unit_test(what_is_no_domain_is_refused),
        cmocka_unit_test(ranges_have_their_zones),
        cmocka_unit_test(no_more_than_there_is_room_for),
    };
    return unit_run(tests);
}
