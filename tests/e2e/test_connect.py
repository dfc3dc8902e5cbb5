"""C1 to C9: what `ktvpn up -n ems` makes reachable, and what stays unreachable."""

import errno
import select
import socket
import time

import pytest
import traffic
from cluster import network_of, wait_for

NOBODY = "10.232.0.250"  # in the pods' range, held by no pod


def test_c1_status(joined, cluster):
    status = joined.status()
    assert status["state"] == "connected"
    assert (status["context"], status["namespace"]) == (cluster.name, "ems") and cluster.node_ip in status["cluster"]
    assert "10.222.0.0/16" in status["ranges"] and any(r.startswith("10.232.") for r in status["ranges"])
    assert status["carriers"]
    wait_for(lambda: 0 < joined.status()["rtt_ms"] < 1000, 10, "a round trip")
    assert status["agent"]["pod"] in {p["metadata"]["name"] for p in cluster.running_pods("ems")}


def test_c2_ping(joined, cluster):
    pods = cluster.running_pods()
    assert len(pods) >= 6
    silent = [p["metadata"]["name"] for p in pods if not traffic.ping(p["status"]["podIP"])]
    assert not silent
    assert not traffic.ping(NOBODY, seconds=3)


def test_c3_pod_ip(joined, cluster):
    for pod in cluster.running_pods("ems", "app"):
        assert traffic.pod_of(pod["status"]["podIP"], 8080) == pod["metadata"]["name"]


def test_c4_cluster_ip(joined, cluster):
    names = {p["metadata"]["name"] for p in cluster.running_pods("ems", "app=dashboard-api")}
    assert {traffic.pod_of(cluster.service_ip()) for _ in range(30)} == names


def test_c5_short_name(joined):
    assert traffic.get("dashboard-api")[0] == 200


NAMES = ["dashboard-api", "dashboard-api.ems", "dashboard-api.ems.svc", "dashboard-api.ems.svc.cluster.local", "store-0.store",
         "store-0.store.ems.svc.cluster.local", "store", "ext", "ext.ems.svc.cluster.local", "dashboard-api.restricted",
         "kubernetes.default", "kubernetes.default.svc.cluster.local", "nothing.ems", "nothing"]


def test_c6_names(joined, cluster):
    for name in NAMES:
        inside = sorted(a for a in cluster.in_pod("dns", name).strip("[]\n").split() if "." in a)
        assert traffic.lookup(name) == inside, name
        assert bool(inside) == ("nothing" not in name), name


@pytest.mark.parametrize("port", ["_http._tcp", "_echo._tcp", "_echo-udp._udp"])
def test_c6_srv(joined, cluster, port):
    name = f"{port}.dashboard-api.ems.svc.cluster.local"
    with network_of(cluster.pod_namespace(cluster.pod_ip())):
        inside = traffic.query(name, "SRV", "10.222.0.10")
    assert traffic.query(name, "SRV", traffic.nameserver()) == inside
    assert inside[0] == 0 and len(inside[1]) == 1


def test_c7_outside_names(joined, cluster):
    assert traffic.lookup("www.example.com") == [cluster.web_ip]
    assert traffic.lookup("printer") == [cluster.printer_ip]  # by the machine's own search domain
    assert traffic.lookup("nobody.example.com") == []
    assert b"rest of the internet" in traffic.get("www.example.com")[1]
    assert b"rest of the internet" in traffic.get(traffic.nameserver())[1]  # the name server's other ports


def test_c8_refused(joined, cluster):
    pod = cluster.pod_ip()
    taken = traffic.median_ms(lambda: traffic.connect(pod, 7000).close())

    def refused():
        with pytest.raises(ConnectionRefusedError):
            traffic.connect(pod, 7777)

    assert traffic.median_ms(refused) < 2 * taken + 5


def test_c8_unreachable(joined):
    with pytest.raises(OSError) as caught:
        traffic.connect(NOBODY, 8080, timeout=8).close()
    assert isinstance(caught.value, TimeoutError) or caught.value.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)


SIZES = [1, 2, 100, 1400, 1472, 1473, 9000, 30000, 60000]


@pytest.mark.parametrize("to", ["pod", "service"])
def test_c9_udp_sizes(joined, cluster, to):
    host = cluster.pod_ip() if to == "pod" else cluster.service_ip()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        for size in SIZES:
            sent = bytes(i * 7 & 0xFF for i in range(size))
            s.sendto(sent, (host, 7001))
            assert s.recvfrom(65536) == (sent, (host, 7001)), size
        s.setblocking(False)
        with pytest.raises(BlockingIOError):
            s.recv(65536)


def test_c9_thousand_flows(joined, cluster):
    host = cluster.service_ip()
    with traffic.closing_all() as flows:
        for _ in range(1000):
            flows.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        for round_ in range(2):
            for at in range(0, 1000, 100):  # the echo server's receive buffer holds a few hundred
                exchange(flows[at:at + 100], host, f"{round_} {at}".encode())
        assert not select.select(flows, [], [], 0.2)[0], "an answer came twice"


def exchange(flows, host, text):
    for s in flows:
        s.sendto(text, (host, 7001))
    waiting, end = set(flows), time.monotonic() + 5
    while waiting:
        ready = select.select(waiting, [], [], max(0, end - time.monotonic()))[0]
        assert ready, f"{len(waiting)} of {len(flows)} flows got no answer"
        for s in ready:
            assert s.recvfrom(65536) == (text, (host, 7001))
            waiting.discard(s)
