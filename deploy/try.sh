#!/bin/bash
# try.sh: from a fresh clone to a page fetched from inside a cluster. Installs what is needed, builds, then joins a cluster:
#
#   with KUBECONFIG set or a ~/.kube/config    that cluster; a Job and a ConfigMap in one namespace, for the while, are all that is made
#   otherwise, or with --cluster               a real Kubernetes of its own in network namespaces of this machine (tests/cluster)
#
#   deploy/try.sh [--cluster] [--context CONTEXT] [--namespace NAMESPACE]
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
ktvpn=$repo/build/release/client/ktvpn
own= options=()
while [ $# -gt 0 ]; do
    case $1 in
    --cluster) own=1 ;;
    --context | --namespace) [ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }; options+=("$1" "$2"); shift ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
    shift
done

step() { printf '\n=== %s\n' "$*"; }
fail() { printf 'try: %s\n' "$*" >&2; exit 1; }
now_ms() { date +%s%3N; }

install_and_build() {
    local log=$repo/build/try.log
    step "installing what is needed"
    "$repo/deploy/deps.sh"
    step "building (log: build/try.log)"
    mkdir -p "$repo/build"
    (cd "$repo" && cmake --preset release && cmake --build --preset release --target ktvpn) >"$log" 2>&1 || { tail -20 "$log" >&2; fail "the build failed"; }
    ls -l "$ktvpn"
}

# Asks for a page until it comes. `ktvpn up` runs meanwhile.
first_page() { # URL SECONDS
    local end=$((SECONDS + $2))
    while [ $SECONDS -lt $end ]; do
        ! "${shell[@]}" curl -sfk -o /dev/null --connect-timeout 1 --max-time 2 "$1" || return 0
        kill -0 "$up_pid" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

# Starts `ktvpn up`, and waits for the page; the time until then is from the start of `ktvpn up`.
join() { # URL SECONDS OPTION...
    local url=$1 seconds=$2 began rc=0; shift 2
    step "ktvpn up $*"
    began=$(now_ms)
    "${shell[@]}" "$ktvpn" up "$@" & up_pid=$!
    trap leave EXIT
    first_page "$url" "$seconds" || rc=1
    waited=$(($(now_ms) - began))
    kill -0 "$up_pid" 2>/dev/null || fail "ktvpn up ended; what it said stands above"
    return $rc
}

print_waited() { printf '\nfrom `ktvpn up` to the first answer: %d.%03d s\n' $((waited / 1000)) $((waited % 1000)); }

leave() {
    trap - EXIT
    kill -0 "$up_pid" 2>/dev/null || return 0
    step "ktvpn down"
    "${shell[@]}" "$ktvpn" down || kill "$up_pid" # the process is `ip netns exec` or sudo, become ktvpn
    wait "$up_pid" || true
}

fetch() { # WHAT URL
    printf '\n%s: GET %s\n' "$1" "$2"
    "${shell[@]}" curl -sSk --max-time 10 -w '\n(HTTP %{http_code}, %{time_total} s)\n' "$2" || fail "no answer from $2"
}

try_own_cluster() {
    [ "$(id -u)" = 0 ] || fail "no kubeconfig is at hand, and a cluster of its own needs root: sudo $0"
    step "starting a Kubernetes (its compilation takes 8 to 20 minutes, once)"
    "$repo/tests/cluster/up.sh"
    eval "$("$repo/tests/cluster/env.sh")"
    export KUBECONFIG=$KT_KUBECONFIG
    shell=(ip netns exec "$KT_LAPTOP")
    object() { "${shell[@]}" "$KT_KUBECTL" -n ems get "$1" -o jsonpath="{$2}"; }
    join http://dashboard-api/ 30 --namespace ems "${options[@]}" || fail "no answer from http://dashboard-api/"
    step "three fetches from the laptop"
    fetch "by name" http://dashboard-api/
    fetch "by ClusterIP" "http://$(object service/dashboard-api .spec.clusterIP)/"
    fetch "by pod IP" "http://$(object pod/store-0 .status.podIP):8080/"
    print_waited
    leave
    cat <<END

The cluster still runs. By hand, on its laptop:

    sudo ip netns exec $KT_LAPTOP env KUBECONFIG=$KT_KUBECONFIG PATH="$(dirname "$ktvpn"):$(dirname "$KT_KUBECTL"):\$PATH" bash
    ktvpn up --namespace ems --detach
    curl http://dashboard-api/
    ktvpn status
    ktvpn down

tests/cluster/down.sh ends it.
END
}

# The API server's own Service is in each cluster, and answers /version to everybody. A developer who may not learn the range of the
# Services gets those of the namespace only: then the API server's may be out of reach, and no fault.
try_given_cluster() {
    local answer url=https://kubernetes.default.svc.cluster.local/version
    if [ -t 0 ]; then
        read -r -p "Join the cluster of ${KUBECONFIG:-~/.kube/config} (${options[*]:-current context})? [y/N] " answer
        [[ $answer == [yY]* ]] || { echo "Nothing done. \"$0 --cluster\" starts a cluster of its own."; exit 0; }
    fi
    shell=()
    [ "$(id -u)" = 0 ] || shell=(sudo --preserve-env=KUBECONFIG)
    if join $url 15 "${options[@]}"; then
        step "a fetch through the cluster"
        fetch "by name" $url
        print_waited
    else
        printf '\nNo answer from %s: it is outside the ranges below, or not there. Try a service of yours.\n' $url
    fi
    "${shell[@]}" "$ktvpn" status
    leave
    printf '\nTo go on by hand:\n\n    sudo --preserve-env=KUBECONFIG %s up --namespace NAMESPACE\n' "$ktvpn"
}

install_and_build
if [ -z "$own" ] && { [ -n "${KUBECONFIG:-}" ] || [ -e ~/.kube/config ]; }; then try_given_cluster; else try_own_cluster; fi
