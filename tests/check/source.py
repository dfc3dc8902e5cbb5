#!/usr/bin/env python3
"""source.py rooms|banned|length: what no compiler checks, over every file of ours. Prints file:line and what is wrong."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Who may include whom: client and agent stand on netstack, all three on common. Tests may include everything.
ROOMS = {
    "client": ("client", "netstack", "common"),
    "agent": ("agent", "netstack", "common"),
    "netstack": ("netstack", "common"),
    "common": ("common",),
}
# common knows no loop, no socket, no clock: only these. arpa/inet.h is for inet_pton() and the byte order.
COMMON_SYSTEM = """arpa/inet.h assert.h ctype.h errno.h inttypes.h limits.h sodium.h stdarg.h stdbool.h stddef.h stdint.h
    stdio.h stdlib.h string.h""".split()
COMMON_EXCEPTIONS = {"common/resolvconf.c": ("fcntl.h", "unistd.h")}  # it reads one file, for both programs
# Libraries that belong to one room.
ONLY_IN = {"lwip/": ("netstack",), "lwipopts.h": ("netstack",), "curl/": ("client",), "cJSON.h": ("client",),
           "cjson/": ("client",), "yaml.h": ("client",), "uv.h": ("client", "agent", "netstack")}

# Everywhere: they write without a bound, or cannot report an error.
BANNED = "strcpy strcat sprintf vsprintf stpcpy strtok atoi atol atoll atof gets alloca bzero tmpnam mktemp".split()
# In the programs: memory comes from common/mem.h, so that a test can make each request fail; and nobody needs a shell.
BANNED_IN_ROOMS = "malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf system popen".split()
MEM = "common/mem.c"
# Where secrets are compared: in constant time, by sodium_memcmp(). (Magic numbers of wire.c are no secrets.)
SECRET_FILES = re.compile(r"(^common/(noise|carrier|session)\.c$|key[^/]*\.c$)")

LINES_MAX = 500
# To be split; until then they must not grow.
LINES_KNOWN = {"client/tunnel.c": 650, "client/kube/portforward.c": 600, "client/names.c": 520, "common/carrier.c": 530}
TEST_LINES_MAX = 1000  # many small functions and tables; nobody has to hold all of it in the head at once


def files(*suffixes):
    for top in (*ROOMS, "tests", "deploy"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path, path.relative_to(ROOT).as_posix()


def code_of(text):
    """The text without comments and the insides of strings, line for line."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda m: "\n" * m[0].count("\n") + ('""' if m[0][0] == '"' else ""), text, flags=re.S)


def rooms():
    for path, name in files(".c", ".h"):
        room = name.split("/")[0]
        if room not in ROOMS:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            found = re.match(r'\s*#\s*include\s*([<"])([^">]+)', line)
            if found:
                yield from (f"{name}:{number}: {wrong}" for wrong in wrong_include(room, name, *found.groups()))


def wrong_include(room, name, kind, target):
    top = target.split("/")[0]
    for library, allowed in ONLY_IN.items():
        if target.startswith(library):
            if room not in allowed:
                yield f"{target} belongs to {' and '.join(allowed)}"
            return
    if top in (*ROOMS, "tests"):
        if top not in ROOMS[room]:
            yield f"{room} must not include {top}"
    elif kind == '"' and not name.startswith("netstack/lwip/"):
        yield f'"{target}" does not name its room'
    elif room == "common" and target not in (*COMMON_SYSTEM, *COMMON_EXCEPTIONS.get(name, ())):
        yield f"common must not include {target}"


def banned():
    everywhere = re.compile(r"\b(" + "|".join(BANNED) + r")\s*\(")
    in_rooms = re.compile(r"(?<![>.\w])(" + "|".join(BANNED_IN_ROOMS) + r")\s*\(")
    for path, name in files(".c", ".h"):
        for number, line in enumerate(code_of(path.read_text()).splitlines(), 1):
            patterns = [everywhere]
            if name.split("/")[0] in ROOMS and name != MEM:
                patterns.append(in_rooms)
            if SECRET_FILES.search(name) and name.split("/")[0] in ROOMS:
                patterns.append(re.compile(r"\b(memcmp|bcmp)\s*\("))
            for found in (p.search(line) for p in patterns):
                if found:
                    yield f"{name}:{number}: {found[1]}() is banned here"


def length():
    for path, name in files(".c", ".h", ".py", ".sh", ".S"):
        limit = TEST_LINES_MAX if name.startswith("tests/") else LINES_KNOWN.get(name, LINES_MAX)
        lines = path.read_text().count("\n")
        if lines > limit:
            yield f"{name}: {lines} lines, at most {limit}"


def main():
    wrong = list({"rooms": rooms, "banned": banned, "length": length}[sys.argv[1]]())
    print("".join(f"{line}\n" for line in wrong), end="")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
