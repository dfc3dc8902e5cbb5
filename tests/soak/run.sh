#!/bin/bash
# run.sh [MINUTES] [OUT]: the soak test. The real client and agent, in network namespaces of their own, carry every kind of traffic
# for MINUTES (60; at least 3) while their carriers are cut every 60 s. Not part of the continuous tests. Needs root and a release build.
#
# OUT (build/soak) gets table.txt, samples.csv and both programs' logs. The exit code is 0 when no byte was wrong, no flow failed, and
# neither memory nor descriptors grew; the table says which.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec python3 tests/soak/soak.py "${1:-60}" "${2:-build/soak}"
