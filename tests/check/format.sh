#!/bin/bash
# format.sh: every C file of ours is as clang-format-14 would write it. To mend: clang-format-14 -i FILE.
set -euo pipefail
cd "$(dirname "$0")/../.."
find client agent common netstack tests -name '*.[ch]' -print0 | xargs -0 -r -P 2 -n 40 clang-format-14 --dry-run -Werror
