/* Which ranges go into the tunnel: a table of cases, then random ones against a slow and simple answer. */
#include "client/host/ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct cidr cidr_of(const char *text)
{
    struct cidr cidr;
    assert_int_equal(cidr_parse(&cidr, text), 0);
    return cidr;
}

/* "10.0.0.0/8 10.1.0.0/16" or NULL */
static struct cidr_set *set_of(struct cidr_set *set, const char *text)
{
    char copy[256], *rest = copy;
    cidr_set_init(set);
    (void)snprintf(copy, sizeof copy, "%s", text != NULL ? text : "");
    for (const char *word = strsep(&rest, " "); word != NULL; word = strsep(&rest, " ")) {
        struct cidr cidr;
        if (*word == '\0')
            continue;
        cidr = cidr_of(word);
        assert_int_equal(cidr_set_add(set, &cidr), 0);
    }
    return set;
}

static const char *text_of(const struct cidr_set *set)
{
    static char text[1024];
    char one[CIDR_STRLEN];
    text[0] = '\0';
    for (size_t i = 0; i < set->count; i++) {
        size_t used = strlen(text);
        (void)snprintf(text + used, sizeof text - used, "%s%s", i > 0 ? " " : "", cidr_print(&set->range[i], one));
    }
    return text;
}

/* A laptop: "RANGE[,GATEWAY] DEVICE" each. */
static void add_route(struct network *network, const char *range, const char *gateway, const char *device)
{
    struct network_route *route = &network->route[network->routes++];
    *route = (struct network_route){.to = cidr_of(range)};
    if (gateway != NULL)
        assert_int_equal(address_parse(&route->gateway, gateway), 0);
    (void)snprintf(route->device, sizeof route->device, "%s", device);
}

static struct network *laptop(void)
{
    static struct network network;
    network.routes = 0;
    add_route(&network, "0.0.0.0/0", "192.168.1.1", "wlan0");
    add_route(&network, "0.0.0.0/1", NULL, "vpn0");
    add_route(&network, "192.168.1.0/24", NULL, "wlan0");
    add_route(&network, "172.17.0.0/16", NULL, "docker0");
    add_route(&network, "10.0.0.0/8", "192.168.1.9", "wlan0");
    add_route(&network, "10.77.0.0/16", "192.168.1.9", "wlan0");
    add_route(&network, "10.90.0.0/16", NULL, "ktvpn0");
    add_route(&network, "fd00:1::/64", NULL, "wlan0");
    add_route(&network, "10.60.0.1/32", "192.168.1.1", "wlan0");
    return &network;
}

static const struct table_case {
    const char *services, *pods, *also, *exclude, *outside;
    const char *want;    /* NULL: refused */
    const char *says[3]; /* words of the refusal */
} table[] = {
    /* the test cluster */
    {"10.222.0.0/16", "10.232.0.0/16", NULL, NULL, NULL, "10.222.0.0/16 10.232.0.0/16", {0}},
    {"10.222.0.0/16", "10.223.0.0/16", NULL, NULL, NULL, "10.222.0.0/15", {0}},
    {"10.222.0.0/16", NULL, "203.0.113.0/24", NULL, NULL, "10.222.0.0/16 203.0.113.0/24", {0}},
    {"10.222.0.0/30", NULL, NULL, NULL, "10.222.0.1", "10.222.0.0/32 10.222.0.2/31", {0}},
    {"10.222.0.0/30", NULL, "10.222.0.4/30", "10.222.0.2/31", NULL, "10.222.0.0/31 10.222.0.4/30", {0}},
    {NULL, NULL, NULL, NULL, NULL, "", {0}},
    /* X6: connected networks, in each position */
    {"192.168.1.0/24", NULL, NULL, NULL, NULL, NULL, {"192.168.1.0/24", "wlan0", "--exclude 192.168.1.0/24"}},
    {NULL,
     "192.168.1.128/25",
     NULL,
     NULL,
     NULL,
     NULL,
     {"pod range 192.168.1.128/25", "192.168.1.0/24", "--also 192.168.1.128/25"}},
    {NULL, "192.168.0.0/16", NULL, NULL, "192.168.1.1", NULL, {"192.168.0.0/16", "--exclude 192.168.1.0/24", "wlan0"}},
    {"fd00:1::/112", NULL, NULL, NULL, NULL, NULL, {"fd00:1::/112", "fd00:1::/64", "wlan0"}},
    {NULL, "172.16.0.0/12", NULL, NULL, NULL, NULL, {"172.16.0.0/12", "docker0", "--exclude 172.17.0.0/16"}},
    {NULL, "172.16.0.0/15", NULL, "172.17.0.0/16", NULL, "172.16.0.0/16", {0}},
    /* the user names it */
    {NULL, "192.168.1.128/25", "192.168.1.128/25", NULL, NULL, "192.168.1.128/25", {0}},
    {NULL, NULL, "192.168.1.8/29", NULL, "192.168.1.9", "192.168.1.8/32 192.168.1.10/31 192.168.1.12/30", {0}},
    {NULL,
     NULL,
     "192.168.1.0/24",
     NULL,
     "192.168.1.1",
     NULL,
     {"--also 192.168.1.0/24", "wlan0", "--exclude 192.168.1.0/24"}},
    {NULL, NULL, "0.0.0.0/0", NULL, NULL, NULL, {"--also 0.0.0.0/0", NULL, NULL}},
    /* routes by a gateway: wider ones are fine, equal and narrower ones are not */
    {"10.77.1.0/24", NULL, NULL, NULL, NULL, "10.77.1.0/24", {0}},
    {"10.77.0.0/16",
     NULL,
     NULL,
     NULL,
     NULL,
     NULL,
     {"service range 10.77.0.0/16", "192.168.1.9", "--exclude 10.77.0.0/16"}},
    {"10.76.0.0/15", NULL, NULL, NULL, NULL, NULL, {"10.76.0.0/15", "10.77.0.0/16", "192.168.1.9"}},
    /* X7, C12: another ktvpn */
    {NULL, "10.90.0.0/16", NULL, NULL, NULL, NULL, {"10.90.0.0/16", "another ktvpn", "ktvpn0"}},
    {NULL, NULL, "10.90.5.0/24", NULL, NULL, NULL, {"10.90.5.0/24", "another ktvpn", "ktvpn down"}},
    {NULL, "10.90.0.0/16", NULL, "10.90.0.0/16", NULL, "", {0}},
    /* a VPN's host route to the API server, which stays outside */
    {"10.60.0.0/30", NULL, NULL, NULL, "10.60.0.1", "10.60.0.0/32 10.60.0.2/31", {0}},
    {"10.60.0.0/30", NULL, NULL, NULL, "10.60.0.2", NULL, {"10.60.0.1/32", "192.168.1.1", NULL}},
    /* never */
    {"127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", NULL, NULL, "", {0}},
    {"fe80::/10", "ff00::/8", "::1/128", NULL, NULL, "", {0}},
};

