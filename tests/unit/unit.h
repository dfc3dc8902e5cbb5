/* What every unit test begins with: cmocka with what it needs in front of it. */
#ifndef KTVPN_TESTS_UNIT_H
#define KTVPN_TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sodium.h>

#include "common/compiler.h"

/* Runs the tests of one file; main()'s return value. */
#define unit_run(tests) (sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL))

#endif
