#!/bin/bash
# run.sh [SECONDS [NAME...]]: builds the fuzz targets and runs each for SECONDS (20), two at a time, from its seeds in corpus/NAME/.
#
# One line for each: "ok NAME executions coverage" or "FAIL NAME why". A crashing input is kept in build/fuzz/crashes/NAME/; run
# build/fuzz/tests/NAME_fuzz FILE to see it again. Finds that only widen the coverage are thrown away.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-20}
[ $# -eq 0 ] || shift

finds=$(mktemp -d)
trap 'rm -rf "$finds"' EXIT

one() { # SECONDS FINDS NAME
    local seconds=$1 finds=$2/$3 name=$3 rc=0
    local crashes=build/fuzz/crashes/$name log=$finds.log
    local corpus=("$finds")
    mkdir -p "$finds" "$crashes"
    [ ! -d "tests/fuzz/corpus/$name" ] || corpus+=("tests/fuzz/corpus/$name")
    "build/fuzz/tests/${name}_fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$crashes/" "${corpus[@]}" >"$log" 2>&1 </dev/null || rc=$?
    local runs cov
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    cov=$(sed -n 's/.*DONE  *cov: \([0-9]*\).*/\1/p' "$log")
    if [ "$rc" -ne 0 ] || [ -z "$runs" ]; then
        tail -n 40 "$log"
        echo "FAIL $name: exit code $rc, input in $crashes/"
        return 1
    elif [ "${cov:-0}" -lt 10 ]; then # the code under test is not instrumented, or the target returns at once
        echo "FAIL $name: coverage ${cov:-0}"
        return 1
    fi
    rmdir "$crashes" 2>/dev/null || true
    echo "ok $name: $runs executions, coverage $cov"
}
export -f one

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
    for source in tests/fuzz/*_fuzz.c; do
        source=${source##*/}
        names+=("${source%_fuzz.c}")
    done
fi
printf '%s\n' "${names[@]}" | xargs -P 2 -I{} bash -c 'one "$0" "$1" "$2"' "$seconds" "$finds" {}
