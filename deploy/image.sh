#!/bin/bash
# image.sh [OUT.tar [NAME:TAG]]: the agent's image as an archive, with no container tool: what Containerfile says. The same binary gives
# the same bytes. The archive is an OCI layout and a docker archive at once:
#
#   podman load -i OUT.tar; docker load -i OUT.tar; ctr -n k8s.io images import OUT.tar; kind load image-archive OUT.tar
#   skopeo copy oci-archive:OUT.tar docker://REGISTRY/ktvpn-agent:TAG
#
# KTVPN_AGENT names another binary than the release build's.
set -euo pipefail

repo=$(cd "$(dirname "$0")/.." && pwd)
agent=${KTVPN_AGENT:-$repo/build/release/static-agent/agent/ktvpn-agent}
version=$(sed -n 's/^project(ktvpn VERSION \([0-9.]*\).*/\1/p' "$repo/CMakeLists.txt")
out=${1:-$repo/build/ktvpn-agent.tar}
image=${2:-localhost/ktvpn-agent:$version}
[ -x "$agent" ] || { echo "image: no $agent; build it: cmake --preset release && cmake --build --preset release" >&2; exit 1; }

machine() { # what the binary is for, in the words of container tools: ELF's e_machine
    case $(od -An -tx2 -j18 -N2 "$1" | tr -d ' ') in
    003e) echo amd64 ;;
    00b7) echo arm64 ;;
    *) echo "image: $1 is for no machine that is known here" >&2; exit 1 ;;
    esac
}

reproducible_tar() { # FOLDER OUT ENTRY...: no names, times or owners of this machine
    local folder=$1 to=$2; shift 2
    tar -C "$folder" --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$to" "$@"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blobs=$work/oci/blobs/sha256
mkdir -p "$work/root" "$blobs"

blob() { # FILE: moves it among the blobs, prints its hash
    local hash; hash=$(sha256sum <"$1" | cut -c-64)
    mv "$1" "$blobs/$hash"
    echo "$hash"
}
size() { stat -c %s "$blobs/$1"; }

install -m 0755 "$agent" "$work/root/ktvpn-agent"
reproducible_tar "$work/root" "$work/layer" ktvpn-agent
layer=$(blob "$work/layer")
arch=$(machine "$agent")

cat >"$work/config" <<END
{"architecture":"$arch","os":"linux","config":{"User":"65532:65532","Entrypoint":["/ktvpn-agent"],"Labels":{"org.opencontainers.image.title":"ktvpn-agent","org.opencontainers.image.version":"$version","org.opencontainers.image.licenses":"Apache-2.0"}},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
END
config=$(blob "$work/config")
cat >"$work/manifest" <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$(size "$config")},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:$layer","size":$(size "$layer")}]}
END
manifest=$(blob "$work/manifest")
cat >"$work/oci/index.json" <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:$manifest","size":$(size "$manifest"),"annotations":{"io.containerd.image.name":"$image","org.opencontainers.image.ref.name":"${image##*:}"},"platform":{"architecture":"$arch","os":"linux"}}]}
END
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
cat >"$work/oci/manifest.json" <<END
[{"Config":"blobs/sha256/$config","RepoTags":["$image"],"Layers":["blobs/sha256/$layer"]}]
END

mkdir -p "$(dirname "$out")"
chmod -R u=rwX,go=rX "$work/oci"
reproducible_tar "$work/oci" "$out.new" blobs index.json manifest.json oci-layout
mv "$out.new" "$out"
echo "$out: $image ($arch), sha256:$manifest"
