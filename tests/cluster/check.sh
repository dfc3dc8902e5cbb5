#!/bin/bash
# check.sh [NAME]: does the cluster do what it should, as seen from the laptop? One line for each check; exit code 1 if one failed.
. "$(dirname "$0")/lib.sh"
set +e
failed=0

check() { # WHAT EXPECTED-PATTERN COMMAND...
    local what=$1 want=$2 got; shift 2
    got=$("$@" 2>&1)
    if grep -qE -- "$want" <<<"$got"; then echo "ok    $what"; else echo "FAIL  $what: $got" | head -5; failed=1; fi
}
in_pod() { kc -n ems exec store-0 -- /testapp "$@"; }
app() { on_laptop "$testapp" "$@"; }
object() { kc -n ems get "$1" -o jsonpath="{$2}"; }
as_developer() { on_laptop "$kubectl" --kubeconfig "$developer_kubeconfig" "$@"; }
forward() {
    nsenter --net=/run/netns/"$laptop" "$kubectl" --kubeconfig "$admin_kubeconfig" -n ems port-forward store-0 18080:8080 >/dev/null 2>&1 &
    local pid=$! i # not kc: its pid would be a shell's
    for ((i = 0; i < 50; i++)); do app get http://127.0.0.1:18080/ 2>/dev/null && break; sleep 0.1; done
    kill $pid; wait $pid 2>/dev/null
}
running_pods() { kc get pods -A | awk '$1 ~ /^(ems|restricted)$/ && $3 == "1/1" && $4 == "Running"' | wc -l; }
ping_groups() { in_pod cat /proc/sys/net/ipv4/ping_group_range; }

both_of() { object "$1" '.spec.clusterIPs[*]'; }
pod_ips() { kc -n ems get pod store-0 -o jsonpath='{.status.podIPs[*].ip}'; }
pod6_of() { kc -n ems get pods -l "$1" -o jsonpath='{.items[0].status.podIPs[*].ip}' | awk '{ print $2 }'; }

service=$(object svc/dashboard-api .spec.clusterIP)
pod=$(object pod/store-0 .status.podIP)
service6=$(both_of svc/dashboard-api | awk '{ print $2 }') pod6=$(pod6_of app=store)
check "the laptop sees the node"            'node1 +Ready'             kc get nodes
check "five pods run in ems and restricted" '^5$'                      running_pods
check "a pod resolves dashboard-api.ems"    "$service"                 in_pod dns dashboard-api.ems
check "a pod resolves the headless store-0" "$pod"                     in_pod dns store-0.store
check "a pod resolves the ExternalName"     "$web_ip"                  in_pod dns ext
check "a pod resolves an outside name"      "$web_ip"                  in_pod dns www.example.com
check "a pod reaches the outside"           'asked as www.example.com' in_pod get http://www.example.com/
check "any group in a pod may ping"         '^0\s'                     ping_groups
check "HTTP/1.1 over the ClusterIP"         '"proto":"HTTP/1.1"'       in_pod get http://dashboard-api/
check "h2c over the ClusterIP"              '"proto":"HTTP/2.0"'       in_pod get -2 http://dashboard-api/
check "gRPC-like echo with trailers"        'abc.*Grpc-Status:\[0\]'   in_pod get -2 -grpc -d abc http://dashboard-api/
check "TCP echo over the ClusterIP"         '^abc$'                    in_pod tcp dashboard-api:7000 abc
check "UDP echo over the ClusterIP"         '^abc$'                    in_pod udp dashboard-api:7001 abc
check "kubectl port-forward"                '"pod":"store-0"'          forward
check "the developer may what role.yaml says" '^yes$'                  as_developer auth can-i create pods --subresource=portforward -n ems
check "and no more"                         '^no$'                     as_developer auth can-i list secrets -n ems
check "nor elsewhere"                       '^no$'                     as_developer auth can-i list pods -n kube-system
check "the laptop has no way to a ClusterIP" 'timeout'                 app tcp "$service:80" x
check "nor to a pod"                        'timeout'                  app tcp "$pod:7000" x
check "nor to the API server's ClusterIP"   'timeout'                  app tcp $api_service_ip:443 x
check "the laptop resolves www.example.com" "$web_ip"                  app dns www.example.com
check "and its own search domain"           "$printer_ip"              app dns printer
check "but not the cluster's names"         'no such host'             app dns dashboard-api.ems.svc.cluster.local
check "the laptop reaches the outside"      'asked as www.example.com' app get http://www.example.com/
check "the laptop reaches the outside by v6" 'asked as www6'           app get http://www6.example.com/
check "the laptop has no IPv6 way to a pod"  'timeout|unreachable'     app tcp "[${pod6:-fd31:232::2}]:7000" x

if [ -n "$pods6" ]; then
    check "Services have both families"      "^$service $service6$"    both_of svc/dashboard-api
    check "a pod resolves AAAA"              "$service6"               in_pod dns dashboard-api
    check "a Service of IPv6 alone"          "^\[$(object svc/dashboard-api6 .spec.clusterIP)\]$" in_pod dns dashboard-api6
    check "a headless one of IPv6 alone"     "^\[$pod6\]$"             in_pod dns store6
    check "HTTP over the IPv6 ClusterIP"     '"remote":"\[fd31'        in_pod get "http://[$service6]/"
    check "HTTP over IPv6 from pod to pod"   '"pod":"dashboard-api'    in_pod get "http://[$(pod6_of app=dashboard-api)]:8080/"
    check "HTTP by the name of IPv6 alone"   '"pod":"dashboard-api'    in_pod get http://dashboard-api6/
    check "UDP echo over the IPv6 ClusterIP" '^abc$'                   in_pod udp "[$service6]:7001" abc
    check "an unused IPv6 is told"           'refused|no route|unreachable' in_pod tcp "[${pod6%:*}:dead]:80" x
    check "a pod reaches the outside by v6"  'asked as'                in_pod get "http://[$web_ip6]/"
    check "pod ranges of both families"      "^\[\"$node_pods\",\"$node_pods6\"\]$" kc get node node1 -o 'jsonpath={.spec.podCIDRs}'
    check "Service ranges of both families"  "\"$services\",\"$services6\"" kc get servicecidr kubernetes -o 'jsonpath={.spec.cidrs}'
    check "the API server answers by IPv6"   '^ok$'                    kc --server "https://[$node_ip6]:6443" get --raw /readyz
else
    check "no Service has IPv6"              "^$service$"              both_of svc/dashboard-api
    check "and no pod"                       "^$pod$"                  pod_ips
fi
exit $failed
