#!/bin/bash
# installed-agent.sh [-n NAMESPACE] [-u USER | -g GROUP] IMAGE           prints agent.yaml with this image of the agent
# installed-agent.sh [-n NAMESPACE] [-u USER | -g GROUP] --carry IMAGE   no registry: the program comes in a ConfigMap and runs in any IMAGE
#                                                         that the nodes have, such as their pause image; `kubectl create` takes
#                                                         it (`apply` keeps a copy in an annotation, which is too small)
#
# USER or GROUP may use the agent (User "developer" unless given). KTVPN_AGENT names another binary than the release build's.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
agent=${KTVPN_AGENT:-$here/../build/release/static-agent/agent/ktvpn-agent}
namespace=ktvpn kind=User name=developer carry=
usage() { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case $1 in
    -n) namespace=${2:?}; shift ;;
    -u) kind=User name=${2:?}; shift ;;
    -g) kind=Group name=${2:?}; shift ;;
    --carry) carry=1 ;;
    -*) usage ;;
    *) break ;;
    esac
    shift
done
[ $# = 1 ] || usage
[[ $namespace =~ ^[a-z0-9-]{1,63}$ && $1 =~ ^[A-Za-z0-9./:@_-]+$ && $name =~ ^[A-Za-z0-9.:@_/-]+$ ]] || usage

edits=(-e "/^#/d" -e "s,image: localhost/ktvpn-agent.*,image: $1," -e "s/namespace: ktvpn\b/namespace: $namespace/"
    -e "s,kind: User\, name: developer},kind: $kind\, name: \"$name\"},")
[ "$namespace" = ktvpn ] || edits+=(-e '1,/^---/d') # one that is there keeps its labels
[ -z "$carry" ] || edits+=(-e 's/#carry //' -e 's,\[/ktvpn-agent,[/ktvpn/ktvpn-agent,')
sed "${edits[@]}" "$here/agent.yaml"
[ -n "$carry" ] || exit 0
[ -r "$agent" ] || { echo "installed-agent: no $agent; build it: cmake --preset release && cmake --build --preset release" >&2; exit 1; }
cat <<END
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ktvpn-agent, namespace: $namespace}
binaryData:
  ktvpn-agent: $(base64 -w0 "$agent")
END
