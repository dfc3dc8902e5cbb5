"""C11, K1, K2, K6, K7: nothing stays, however `ktvpn up` ends."""

import json
import os
import pty
import re
import signal
import time
from pathlib import Path

import conftest
import images
import machine
import pytest
import traffic
from cluster import wait_for

AGENTS = "app.kubernetes.io/name=ktvpn-agent"

def test_c11_twenty_times(ktvpn_up, cluster):
    machine_before, cluster_before = machine.snapshot(), cluster.snapshot()
    for _ in range(20):
        with ktvpn_up():
            assert traffic.get("dashboard-api")[0] == 200
        conftest.assert_untouched(cluster, machine_before, cluster_before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_k6_signal(ktvpn_up, number):
    with ktvpn_up() as up:
        up.send(number)
        assert up.wait() == 0


def test_k6_down(ktvpn_up):
    with ktvpn_up() as up:
        assert machine.run("down", up.name)[0] == 0
        assert up.wait(1) == 0
    assert machine.run("status", up.name)[0] == 11


def test_k6_terminal_closed(ktvpn_up, cluster):
    ours, theirs = pty.openpty()
    up = machine.Up("-n", "ems", kubeconfig=cluster.kubeconfig, terminal=theirs)
    os.close(theirs)
    up.wait_connected()
    os.close(ours)
    assert up.wait() == 0


def test_k7_second_ctrl_c(cluster):
    """The API server does not answer, so leaving would take its time: the second Ctrl-C leaves at once, and what it names removes the rest."""
    before = machine.snapshot()
    up = machine.Up("-n", "ems", kubeconfig=cluster.kubeconfig).wait_connected()
    with cluster.world_rule("drop"):
        up.send(signal.SIGINT)
        wait_for(lambda: "leaving" in up.output(), 2, "it leaves")
        assert up.process.poll() is None
        began = time.monotonic()
        up.send(signal.SIGINT)
        assert up.wait(3) == 130
        assert time.monotonic() - began < 1
    wait_for(lambda: not machine.differences(before, machine.snapshot()) or None, 1, "the machine as before")
    assert "stays" in up.output()
    command = re.search(r"`kubectl ([^`]*)`", up.output()).group(1)
    assert cluster.pods("ems", AGENTS)
    cluster.kc(*command.split())


IDLE_IMAGE = "localhost/ktvpn-agent-test:idle"


@pytest.fixture
def impatient_agent(cluster, tmp_path):
    """The agent as an image that leaves after 3 s without a client instead of 300 s."""
    images.make(tmp_path / "image.tar", IDLE_IMAGE, ["/ktvpn-agent", "--idle", "3s"])
    cluster.ctr("images", "import", str(tmp_path / "image.tar"))
    yield IDLE_IMAGE
    cluster.ctr("images", "rm", IDLE_IMAGE)


def test_k1_killed(ktvpn_up, cluster, impatient_agent):
    """The agent ends by itself when nobody comes, so the Job is complete, and its TTL removes the rest."""
    before = machine.snapshot()
    up = machine.Up("-n", "ems", "--agent-image", impatient_agent, kubeconfig=cluster.kubeconfig).wait_connected()
    agent = up.status()["agent"]["pod"]
    time.sleep(5)  # longer than its patience: it has a client
    assert up.status()["state"] == "connected"
    up.process.kill()
    up.process.wait()
    wait_for(lambda: not left_behind(before), 1, "the machine as before")
    check_owned(cluster, agent)
    wait_for(lambda: has_completed(cluster), 20, "the agent's own end", every=0.2)
    wait_for(lambda: not cluster.pods("ems", AGENTS), 80, "the TTL's end", every=0.5)
    with ktvpn_up():  # takes over lock and socket of the dead one
        assert traffic.get("dashboard-api")[0] == 200


PLUGIN = """#!/bin/sh
# Hands out what is valid for a second; when it is told to sleep, it does so for longer than anybody waits.
cd "$(dirname "$0")" || exit
if [ -e sleep ]; then
    echo $$ >pid.new && mv pid.new pid
    exec sleep 600
fi
sed "s/EXPIRES/$(date -u -d '+1 second' +%Y-%m-%dT%H:%M:%SZ)/" answer
"""


def with_plugin(cluster, folder):
    """A kubeconfig with the developer's certificate, but by a credential plugin."""
    certificate, key = ((cluster.pki / f"developer.{end}").read_text() for end in ("crt", "key"))
    (folder / "answer").write_text(json.dumps({
        "kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
        "status": {"clientCertificateData": certificate, "clientKeyData": key, "expirationTimestamp": "EXPIRES"}}))
    (folder / "plugin").write_text(PLUGIN)
    (folder / "plugin").chmod(0o700)
    head, user = Path(cluster.developer_kubeconfig).read_text().split("  user: {client-certificate-data", 1)
    user = re.sub(r"^[^}]*}", "  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, interactiveMode: Never}}", user)
    (folder / "kubeconfig").write_text(head + user)
    return folder / "kubeconfig"


def test_k2_killed_with_a_plugin(cluster, tmp_path):
    """kill -9 while a credential plugin runs: within a second no link, no route, and no plugin."""
    before = machine.snapshot()
    up = machine.Up("-n", "ems", kubeconfig=with_plugin(cluster, tmp_path)).wait_connected()
    time.sleep(2)  # what the plugin said has expired
    (tmp_path / "sleep").touch()
    with cluster.world_rule("reject with tcp reset"):  # so that ktvpn dials anew
        wait_for((tmp_path / "pid").exists, 20, "the plugin runs")
    plugin = Path("/proc", (tmp_path / "pid").read_text().strip())
    wait_for(lambda: (plugin / "comm").read_text() == "sleep\n", 2, "the plugin sleeps")
    assert machine.differences(before, machine.snapshot())
    assert up.process.poll() is None and f"PPid:\t{up.process.pid}\n" in (plugin / "status").read_text()
    up.process.kill()
    up.process.wait()
    wait_for(lambda: not is_alive(plugin), 1, "no plugin", every=0.01)
    wait_for(lambda: not left_behind(before), 1, "the machine as before")
    for job in cluster.get("/apis/batch/v1/namespaces/ems/jobs")["items"]:
        cluster.call("DELETE", f"/apis/batch/v1/namespaces/ems/jobs/{job['metadata']['name']}?propagationPolicy=Background")
    with machine.up("-n", "ems", kubeconfig=cluster.kubeconfig):  # takes over lock and socket of the dead one
        assert traffic.get("dashboard-api")[0] == 200


def is_alive(process):
    """A zombie is dead: when the machine's init takes it away is the machine's business."""
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except OSError:
        return False


def left_behind(before):
    return [d for d in machine.differences(before, machine.snapshot()) if not d.startswith("runtime folder")]


def has_completed(cluster):
    """By exit code 0, not by a deadline."""
    jobs = cluster.get("/apis/batch/v1/namespaces/ems/jobs")["items"]
    return [c for c in jobs[0]["status"].get("conditions", []) if c["type"] == "Complete" and c["status"] == "True"]


def check_owned(cluster, agent):
    """The Job removes itself, and everything else belongs to it."""
    jobs = cluster.get("/apis/batch/v1/namespaces/ems/jobs")["items"]
    assert len(jobs) == 1 and jobs[0]["spec"]["ttlSecondsAfterFinished"] <= 60 and jobs[0]["spec"]["activeDeadlineSeconds"] <= 86400
    uid = jobs[0]["metadata"]["uid"]
    owned = [o for o in cluster.get("/api/v1/namespaces/ems/configmaps")["items"] if o["metadata"]["name"] != "kube-root-ca.crt"]
    owned += [p for p in cluster.pods("ems") if p["metadata"]["name"] == agent]
    assert owned and all(o["metadata"]["ownerReferences"][0]["uid"] == uid for o in owned)
