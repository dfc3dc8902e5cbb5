#!/bin/bash
# up.sh [NAME] [--ipv4] [--block N]: a one-node Kubernetes, a laptop and the rest of the internet, each in a network namespace of its
# own (drawn in lib.sh). Safe to run again: what runs stays, what is missing is started.
#
#   NAME        "kt" unless given; other names are other instances
#   --ipv4      a cluster of IPv4 alone; else it is dual-stack
#   --block N   addresses of its own, 0 to 9 (0): for a laptop that is joined to two clusters
. "$(dirname "$0")/lib.sh"
. "$here/build.sh"

wanted=
while shift && [ $# -gt 0 ]; do
    case $1 in
    --ipv4) families=ipv4 wanted=1 ;;
    --block) block=${2:-} wanted=1; shift || true ;;
    *) fail "unknown option $1" ;;
    esac
done
[[ $block =~ ^[0-9]$ ]] || fail "--block wants a number from 0 to 9"
lay_out

build
[ "$(id -u)" = 0 ] || fail "needs root: it makes network namespaces and runs containerd"

if [ -d "$state" ] && [ ! -e "$state/layout" ]; then
    say "made by an older up.sh, or not to its end: made anew"
    "$here/down.sh" "$name"
fi
[ -z "$wanted" ] || [ ! -e "$state/layout" ] || [ "$(cat "$state/layout")" = "$families $block" ] ||
    fail "it runs already, with other options: $(cat "$state/layout"); run down.sh first"
mkdir -p "$state"/{run,log,pki,etcd,containerd,cni,dns,kubelet}
chmod 700 "$state/pki"
exec 9>"$state/lock"; flock 9
echo "$families $block" >"$state/layout"
started=$(date +%s.%N)

# --- certificates: one CA for everything ------------------------------------------------------------------------------------------

certificate() { # NAME SUBJECT ALTERNATIVE-NAMES
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out "$1.crt" \
        -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3") 2>/dev/null
}

kubeconfig() { # USER
    cat >"$1.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters:
- name: $name
  cluster: {server: "https://$node_ip:6443", certificate-authority-data: $(base64 -w0 ca.crt)}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}
contexts:
- name: $name
  context: {cluster: $name, user: $1}
current-context: $name
END
}

make_pki() {
    [ ! -e "$state/pki/done" ] || return 0
    (
        cd "$state/pki" && umask 077
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -x509 -keyout ca.key -out ca.crt -subj /CN=kt-ca -days 3650 2>/dev/null
        openssl genrsa -out sa.key 2048 2>/dev/null
        openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
        certificate apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:$node_ip,IP:$node_ip6,IP:$api_service_ip"
        certificate admin /O=system:masters/CN=admin DNS:admin
        certificate node /O=system:nodes/CN=system:node:node1 "DNS:node1,IP:$node_ip"
        certificate developer /CN=developer DNS:developer
        for user in admin node developer; do kubeconfig $user; done
        touch done
    )
}

# --- network ----------------------------------------------------------------------------------------------------------------------

connect() { # NAMESPACE DEVICE ADDRESS ADDRESS6 NAMESPACE DEVICE ADDRESS ADDRESS6
    ip link add "$2" netns "$1" type veth peer name "$6" netns "$5"
    give "$1" "$2" "$3" "$4"
    give "$5" "$6" "$7" "$8"
}
give() { # NAMESPACE DEVICE ADDRESS ADDRESS6; nodad: usable at once
    ip -n "$1" addr add "$3/24" dev "$2"
    ip -n "$1" addr add "$4/64" dev "$2" nodad
    ip -n "$1" link set "$2" up
}

make_network() {
    [ ! -e "$state/network" ] || return 0
    local ns
    for ns in $laptop $world $node; do
        [ ! -e "/run/netns/$ns" ] || ip netns del "$ns" # of a start that was cut
        ip netns add "$ns"; ip -n "$ns" link set lo up
    done
    in_net "$world" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    in_net "$world" sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 # what is unreachable is told each time
    in_net "$node" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    connect "$laptop" eth0 $laptop_ip $laptop_ip6 "$world" laptop $world_laptop_ip $world_laptop_ip6
    connect "$node" eth0 $node_ip $node_ip6 "$world" node $world_node_ip $world_node_ip6
    ip -n "$laptop" route add default via $world_laptop_ip
    ip -n "$laptop" route add default via $world_laptop_ip6
    ip -n "$node" route add default via $world_node_ip
    ip -n "$node" route add default via $world_node_ip6
    ip -n "$node" route add unreachable $pods # an address that no pod holds
    [ -z "$pods6" ] || ip -n "$node" route add unreachable $pods6
    ip -n "$world" addr add $web_ip/32 dev lo
    ip -n "$world" addr add $web_ip6/128 dev lo
    ip -n "$world" addr add $printer_ip/32 dev lo
    internet_rules | in_net "$world" nft -f -
    mkdir -p "/etc/netns/$laptop"
    printf 'search corp.example\nnameserver %s\n' $world_laptop_ip >"/etc/netns/$laptop/resolv.conf"
    touch "$state/network"
}

