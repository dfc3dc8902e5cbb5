"""Latency under load on a slow link: the laptop's way to the node leads through weather.c's devices, and a request every moment
goes beside a bulk transfer. "direct" is the pod's address routed over that link: the same link without a tunnel."""
import json
import os
import subprocess
import sys

import table
from paths import Kubectl, Ktvpn, PathError, on_laptop, wait_until

DEVICE, LAPTOP, NODE = "weather0", "198.51.100.1", "198.51.100.2"
RATE_MBIT_S, DELAY_MS = 200, 10  # one way
LOSSES = [0, 0.1, 1]
BULK = {"down": 9001, "up": 9000}
ECHO = 7000


def ip(namespace, *args):
    subprocess.run(["ip", "-n", namespace, *args], check=True, capture_output=True, text=True, timeout=30)


class Link:
    """The devices and the route to the node; gone with the process."""

    def __init__(self, program, loss):
        laptop, node = os.environ["KT_LAPTOP"], os.environ["KT_NODE"]
        self.process = subprocess.Popen([program, laptop, node, DEVICE, str(RATE_MBIT_S), str(DELAY_MS), str(loss)],
                                        stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise PathError("weather did not start")
        for namespace, own, peer in ((laptop, LAPTOP, NODE), (node, NODE, LAPTOP)):
            ip(namespace, "address", "add", own, "peer", peer, "dev", DEVICE)
            ip(namespace, "link", "set", DEVICE, "up")
        ip(laptop, "route", "add", os.environ["KT_NODE_IP"], "dev", DEVICE, "src", LAPTOP)

    def close(self):
        self.process.terminate()
        self.process.wait(10)


class Direct:
    name = "direct"

    def __init__(self, pod_ip):
        self.pod_ip = pod_ip

    def start(self):
        ip(os.environ["KT_LAPTOP"], "route", "add", self.pod_ip, "dev", DEVICE, "src", LAPTOP)

    def stop(self):
        subprocess.run(["ip", "-n", os.environ["KT_LAPTOP"], "route", "del", self.pod_ip, "dev", DEVICE], capture_output=True,
                       timeout=30, check=False)

    def address(self, port):
        return f"{self.pod_ip}:{port}"


def bench(test, seconds, address):
    return subprocess.Popen(on_laptop(os.environ["KT_TESTAPP"], "bench", test, "1", str(seconds), address), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def result_of(process, seconds):
    out, error = process.communicate(timeout=seconds + 30)
    if process.returncode != 0:
        raise PathError((error.strip().splitlines() or ["failed"])[-1])
    return json.loads(out)


def measure(path, direction, seconds):
    """The bulk flow runs from two seconds before to half a second after the requests."""
    sample = {"path": path.name, "direction": direction}
    quiet = result_of(bench("rr", 1, path.address(ECHO)), 1)
    bulk = bench(direction, seconds + 2.5, path.address(BULK[direction]))
    try:
        wait_until(lambda: False, 2)
        busy = result_of(bench("rr", seconds, path.address(ECHO)), seconds)
        sample["mbit_s"] = result_of(bulk, seconds + 3)["mbit_s"]
    finally:
        if bulk.poll() is None:
            bulk.kill()
            bulk.communicate()
    if "p50_us" not in quiet or "p50_us" not in busy:
        raise PathError(f"{direction}: no request was answered in time")
    return {**sample, "quiet_p50_ms": quiet["p50_us"] / 1000, "p50_ms": busy["p50_us"] / 1000, "p99_ms": busy["p99_us"] / 1000}


def pod_ip(pod):
    return subprocess.run(on_laptop(os.environ["KT_KUBECTL"], "--kubeconfig", os.environ["KT_KUBECONFIG"], "-n", "ems", "get", "pod",
                                    pod, "-o", "jsonpath={.status.podIP}"), capture_output=True, text=True, timeout=30,
                          check=True).stdout


def one_path(path, loss, seconds, samples):
    try:
        path.start()
        for direction in BULK:
            samples.append({"loss": loss, **measure(path, direction, seconds)})
    except PathError as error:
        print(f"  {path.name}, loss {loss} %: {error}", file=sys.stderr)
    finally:
        path.stop()


def run(program, ktvpn, name, pod, rounds, seconds):
    """Samples; a link for each loss and round."""
    samples = []
    for number in range(1, rounds + 1):
        for loss in LOSSES:
            print(f"link of {RATE_MBIT_S} Mbit/s, {2 * DELAY_MS} ms, loss {loss} %: round {number} of {rounds}", file=sys.stderr)
            link = Link(program, loss)
            try:
                paths = [Direct(pod_ip(pod)), Kubectl(pod, [ECHO, *BULK.values()]), Ktvpn(ktvpn, name, pod)]
                for path in paths if number % 2 else paths[::-1]:
                    one_path(path, loss, seconds, samples)
            finally:
                link.close()
    return samples


def rows(samples):
    for loss in LOSSES:
        for direction in BULK:
            for path in ("direct", "kubectl", "ktvpn"):
                mine = [s for s in samples if (s["loss"], s["direction"], s["path"]) == (loss, direction, path)]
                base = [s["p50_ms"] for s in samples if (s["loss"], s["direction"], s["path"]) == (loss, direction, "direct")]
                ratio = table.ratio_of([s["p50_ms"] for s in mine], base)
                yield [f"{loss} %, {direction}", path, *(table.spread([s[k] for s in mine]) for k in
                                                        ("mbit_s", "quiet_p50_ms", "p50_ms", "p99_ms")),
                       "-" if ratio is None else f"{ratio:.2f}"]


def show(samples):
    print(f"request-response beside a bulk flow; a link of {RATE_MBIT_S} Mbit/s and {2 * DELAY_MS} ms (ms, medians and ranges)")
    table.show_rows(["loss, bulk", "path", "bulk Mbit/s", "p50 without bulk", "p50", "p99", "p50 / direct"], rows(samples))
