#!/bin/bash
# build.sh: installs and compiles what up.sh runs; a second run takes a second. The binaries live outside the tree, in
# ${KTVPN_CACHE:-~/.cache/ktvpn}/kube-VERSION-KEY and testapp-KEY, where KEY is a hash of the sources.
#
#   kube      etcd, API server, controller manager, scheduler, kubelet, kube-proxy, kubectl and CoreDNS: one static Go program of 168 MB.
#             8 to 20 minutes on two cores with an empty build cache; every version is pinned by src/go.mod and src/go.sum.
#   testapp   the test services and clients; also the image of the pods
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

packages="containerd runc containernetworking-plugins iptables nftables conntrack iproute2 openssl util-linux ca-certificates"

apt() { DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -qq "$@"; }
missing() {
    local p
    for p in "$@"; do
        [ "$(dpkg-query -Wf '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
    done
}

# Installed packages must not start services of their own, so a policy-rc.d forbids it for the while.
install_packages() { # PACKAGE...
    local need log policy=/usr/sbin/policy-rc.d ours=
    need=$(missing "$@")
    [ -n "$need" ] || return 0
    command -v apt-get >/dev/null || fail "this is no Debian. Install what these Debian packages hold:" $need
    [ "$(id -u)" = 0 ] || fail "run once as root, or install:" $need
    log=$(mktemp)
    [ -e $policy ] || { ours=1; printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy; }
    { apt update && apt install -y --no-install-recommends $need; } >"$log" 2>&1 || { tail -20 "$log" >&2; [ -z "$ours" ] || rm -f $policy; fail "apt-get failed"; }
    [ -z "$ours" ] || rm -f $policy
    rm -f "$log"
    say "installed" $need
}

# Go as installed if it is as new as go.mod asks, or knows how to fetch the one that is; else a toolchain from the module proxy,
# fetched by Debian's. Go before 1.21 takes it for a module like any other: its files lack the x bit, and so it is copied.
wanted_go=$(awk '$1 == "go" { print $2 }' "$here/src/go.mod")
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -1)" = "$1" ]; }
find_go() {
    local have toolchain dir
    command -v go >/dev/null || install_packages golang-go
    have=$(GOTOOLCHAIN=local go env GOVERSION); have=${have#go}
    go=go
    if at_least 1.21 "$have"; then export GOTOOLCHAIN=auto; return; fi # `auto` fetches what go.mod asks for, if need be
    toolchain=v0.0.1-go$wanted_go.linux-$(go env GOARCH)
    if [ ! -e "$cache/go-$wanted_go/done" ]; then
        say "fetching Go $wanted_go from the module proxy"
        dir=$(cd "$(mktemp -d)" && go mod init none >/dev/null 2>&1 && go mod download -json "golang.org/toolchain@$toolchain" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
        [ -d "$dir" ] || fail "no Go toolchain from the module proxy"
        rm -rf "$cache/go-$wanted_go" && cp -r --no-preserve=mode "$dir" "$cache/go-$wanted_go"
        chmod +x "$cache/go-$wanted_go"/bin/* "$cache/go-$wanted_go"/pkg/tool/*/*
        touch "$cache/go-$wanted_go/done"
    fi
    go=$cache/go-$wanted_go/bin/go
    export GOTOOLCHAIN=local
}

compile() { # BINARY PACKAGE
    [ ! -x "$1" ] || return 0
    [ -n "${go:-}" ] || find_go
    mkdir -p "$(dirname "$1")"
    say "compiling $(basename "$1")"
    (cd "$here/src" && CGO_ENABLED=0 "$go" build -buildvcs=false -trimpath -ldflags "${kube_flags//$'\n'/ }" -o "$1.new" "$2") || fail "go build failed"
    mv "$1.new" "$1"
}

# An image of one layer: a static binary and /etc/passwd, as a docker archive beside the binary.
archive() { # BINARY DEFAULT-COMMAND-JSON TAG...
    local binary=$1 command=$2 dir out tags hash; shift 2
    out=$binary.tar
    [ ! -e "$out" ] || return 0
    dir=$(mktemp -d -p "$(dirname "$binary")")
    mkdir -p "$dir"/root/{etc,tmp}; chmod 755 "$dir/root"; chmod 1777 "$dir/root/tmp"
    cp "$binary" "$dir/root/"
    printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$dir/root/etc/passwd"
    tar -C "$dir/root" --owner=0 --group=0 --numeric-owner -cf "$dir/layer.tar" .
    hash=$(sha256sum <"$dir/layer.tar" | cut -c-64)
    tags=$(printf '"%s",' "$@"); tags=${tags%,}
    printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/%s"],"Cmd":%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$(dpkg --print-architecture)" "$(basename "$binary")" "$command" "$hash" >"$dir/config.json"
    printf '[{"Config":"config.json","RepoTags":[%s],"Layers":["layer.tar"]}]' "$tags" >"$dir/manifest.json"
    tar -C "$dir" -cf "$out.new" config.json layer.tar manifest.json
    mv "$out.new" "$out"
    rm -rf "$dir"
}

build() {
    mkdir -p "$cache"
    exec 8>"$cache/cluster-build.lock"; flock 8 # two instances may be started at once
    install_packages $packages
    compile "$testapp" ./testapp
    compile "$kube" .
    ln -sf kube "$kubectl"
    archive "$testapp" '["pause"]' localhost/pause:1 "$(image "$testapp")"
    archive "$kube" '["coredns"]' "$(image "$kube")"
    exec 8>&-
}

[ "${BASH_SOURCE[0]}" != "$0" ] || build
