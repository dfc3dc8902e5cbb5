"""The two ways from the laptop to the pod. Each says where the load client shall connect, which processes carry it, and how many
bytes passed; each cleans up after itself."""
import json
import os
import re
import subprocess
import tempfile
import time

import cpu


class PathError(Exception):
    """What could not be measured, and why."""


def on_laptop(*argv):
    return ["ip", "netns", "exec", os.environ["KT_LAPTOP"], *argv]  # execs: the pid is the program's


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def device_bytes(device):
    """Both directions; headers included, which is nothing at an MTU of 65,000. For "lo" the two are the same bytes."""
    run = subprocess.run(["ip", "-n", os.environ["KT_LAPTOP"], "-s", "-j", "link", "show", "dev", device], capture_output=True,
                         text=True, timeout=30, check=False)
    if run.returncode != 0:
        raise PathError(f"{device}: {run.stderr.strip()}")
    counters = json.loads(run.stdout)[0]["stats64"]
    return counters["rx"]["bytes"] + (0 if device == "lo" else counters["tx"]["bytes"])


class Program:
    """A program in the laptop's namespace whose output goes to a file that nobody has to read."""

    def __init__(self):
        self.process = None
        self.log = tempfile.TemporaryFile("w+")

    def spawn(self, *argv):
        self.log.seek(0)
        self.log.truncate()
        self.process = subprocess.Popen(on_laptop(*argv), stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)

    def said(self):
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0).decode(errors="replace")

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def end(self, seconds):
        if self.process is None:
            return
        if self.is_alive():
            self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Kubectl(Program):
    name = "kubectl"

    def __init__(self, pod, ports):
        super().__init__()
        self.pod, self.ports, self.local, self.restarts = pod, ports, {}, 0

    def start(self):
        self.spawn(os.environ["KT_KUBECTL"], "--kubeconfig", os.environ["KT_KUBECONFIG"], "-n", "ems", "port-forward",
                   "--address", "127.0.0.1", f"pod/{self.pod}", *(f":{port}" for port in self.ports))
        wait_until(lambda: not self.is_alive() or self.forwarded().keys() == set(self.ports), 30)
        self.local = self.forwarded()
        if not self.is_alive() or len(self.local) != len(self.ports):
            raise PathError("kubectl port-forward: " + self.said()[-500:])

    def forwarded(self):
        return {int(pod): int(local) for local, pod in re.findall(r"127\.0\.0\.1:(\d+) -> (\d+)", self.said())}

    def ensure(self):
        if self.is_alive():
            return
        self.restarts += 1
        self.start()

    def after_failure(self):
        """Whatever it was, the next attempt gets a new kubectl."""
        self.end(5)

    def address(self, port):
        return f"127.0.0.1:{self.local[port]}"

    def pids(self):
        return {"client": [self.process.pid], "agent": []}

    def bytes_moved(self):
        return device_bytes("lo")

    def stop(self):
        self.end(5)


class Ktvpn(Program):
    name = "ktvpn"

    def __init__(self, binary, instance, pod):
        super().__init__()
        self.binary, self.instance, self.pod = binary, instance, pod
        self.pod_ip = self.device = self.agent = None

    def start(self):
        get = subprocess.run(on_laptop(os.environ["KT_KUBECTL"], "--kubeconfig", os.environ["KT_KUBECONFIG"], "-n", "ems", "get",
                                       "pod", self.pod, "-o", "jsonpath={.status.podIP}"), capture_output=True, text=True,
                             timeout=30, check=False)
        if get.returncode != 0:
            raise PathError(f"pod {self.pod}: {get.stderr.strip()}")
        self.pod_ip = get.stdout
        self.spawn(self.binary, "up", "-n", "ems", "--name", self.instance, "--kubeconfig", os.environ["KT_KUBECONFIG"])
        wait_until(lambda: not self.is_alive() or self.status().get("state") == "connected", 60)
        status = self.status()
        if status.get("state") != "connected":
            raise PathError("ktvpn up: " + self.said()[-1000:])
        self.device = status["device"]
        self.agent = cpu.find_pod_process("ktvpn-agent", status["agent"]["pod"])
        if self.agent is None:
            raise PathError(f"no process of the agent {status['agent']['pod']}")

    def status(self):
        run = subprocess.run(on_laptop(self.binary, "status", self.instance, "-o", "json"), capture_output=True, text=True,
                             timeout=30, check=False)
        return json.loads(run.stdout) if run.returncode == 0 else {}

    def ensure(self):
        """It must live through everything: it is not started again."""
        if not self.is_alive():
            raise PathError("ktvpn ended: " + self.said()[-1000:])

    def after_failure(self):
        pass

    def address(self, port):
        return f"{self.pod_ip}:{port}"

    def pids(self):
        return {"client": cpu.tree(self.process.pid), "agent": [self.agent]}

    def bytes_moved(self):
        return device_bytes(self.device)

    def stop(self):
        if self.is_alive():
            subprocess.run(on_laptop(self.binary, "down", self.instance), capture_output=True, timeout=30, check=False)
            wait_until(lambda: not self.is_alive(), 15)
        self.end(10)
