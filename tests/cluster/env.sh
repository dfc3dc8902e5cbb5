#!/bin/bash
# env.sh [NAME]: an instance's names and files, as variables for `eval`.
. "$(dirname "$0")/lib.sh"
cat <<END
KT_LAPTOP=$laptop
KT_WORLD=$world
KT_NODE=$node
KT_KUBECONFIG=$admin_kubeconfig
KT_DEVELOPER_KUBECONFIG=$developer_kubeconfig
KT_KUBECTL=$kubectl
KT_TESTAPP=$testapp
KT_STATE=$state
KT_NODE_IP=$node_ip
KT_WORLD_IP=$world_laptop_ip
KT_LAPTOP_IP=$laptop_ip
KT_WEB_IP=$web_ip
KT_PRINTER_IP=$printer_ip
KT_PODS=$pods
KT_SERVICES=$services
KT_NODE_IP6=$node_ip6
KT_WORLD_IP6=$world_laptop_ip6
KT_LAPTOP_IP6=$laptop_ip6
KT_WEB_IP6=$web_ip6
KT_PODS6=$pods6
KT_SERVICES6=$services6
END
