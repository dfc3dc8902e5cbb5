"""C11, K1, K6: nothing stays, however `ktvpn up` ends."""

import os
import pty
import signal
import time

import conftest
import machine
import pytest
import traffic
from cluster import wait_for


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


def test_k1_killed(ktvpn_up, cluster):
    """The Job ends by the agent's idle exit; here its SIGTERM stands for the 300 s of that. Then the TTL removes the rest."""
    before = machine.snapshot()
    up = machine.Up("-n", "ems", kubeconfig=cluster.kubeconfig).wait_connected()
    agent = up.status()["agent"]["pod"]
    up.process.kill()
    up.process.wait()
    wait_for(lambda: not [d for d in machine.differences(before, machine.snapshot()) if not d.startswith("runtime folder")], 1, "the machine as before")
    check_owned(cluster, agent)
    cluster.stop_container(agent)
    wait_for(lambda: not cluster.pods("ems", "app.kubernetes.io/name=ktvpn-agent"), 80, "the TTL's end", every=0.5)
    with ktvpn_up():  # takes over lock and socket of the dead one
        assert traffic.get("dashboard-api")[0] == 200


def check_owned(cluster, agent):
    """The Job removes itself, and everything else belongs to it."""
    jobs = cluster.get("/apis/batch/v1/namespaces/ems/jobs")["items"]
    assert len(jobs) == 1 and jobs[0]["spec"]["ttlSecondsAfterFinished"] <= 60 and jobs[0]["spec"]["activeDeadlineSeconds"] <= 86400
    uid = jobs[0]["metadata"]["uid"]
    owned = [o for o in cluster.get("/api/v1/namespaces/ems/configmaps")["items"] if o["metadata"]["name"] != "kube-root-ca.crt"]
    owned += [p for p in cluster.pods("ems") if p["metadata"]["name"] == agent]
    assert owned and all(o["metadata"]["ownerReferences"][0]["uid"] == uid for o in owned)
