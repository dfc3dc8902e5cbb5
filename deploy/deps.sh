#!/bin/bash
# deps.sh: everything that ktvpn's build and tests need, from packages. Safe to run again; a second run takes a second.
#
#   deploy/deps.sh            packages, and the sources that are compiled for the agent
#   deploy/deps.sh --print    only prints the folder of the compiled things, for CMake and scripts
#
# Three libraries are compiled from Debian's *source* packages into a cache outside the tree:
#   lwIP       Debian's own liblwip is built for another purpose (a thread, an MSS of 1460); CMake compiles core, ipv4 and
#              ipv6 of it with netstack/lwip/lwipopts.h. 2.2.1 from Debian 13's sources, else the release's own.
#   libuv, libsodium with musl: the agent has to fit a ConfigMap (1 MiB), and glibc alone is 0.9 MB when linked statically.
#   libsodium once more, for the client: AEGIS-256, a seventh of ChaChaPoly's CPU time, came after Debian 12's version. From
#              Debian 14's sources.
set -euo pipefail

KEY=deps-2 # change it when what is built here changes
CACHE=${KTVPN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ktvpn}/$KEY
[ "${1:-}" != --print ] || { echo "$CACHE"; exit 0; }

PACKAGES="build-essential cmake ninja-build pkg-config musl-tools dpkg-dev ca-certificates autoconf automake libtool
  libuv1-dev libcurl4-openssl-dev libssl-dev libcjson-dev libyaml-dev libmnl-dev libcmocka-dev linux-libc-dev
  clang-14 clang-format-14 clang-tidy-14 cppcheck libclang-rt-14-dev
  python3 python3-pytest iproute2 iputils-ping nftables iptables curl openssl util-linux"

say() { printf 'deps: %s\n' "$*"; }
fail() { printf 'deps: %s\n' "$*" >&2; exit 1; }
missing() {
    local p
    for p in $PACKAGES; do
        [ "$(dpkg-query -Wf '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
    done
}

command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || fail "this is no Debian. Install what these Debian packages hold, and read this script for the three libraries:" $PACKAGES

apt() { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@"; }
need=$(missing)
if [ -n "$need" ]; then
    [ "$(id -u)" = 0 ] || fail "run once as root, or install:" $need
    say "installing" $need
    log=$(mktemp)
    apt update && apt install -y --no-install-recommends $need >"$log" 2>&1 || { tail -20 "$log" >&2; fail "apt-get failed"; }
    rm -f "$log"
fi
[ ! -e "$CACHE/done" ] || exit 0

mkdir -p "$CACHE/src" "$CACHE/apt"
cd "$CACHE"

# A private apt state: the same mirror, and the source packages of one suite; the machine's own lists stay as they are.
mirror() { apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Component: main' 'Origin: Debian' | grep -v security | head -1; }
site=$(mirror)
[ -n "$site" ] || { apt update; site=$(mirror); }
[ -n "$site" ] || fail "found no Debian mirror in the apt sources"
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
source_of() { # SUITE PACKAGE: download and unpack the newest source of it into src/PACKAGE; signed by Debian's keyring
    local suite=$1 package=$2 state=$CACHE/apt/$1
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/etc"
    printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$site" "$suite" >"$state/etc/sources.list"
    local o=(-o Dir::State::lists="$state/lists" -o Dir::Cache="$state/cache" -o Dir::Etc::sourcelist="$state/etc/sources.list"
        -o Dir::Etc::sourceparts=/dev/null -o APT::Sandbox::User=root)
    [ -e "$state/fresh" ] || { apt "${o[@]}" update && touch "$state/fresh"; } || return 1
    (cd src && rm -rf "$package" && apt "${o[@]}" source --download-only "$package" >/dev/null &&
        dpkg-source --no-check -x "$package"_*.dsc "$package" >/dev/null) || { rm -f "src/$package"_*; return 1; }
}

say "sources: lwIP, libuv, libsodium"
source_of trixie lwip || { say "no lwIP in trixie, taking $release's"; source_of "$release" lwip; }
source_of "$release" libuv1
source_of forky libsodium

# musl-gcc sees no kernel headers; these three folders are all that libuv includes of them.
mkdir -p musl/include
for d in linux asm-generic; do ln -sfn "/usr/include/$d" "musl/include/$d"; done
ln -sfn "/usr/include/$(gcc -print-multiarch)/asm" musl/include/asm
flags="-O2 -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -idirafter $CACHE/musl/include"
quietly() { "$@" >"$CACHE/build.log" 2>&1 || { tail -30 "$CACHE/build.log" >&2; fail "failed: $*"; }; }

sodium() { # FOLDER CONFIGURE-ARGUMENTS...: compiles libsodium beside its source and installs it in FOLDER
    local folder=$1
    shift
    mkdir -p "src/libsodium-$folder"
    (cd "src/libsodium-$folder" && quietly ../libsodium/configure "$@" --prefix="$CACHE/$folder" --disable-shared --enable-static &&
        quietly make -j2 -C src/libsodium install)
}
say "compiling libsodium, twice"
(cd src/libsodium && quietly autoreconf -fi)
sodium musl CC=musl-gcc CFLAGS="$flags" --disable-ssp
sodium glibc CFLAGS="-O2 -ffunction-sections -fdata-sections"
say "compiling libuv for musl"
quietly cmake -G Ninja -Wno-dev -S src/libuv1 -B src/libuv1/musl -DCMAKE_C_COMPILER=musl-gcc -DCMAKE_C_FLAGS="$flags" \
    -DCMAKE_INSTALL_PREFIX="$CACHE/musl" -DCMAKE_INSTALL_LIBDIR=lib -DLIBUV_BUILD_SHARED=OFF -DBUILD_TESTING=OFF -DLIBUV_BUILD_TESTS=OFF
quietly cmake --build src/libuv1/musl --target uv_a
cp -r src/libuv1/include/. musl/include/
cp src/libuv1/musl/libuv_a.a src/libuv1/musl/libuv.a musl/lib/libuv.a 2>/dev/null || cp src/libuv1/musl/libuv*.a musl/lib/libuv.a
ln -sfn src/lwip lwip
touch done
say "done"
