"""An agent that an administrator installed: used by a developer who may do nothing else, and left by itself when its pod goes."""

import subprocess
import threading
import time

import machine
import pytest
import traffic
from cluster import REPO, wait_for

AGENTS = "app.kubernetes.io/component=installed"
IMAGE = "localhost/ktvpn-agent:e2e"


def install(cluster, *args):
    return subprocess.run([REPO / "deploy/installed-agent.sh", *args], check=True, stdout=subprocess.PIPE, text=True).stdout


def test_carried_in_a_config_map(cluster, ktvpn_up):
    cluster.kc("create", "-f", "-", input=install(cluster, "--carry", "localhost/pause:1"))
    try:
        cluster.kc("-n", "ktvpn", "rollout", "status", "deploy/ktvpn-agent", "--timeout=60s")
        with ktvpn_up("-n", "ems", "--agent", "ktvpn-agent"):
            assert traffic.works(cluster.service_ip())
    finally:
        cluster.kc("delete", "namespace", "ktvpn", "--timeout=60s")


@pytest.fixture(scope="module")
def installed(cluster, tmp_path_factory):
    """Two replicas in namespace ktvpn, from our image."""
    archive = tmp_path_factory.mktemp("image") / "agent.tar"
    subprocess.run([REPO / "deploy/image.sh", archive, IMAGE], check=True, stdout=subprocess.DEVNULL)
    cluster.ctr("images", "import", archive)
    cluster.kc("apply", "-f", "-", input=install(cluster, IMAGE))
    try:
        cluster.kc("-n", "ktvpn", "rollout", "status", "deploy/ktvpn-agent", "--timeout=60s")
        yield
    finally:
        cluster.kc("delete", "namespace", "ktvpn", "--timeout=60s")
        cluster.ctr("images", "rm", IMAGE)


@pytest.fixture
def only_there(cluster):
    """The developer has no right in namespace ems."""
    role = cluster.get("/apis/rbac.authorization.k8s.io/v1/namespaces/ems/rolebindings/ktvpn")
    cluster.call("DELETE", "/apis/rbac.authorization.k8s.io/v1/namespaces/ems/rolebindings/ktvpn")
    yield
    del role["metadata"]["resourceVersion"], role["metadata"]["uid"]
    status, answer = cluster.call("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/ems/rolebindings", role)
    assert status == 201, answer


def test_developer_with_rights_there_only(installed, only_there, ktvpn_up, cluster):
    with ktvpn_up("-n", "ems", kubeconfig=cluster.developer_kubeconfig) as up:
        assert up.status()["agent"]["pod"].startswith("ktvpn-agent-")
        assert not cluster.pods("ems", "app.kubernetes.io/name=ktvpn-agent")
        assert traffic.get("dashboard-api.ems")[0] == 200  # short names are known to those only who may list Services
        assert traffic.get("dashboard-api.ems.svc.cluster.local")[0] == 200
        assert traffic.get(cluster.service_ip())[0] == 200
        assert traffic.get(cluster.pod_ip(), 8080)[0] == 200
    assert len(cluster.running_pods("ktvpn", AGENTS)) == 2


def test_named(installed, ktvpn_up, cluster):
    for name in ("ktvpn-agent", "ktvpn/ktvpn-agent"):
        with ktvpn_up("-n", "ems", "--agent", name) as up:
            assert traffic.works(cluster.service_ip())
            assert "installed agent" in up.output()


def test_named_that_is_not_there(installed, cluster):
    rc, _, err = machine.run("up", "-n", "ems", "--agent", "nobody", kubeconfig=cluster.kubeconfig)
    assert rc == 8 and "'nobody'" in err and "ems or ktvpn" in err, err


def test_own_job_although_one_is_installed(installed, ktvpn_up, cluster):
    with ktvpn_up("-n", "ems", "--agent", "job"):
        assert cluster.running_pods("ems", "app.kubernetes.io/name=ktvpn-agent")


class Getter:
    """GETs without end, each on a connection of its own; when each that worked had ended."""

    def __init__(self, host):
        self.host, self.worked, self.is_over = host, [], False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.is_over:
            if traffic.works(self.host, timeout=0.5):
                self.worked.append(time.monotonic())
            time.sleep(0.02)

    def longest_gap(self):
        return max(b - a for a, b in zip(self.worked, self.worked[1:]))


def pods(cluster):
    return {p["metadata"]["name"] for p in cluster.pods("ktvpn", AGENTS)}


def test_rolling_update(installed, ktvpn_up, cluster):
    with ktvpn_up("-n", "ems", kubeconfig=cluster.developer_kubeconfig) as up:
        getter = Getter(cluster.service_ip())
        try:
            for _ in range(2):
                before = pods(cluster)
                cluster.kc("-n", "ktvpn", "rollout", "restart", "deploy/ktvpn-agent")
                cluster.kc("-n", "ktvpn", "rollout", "status", "deploy/ktvpn-agent", "--timeout=90s")
                wait_for(lambda: not pods(cluster) & before, 30, "the old pods are gone")
                ended = time.monotonic()
                wait_for(lambda: getter.worked and getter.worked[-1] > ended, 10, "a GET")
                assert up.status()["agent"]["pod"] in pods(cluster)
        finally:
            getter.is_over = True
            getter.thread.join()
        assert getter.longest_gap() < 5


def test_its_pod_is_killed(installed, ktvpn_up, cluster):
    """The kubelet starts the container again in the same pod, with another key."""
    with ktvpn_up("-n", "ems", kubeconfig=cluster.developer_kubeconfig) as up:
        host, pod = cluster.service_ip(), up.status()["agent"]["pod"]
        assert traffic.works(host)
        cluster.stop_container(pod, "ktvpn")
        wait_for(lambda: up.status()["agent"]["pod"] != pod or up.status()["reconnects"] > 0, 10, "another agent")
        wait_for(lambda: traffic.works(host, timeout=0.5), 10, "a GET")


def test_deleted_for_good(installed, ktvpn_up, cluster):
    """Then a developer who may has an agent of their own."""
    with ktvpn_up("-n", "ems", kubeconfig=cluster.developer_kubeconfig):
        host = cluster.service_ip()
        assert traffic.works(host)
        cluster.kc("-n", "ktvpn", "scale", "deploy/ktvpn-agent", "--replicas=0")
        try:
            wait_for(lambda: cluster.running_pods("ems", "app.kubernetes.io/name=ktvpn-agent"), 40, "an agent of their own")
            wait_for(lambda: traffic.works(host, timeout=0.5), 10, "a GET")
        finally:
            cluster.kc("-n", "ktvpn", "scale", "deploy/ktvpn-agent", "--replicas=2")
            cluster.kc("-n", "ktvpn", "rollout", "status", "deploy/ktvpn-agent", "--timeout=60s")
