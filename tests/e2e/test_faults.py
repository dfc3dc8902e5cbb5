"""What breaks around a tunnel, on the cluster: each test says what is expected of whom, and breaks it.

Flows of Flows(...) carry counted streams all the while; leaving the `with` fails if a byte is missing or wrong."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import machine
import pytest
import traffic
from cluster import REPO, network_of, wait_for
from flows import Flows, fill, reset_reason

AGENTS = "app.kubernetes.io/name=ktvpn-agent"
MEMORY_MAX = 24 << 20  # what a fault may cost client or agent


def rss(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def agent_pid(cluster, pod):
    namespace = cluster.pod_namespace(cluster.pod_ip(pod))
    for pid in subprocess.run(["ip", "netns", "pids", namespace], check=True, stdout=subprocess.PIPE, text=True).stdout.split():
        if "ktvpn-agent" in Path(f"/proc/{pid}/cmdline").read_text():
            return int(pid)
    raise AssertionError(f"no agent runs in {pod}")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Costs:
    """Memory of client and agent, from now on."""

    def __init__(self, cluster, up):
        self.pids = {"client": up.process.pid, "agent": agent_pid(cluster, up.status()["agent"]["pod"])}
        self.before = {name: rss(pid) for name, pid in self.pids.items()}

    def assert_bounded(self, limit=MEMORY_MAX):
        for name, pid in self.pids.items():
            assert rss(pid) - self.before[name] < limit, f"{name}: {self.before[name] >> 10} KiB, then {rss(pid) >> 10} KiB"


def has_answer(host, port=8080, timeout=1.0):
    return lambda: traffic.works(host, port, timeout)


def is_stalled(up):
    return lambda: up.status().get("state") != "connected"


# One backend that misbehaves.

def test_backend_resets_among_99_others(joined, cluster):
    """Its own client gets the RST; the 99 others go on."""
    host = cluster.service_ip()
    with Flows(host, 99) as flows:
        for _ in range(20):
            with traffic.script(host, "reset") as s:
                s.settimeout(5)
                with pytest.raises(ConnectionResetError):
                    s.recv(1)
        before = flows.got()
        wait_for(lambda: flows.have_all_moved(before), 30, "all 99 go on")
        assert flows.longest < 3


def test_backend_that_never_reads(joined, cluster):
    """Its senders stand still after what the windows hold; others do not notice, and neither side keeps much."""
    host, costs = cluster.service_ip(), Costs(cluster, joined)
    with Flows(host, 20) as flows, traffic.closing_all() as deaf:
        for _ in range(10):
            deaf.append(traffic.script(host, "deaf"))
            assert fill(deaf[-1], quiet=1.0) < 64 * traffic.MIB
        assert traffic.median_ms(lambda: traffic.get(host)) < 200
        before = flows.got()
        wait_for(lambda: flows.have_all_moved(before), 30, "the others go on")
        assert flows.longest < 3
        costs.assert_bounded()


# No way to the cluster.

def test_black_hole_of_30_s(joined, cluster):
    """It is noticed and told within 15 s; flows stand still, and go on when the hole ends."""
    host = cluster.pod_ip()
    with Flows(host, 20) as flows:
        with cluster.world_rule("drop"):
            began = time.monotonic()
            wait_for(is_stalled(joined), 15, "status tells of it")
            time.sleep(max(began + 30 - time.monotonic(), 0))
            assert joined.status()["state"] == "stalled"
        before = flows.got()
        wait_for(has_answer(host), 7, "a new GET")
        wait_for(lambda: flows.have_all_moved(before), 30, "the flows go on")
        assert not flows.errors()
    assert joined.status()["state"] == "connected"


def test_outage_of_200_s(joined, cluster):
    """Longer than the agent keeps a session: old flows end with an error when they are used; new ones work within seconds."""
    host = cluster.pod_ip()
    old = traffic.connect(host, 7000)
    idle = traffic.connect(host, 7000)
    with old, idle:
        old.sendall(b"before")
        assert old.recv(6) == b"before"
        with cluster.world_rule("drop"):
            time.sleep(5)
            old.sendall(b"during")
            time.sleep(195)
        wait_for(has_answer(host), 15, "a new GET")
        assert reset_reason(old, 130) in ("ConnectionResetError", "BrokenPipeError")
        idle.sendall(b"after")
        assert reset_reason(idle, 20) == "ConnectionResetError"
    assert joined.status()["state"] == "connected"


def test_api_server_restarts(joined, cluster):
    """Carriers go through it and end; the agent keeps the flows until it is back."""
    host = cluster.pod_ip()
    with Flows(host, 20) as flows:
        pid = int(Path(cluster.pki.parent, "run/apiserver.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        wait_for(is_stalled(joined), 15, "status tells of it")
        subprocess.run([REPO / "tests/cluster/up.sh", cluster.name], check=True, stdout=subprocess.DEVNULL)
        before = flows.got()
        wait_for(has_answer(host), 10, "a new GET")
        wait_for(lambda: flows.have_all_moved(before), 30, "the flows go on")
    assert joined.status()["state"] == "connected"


# The agent.

def is_new_agent(up, old):
    def condition():
        status = up.status()
        return status.get("state") == "connected" and status["agent"]["pod"] != old
    return condition


def test_agent_killed(joined, cluster):
    """As the kernel does when memory is short: a new agent takes its place; flows of the old one end with an error."""
    host, old = cluster.service_ip(), joined.status()["agent"]["pod"]
    with traffic.connect(host, 7000) as flow:
        flow.sendall(b"before")
        assert flow.recv(6) == b"before"
        os.kill(agent_pid(cluster, old), signal.SIGKILL)
        wait_for(is_new_agent(joined, old), 30, "another agent")
        wait_for(has_answer(host, 80), 5, "a GET")
        flow.sendall(b"after")
        assert reset_reason(flow, 20) == "ConnectionResetError"


def test_crash_loop(cluster):
    """Three times within 60 s is enough: ktvpn says why, leaves, and nothing stays."""
    up = machine.Up("-n", "ems", kubeconfig=cluster.kubeconfig).wait_connected()
    try:
        for crash in range(3):
            pod = wait_for(lambda: up.status().get("state") == "connected" and up.status()["agent"]["pod"], 30, f"agent {crash + 1}")
            os.kill(agent_pid(cluster, pod), signal.SIGKILL)
            wait_for(lambda: up.process.poll() is not None or is_new_agent(up, pod)(), 30, "the next agent, or the end")
        assert up.wait(10) == 8
    finally:
        if up.process.poll() is None:
            up.leave()
    assert "3 times within 60 s" in up.output()
    assert "137" in up.output() or "Killed" in up.output() or "killed" in up.output()


def test_node_drained(joined, cluster):
    """The agent is evicted and no node takes another: it comes when one does."""
    host, old = cluster.service_ip(), joined.status()["agent"]["pod"]
    assert traffic.works(host)
    cluster.kc("cordon", "node1")
    try:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": old, "namespace": "ems"}}
        status, answer = cluster.call("POST", f"/api/v1/namespaces/ems/pods/{old}/eviction", body)
        assert status == 201, answer
        wait_for(is_stalled(joined), 15, "status tells of it")
        wait_for(lambda: any(p["status"]["phase"] == "Pending" for p in cluster.pods("ems", AGENTS)), 20, "a pod that no node takes")
    finally:
        cluster.kc("uncordon", "node1")
    wait_for(is_new_agent(joined, old), 60, "another agent")
    wait_for(has_answer(host, 80), 5, "a GET")


def test_agent_stopped_for_20_s(joined, cluster):
    """A frozen agent is not a dead one: nothing is lost."""
    host, pid = cluster.service_ip(), agent_pid(cluster, joined.status()["agent"]["pod"])
    with Flows(host, 20) as flows:
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(20)
        finally:
            os.kill(pid, signal.SIGCONT)
        before = flows.got()
        wait_for(has_answer(host, 80), 10, "a GET")
        wait_for(lambda: flows.have_all_moved(before), 30, "the flows go on")
    assert joined.status()["state"] == "connected"


# Its own users.

def syns(source, targets, count):
    """SYN segments with their IP headers, each to another address and port."""
    made, source = [], socket.inet_aton(source)
    for i in range(count):
        target = socket.inet_aton(targets[i % len(targets)])
        head = struct.pack(">HHIIBBHHH", 1024 + i % 60000, 20000 + i // 60000 * 7919 + i % 9973, i, 0, 0x50, 2, 64240, 0, 0)
        sum_ = traffic.checksum(source + target + struct.pack(">BBH", 0, 6, len(head)) + head)
        made.append((struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, source, target) + head[:16] + struct.pack(">HH", sum_, 0),
                     socket.inet_ntoa(target)))
    return made


def scan(packets, per_second):
    """Sends at that rate; how long it took."""
    began = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        for i, (packet, target) in enumerate(packets):
            s.sendto(packet, (target, 0))
            if i % 100 == 99:
                time.sleep(max(0, began + i / per_second - time.monotonic()))
    return time.monotonic() - began


@contextlib.contextmanager
def swallowing(cluster, address):
    """The node drops what goes there, without a word."""
    with network_of(cluster.node):
        subprocess.run(["nft", "-f", "-"], check=True, text=True, input=f"""
            table ip silence {{
                chain in {{
                    type filter hook prerouting priority -300
                    ip daddr {address} drop
                }}
            }}""")
    try:
        yield
    finally:
        with network_of(cluster.node):
            subprocess.run(["nft", "delete", "table", "ip", "silence"], check=True)


def test_scan_of_10000_syn_a_second(joined, cluster):
    """A free address, one that never answers, and a pod's closed ports: others go on, memory is bounded, and
    the table is as empty as before when connect() has given up."""
    host, costs = cluster.service_ip(), Costs(cluster, joined)
    own = next(a for a in joined.status()["addresses"] if ":" not in a).split("/")[0]
    pod = cluster.pod_ip()
    free, silent = pod.rsplit(".", 1)[0] + ".249", pod.rsplit(".", 1)[0] + ".250"
    packets = syns(own, [pod, free, free, silent], 50000)
    before = descriptors(costs.pids["agent"])
    with swallowing(cluster, silent), Flows(host, 20) as flows:
        assert scan(packets, 10000) < 15
        moved = flows.got()
        wait_for(has_answer(host, 80, 5), 20, "a new GET")
        wait_for(lambda: flows.have_all_moved(moved), 30, "the others go on")
        costs.assert_bounded(64 << 20)
        wait_for(lambda: descriptors(costs.pids["agent"]) <= before + 25, 180, "an empty table", every=0.5)
    assert joined.status()["state"] == "connected"
