/* CIDR ranges by examples, and sets of them against a model: one bit for each address of a small space. */
#include "common/cidr.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct cidr parse(const char *text)
{
    struct cidr cidr;
    assert_int_equal(cidr_parse(&cidr, text), 0);
    return cidr;
}

static void expect_set(const struct cidr_set *set, const char *const *want, size_t count)
{
    assert_int_equal(set->count, count);
    for (size_t i = 0; i < count; i++) {
        char text[CIDR_STRLEN];
        assert_string_equal(cidr_print(&set->range[i], text), want[i]);
    }
}
#define EXPECT_SET(set, ...)                             \
    do {                                                 \
        static const char *const want[] = {__VA_ARGS__}; \
        expect_set(set, want, KT_ARRAY_LEN(want));       \
    } while (0)

static int add(struct cidr_set *set, const char *text)
{
    struct cidr cidr = parse(text);
    return cidr_set_add(set, &cidr);
}

static int subtract(struct cidr_set *set, const char *text)
{
    struct cidr cidr = parse(text);
    return cidr_set_subtract(set, &cidr);
}

static void parsed_and_printed(void **state)
{
    (void)state;
    static const char *const good[] = {"0.0.0.0/0", "10.0.0.0/8", "10.222.0.0/16", "1.2.3.4/32",
                                       "::/0",      "fd00::/8",   "::1/128"};
    char text[CIDR_STRLEN];
    for (size_t i = 0; i < KT_ARRAY_LEN(good); i++) {
        struct cidr cidr = parse(good[i]);
        assert_string_equal(cidr_print(&cidr, text), good[i]);
    }
    struct cidr one = parse("1.2.3.4");
    assert_string_equal(cidr_print(&one, text), "1.2.3.4/32");
    one = parse("fd00::1");
    assert_string_equal(cidr_print(&one, text), "fd00::1/128");
    struct cidr longest = parse("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128");
    assert_string_equal(cidr_print(&longest, text), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128");
}

static void what_is_no_range_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "/",
                                      "/8",
                                      "10.0.0.0/",
                                      "10.0.0.0/33",
                                      "10.0.0.0/-1",
                                      "10.0.0.0/+8",
                                      "10.0.0.0/8 ",
                                      "10.0.0.0/ 8",
                                      "10.0.0.0/8/8",
                                      "10.0.0.0/0008",
                                      "10.0.0.0/x",
                                      "10.0.0.1/8",
                                      "::/129",
                                      "fd00::1/64",
                                      "1.2.3/8",
                                      "10.0.0.0/4294967304",
                                      "10.0.0.0/255"};
    for (size_t i = 0; i < KT_ARRAY_LEN(bad); i++) {
        struct cidr cidr = {.prefix = 77}, before = cidr;
        assert_int_equal(cidr_parse(&cidr, bad[i]), -EINVAL);
        assert_memory_equal(&cidr, &before, sizeof cidr);
    }
    char longest[3000];
    memset(longest, '1', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    struct cidr cidr;
    assert_int_equal(cidr_parse(&cidr, longest), -EINVAL);
}

static void contains_and_overlaps(void **state)
{
    (void)state;
    struct cidr ten = parse("10.0.0.0/8"), sub = parse("10.222.0.0/16"), other = parse("11.0.0.0/8"),
                all = parse("0.0.0.0/0");
    struct cidr six = parse("::/0");
    assert_true(cidr_overlaps(&ten, &sub) && cidr_overlaps(&sub, &ten) && cidr_overlaps(&all, &other));
    assert_false(cidr_overlaps(&ten, &other));
    assert_false(cidr_overlaps(&all, &six) || cidr_overlaps(&six, &all));
    struct address in = address_v4(0x0affffff), out = address_v4(0x0b000000);
    assert_true(cidr_contains(&ten, &in));
    assert_false(cidr_contains(&ten, &out) || cidr_contains(&six, &in));
    struct cidr around = cidr_around(&in, 12), one = cidr_of_address(&in);
    char text[CIDR_STRLEN];
    assert_string_equal(cidr_print(&around, text), "10.240.0.0/12");
    assert_string_equal(cidr_print(&one, text), "10.255.255.255/32");
}

static void halves_merge(void **state)
{
    (void)state;
    struct cidr_set set;
    cidr_set_init(&set);
    assert_int_equal(add(&set, "10.0.1.0/24"), 0);
    assert_int_equal(add(&set, "10.0.2.0/24"), 0); /* touches, but they are no halves of one range */
    EXPECT_SET(&set, "10.0.1.0/24", "10.0.2.0/24");
    assert_int_equal(add(&set, "10.0.0.0/24"), 0);
    EXPECT_SET(&set, "10.0.0.0/23", "10.0.2.0/24");
    assert_int_equal(add(&set, "10.0.3.0/24"), 0);
    EXPECT_SET(&set, "10.0.0.0/22");
    assert_int_equal(add(&set, "10.0.1.7"), 0); /* is there */
    assert_int_equal(add(&set, "fd00::/64"), 0);
    assert_int_equal(add(&set, "9.0.0.0/8"), 0);
    EXPECT_SET(&set, "9.0.0.0/8", "10.0.0.0/22", "fd00::/64");
    assert_int_equal(add(&set, "0.0.0.0/0"), 0); /* swallows */
    EXPECT_SET(&set, "0.0.0.0/0", "fd00::/64");
    assert_int_equal(add(&set, "8000::/1"), 0);
    assert_int_equal(add(&set, "::/1"), 0);
    EXPECT_SET(&set, "0.0.0.0/0", "::/0");
}