static int plan(struct cidr_set *out, const struct table_case *row, const struct network *network, struct error *error)
{
    static struct cidr_set services, pods, also, exclude;
    struct address outside = {.family = ADDRESS_NONE};
    if (row->outside != NULL)
        assert_int_equal(address_parse(&outside, row->outside), 0);
    struct ranges_wish wish = {.services = set_of(&services, row->services),
                               .pods = set_of(&pods, row->pods),
                               .also = row->also != NULL ? set_of(&also, row->also) : NULL,
                               .exclude = row->exclude != NULL ? set_of(&exclude, row->exclude) : NULL,
                               .outside = &outside,
                               .outside_count = 1};
    return ranges_plan(out, &wish, network, error);
}

static void name_of(char out[static NETWORK_ALIAS_MAX], const char *device)
{
    (void)snprintf(out, NETWORK_ALIAS_MAX, "%s", strcmp(device, "ktvpn7") == 0 ? "staging" : "");
}

/* C12, X7: both are named, when the other one's name can be had. */
static void names_the_other_ktvpn(void **state)
{
    (void)state;
    static struct cidr_set services, pods;
    static struct cidr_set out;
    struct error error;
    struct network network = {.route = {{.device = "ktvpn7"}}, .routes = 1};
    assert_int_equal(cidr_parse(&network.route[0].to, "fd31:222::/112"), 0);
    struct ranges_wish wish = {
        .name = "prod", .name_of = name_of, .services = set_of(&services, "fd31:222::/108"), .pods = &pods};
    assert_int_equal(ranges_plan(&out, &wish, &network, &error), -EADDRINUSE);
    assert_non_null(strstr(error.text, "another ktvpn, 'staging', holds (device ktvpn7)"));
    assert_non_null(strstr(error.text, "`ktvpn down staging`"));
    assert_non_null(strstr(error.text, "out of 'prod' with --exclude fd31:222::/112"));
    (void)snprintf(network.route[0].device, sizeof network.route[0].device, "ktvpn8");
    assert_int_equal(ranges_plan(&out, &wish, &network, &error), -EADDRINUSE);
    assert_non_null(strstr(error.text, "another ktvpn holds (device ktvpn8)"));
    assert_non_null(strstr(error.text, "`ktvpn down`"));
}

