#include "unit.h"

#include "client/kube/retry.h"

static void only_a_server_that_asks_for_it(void **state)
{
    (void)state;
    assert_int_equal(retry_delay_ms(429, 1, 0), 1000);
    assert_int_equal(retry_delay_ms(503, 20, RETRY_TRIES_MAX - 1), 20000);
    assert_int_equal(retry_delay_ms(500, 2, 1), 2000);
    assert_int_equal(retry_delay_ms(429, 0, 0), -1);
    assert_int_equal(retry_delay_ms(429, -1, 0), -1);
    assert_int_equal(retry_delay_ms(429, 21, 0), -1);
    assert_int_equal(retry_delay_ms(429, INT64_MAX, 0), -1);
    assert_int_equal(retry_delay_ms(429, 1, RETRY_TRIES_MAX), -1);
    assert_int_equal(retry_delay_ms(200, 1, 0), -1);
    assert_int_equal(retry_delay_ms(401, 1, 0), -1);
    assert_int_equal(retry_delay_ms(0, 1, 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(only_a_server_that_asks_for_it)};
    return unit_run(tests);
}
