#!/bin/bash
# down.sh [NAME]: stops what up.sh started, by recorded pid and start time, and forgets the cluster. Nothing stays behind but the
# binaries in the cache.
. "$(dirname "$0")/lib.sh"
set +e
[ -d "$state" ] || exit 0
exec 9>"$state/lock"; flock 9

stop() { # PROCESS: asked first, made to after 5 s
    local pid start i
    if alive "$1"; then
        read -r pid start <"$state/run/$1.pid"
        kill "$pid"
        for ((i = 0; i < 50; i++)); do alive "$1" || break; sleep 0.1; done
        ! alive "$1" || kill -9 "$pid"
    fi
    rm -f "$state/run/$1.pid"
}

cgroups() { find /sys/fs/cgroup -depth -type d \( -path "*/$node" -o -path "*/$node/*" \) 2>/dev/null; }

# The containers go by way of containerd while it lives. What is left then is ours by its cgroup; the shims by the socket they were given.
stop_containers() {
    local task container cgroup pid i
    if alive containerd; then
        for task in $(ctr_ tasks ls -q); do ctr_ tasks kill -a -s KILL "$task"; done
        for ((i = 0; i < 50; i++)); do ctr_ tasks ls | grep -q RUNNING || break; sleep 0.1; done
        for container in $(ctr_ containers ls -q); do ctr_ tasks rm -f "$container"; ctr_ containers rm "$container"; done
    fi >/dev/null 2>&1
    for cgroup in $(cgroups); do xargs -r kill -9 <"$cgroup/cgroup.procs" 2>/dev/null; done
    for pid in $(grep -lsa "containerd-shim.*$state/containerd/run/containerd.sock" /proc/[0-9]*/cmdline | cut -d/ -f3); do
        kill -9 "$pid" 2>/dev/null
    done
}

# The pods' network namespaces are those that $node has a veth into.
remove_pod_networks() {
    local ns result id
    for ns in $(ip -n "$node" netns list-id 2>/dev/null | grep -o 'cni-[0-9a-f-]*'); do ip netns del "$ns"; done
    for result in /var/lib/cni/results/"$node"-*-eth0; do
        id=${result##*/"$node"-} id=${id%-eth0}
        rm -f "$result" "/var/lib/cni/results/cni-loopback-$id-lo"
    done
}

unmount_all() { awk -v d="$state/" 'index($2, d) == 1 { print $2 }' /proc/mounts | sort -r | while read -r m; do umount -l "$m"; done; }

for process in kubelet proxy scheduler controller-manager; do stop $process; done
stop_containers
remove_pod_networks
for process in apiserver etcd web dns containerd; do stop $process; done
unmount_all
for ((i = 0; i < 30; i++)); do # a cgroup goes when its last process has been reaped
    cgroups | xargs -r rmdir 2>/dev/null
    [ -n "$(cgroups)" ] || break
    sleep 0.1
done
find /var/log/containers -lname "$state/*" -delete 2>/dev/null
for ns in $laptop $world $node; do [ ! -e "/run/netns/$ns" ] || ip netns del "$ns"; done
rm -rf "/etc/netns/$laptop" "$state"
rmdir /etc/netns /var/lib/kubelet/device-plugins /var/lib/kubelet /run/containerd/s /run/containerd /var/lib/cni/results /var/lib/cni /var/log/containers 2>/dev/null
exit 0
