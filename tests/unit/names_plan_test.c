#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/names/names_plan.h"

static struct names_known services, namespaces;
static struct cidr_set ranges;

static const struct names_scope SCOPE = {"cluster.local", "ems", &ranges, &services, &namespaces};

static int set_up(void **state)
{
    (void)state;
    struct cidr cidr;
    cidr_set_init(&ranges);
    assert_int_equal(names_known_add(&services, "dashboard-api", 100), 0);
    assert_int_equal(names_known_add(&services, "store", 100), 0);
    assert_int_equal(names_known_add(&namespaces, "kube-system", 100), 0);
    assert_int_equal(cidr_parse(&cidr, "10.222.0.0/16"), 0);
    assert_int_equal(cidr_set_add(&ranges, &cidr), 0);
    assert_int_equal(cidr_parse(&cidr, "fd00:222::/112"), 0);
    assert_int_equal(cidr_set_add(&ranges, &cidr), 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    names_known_deinit(&services);
    names_known_deinit(&namespaces);
    return 0;
}

/* `candidates` are separated by blanks. */
static void check(const char *name, const char *candidates, bool then_outside)
{
    struct names_plan plan;
    char got[4 * DNS_NAME_MAX] = "";
    names_plan_make(&plan, &SCOPE, name);
    size_t at = 0;
    for (size_t i = 0; i < plan.candidates; i++)
        at += (size_t)snprintf(got + at, sizeof got - at, "%s%s", i > 0 ? " " : "", plan.candidate[i]);
    assert_string_equal(got, candidates);
    assert_int_equal(plan.then_outside, then_outside);
}

#define SEARCHED(name) name ".ems.svc.cluster.local " name ".svc.cluster.local " name ".cluster.local"

static void short_names_are_searched_as_in_a_pod(void **state)
{
    (void)state;
    check("dashboard-api", SEARCHED("dashboard-api"), true);
    check("dashboard-api.ems", SEARCHED("dashboard-api.ems"), true);
    check("store-0.store", SEARCHED("store-0.store"), true);
    check("kube-dns.kube-system", SEARCHED("kube-dns.kube-system"), true);
    check("_http._tcp.dashboard-api", SEARCHED("_http._tcp.dashboard-api"), true);
    check("a.b.c.d.ems", SEARCHED("a.b.c.d.ems"), true);
    check("a.b.c.d.e.ems", "", true); /* 5 dots */
}

static void names_of_the_domain_are_asked_as_they_are(void **state)
{
    (void)state;
    check("dashboard-api.ems.svc.cluster.local", "dashboard-api.ems.svc.cluster.local", false);
    check("cluster.local", "cluster.local", false);
    check("no.such.thing.cluster.local", "no.such.thing.cluster.local", false);
    check("dashboard-api.ems.svc", "dashboard-api.ems.svc.cluster.local", false);
    check("svc", "svc.cluster.local", false);
    check("10-232-0-7.ems.pod", "10-232-0-7.ems.pod.cluster.local", false);
    check("10-232-0-7.kube-system.pod", "10-232-0-7.kube-system.pod.cluster.local", false);
    check("ems.pod", "", true);
    check("a.other.pod", "", true);
    check("pod", "", true);
}

static void other_names_never_reach_the_cluster(void **state)
{
    (void)state;
    static const char *const names[] = {"",
                                        "www.example.com",
                                        "dashboard-api.example.com",
                                        "ems.example.com",
                                        "xcluster.local",
                                        "printer.local",
                                        "mysvc",
                                        "dashboard",
                                        "dashboard-api2",
                                        "unknown",
                                        "cluster.local.example.com",
                                        "dashboard-api\\046ems",
                                        "svc.com"};
    for (size_t i = 0; i < KT_ARRAY_LEN(names); i++)
        check(names[i], "", true);
}

static void reverse_names_go_by_range(void **state)
{
    (void)state;
    check("10.0.222.10.in-addr.arpa", "10.0.222.10.in-addr.arpa", false);
    check("1.0.0.127.in-addr.arpa", "", true);
    check("0.222.10.in-addr.arpa", "", true);
#define NIBBLES "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.2.2.0.0.0.d.f.ip6.arpa"
    check("7.0.0." NIBBLES, "7.0.0." NIBBLES, false);
    check("7.0.1.1." NIBBLES, "", true);
}

static void reads_reverse_names_strictly(void **state)
{
    (void)state;
    struct address address;
    char text[ADDRESS_STRLEN];
    assert_int_equal(names_plan_reverse(&address, "4.3.2.1.in-addr.arpa"), 0);
    assert_string_equal(address_print(&address, text), "1.2.3.4");
    assert_int_equal(
        names_plan_reverse(&address, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"), 0);
    assert_string_equal(address_print(&address, text), "2001:db8::1");
    static const char *const bad[] = {"",
                                      "in-addr.arpa",
                                      ".in-addr.arpa",
                                      "3.2.1.in-addr.arpa",
                                      "5.4.3.2.1.in-addr.arpa",
                                      "256.3.2.1.in-addr.arpa",
                                      "04.3.2.1.in-addr.arpa",
                                      "4.3..1.in-addr.arpa",
                                      "4.3.2.1.in-addr.arpa.x",
                                      "4.3.2.1in-addr.arpa",
                                      "1000.3.2.1.in-addr.arpa",
                                      "g.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
                                      "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
                                      "10.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"};
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++)
        assert_int_equal(names_plan_reverse(&address, bad[i]), -EINVAL);
}

static void leaves_out_names_that_get_too_long(void **state)
{
    (void)state;
    char name[DNS_NAME_MAX];
    memset(name, 'a', sizeof name);
    memcpy(name + sizeof name - 5, ".ems", 5);
    struct names_plan plan;
    names_plan_make(&plan, &SCOPE, name);
    assert_int_equal(plan.candidates, 0);
    memcpy(name + 230, ".ems", 5);
    names_plan_make(&plan, &SCOPE, name);
    assert_int_equal(plan.candidates, 2);
    assert_true(strlen(plan.candidate[0]) < DNS_NAME_MAX);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_names_are_searched_as_in_a_pod),
        cmocka_unit_test(names_of_the_domain_are_asked_as_they_are),
        cmocka_unit_test(other_names_never_reach_the_cluster),
        cmocka_unit_test(reverse_names_go_by_range),
        cmocka_unit_test(reads_reverse_names_strictly),
        cmocka_unit_test(leaves_out_names_that_get_too_long),
    };
    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, set_up, tear_down);
}
