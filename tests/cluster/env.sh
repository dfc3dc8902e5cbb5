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
END
