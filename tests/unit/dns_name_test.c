/* Names in both forms, and compression: what is written short must be read as it was. */
#include "common/dns_name.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct dns_name name_of(const char *text)
{
    struct dns_name name;
    assert_true(dns_name_from_text(&name, text));
    return name;
}

static void names_are_written_once(void **state)
{
    (void)state;
    static const char *const texts[] = {"store-0.store.ems.svc.cluster.local",
                                        "store.ems.svc.cluster.local",
                                        "store-0.store.ems.svc.cluster.local",
                                        "local",
                                        "",
                                        "a.local"};
    static const size_t sizes[] = {37, 2, 2, 2, 1, 4};
    uint8_t message[512] = {0};
    struct cursor out = cursor_writer(message, sizeof message);
    struct dns_name_seen seen = {{0}};
    cursor_seek(&out, DNS_HEADER_SIZE);
    for (size_t i = 0; i < KT_ARRAY_LEN(texts); i++) {
        struct dns_name name = name_of(texts[i]), again;
        size_t at = out.at;
        dns_name_put_short(&out, &seen, &name);
        assert_int_equal(out.at - at, sizes[i]);
        struct cursor in = cursor_reader(message, out.at);
        cursor_seek(&in, at);
        dns_name_get(&in, &again);
        assert_true(cursor_done(&in));
        assert_int_equal(again.size, name.size);
        assert_memory_equal(again.bytes, name.bytes, name.size);
    }
}

/* More names than the table holds, and beyond what a pointer reaches: all readable. */
static void many_names_stay_readable(void **state)
{
    (void)state;
    static uint8_t message[DNS_MESSAGE_MAX];
    static size_t at[2400];
    struct cursor out = cursor_writer(message, sizeof message);
    struct dns_name_seen seen = {{0}};
    char text[64], got[DNS_NAME_MAX];
    cursor_seek(&out, DNS_HEADER_SIZE);
    for (size_t i = 0; i < KT_ARRAY_LEN(at); i++) {
        (void)snprintf(text, sizeof text, "n%zu.z%zu.store.ems.svc.cluster.local", i, i % 7);
        struct dns_name name = name_of(text);
        at[i] = out.at;
        if (i % 2)
            dns_name_put(&out, &seen, &name);
        else
            dns_name_put_short(&out, &seen, &name);
    }
    assert_true(cursor_ok(&out));
    for (size_t i = 0; i < KT_ARRAY_LEN(at); i++) {
        struct cursor in = cursor_reader(message, out.at);
        struct dns_name name;
        cursor_seek(&in, at[i]);
        dns_name_get(&in, &name);
        (void)snprintf(text, sizeof text, "n%zu.z%zu.store.ems.svc.cluster.local", i, i % 7);
        assert_true(cursor_ok(&in) && dns_name_to_text(got, &name));
        assert_string_equal(got, text);
    }
}

static void no_room_is_a_failure(void **state)
{
    (void)state;
    uint8_t message[64];
    struct dns_name name = name_of("store.ems.svc");
    for (size_t room = 0; room < 15; room++) {
        struct dns_name_seen seen = {{0}};
        struct cursor out = cursor_writer(message, room);
        dns_name_put_short(&out, &seen, &name);
        assert_false(cursor_ok(&out));
    }
    assert_false(dns_name_from_text(&name, "a..b"));
    assert_false(dns_name_from_text(&name, "a.\\25"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_written_once),
        cmocka_unit_test(many_names_stay_readable),
        cmocka_unit_test(no_room_is_a_failure),
    };
    return unit_run(tests);
}
