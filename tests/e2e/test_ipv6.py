"""C2 to C10 by IPv6, on a dual-stack cluster; and who goes on without it."""

import contextlib
import errno
import json
import socket
import subprocess

import machine
import pytest
import traffic
from cluster import wait_for


def address_of(found):
    """The IPv6 one of a pod's addresses or a Service's."""
    return next(text for text in found if ":" in text)


def pod6(cluster, name="store-0"):
    status = cluster.get(f"/api/v1/namespaces/ems/pods/{name}")["status"]
    return address_of(ip["ip"] for ip in status["podIPs"])


def service6(cluster, name="dashboard-api"):
    return address_of(cluster.get(f"/api/v1/namespaces/ems/services/{name}")["spec"]["clusterIPs"])


def curl(*args):
    done = subprocess.run(["curl", "-sS", "-g", "--max-time", "5", *args], capture_output=True, text=True)
    return done.returncode, done.stdout or done.stderr


def test_c1_status_tells_ipv6(joined, cluster):
    status = joined.status()
    assert cluster.services_range6 in status["ranges"] and any(r.startswith("fd31:232:") for r in status["ranges"])
    assert [a for a in status["addresses"] if a.startswith("fd6b:7476:706e:")]
    assert not [text for text in status["warnings"] if "IPv6" in text]
    rc, text, _ = machine.run("status", "e2e")
    assert rc == 0 and cluster.services_range6 in text and "fd6b:7476:706e:" in text


def test_c2_ping(joined, cluster):
    address = pod6(cluster)
    assert subprocess.run(["ping", "-6", "-c", "1", "-W", "3", address], stdout=subprocess.DEVNULL).returncode == 0
    assert subprocess.run(["ping", "-6", "-c", "1", "-W", "2", "fd31:232::dead"], stdout=subprocess.DEVNULL).returncode != 0


def test_c3_pod_ip(joined, cluster):
    for pod in cluster.running_pods("ems", "app"):
        assert traffic.pod_of(pod6(cluster, pod["metadata"]["name"]), 8080) == pod["metadata"]["name"]


def test_c4_cluster_ip(joined, cluster):
    names = {p["metadata"]["name"] for p in cluster.running_pods("ems", "app=dashboard-api")}
    assert {traffic.pod_of(service6(cluster)) for _ in range(30)} == names


@pytest.mark.parametrize("name", ["dashboard-api", "dashboard-api6", "dashboard-api6.ems.svc.cluster.local", "store6:8080"])
def test_c5_names(joined, name):
    """The second and third have no IPv4 at all, the fourth is headless."""
    rc, text = curl("-6", f"http://{name}/")
    assert rc == 0, text
    assert json.loads(text)["remote"].startswith("[fd31:")


def test_c8_refused(joined, cluster):
    with pytest.raises(ConnectionRefusedError):
        traffic.connect(pod6(cluster), 7777)


def test_c8_unreachable(joined):
    with pytest.raises(OSError) as caught:
        traffic.connect("fd31:232::dead", 8080, timeout=8).close()
    assert isinstance(caught.value, TimeoutError) or caught.value.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)


@pytest.mark.parametrize("to", ["pod", "service"])
def test_c9_udp_sizes(joined, cluster, to):
    host = pod6(cluster) if to == "pod" else service6(cluster)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.settimeout(3)
        for size in (1, 2, 100, 1232, 1400, 1473, 9000, 30000, 60000):
            sent = bytes(i * 7 & 0xFF for i in range(size))
            s.sendto(sent, (host, 7001))
            data, source = s.recvfrom(65536)
            assert (data, source[:2]) == (sent, (host, 7001)), size
        s.setblocking(False)
        with pytest.raises(BlockingIOError):
            s.recv(65536)


SIZE = 20 * traffic.MIB


def test_c10_bytes(joined, cluster):
    address = pod6(cluster)
    download = traffic.Download(address, SIZE, "down6").read()
    assert download.is_right()
    download.close()
    assert traffic.upload(address, SIZE, "up6") == [str(SIZE), traffic.stream_sum("up6", SIZE)]


