"""C12: one laptop, two clusters at once. The second one has addresses of its own, and a link to the first one's laptop.

         laptop eth1 172.31.90.2 ──── laptop-b 172.31.90.1 world2 ── node2

Also X7: what another ktvpn holds already is refused, and both are named."""

import subprocess

import machine
import pytest
from cluster import REPO, Cluster, at_home, network_of, wait_for
from traffic import pod_of


def ip(*args):
    subprocess.run(["ip", *args], check=True)


def link(laptop, second):
    with network_of(second.world):
        ip("link", "add", "laptop-b", "type", "veth", "peer", "name", "eth1", "netns", laptop)
        ip("link", "set", "laptop-b", "addrgenmode", "none")
        ip("addr", "add", "172.31.90.1/24", "dev", "laptop-b")
        ip("addr", "add", "fd31:90::1/64", "dev", "laptop-b", "nodad")
        ip("link", "set", "laptop-b", "up")
    ip("link", "set", "eth1", "addrgenmode", "none")  # no address that the kernel still looks at
    ip("addr", "add", "172.31.90.2/24", "dev", "eth1")
    ip("addr", "add", "fd31:90::2/64", "dev", "eth1", "nodad")
    ip("link", "set", "eth1", "up")
    ip("route", "add", second.node_ip, "via", "172.31.90.1")
    ip("route", "add", second.node_ip6, "via", "fd31:90::1")
    wait_for(lambda: "state UP" in machine.text_of("ip", "link", "show", "dev", "eth1"), 5, "eth1 is up")
    routes = ("ip", "-6", "route", "show", "table", "local", "dev", "eth1")  # its own, and multicast: a little later than the address
    wait_for(lambda: len(machine.text_of(*routes).splitlines()) >= 2, 5, "eth1's routes")


@pytest.fixture(scope="module")
def second(cluster):
    name = f"{cluster.name[:14]}-b"
    try:
        found = Cluster(name, "--block", "1")
        link(cluster.laptop, found)
        yield found
    finally:
        at_home(REPO / "tests/cluster/down.sh", name)


@pytest.fixture
def two(cluster, second):
    before = second.snapshot()
    with machine.up("-n", "ems", kubeconfig=cluster.kubeconfig, name="one") as one, \
            machine.up("-n", "ems", kubeconfig=second.kubeconfig, name="two") as other:
        yield one, other
    wait_for(lambda: second.snapshot() == before, 20, "the second cluster as before", every=0.2)


def test_c12_both_are_reachable(cluster, second, two):
    for where in (cluster, second):
        assert pod_of(where.pod_ip(), 8080) == "store-0"
        assert pod_of(where.service_ip()).startswith("dashboard-api-")
    one, other = (up.status() for up in two)
    assert one["device"] != other["device"]
    assert cluster.services_range in one["ranges"] and second.services_range in other["ranges"]
    assert not set(one["ranges"]) & set(other["ranges"])


def test_c12_names_are_the_first_ones(cluster, two):
    """Both are cluster.local: the one that came first answers, the other says so in one line."""
    assert pod_of("dashboard-api").startswith("dashboard-api-")
    one, other = (up.status() for up in two)
    assert not any("names" in text for text in one["warnings"])
    assert [text for text in other["warnings"] if "the ktvpn 'one' (device" in text]
    assert two[1].output().count("the ktvpn 'one' (device") == 1


def test_c12_the_first_leaves(second, ktvpn_up):
    before = second.snapshot()
    with ktvpn_up(name="one"):
        other = machine.Up("-n", "ems", kubeconfig=second.kubeconfig, name="two").wait_connected()
    try:
        assert pod_of(second.service_ip()).startswith("dashboard-api-")
    finally:
        assert other.leave() == 0
        wait_for(lambda: second.snapshot() == before, 20, "the second cluster as before", every=0.2)


def test_c12_colliding_ranges(cluster, second, ktvpn_up):
    with ktvpn_up(name="one"):
        here, there = machine.snapshot(), second.snapshot()
        rc, _, err = machine.run("up", "--name", "two", "-n", "ems", "--also", cluster.services_range, kubeconfig=second.kubeconfig)
        assert rc == 10 and len(err.splitlines()[-1]) < 500, err
        assert all(word in err for word in (f"--also {cluster.services_range}", "'one'", "'two'", "ktvpn down one", "--exclude")), err
        assert not machine.differences(here, machine.snapshot())
        assert there == second.snapshot()


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_x7_a_range_is_held(cluster, ktvpn_up, family):
    range_ = {"v4": "198.51.100.0/24", "v6": "2001:db8:7::/64"}[family]
    with ktvpn_up("-n", "ems", "--also", range_, name="one") as one:
        assert range_ in one.status()["ranges"]
        no_others = [word for held in one.status()["ranges"] if held != range_ for word in ("--exclude", held)]
        rc, _, err = machine.run("up", "--name", "two", "-n", "ems", "--also", range_, *no_others, kubeconfig=cluster.kubeconfig)
        assert rc == 10, err
        assert all(word in err for word in (f"--also {range_}", "'one'", "--exclude")), err


def test_x7_the_name_is_held(cluster, ktvpn_up):
    with ktvpn_up(name="one"):
        rc, _, err = machine.run("up", "--name", "one", "-n", "ems", kubeconfig=cluster.kubeconfig)
        assert rc == 10 and "'one'" in err, err
