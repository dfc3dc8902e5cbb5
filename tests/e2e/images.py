"""Images of the agent that start it otherwise than the shipped one does."""

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path

from cluster import REPO

AGENT = Path(os.environ.get("KTVPN_AGENT", REPO / "build/release/static-agent/agent/ktvpn-agent"))


def add(tar, name, data, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def make(path, name, entrypoint):
    """A docker archive with nothing but the agent in it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        add(tar, "ktvpn-agent", AGENT.read_bytes(), 0o755)
    config = {"architecture": "amd64" if os.uname().machine == "x86_64" else "arm64", "os": "linux",
              "config": {"User": "65532:65532", "Entrypoint": entrypoint},
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]}}
    with tarfile.open(path, "w") as tar:
        add(tar, "layer.tar", layer.getvalue())
        add(tar, "config.json", json.dumps(config).encode())
        add(tar, "manifest.json", json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode())
