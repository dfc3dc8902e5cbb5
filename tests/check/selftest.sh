#!/bin/bash
# selftest.sh: a checker that never fails checks nothing. In a small tree of its own each checker passes once, and then fails for
# each violation that is planted.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/{client,agent,common,netstack,tests/check,tests/unit,tests/fuzz,deploy,build}
cp "$here"/*.{sh,py,h} "$tree/tests/check/"
cp "$here"/../../.clang-format "$here"/../../.clang-tidy "$tree/"
cp "$here"/../.clang-tidy "$tree/tests/"
cd "$tree"

failures=0
plants=0
good='int planted(int a);\nint planted(int a)\n{\n    return a;\n}\n'
plant() { # FILE CONTENT: the tree with this one file
    rm -f client/*.[ch] agent/*.[ch] common/*.[ch] netstack/*.[ch] tests/unit/*.[ch] deploy/*
    printf '%b' "$2" >"$1"
    printf '[{"directory": "%s", "file": "%s", "command": "cc -I. -c -o x.o %s"}]' "$tree" "$tree/$1" "$tree/$1" >build/compile_commands.json
}
checker() { # NAME: runs it on the tree
    case $1 in
    rooms | banned | length) python3 tests/check/source.py "$1" ;;
    tidy) python3 tests/check/tidy.py build ;;
    *) "tests/check/$1.sh" ;;
    esac >out 2>&1
}
passes() { # CHECKER FILE CONTENT
    plant "$2" "$3"
    plants=$((plants + 1))
    checker "$1" || { echo "selftest: $1 fails for a good $2:"; cat out; failures=$((failures + 1)); }
}
fails() { # CHECKER WORD FILE CONTENT: fails, and says WORD
    plant "$3" "$4"
    plants=$((plants + 1))
    if checker "$1"; then
        echo "selftest: $1 passes a $3 that should fail with '$2'"
        failures=$((failures + 1))
    elif ! grep -q -- "$2" out; then
        echo "selftest: $1 fails for $3, but does not say '$2':"
        cat out
        failures=$((failures + 1))
    fi
}
many() { local i; for ((i = 0; i < $1; i++)); do printf '%s' "$2"; done; }

passes format common/planted.c "$good"
fails format planted.c common/planted.c 'int  x;\n'

passes rooms client/planted.c '#include "client/a.h"\n#include "netstack/a.h"\n#include <uv.h>\n'
passes rooms netstack/planted.c '#include "common/a.h"\n#include <lwip/tcp.h>\n'
fails rooms 'client must not include agent' client/planted.c '#include "agent/a.h"\n'
fails rooms 'agent must not include client' agent/planted.h '#include "client/a.h"\n'
fails rooms 'netstack must not include agent' netstack/planted.c '#include "agent/a.h"\n'
fails rooms 'common must not include netstack' common/planted.c '#include "netstack/a.h"\n'
fails rooms 'common must not include tests' common/planted.c '#include "tests/a.h"\n'
fails rooms 'uv.h belongs to' common/planted.c '#include <uv.h>\n'
fails rooms 'common must not include sys/socket.h' common/planted.c '#include <sys/socket.h>\n'
fails rooms 'common must not include time.h' common/planted.c '#  include <time.h>\n'
fails rooms 'lwip/tcp.h belongs to' client/planted.c '#include "lwip/tcp.h"\n'
fails rooms 'curl/curl.h belongs to' agent/planted.c '#include <curl/curl.h>\n'
fails rooms 'does not name its room' agent/planted.c '#include "settings.h"\n'

passes banned client/planted.c '/* strcpy(a, b) */\nconst char *a = "strcpy(a)";\nint b = kt_free(a) + x->free(y) + snprintf(a);\n'
passes banned common/mem.c 'void *x = malloc(1);\n'
passes banned tests/unit/planted.c 'void *x = malloc(1);\n'
for call in strcpy strcat sprintf strtok atoi gets alloca; do
    fails banned "$call() is banned" tests/unit/planted.c "int x = $call (y);\n"
done
for call in malloc calloc realloc free strdup system; do
    fails banned "$call() is banned" agent/planted.c "int x = $call(y);\n"
done
fails banned 'memcmp() is banned' common/noise.c 'int x = memcmp(a, b, 32);\n'
fails banned 'memcmp() is banned' client/agent_key.c 'int x = memcmp(a, b, 32);\n'

passes length client/planted.c "$(many 500 'x\n')"
fails length '501 lines' client/planted.c "$(many 501 'x\n')"

passes scripts deploy/planted.sh '#!/bin/bash\nset -e\n'
fails scripts 'does not parse' deploy/planted.sh '#!/bin/bash\nset -e\nif true\n'
fails scripts "has no 'set -e'" deploy/planted.sh '#!/bin/bash\ntrue\n'
passes scripts deploy/planted.sh '#!/bin/bash\n. "$(dirname "$0")/lib.sh"\n'
fails scripts 'does not parse' deploy/planted.py 'def (:\n'

passes cppcheck common/planted.c "$good"
fails cppcheck uninitvar common/planted.c 'int planted(void)\n{\n    int a;\n    return a;\n}\n'
fails cppcheck arrayIndexOutOfBounds client/planted.c 'int planted(void)\n{\n    int a[2] = {0};\n    return a[2];\n}\n'

passes tidy common/planted.c "$good"
body='int planted(int a);\nint planted(int a)\n{\n'
fails tidy readability-function-size common/planted.c "$body$(many 61 '    a += 2;\n')    return a;\n}\n"
fails tidy readability-function-size common/planted.c \
    'int f(int a, int b, int c, int d, int e, int f, int g);\nint f(int a, int b, int c, int d, int e, int f, int g)\n{\n    return a + b + c + d + e + f + g;\n}\n'
fails tidy readability-function-size common/planted.c \
    "$body    if (a) {\n while (a) {\n if (a > 1) {\n if (a > 2) {\n a--;\n}\n}\n}\n}\n    return a;\n}\n"
fails tidy bugprone- common/planted.c '#define PLANTED(x) x * 2\nextern int planted;\n'
fails tidy cert- common/planted.c '#include <stdlib.h>\nint planted(void);\nint planted(void)\n{\n    return rand();\n}\n'
fails tidy misc- common/planted.c "$body    return a == a;\n}\n"

echo "selftest: $plants plants, $failures failures"
[ "$failures" -eq 0 ]