# laptop*: a test may join another laptop to this world.
internet_rules() {
    local drop6=
    [ -z "$pods6" ] || drop6="    iifname \"laptop*\" ip6 daddr { $pods6, $services6 } drop"
    cat <<END
table inet internet {
  chain forward {
    type filter hook forward priority 0
    iifname "laptop*" oifname node ip daddr != $node_ip drop
    iifname "laptop*" oifname node ip6 daddr != $node_ip6 drop
    iifname node oifname "laptop*" ct state new drop
  }
  chain prerouting {
    type filter hook prerouting priority -300
    iifname "laptop*" ip daddr { $pods, $services } drop
$drop6
  }
}
END
}

# --- configuration ----------------------------------------------------------------------------------------------------------------

world_dns() { # names of the rest of the internet; what it was asked is in log/dns.log
    cat <<END
.:53 {
  bind $world_laptop_ip $world_node_ip $world_laptop_ip6 $world_node_ip6
  log
  template IN A {
    match ^www6?\.example\.com\.$
    answer "{{ .Name }} 60 IN A $web_ip"
    fallthrough
  }
  template IN AAAA {
    match ^www6\.example\.com\.$
    answer "{{ .Name }} 60 IN AAAA $web_ip6"
    fallthrough
  }
  template IN A {
    match ^printer\.corp\.example\.$
    answer "{{ .Name }} 60 IN A $printer_ip"
    fallthrough
  }
  template ANY ANY {
    match ^(www6?\.example\.com|printer\.corp\.example)\.$
    rcode NOERROR
    fallthrough
  }
  template ANY ANY {
    rcode NXDOMAIN
  }
}
END
}