static void each_row_of_the_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < KT_ARRAY_LEN(table); i++) {
        const struct table_case *row = &table[i];
        struct error error = {.text = ""};
        struct cidr_set out;
        int rc = plan(&out, row, laptop(), &error);
        if (rc != (row->want != NULL ? 0 : -EADDRINUSE))
            fail_msg("row %zu: %d %s", i, rc, error.text);
        if (row->want != NULL) {
            assert_string_equal(text_of(&out), row->want);
            continue;
        }
        assert_int_equal(error.code, EXIT_CODE_CONFLICT);
        for (size_t k = 0; k < KT_ARRAY_LEN(row->says) && row->says[k] != NULL; k++) {
            if (strstr(error.text, row->says[k]) == NULL)
                fail_msg("row %zu: no '%s' in: %s", i, row->says[k], error.text);
        }
    }
}

static void more_than_the_ceiling_is_refused(void **state)
{
    (void)state;
    static struct network empty;
    static struct cidr_set services, pods;
    struct cidr_set out;
    struct error error;
    cidr_set_init(&services);
    cidr_set_init(&pods);
    for (uint32_t i = 0; i < CIDR_SET_MAX; i++) {
        struct address one = address_v4(0x0a000000u + 2 * i), two = address_v4(0x0b000000u + 2 * i);
        struct cidr first = cidr_of_address(&one), second = cidr_of_address(&two);
        assert_int_equal(cidr_set_add(&services, &first), 0);
        assert_int_equal(cidr_set_add(&pods, &second), 0);
    }
    struct ranges_wish wish = {.services = &services, .pods = &pods};
    assert_int_equal(ranges_plan(&out, &wish, &empty, &error), -E2BIG);
    assert_int_equal(error.code, EXIT_CODE_CONFLICT);

    struct address outside[RANGES_OUTSIDE_MAX + 1] = {{0}};
    cidr_set_init(&pods);
    wish.outside = outside;
    wish.outside_count = KT_ARRAY_LEN(outside);
    assert_int_equal(ranges_plan(&out, &wish, &empty, &error), -E2BIG);
    wish.outside_count--;
    assert_int_equal(ranges_plan(&out, &wish, &empty, &error), 0);
}

/* Ranges inside 10.0.0.0/24, so that every address can be asked. */
static struct cidr random_range(void)
{
    struct address address = address_v4(0x0a000000u + (uint32_t)(rand() % 256));
    return cidr_around(&address, (uint8_t)(26 + rand() % 7));
}

static void random_set(struct cidr_set *set, int most)
{
    cidr_set_init(set);
    for (int i = rand() % (most + 1); i > 0; i--) {
        struct cidr range = random_range();
        assert_int_equal(cidr_set_add(set, &range), 0);
    }
}

static bool is_outside(const struct ranges_wish *wish, const struct address *address)
{
    bool is = cidr_set_contains(wish->exclude, address);
    for (size_t i = 0; i < wish->outside_count; i++)
        is = is || address_equal(&wish->outside[i], address);
    return is;
}

static void one_random_case(void)
{
    static struct network network;
    static struct cidr_set services, pods, also, exclude, out;
    struct address outside[3];
    struct error error;
    random_set(&services, 2);
    random_set(&pods, 2);
    random_set(&also, 2);
    random_set(&exclude, 3);
    for (size_t i = 0; i < KT_ARRAY_LEN(outside); i++)
        outside[i] = address_v4(0x0a000000u + (uint32_t)(rand() % 256));
    network.routes = (size_t)rand() % 3;
    for (size_t i = 0; i < network.routes; i++)
        network.route[i] = (struct network_route){.to = random_range(), .device = "lan0"};
    struct ranges_wish wish = {.services = &services,
                               .pods = &pods,
                               .also = &also,
                               .exclude = &exclude,
                               .outside = outside,
                               .outside_count = KT_ARRAY_LEN(outside)};
    int rc = ranges_plan(&out, &wish, &network, &error);
    bool touches = false; /* an address of the cluster that the user did not name, in a connected network */
    for (uint32_t i = 0; i < 256; i++) {
        struct address address = address_v4(0x0a000000u + i);
        bool cluster = cidr_set_contains(&services, &address) || cidr_set_contains(&pods, &address);
        bool named = cidr_set_contains(&also, &address), out_of_it = is_outside(&wish, &address);
        if (rc == 0)
            assert_int_equal(cidr_set_contains(&out, &address), (cluster || named) && !out_of_it);
        for (size_t k = 0; k < network.routes; k++)
            touches = touches || (cluster && !named && !out_of_it && cidr_contains(&network.route[k].to, &address));
    }
    assert_true(rc == 0 || rc == -EADDRINUSE);
    if (touches)
        assert_int_equal(rc, -EADDRINUSE);
    if (network.routes == 0)
        assert_int_equal(rc, 0);
}

static void random_cases_agree_with_each_address(void **state)
{
    (void)state;
    srand(1);
    for (int i = 0; i < 3000; i++)
        one_random_case();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_of_the_table),
        cmocka_unit_test(names_the_other_ktvpn),
        cmocka_unit_test(more_than_the_ceiling_is_refused),
        cmocka_unit_test(random_cases_agree_with_each_address),
    };
    return unit_run(tests);
}
