"""The topology of these tests. Nothing of it touches the machine's own namespace, which is looked at before and after.

    laptop 10.201.0.1 ──veth── 10.201.0.2 agent's pod 10.99.0.1 ──veth── 10.99.0.2 cluster
    ktvpn up --also 10.99.0.0/16                                        servers, name server
                               relay on 10.201.0.2:4790 ─► agent on 127.0.0.1:4789
                               name server of the laptop's network on 10.201.0.53
"""
import os
import time

import pytest

from nameserver import NameServer
from programs import Agent, Client, wait_for
from relay import Relay
from services import Services
from space import Space, join, picture

RELAY = ("10.201.0.2", 4790)
OUTSIDE_DNS = "10.201.0.53"
POD = "10.99.0.1"
SERVER = "10.99.0.2"
SERVICE = "dashboard-api.ems.svc.cluster.local"
RANGE = "10.99.0.0/16"


class Net:
    """Three namespaces with all that stays; agents, relays and clients come and go with each test."""

    def __init__(self, folder):
        self.made = []
        prefix = f"ktvpn-test-net-{os.getpid():x}"
        try:
            self.laptop, self.pod, self.cluster = (self.keep(Space(f"{prefix}-{name}"))
                                                   for name in ("laptop", "pod", "cluster"))
            join(self.laptop, "eth0", "10.201.0.1/24", self.pod, "eth0", "10.201.0.2/24")
            join(self.pod, "eth1", f"{POD}/24", self.cluster, "eth0", f"{SERVER}/24")
            for i in range(3, 10):
                self.cluster.ip("address", "add", f"10.99.0.{i}/24", "dev", "eth0")
            self.pod.ip("address", "add", f"{OUTSIDE_DNS}/24", "dev", "eth0")
            self.laptop.ip("route", "add", "default", "via", "10.201.0.2")
            self.pod.run("sh", "-c", "echo '0 2147483647' >/proc/sys/net/ipv4/ping_group_range")
            self.services = self.keep(Services(self.cluster, SERVER))
            self.cluster_dns = self.keep(NameServer(self.cluster, SERVER, {
                SERVICE: SERVER, "kubernetes.default.svc.cluster.local": "10.99.0.9"}))
            self.outside_dns = self.keep(NameServer(self.pod, OUTSIDE_DNS, {"www.example.test": "192.0.2.80"}))
        except BaseException:
            self.close()
            raise
        self.pod_conf = folder / "pod.conf"
        self.pod_conf.write_text(f"search ems.svc.cluster.local svc.cluster.local cluster.local\nnameserver {SERVER}\n"
                                 "options ndots:5\n")
        self.laptop_conf = folder / "laptop.conf"
        self.laptop_conf.write_text(f"nameserver {OUTSIDE_DNS}\n")
        for conf in (self.pod_conf, self.laptop_conf):
            conf.chmod(0o644)
        for path in (folder, *folder.parents):  # the agent is not root
            if path.owner() == "root" and str(path).startswith("/tmp/"):
                path.chmod(path.stat().st_mode | 0o055)

        self.settle()

    def settle(self):
        """IPv6 gives itself addresses and routes a moment after a cable is plugged in."""
        def pictures():
            return [space.picture() for space in (self.laptop, self.pod, self.cluster)]
        seen, since = pictures(), time.monotonic()
        while time.monotonic() - since < 0.7:
            time.sleep(0.1)
            now = pictures()
            if now != seen:
                seen, since = now, time.monotonic()

    def keep(self, thing):
        self.made.append(thing)
        return thing

    def close(self):
        for thing in reversed(self.made):
            thing.close()


@pytest.fixture(scope="session")
def net(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    before = picture()
    net = Net(tmp_path_factory.mktemp("net"))
    yield net
    net.close()
    assert picture() == before, "the machine's own namespace is not as it was"


class World:
    """What one test starts; close() ends it, newest first, and keeps the logs for a failed test's report."""

    def __init__(self, net):
        self.net = net
        self.made = []
        self.agent = self.relay = self.client = None

    def keep(self, thing):
        self.made.append(thing)
        return thing

    def start_agent(self, *options):
        self.agent = self.keep(Agent(self.net.pod, "--log-level", "debug", *options, resolv_conf=str(self.net.pod_conf)))
        return self.agent

    def start_relay(self):
        self.relay = self.keep(Relay(self.net.pod, RELAY, self.net.pod, ("127.0.0.1", 4789)))
        return self.relay

    def start_client(self, *options, key=None, wait=True, resolv_conf=None):
        self.client = self.keep(Client(self.net.laptop, "--agent", f"tcp://{RELAY[0]}:{RELAY[1]}", "--agent-key",
                                       key or self.agent.key, "--also", RANGE, "-n", "ems", "-v", *options,
                                       resolv_conf=resolv_conf or str(self.net.laptop_conf)))
        if wait:
            wait_for("the route into the tunnel", self.is_joined, 15)
        return self.client

    def is_joined(self):
        assert self.client.is_running(), self.client.log
        status = self.client.status()
        return status and "10.99." in self.net.laptop.ip("route")

    def close(self):
        for thing in reversed(self.made):
            thing.close()

    def report(self):
        return "\n".join(f"--- {type(thing).__name__}\n{thing.log}" for thing in self.made if hasattr(thing, "log"))


@pytest.fixture
def world(net, request):
    before = {space.name: space.picture() for space in (net.laptop, net.pod, net.cluster)}
    world = World(net)
    yield world
    world.close()
    if getattr(request.node, "failed", False):
        print(world.report())
    for space in (net.laptop, net.pod, net.cluster):
        assert space.picture() == before[space.name], f"{space.name} is not as it was"
    net.services.ends.clear()


@pytest.fixture
def joined(world):
    """Agent, relay and client, connected."""
    world.start_agent()
    world.start_relay()
    world.start_client()
    return world


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed = outcome.get_result().failed
