#!/bin/bash
# scripts.sh: every shell and Python script parses, and every shell script stops at its first error.
set -uo pipefail
cd "$(dirname "$0")/../.."
rc=0
bad() { echo "$1: $2"; rc=1; }
while IFS= read -r -d '' file; do
    case $(head -c 64 "$file" | head -n 1) in
    '#!'*bash*) bash -n "$file" || bad "$file" "does not parse"
        grep -qE '^(set -[a-z]*[eu]|\. .*lib\.sh)' "$file" || bad "$file" "has no 'set -e' or 'set -u'" ;;
    '#!'*python*) ;;
    '#!'*) bad "$file" "runs by neither bash nor python3" ;;
    esac
    case $file in
    *.py) python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$file" || bad "$file" "does not parse" ;;
    esac
done < <(find client agent common netstack tests deploy .ci -type f \( -name '*.sh' -o -name '*.py' -o -name run \) -print0 2>/dev/null)
exit $rc