# ptp, not bridge: pods of one node then meet at layer 3, and Services work without bridge netfilter.
cni_config() {
    local ranges="[{\"subnet\":\"$node_pods\"}]" routes='{"dst":"0.0.0.0/0"}'
    [ -z "$node_pods6" ] || { ranges+=",[{\"subnet\":\"$node_pods6\"}]"; routes+=',{"dst":"::/0"}'; }
    cat <<END
{"cniVersion":"0.4.0","name":"$node","plugins":[
 {"type":"ptp","ipMasq":true,"ipam":{"type":"host-local","dataDir":"$state/containerd/ipam","ranges":[$ranges],"routes":[$routes]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
END
}

# restrict_oom_score_adj: for machines without CAP_SYS_RESOURCE. enable_unprivileged_icmp: what containerd 2 does by default, so that
# a pod may ping.
containerd_config() {
    cat <<END
version = 2
root = "$state/containerd/root"
state = "$state/containerd/run"
[grpc]
  address = "$state/containerd/run/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  enable_unprivileged_icmp = true
  sandbox_image = "localhost/pause:1"
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$state/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
END
}

kubelet_config() { # CGROUP-ROOT; containerd 1.6 cannot tell its cgroup driver, so it stands here
    cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {x509: {clientCAFile: $state/pki/ca.crt}, anonymous: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: "$1"
failCgroupV1: false
clusterDNS: [$dns_service_ip]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$state/containerd/run/containerd.sock
resolvConf: $state/dns/resolv.conf
podLogsDir: $state/log/pods
volumePluginDir: $state/kubelet/volumeplugins
failSwapOn: false
oomScoreAdj: 0
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: "100Mi"}
imageGCHighThresholdPercent: 99
imageGCLowThresholdPercent: 98
END
}

proxy_config() {
    cat <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $state/pki/admin.kubeconfig}
clusterCIDR: "$(with6 $pods $pods6)"
mode: iptables
linux: {conntrack: {maxPerCore: 0, min: 0}, oomScoreAdj: 0}
END
}

# A cgroup of our own for the pods: it keeps two instances apart, and down.sh finds what is ours.
make_cgroup() {
    local controller
    if [ -d /sys/fs/cgroup/memory ]; then
        for controller in /sys/fs/cgroup/*/cgroup.procs; do mkdir -p "$(dirname "$controller")/$node"; done
    else
        mkdir -p "/sys/fs/cgroup/$node"
        for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
            echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control || true
        done 2>/dev/null
    fi
}

put() { # FILE: from stdin, if it differs: kube-proxy exits when its configuration is written again, even with the same text
    local text; text=$(cat)
    [ "$text" = "$(cat "$1" 2>/dev/null)" ] || echo "$text" >"$1"
}

configure() {
    make_cgroup
    world_dns | put "$state/dns/Corefile"
    echo "nameserver $world_node_ip" | put "$state/dns/resolv.conf"
    cni_config | put "$state/cni/10-ktvpn.conflist"
    containerd_config | put "$state/containerd/config.toml"
    kubelet_config "/$node" | put "$state/kubelet/config.yaml"
    proxy_config | put "$state/kubelet/proxy.yaml"
}

# --- processes --------------------------------------------------------------------------------------------------------------------

run() { # PROCESS NAMESPACE COMMAND...: in the background, with pid and start time recorded
    local process=$1 ns=$2; shift 2
    ! alive "$process" || return 0
    nohup nsenter --net=/run/netns/"$ns" "$@" >"$state/log/$process.log" 2>&1 </dev/null 9>&- &
    echo "$! $(born $!)" >"$state/run/$process.pid"
}

wait_for() { # PROCESS COMMAND...: until the command succeeds; fails at once when the process is gone
    local i process=$1; shift
    for ((i = 0; i < 300; i++)); do
        ! "$@" >/dev/null 2>&1 || return 0
        alive "$process" || { tail -5 "$state/log/$process.log" >&2; fail "$process died"; }
        sleep 0.2
    done
    tail -5 "$state/log/$process.log" >&2
    fail "$process: not ready after a minute"
}

start_world() {
    run dns "$world" "$kube" coredns -quiet -conf "$state/dns/Corefile"
    run web "$world" "$testapp" web :80
}

start_control_plane() {
    local pki=$state/pki admin=$state/pki/admin.kubeconfig etcd=http://127.0.0.1:2379
    run etcd "$node" "$kube" etcd --data-dir "$state/etcd" --unsafe-no-fsync --listen-peer-urls http://127.0.0.1:2380 \
        --listen-client-urls $etcd --advertise-client-urls $etcd
    run apiserver "$node" "$kube" apiserver --etcd-servers=$etcd --service-cluster-ip-range="$(with6 $services $services6)" \
        --advertise-address=$node_ip --secure-port=6443 --allow-privileged=true \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --client-ca-file="$pki/ca.crt" \
        --cert-dir="$pki" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
        --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
        --service-account-issuer=https://kubernetes.default.svc \
        --kubelet-client-certificate="$pki/admin.crt" --kubelet-client-key="$pki/admin.key" --kubelet-preferred-address-types=InternalIP
    wait_for apiserver kc get --raw /readyz
    say "API server ready"
    run controller-manager "$node" "$kube" controller-manager --kubeconfig="$admin" --allocate-node-cidrs=true \
        --cluster-cidr="$(with6 $pods $pods6)" --service-cluster-ip-range="$(with6 $services $services6)" --cert-dir="$pki" --root-ca-file="$pki/ca.crt" \
        --service-account-private-key-file="$pki/sa.key" --use-service-account-credentials=true --leader-elect=false --authentication-skip-lookup=true
    run scheduler "$node" "$kube" scheduler --kubeconfig="$admin" --leader-elect=false --authentication-skip-lookup=true
}

import_image() { # ARCHIVE
    local mark; mark=$state/run/$(basename "$1").imported
    ! cmp -s "$mark" <(echo "$1") || return 0
    wait_for containerd ctr_ version
    ctr_ images import "$1" >/dev/null
    echo "$1" >"$mark"
}

start_node() {
    local pki=$state/pki
    run kubelet "$node" "$kube" kubelet --config="$state/kubelet/config.yaml" --kubeconfig="$pki/node.kubeconfig" --root-dir="$state/kubelet" \
        --cert-dir="$pki" --hostname-override=node1 --node-ip="$(with6 $node_ip ${pods6:+$node_ip6})"
    run proxy "$node" "$kube" proxy --config="$state/kubelet/proxy.yaml" --hostname-override=node1
    wait_for kubelet kc get --raw /api/v1/nodes/node1/proxy/healthz
    kc wait --for=condition=Ready node/node1 --timeout=120s >/dev/null
    say "node ready"
}

apply_objects() { # an image's tag is its key, so pods of an older test app are replaced
    local manifests=("$here"/manifests/*.yaml) file texts=()
    for file in "${manifests[@]}"; do
        [ -z "$pods6" ] && [[ $file == *-ipv6.yaml ]] || texts+=("$file")
    done
    cat "${texts[@]}" | sed -e "s,localhost/kube:KEY,$(image "$kube")," -e "s,localhost/testapp:KEY,$(image "$testapp")," \
        -e "s,DNS-SERVICE-IP,$dns_service_ip," | kc apply -f - >/dev/null
    kc -n ems apply -f "$repo/deploy/role.yaml" >/dev/null
    kc -n restricted apply -f "$repo/deploy/role.yaml" >/dev/null
}

wait_for_pods() {
    kc -n kube-system rollout status deploy/coredns --timeout=120s >/dev/null
    kc -n ems rollout status deploy/dashboard-api --timeout=120s >/dev/null
    kc -n ems rollout status statefulset/store --timeout=120s >/dev/null
    kc -n restricted rollout status deploy/dashboard-api --timeout=120s >/dev/null
    say "all pods ready"
    wait_for kubelet kc -n ems exec store-0 -- /testapp dns dashboard-api
    say "DNS answers in a pod"
}

make_pki
make_network
configure
run containerd "$node" containerd -c "$state/containerd/config.toml"
start_world
(import_image "$testapp.tar" && import_image "$kube.tar") & images=$!
start_control_plane
apply_objects
wait $images || fail "the images could not be imported: see $state/log/containerd.log"
start_node
wait_for_pods
"$here/env.sh" "$name"