def test_c10_ends(joined, cluster):
    address = pod6(cluster)
    with traffic.script(address, "reset") as s:
        assert traffic.until_closed(s) == "reset"
    with traffic.script(service6(cluster), "late 100") as s:
        s.sendall(b"x" * 100000)
        s.shutdown(socket.SHUT_WR)
        assert traffic.read_all(s).decode().split()[0] == "100000"


@contextlib.contextmanager
def without_ipv6():
    """The laptop's kernel has IPv6 switched off for the while; what it had comes back."""
    shown = json.loads(machine.text_of("ip", "-6", "-j", "addr", "show", "scope", "global"))
    had = [(d["ifname"], f"{a['local']}/{a['prefixlen']}") for d in shown if d for a in d["addr_info"] if "local" in a]
    route = machine.text_of("ip", "-6", "route", "show", "default").split()
    settings = ("all", "default")

    def switch(value):
        for setting in settings:
            with open(f"/proc/sys/net/ipv6/conf/{setting}/disable_ipv6", "w") as f:
                f.write(value)

    switch("1")
    try:
        yield
    finally:
        switch("0")
        for device, address in had:
            subprocess.run(["ip", "addr", "replace", address, "dev", device, "nodad"], check=True)
        subprocess.run(["ip", "route", "replace", *route[:route.index("metric")]], check=True)
        wait_for(lambda: "tentative" not in machine.text_of("ip", "-6", "addr"), 5, "addresses")


def test_a_machine_without_ipv6(ktvpn_up, cluster):
    with without_ipv6():
        with ktvpn_up() as up:
            assert traffic.pod_of("dashboard-api").startswith("dashboard-api-")
            assert up.output().count("IPv6 is switched off on this machine") == 1
            status = up.status()
            assert not [a for a in status["addresses"] + status["ranges"] if ":" in a]
            assert [text for text in status["warnings"] if "IPv6 is switched off" in text]
            rc, text = curl("-w", "%{time_total}", "-o", "/dev/null", "http://dashboard-api/")
            assert rc == 0 and float(text) < 1, "IPv6 costs a delay"


def test_an_api_server_by_ipv6(cluster, ktvpn_up, tmp_path):
    """Its own address never goes into the tunnel, though the range around it does."""
    path = tmp_path / "config"
    with open(cluster.kubeconfig) as f:
        path.write_text(f.read().replace(f"https://{cluster.node_ip}:", f"https://[{cluster.node_ip6}]:"))
    with ktvpn_up("-n", "ems", "--also", "fd31:77::/64", kubeconfig=path) as up:
        assert traffic.pod_of(pod6(cluster), 8080) == "store-0"
        assert f"{cluster.node_ip6} " in machine.text_of("ip", "route", "get", cluster.node_ip6)
        assert "ktvpn" not in machine.text_of("ip", "route", "get", cluster.node_ip6)
        assert "ktvpn" in machine.text_of("ip", "route", "get", "fd31:77::99")
        assert up.status()["state"] == "connected"


def test_the_device_is_set_down(joined, cluster):
    device = joined.status()["device"]
    subprocess.run(["ip", "link", "set", device, "down"], check=True)
    wait_for(lambda: traffic.works("dashboard-api") and traffic.works(cluster.pod_ip(), 8080), 10, "the device is up again")
    assert traffic.pod_of(pod6(cluster), 8080) == "store-0"
    assert joined.output().count(f"the network device {device} was set down") == 1


def test_a_name_server_by_ipv6(ktvpn_up, cluster):
    """The machine's own is an IPv6 address: its queries pass through us all the same."""
    with open("/etc/resolv.conf", "r+") as f:
        before = f.read()
        f.seek(0)
        f.truncate()
        f.write(before.replace(cluster.world_ip, cluster.world_ip6))
    try:
        with ktvpn_up() as up:
            assert up.status()["nameservers"] == [cluster.world_ip6] and not up.status()["warnings"]
            assert curl("http://dashboard-api/")[0] == 0
            assert "asked as www6" in curl("-6", "http://www6.example.com/")[1]
            assert b"rest of the internet" in traffic.get(cluster.world_ip6)[1]  # the name server's other ports
        assert "asked as www6" in curl("-6", "http://www6.example.com/")[1]
    finally:
        with open("/etc/resolv.conf", "w") as f:
            f.write(before)
