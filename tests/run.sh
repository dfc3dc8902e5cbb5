#!/bin/bash
# run.sh [PART...]: builds ktvpn and runs all its tests, or only the parts that are named, in this order:
#
#   build   release and debug (ASan, UBSan); the other parts need it, so it always runs
#   check   format, room directions, banned calls, length, cppcheck, clang-tidy
#   unit    unit tests under the sanitizers
#   net     client and agent in network namespaces, without a cluster
#   fuzz    each fuzz target for FUZZ_SECONDS (20)
#   e2e     the real programs on a real Kubernetes (tests/cluster)
#
# One line for each part; all of its output is in build/log/PART.log, and the end of it here if it failed. A part that failed does
# not stop the others, except build. The last line counts test programs, pytest tests, fuzz targets and checkers.
set -uo pipefail
cd "$(dirname "$0")/.."

PARTS="build check unit net fuzz e2e"
TAIL=60 # lines of a log that are shown
declare -A LIMIT=([build]=900 [check]=480 [unit]=600 [net]=1200 [fuzz]=1200 [e2e]=4200) # seconds

build_part() {
    local preset
    for preset in release debug; do
        cmake --preset "$preset" && cmake --build --preset "$preset" || return 1
    done
    echo "ok build"
}
check_part() { tests/check/run.sh build/debug; }
unit_part() { ctest --test-dir build/debug --output-on-failure --no-tests=error; }
net_part() { python_tests tests/net; }
fuzz_part() { tests/fuzz/run.sh "${FUZZ_SECONDS:-20}"; }
e2e_part() { python_tests tests/e2e; }
python_tests() {
    [ -d "$1" ] || { echo "no $1 yet"; return 0; }
    # A folder of its own: another pytest on this machine would take the agent's right to read its files away from the usual one.
    local temporary rc=0
    temporary=$(mktemp -d)
    python3 -m pytest -q -ra --tb=short -p no:cacheprovider --basetemp "$temporary/pytest" "$1" || rc=$?
    rm -rf "$temporary"
    return "$rc"
}

# What a log says was passed and failed: "P F". Lines "ok NAME" and "FAIL NAME" of our scripts, the closing lines of ctest
# ("90% tests passed, 1 tests failed out of 10") and of pytest ("3 passed, 1 failed, 2 errors in 1.2s").
count() {
    sed -E 's/\x1b\[[0-9;]*m//g' "$1" | awk '
        /^ok [a-z]/ { p++ }
        /^FAIL [a-z]/ { f++ }
        /% tests passed, [0-9]+ tests failed out of [0-9]+/ { f += $4; p += $9 - $4 }
        /^=*.*[0-9]+ (passed|failed|error|errors|skipped|deselected).* in [0-9.]+s/ {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) p += $(i - 1)
                if ($i ~ /^(failed|error)/) f += $(i - 1)
            }
        }
        END { print p + 0, f + 0 }'
}

passed=0 failed=0
part() { # NAME
    local name=$1 begin=$SECONDS rc=0 log=build/log/$1.log p f
    timeout --kill-after=30 "${LIMIT[$name]}" bash "$0" --part "$name" >"$log" 2>&1 </dev/null || rc=$?
    read -r p f < <(count "$log")
    [ "$rc" -eq 0 ] || [ "$f" -gt 0 ] || f=1
    [ "$rc" -ne 0 ] || [ "$f" -eq 0 ] || rc=1
    passed=$((passed + p)) failed=$((failed + f))
    local word=ok
    [ "$rc" -eq 0 ] || word=FAILED
    [ "$rc" -ne 124 ] || word="FAILED (not done after ${LIMIT[$name]} s)"
    printf '%-6s %s: %d passed, %d failed, %d s\n' "$name" "$word" "$p" "$f" $((SECONDS - begin))
    [ "$rc" -eq 0 ] || { echo "--- the end of $log:"; tail -n "$TAIL" "$log"; echo "---"; }
    return "$rc"
}

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
}

if [ "${1:-}" = --part ]; then
    "$2_part"
    exit
fi
wanted=${*:-$PARTS}
for name in $wanted; do
    case " $PARTS " in
    *" $name "*) ;;
    *) echo "run.sh: no part '$name'; there are: $PARTS" >&2; exit 2 ;;
    esac
done

mkdir -p build/log
deploy/deps.sh || exit 1
part build || finish
for name in ${PARTS#build }; do
    case " $wanted " in
    *" $name "*) part "$name" ;;
    esac
done
finish
