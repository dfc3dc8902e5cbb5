#!/bin/bash
# run.sh [BUILD]: all checkers over this tree, whose compile_commands.json is in BUILD (build/debug). One line for each; what it
# found stands above its line.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/debug}
failed=0
check() { # NAME COMMAND...
    local name=$1 begin=$SECONDS
    shift
    if "$@"; then
        echo "ok $name ($((SECONDS - begin)) s)"
    else
        echo "FAIL $name ($((SECONDS - begin)) s)"
        failed=1
    fi
}
check format tests/check/format.sh
check rooms python3 tests/check/source.py rooms
check banned python3 tests/check/source.py banned
check length python3 tests/check/source.py length
check scripts tests/check/scripts.sh
check cppcheck tests/check/cppcheck.sh
check tidy python3 tests/check/tidy.py "$build"
check selftest tests/check/selftest.sh
exit $failed
