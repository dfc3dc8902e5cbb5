#!/bin/bash
# run.sh [--profile] [--weather] [--limits] [--others] [NAME]: ktvpn beside kubectl port-forward, to the same pod, in the same run, on the cluster of tests/cluster.
#
#   NAME        the cluster's instance, "kt" unless given; started if it does not run, and left running
#   --profile   then, once more under `perf record`, bulk down through ktvpn: the 15 costliest symbols of client and agent
#   --weather   then latency beside a bulk flow, on a link of 200 Mbit/s and 20 ms that loses 0, 0.1 and 1 % of its packets
#   --others    then sshuttle over port-forward and wireguard-go, each measured between two measures of kubectl
#   --limits    then small datagrams, 10,000 idle flows, memory, time to be ready and to reconnect
#   ROUNDS=3    in each round each measure is taken by both paths, one after the other; which is first changes with the round
#   SECONDS_EACH=3
#
# Prints tables of medians and ranges, and writes every sample to build/bench/RESULT.json. Only ratios inside one run mean
# anything: the machine's load is in the file. Exit code: 0 also when a goal is missed; 1 when something could not be measured;
# 2 for a wrong command line. A few minutes with 3 rounds. Needs root, and that no other ktvpn serves this laptop meanwhile.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)

more=() name=kt
while [ $# -gt 0 ]; do
    case $1 in
    --profile | --limits | --others) more+=("$1") ;;
    --weather) more+=(--weather build/bench/weather) ;;
    -*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    *) name=$1 ;;
    esac
    shift
done

cd "$repo"
cmake --preset release >/dev/null
cmake --build --preset release --target ktvpn >/dev/null
mkdir -p build/bench
gcc -O2 -Wall -o build/bench/weather "$here/weather.c"
tests/cluster/up.sh "$name" >/dev/null
env=$(tests/cluster/env.sh "$name")
set -a
eval "$env"
set +a
build=$repo/build/release
exec python3 -B "$here/bench.py" --name "$name" --ktvpn "$build/client/ktvpn" \
    --agent-symbols "$build/static-agent/agent/ktvpn-agent.symbols" --out "$repo/build/bench/RESULT.json" \
    --rounds "${ROUNDS:-3}" --seconds "${SECONDS_EACH:-3}" "${more[@]}"
