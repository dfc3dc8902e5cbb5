"""The cluster as an administrator sees it: a small client of its API, and of the three network namespaces."""

import contextlib
import ctypes
import http.client
import json
import os
import signal
import ssl
import subprocess
import threading
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
CLONE_NEWNS, CLONE_NEWNET, MS_BIND, MS_REC, MS_SLAVE = 0x20000, 0x40000000, 4096, 16384, 1 << 19
libc = ctypes.CDLL(None, use_errno=True)
HOME = {kind: os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("mnt", "net")}  # before move_to()


def checked(rc):
    if rc != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def wait_for(condition, seconds, what="it", every=0.05):
    """Until condition() is true; what it returned."""
    end = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(every)


@contextlib.contextmanager
def network_of(namespace):
    """This thread is in another network namespace for the while; sockets made there stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    other = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        checked(libc.setns(other, CLONE_NEWNET))
        yield
    finally:
        checked(libc.setns(home, CLONE_NEWNET))
        os.close(home)
        os.close(other)


def move_to(namespace):
    """This process (which must have one thread) is on the laptop from now on: its network and its resolv.conf."""
    assert threading.active_count() == 1
    checked(libc.unshare(CLONE_NEWNS))
    checked(libc.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None))
    checked(libc.mount(f"/etc/netns/{namespace}/resolv.conf".encode(), b"/etc/resolv.conf", None, MS_BIND, None))
    fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
    checked(libc.setns(fd, CLONE_NEWNET))
    os.close(fd)


def at_home(*command, **kw):
    """Runs a command where this process was before move_to()."""
    us = f"/proc/{os.getpid()}/fd"
    return subprocess.run(["nsenter", f"--mount={us}/{HOME['mnt']}", f"--net={us}/{HOME['net']}", *command], check=True, **kw)


class Cluster:
    def __init__(self, name, *options):
        self.name = name
        at_home(REPO / "tests/cluster/up.sh", name, *options, stdout=subprocess.DEVNULL)
        text = subprocess.run([REPO / "tests/cluster/env.sh", name], check=True, stdout=subprocess.PIPE, text=True).stdout
        env = dict(line.split("=", 1) for line in text.splitlines())
        self.laptop, self.world, self.node = env["KT_LAPTOP"], env["KT_WORLD"], env["KT_NODE"]
        self.kubeconfig, self.developer_kubeconfig = env["KT_KUBECONFIG"], env["KT_DEVELOPER_KUBECONFIG"]
        self.node_ip, self.world_ip, self.web_ip, self.printer_ip = (env[f"KT_{k}_IP"] for k in ("NODE", "WORLD", "WEB", "PRINTER"))
        self.pods_range, self.services_range = env["KT_PODS"], env["KT_SERVICES"]
        self.pods_range6, self.services_range6 = env["KT_PODS6"], env["KT_SERVICES6"]
        self.node_ip6, self.world_ip6, self.web_ip6 = (env[f"KT_{k}_IP6"] for k in ("NODE", "WORLD", "WEB"))
        self.kubectl, self.testapp, self.pki = env["KT_KUBECTL"], env["KT_TESTAPP"], Path(env["KT_STATE"]) / "pki"
        self.tls = ssl.create_default_context(cafile=self.pki / "ca.crt")
        self.tls.load_cert_chain(self.pki / "admin.crt", self.pki / "admin.key")

    def call(self, method, path, body=None, type_="application/json"):
        connection = http.client.HTTPSConnection(self.node_ip, 6443, context=self.tls, timeout=10)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": type_})
            answer = connection.getresponse()
            data = json.loads(answer.read())
            return answer.status, data
        finally:
            connection.close()

    def get(self, path):
        status, data = self.call("GET", path)
        assert status == 200, data
        return data

    def pods(self, namespace=None, selector=""):
        path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
        return self.get(f"{path}?labelSelector={selector}")["items"]

    def running_pods(self, namespace=None, selector=""):
        return [p for p in self.pods(namespace, selector)
                if p["status"]["phase"] == "Running" and "deletionTimestamp" not in p["metadata"] and "podIP" in p["status"]]

    def pod_ip(self, name="store-0", namespace="ems"):
        return self.get(f"/api/v1/namespaces/{namespace}/pods/{name}")["status"]["podIP"]

    def service_ip(self, name="dashboard-api", namespace="ems"):
        return self.get(f"/api/v1/namespaces/{namespace}/services/{name}")["spec"]["clusterIP"]

    def in_pod(self, *args):
        """What the test app says inside store-0."""
        command = [self.kubectl, "--cache-dir", "/tmp/ktvpn-e2e-kubectl", "--kubeconfig", self.kubeconfig, "-n", "ems", "exec", "store-0", "--", "/testapp", *args]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=30).stdout

    def pod_namespace(self, ip):
        """The name of the network namespace that has this pod's address."""
        for path in Path("/run/netns").glob("cni-*"):
            shown = subprocess.run(["ip", "-n", path.name, "-o", "-4", "addr"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            if f" {ip}/" in shown.stdout and self.is_ours(path.name):
                return path.name
        raise AssertionError(f"no network namespace has {ip}")

    def is_ours(self, namespace):
        listed = subprocess.run(["ip", "-n", self.node, "netns", "list-id"], stdout=subprocess.PIPE, text=True)
        return namespace in listed.stdout

    def kc(self, *args, input=None):
        """kubectl, as the administrator; its output."""
        command = [self.kubectl, "--cache-dir", "/tmp/ktvpn-e2e-kubectl", "--kubeconfig", self.kubeconfig, *args]
        done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ctr(self, *args):
        socket = self.pki.parent / "containerd/run/containerd.sock"
        subprocess.run(["ctr", "-a", socket, "-n", "k8s.io", *args], check=True, stdout=subprocess.DEVNULL)

    def stop_container(self, pod, namespace="ems", number=signal.SIGTERM):
        """A signal to a pod's process: SIGTERM is as if it had ended by itself."""
        ip = self.pod_ip(pod, namespace)
        pids = subprocess.run(["ip", "netns", "pids", self.pod_namespace(ip)], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        for pid in pids:
            if "ktvpn-agent" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(int(pid), number)

    @contextlib.contextmanager
    def world_rule(self, verdict):
        """The rest of the internet drops or resets everything to and from the API server for the while."""
        rules = f"""
            table inet outage {{
                chain forward {{
                    type filter hook forward priority -1
                    tcp dport 6443 {verdict}
                    tcp sport 6443 {verdict}
                }}
            }}
        """
        with network_of(self.world):
            subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
        try:
            yield
        finally:
            with network_of(self.world):
                subprocess.run(["nft", "delete", "table", "inet", "outage"], check=True)

    def snapshot(self):
        """Every object that ktvpn may touch, without what changes by itself."""
        return {f"{kind} {namespace}/{item['metadata']['name']}": essence(item)
                for namespace in ("ems", "restricted")
                for kind, path in KINDS.items()
                for item in self.get(path.format(namespace))["items"]}


KINDS = {"job": "/apis/batch/v1/namespaces/{}/jobs", "configmap": "/api/v1/namespaces/{}/configmaps",
         "pod": "/api/v1/namespaces/{}/pods", "service": "/api/v1/namespaces/{}/services",
         "deployment": "/apis/apps/v1/namespaces/{}/deployments"}


def essence(item):
    metadata = {k: v for k, v in item["metadata"].items() if k not in ("resourceVersion", "managedFields", "generation")}
    return json.dumps({"metadata": metadata, "spec": item.get("spec"), "data": item.get("data"), "binaryData": sorted(item.get("binaryData", {}))}, sort_keys=True)
