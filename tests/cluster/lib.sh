# lib.sh: what up.sh, down.sh, env.sh and check.sh share. Sourced; $1 is the instance's name.
#
#        laptop                      world                       node
#   172.31.78.2 eth0 ──── laptop 172.31.78.1              (API server :6443, kubelet,
#    no cluster address           node 172.31.77.1 ──── eth0 172.31.77.2     pods 10.232/16, Services 10.222/16)
#    is reachable from here       DNS :53, web :80
#                                 www.example.com 192.0.2.10
#
# The same in IPv6: fd31:78::2 ── fd31:78::1, fd31:77::1 ── fd31:77::2, pods fd31:232::/48, Services fd31:222::/112; what has both
# outside is www6.example.com. A cluster with --ipv4 has no IPv6 in its pods and Services; the three namespaces have it all the same.
#
# Three network namespaces. The world routes between the two others, as the internet would: it is the laptop's default gateway and
# resolver. It drops what the laptop sends to pods and Services, and what the node begins towards the laptop.
# All addresses are the same in each instance: an instance's namespaces see only each other. Two clusters for one laptop need
# addresses of their own: --block N.

set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
kubernetes=1.37.2

name=${1:-kt}
[[ $name =~ ^[a-z][a-z0-9-]{0,15}$ ]] || { echo "an instance's name is a-z, 0-9 and -, at most 16 characters: $name" >&2; exit 2; }
cache=${KTVPN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ktvpn}
state=/var/tmp/ktvpn-cluster-$name # short: a Unix socket's path has 108 bytes

laptop=$name-laptop world=$name-world node=$name-node
web_ip=192.0.2.10 web_ip6=2001:db8::10 printer_ip=192.0.2.20

# What an instance was made with stays with it: "dual" or "ipv4", and the block of addresses.
families=dual block=0
[ ! -e "$state/layout" ] || read -r families block <"$state/layout"
lay_out() { # the addresses of $families and $block
    laptop_ip=172.31.$((78 + 2 * block)).2 world_laptop_ip=172.31.$((78 + 2 * block)).1
    node_ip=172.31.$((77 + 2 * block)).2 world_node_ip=172.31.$((77 + 2 * block)).1
    local six=:${block/#0/}: # "::" or ":1::" behind the first two parts: canonical, as the API server wants it
    [ "$block" = 0 ] || six+=:
    laptop_ip6=fd31:78${six}2 world_laptop_ip6=fd31:78${six}1
    node_ip6=fd31:77${six}2 world_node_ip6=fd31:77${six}1
    pods=10.$((232 + block)).0.0/16 node_pods=10.$((232 + block)).0.0/24
    services=10.$((222 + block)).0.0/16 api_service_ip=10.$((222 + block)).0.1 dns_service_ip=10.$((222 + block)).0.10
    pods6='' node_pods6='' services6=''
    [ "$families" = dual ] || return 0
    pods6=fd31:232${six}/48 node_pods6=fd31:232${six}/64 services6=fd31:222${six}/112
}
lay_out
with6() { echo "$1${2:+,$2}"; } # V4 V6-OR-NOTHING: as Kubernetes writes both families

# A binary's folder in the cache is named by what it is made of.
kube_flags="-s -w -X k8s.io/component-base/version.gitVersion=v$kubernetes -X k8s.io/component-base/version.gitMajor=1
  -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<$kubernetes) -X k8s.io/client-go/pkg/version.gitVersion=v$kubernetes"
key() { { cat "$@"; echo "$kube_flags"; } | sha256sum | cut -c-12; }
kube_dir=$cache/kube-$kubernetes-$(key "$here"/src/{go.mod,go.sum,main.go})
testapp_dir=$cache/testapp-$(key "$here"/src/go.mod "$here"/src/testapp/*.go)
kube=$kube_dir/kube kubectl=$kube_dir/kubectl testapp=$testapp_dir/testapp
image() { echo "localhost/$(basename "$1"):$(basename "$(dirname "$1")" | sed 's/.*-//')"; } # BINARY
admin_kubeconfig=$state/pki/admin.kubeconfig developer_kubeconfig=$state/pki/developer.kubeconfig

in_net() { # NAMESPACE COMMAND...: not `ip netns exec`, which hides /sys/fs/cgroup
    local ns=$1; shift
    nsenter --net=/run/netns/"$ns" "$@"
}
on_laptop() { ip netns exec "$laptop" "$@"; } # this one also mounts /etc/netns/$laptop/resolv.conf
kc() { in_net "$laptop" "$kubectl" --cache-dir "$state/kubectl" --kubeconfig "$admin_kubeconfig" "$@"; }
ctr_() { ctr -a "$state/containerd/run/containerd.sock" -n k8s.io "$@"; }

# A process is ours only while its start time is the one that was recorded; a zombie counts as dead.
born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }
alive() { # PROCESS
    local pid start
    read -r pid start 2>/dev/null <"$state/run/$1.pid" && [ -n "$start" ] && [ "$(born "$pid")" = "$start" ]
}

started=$(date +%s.%N)
say() { awk -v a="$started" -v b="$(date +%s.%N)" -v text="$*" 'BEGIN { printf "%6.1f s  %s\n", b - a, text }'; }
fail() { echo "cluster $name: $*" >&2; exit 1; }
