#include "common/session.h"

#include <errno.h>
#include <string.h>

#include "common/cidr.h"
#include "common/mem.h"
#include "tests/unit/unit.h"

static const uint8_t key[WIRE_KEY_SIZE] = {1, 2, 3};

static void addresses_follow_from_the_key(void **state)
{
    (void)state;
    struct cidr range, ula;
    assert_int_equal(cidr_parse(&range, SESSION_RANGE_V4), 0);
    assert_int_equal(cidr_parse(&ula, "fd6b:7476:706e::/48"), 0);
    struct address first = address_v4(0xc6120000), second = address_v4(0xc6120001), last = address_v4(0xc613ffff);
    uint8_t other[WIRE_KEY_SIZE] = {0};
    unsigned low = 0;
    for (unsigned i = 0; i < 20000; i++) {
        memcpy(other, &i, sizeof i);
        struct address v4, v6, again4, again6;
        session_addresses(other, &v4, &v6);
        session_addresses(other, &again4, &again6);
        assert_true(address_equal(&v4, &again4) && address_equal(&v6, &again6));
        assert_true(cidr_contains(&range, &v4) && cidr_contains(&ula, &v6));
        assert_false(address_equal(&v4, &first) || address_equal(&v4, &second) || address_equal(&v4, &last));
        low += v4.bytes[1] == 18;
    }
    assert_in_range(low, 9000, 11000); /* both halves of the range */
    /* Both ends compute them, maybe with other versions: they must never change. */
    struct address v4, v6;
    char text[ADDRESS_STRLEN];
    session_addresses(key, &v4, &v6);
    assert_string_equal(address_print(&v4, text), "198.19.225.221");
    assert_string_equal(address_print(&v6, text), "fd6b:7476:706e:f880:ea35:55ad:24df:e016");
}

static void states(void **state)
{
    (void)state;
    struct session session;
    struct carrier a = {0}, b = {0};
    assert_int_equal(session_init(&session, key, 0, 1000), 0);
    assert_int_equal(session.state, SESSION_NEW);
    assert_false(session_tick(&session, 1000 + WIRE_SESSION_MS - 1));
    assert_int_equal(session_attach(&session, &a), 0);
    assert_int_equal(session_attach(&session, &b), 0);
    assert_int_equal(session.state, SESSION_UP);
    assert_false(session_tick(&session, 100 * WIRE_SESSION_MS)); /* UP has no age */
    session_detach(&session, &a, 500000);
    assert_int_equal(session.state, SESSION_UP);
    session_detach(&session, &b, 600000);
    assert_int_equal(session.state, SESSION_STALLED);
    session_detach(&session, &b, 700000); /* again: its time does not start anew */
    assert_int_equal(session.stalled_since_ms, 600000);
    assert_false(session_tick(&session, 600000 + WIRE_SESSION_MS - 1));
    assert_int_equal(session_attach(&session, &b), 0);
    assert_int_equal(session.state, SESSION_UP);
    session_detach(&session, &b, 800000);
    assert_true(session_tick(&session, 800000 + WIRE_SESSION_MS));
    assert_int_equal(session.state, SESSION_ENDED);
    assert_int_equal(session_attach(&session, &a), -ESHUTDOWN);
    assert_int_equal(session.link.carriers, 0);
    session_deinit(&session);
    session_deinit(&session);
}

static void ended_for_good(void **state)
{
    (void)state;
    struct session session;
    struct carrier a = {0}, many[WIRE_CARRIERS_MAX] = {{0}};
    assert_int_equal(session_init(&session, key, 100, 0), 0);
    assert_int_equal(session_attach(&session, &a), 0);
    session_end(&session);
    session_detach(&session, &a, 5);
    assert_int_equal(session.state, SESSION_ENDED);
    assert_true(session_tick(&session, 5));
    session_deinit(&session);

    assert_int_equal(session_init(&session, key, 100, 0), 0);
    assert_true(session_tick(&session, WIRE_SESSION_MS)); /* NEW, and nobody came */
    session_deinit(&session);

    assert_int_equal(session_init(&session, key, 100, 0), 0);
    for (size_t i = 0; i < WIRE_CARRIERS_MAX; i++)
        assert_int_equal(session_attach(&session, &many[i]), 0);
    assert_int_equal(session_attach(&session, &a), -ENOSPC);
    session_deinit(&session);
    kt_mem_fail_nth(1);
    assert_int_equal(session_init(&session, key, 100, 0), -ENOMEM);
}

static void owns_only_its_addresses(void **state)
{
    (void)state;
    struct session session;
    assert_int_equal(session_init(&session, key, 0, 0), 0);
    uint8_t v4[28] = {0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17};
    memcpy(v4 + 12, session.v4.bytes, 4);
    memcpy(v4 + 16, "\x0a\1\2\3", 4);
    assert_true(session_owns(&session, v4, sizeof v4, true));
    assert_false(session_owns(&session, v4, sizeof v4, false));
    memcpy(v4 + 16, session.v4.bytes, 4);
    v4[15] ^= 1; /* the neighbour's */
    assert_false(session_owns(&session, v4, sizeof v4, true));
    assert_true(session_owns(&session, v4, sizeof v4, false));
    assert_false(session_owns(&session, v4, sizeof v4 - 1, false));
    assert_false(session_owns(&session, v4, 0, false));

    uint8_t v6[48] = {0x60, 0, 0, 0, 0, 8, 17, 64};
    memcpy(v6 + 8, session.v6.bytes, 16);
    assert_true(session_owns(&session, v6, sizeof v6, true));
    assert_false(session_owns(&session, v6, sizeof v6, false));
    session_deinit(&session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_follow_from_the_key),
        cmocka_unit_test(states),
        cmocka_unit_test(ended_for_good),
        cmocka_unit_test(owns_only_its_addresses),
    };
    return unit_run(tests);
}