static void split_around_holes(void **state)
{
    (void)state;
    struct cidr_set set;
    cidr_set_init(&set);
    assert_int_equal(add(&set, "10.0.0.0/29"), 0);
    assert_int_equal(subtract(&set, "10.0.0.5"), 0);
    EXPECT_SET(&set, "10.0.0.0/30", "10.0.0.4/32", "10.0.0.6/31");
    assert_int_equal(subtract(&set, "10.0.0.0/31"), 0);
    EXPECT_SET(&set, "10.0.0.2/31", "10.0.0.4/32", "10.0.0.6/31");
    assert_int_equal(subtract(&set, "11.0.0.0/8"), 0); /* not there */
    assert_int_equal(add(&set, "10.0.0.5"), 0);
    assert_int_equal(add(&set, "10.0.0.0/31"), 0);
    EXPECT_SET(&set, "10.0.0.0/29");
    assert_int_equal(subtract(&set, "10.0.0.0/28"), 0);
    assert_int_equal(set.count, 0);

    assert_int_equal(add(&set, "0.0.0.0/0"), 0);
    assert_int_equal(subtract(&set, "127.0.0.1"), 0);
    assert_int_equal(set.count, 32);
    assert_int_equal(add(&set, "::/0"), 0);
    assert_int_equal(subtract(&set, "::1"), 0);
    assert_int_equal(set.count, 160);
    struct address hole = parse("::1").address, beside = parse("::2").address;
    assert_false(cidr_set_contains(&set, &hole));
    assert_true(cidr_set_contains(&set, &beside));
    struct cidr wide = parse("126.0.0.0/7");
    assert_non_null(cidr_set_overlap(&set, &wide));
}

static void full_sets_stay_as_they_were(void **state)
{
    (void)state;
    static struct cidr_set set, before;
    cidr_set_init(&set);
    for (uint32_t i = 0; i < CIDR_SET_MAX; i++) {
        struct address address = address_v4(0x0a000000 + 2 * i);
        struct cidr one = cidr_of_address(&address);
        assert_int_equal(cidr_set_add(&set, &one), 0);
    }
    assert_int_equal(set.count, CIDR_SET_MAX);
    before = set;
    assert_int_equal(add(&set, "9.0.0.1"), -E2BIG);
    assert_memory_equal(&set, &before, sizeof set);
    assert_int_equal(add(&set, "10.0.0.1"), 0); /* merges with a neighbour: needs no room */
    assert_int_equal(set.count, CIDR_SET_MAX);

    cidr_set_init(&set);
    for (uint32_t i = 0; i < CIDR_SET_MAX; i++) {
        struct address address = address_v4(0x0a000000 + 8 * i);
        struct cidr some = cidr_around(&address, 30);
        assert_int_equal(cidr_set_add(&set, &some), 0);
    }
    before = set;
    assert_int_equal(subtract(&set, "10.0.0.9"), -E2BIG); /* one becomes two */
    assert_memory_equal(&set, &before, sizeof set);
    assert_int_equal(subtract(&set, "10.0.0.8/31"), 0); /* one becomes one */
    assert_int_equal(set.count, CIDR_SET_MAX);
}

/* The model: 256 addresses, 10.0.0.0/24, in a set that also holds ranges outside, which must not change. */
#define MODEL 256

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* The fewest ranges that cover exactly the addresses of the model. */
static size_t fewest(const bool *model, size_t begin, size_t size)
{
    size_t covered = 0;
    for (size_t i = begin; i < begin + size; i++)
        covered += model[i];
    if (covered == 0 || covered == size)
        return covered != 0;
    return fewest(model, begin, size / 2) + fewest(model, begin + size / 2, size / 2);
}

static void expect_model(const struct cidr_set *set, const bool *model)
{
    for (uint32_t i = 0; i < MODEL; i++) {
        struct address address = address_v4(0x0a000000 + i);
        assert_int_equal(cidr_set_contains(set, &address), model[i]);
    }
    for (size_t i = 1; i < set->count; i++)
        assert_true(address_compare(&set->range[i - 1].address, &set->range[i].address) < 0);
    assert_int_equal(set->count, 2 + fewest(model, 0, MODEL));
}

static void sets_agree_with_the_model(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 40; seed++) {
        uint32_t random = seed;
        bool model[MODEL] = {false};
        struct cidr_set set;
        cidr_set_init(&set);
        assert_int_equal(add(&set, "9.255.255.255") + add(&set, "10.0.1.0/24"), 0);
        for (int step = 0; step < 60; step++) {
            uint8_t prefix = (uint8_t)(25 + next_random(&random) % 8);
            struct address at = address_v4(0x0a000000 + next_random(&random) % MODEL);
            struct cidr cidr = cidr_around(&at, prefix);
            bool adds = next_random(&random) % 2 == 0;
            assert_int_equal(adds ? cidr_set_add(&set, &cidr) : cidr_set_subtract(&set, &cidr), 0);
            memset(model + cidr.address.bytes[3], adds, (size_t)1 << (32 - prefix));
            if (fewest(model, 0, MODEL) == 1 && model[0] && model[MODEL - 1])
                break; /* the whole would merge with its neighbour outside */
            expect_model(&set, model);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parsed_and_printed),        cmocka_unit_test(what_is_no_range_is_refused),
        cmocka_unit_test(contains_and_overlaps),     cmocka_unit_test(halves_merge),
        cmocka_unit_test(split_around_holes),        cmocka_unit_test(full_sets_stay_as_they_were),
        cmocka_unit_test(sets_agree_with_the_model),
    };
    return unit_run(tests);
}
