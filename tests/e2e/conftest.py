"""End-to-end tests: the real programs, on a real Kubernetes (tests/cluster), seen from the laptop's network namespace.

    python3 -m pytest tests/e2e            as root; KT_CLUSTER names the cluster's instance, KTVPN the program

pytest's own process moves onto the laptop, so a test's sockets and look-ups are the laptop's. Every test ends with the proof that
machine and cluster are as they were (`untouched`)."""

import os
import resource
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import machine  # noqa: E402
from cluster import Cluster, move_to, wait_for  # noqa: E402


@pytest.fixture(scope="session")
def cluster():
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, max(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    found = Cluster(os.environ.get("KT_CLUSTER", "kt"))
    move_to(found.laptop)
    return found


@pytest.fixture(autouse=True)
def untouched(cluster):
    """Machine and cluster are after the test as they were before it; the cluster is given the time that deleting takes."""
    machine_before, cluster_before = machine.snapshot(), cluster.snapshot()
    yield
    assert_untouched(cluster, machine_before, cluster_before)


def assert_untouched(cluster, machine_before, cluster_before):
    wait_for(lambda: not machine.differences(machine_before, machine.snapshot()) or None, 1, Differences(machine_before, machine.snapshot))
    wait_for(lambda: not machine.differences(cluster_before, cluster.snapshot()) or None, 20, Differences(cluster_before, cluster.snapshot), every=0.2)


class Differences:
    """Looked at only when it is printed."""

    def __init__(self, before, look):
        self.before, self.look = before, look

    def __str__(self):
        return "as before, but:\n" + "\n".join(machine.differences(self.before, self.look()))


@pytest.fixture
def ktvpn_up(cluster):
    """`with ktvpn_up(...) as up:` joined to namespace ems as the administrator, unless said otherwise."""
    def start(*args, kubeconfig=None, **kw):
        return machine.up(*(args or ("-n", "ems")), kubeconfig=kubeconfig or cluster.kubeconfig, **kw)
    return start


@pytest.fixture
def joined(ktvpn_up):
    with ktvpn_up() as up:
        yield up
