"""What does not compare with kubectl: memory of idle flows, many flows, small datagrams, times to be ready."""
import json
import os
import subprocess
import time

import cpu
from paths import PathError, on_laptop, wait_until

ECHO, UDP_ECHO, WEB = 7000, 7001, 8080
IDLE_FLOWS = 10000


def rss_kib(pid):
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0


def bench(test, flows, seconds, address):
    run = subprocess.run(on_laptop(os.environ["KT_TESTAPP"], "bench", test, str(flows), str(seconds), address), capture_output=True,
                         text=True, timeout=seconds + 60, check=False)
    if run.returncode != 0:
        raise PathError(f"{test}: " + (run.stderr.strip().splitlines() or ["failed"])[-1][-300:])
    return json.loads(run.stdout)


def memory(ktvpn):
    return {"client": max(map(rss_kib, ktvpn.pids()["client"])), "agent": rss_kib(ktvpn.agent)}


def established(ktvpn):
    run = subprocess.run(on_laptop("ss", "-Htn", "state", "established", "dst", ktvpn.address(WEB)), capture_output=True, text=True,
                         timeout=30, check=False)
    return run.stdout.count("\n")


def idle_flows(ktvpn, result):
    before, seconds = memory(ktvpn), 100
    load = subprocess.Popen(on_laptop(os.environ["KT_TESTAPP"], "bench", "idle", str(IDLE_FLOWS), str(seconds),
                                      ktvpn.address(WEB)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: load.poll() is not None or established(ktvpn) >= IDLE_FLOWS, seconds - 20)
        result["idle_flows"] = established(ktvpn)
        during = memory(ktvpn)
        if result["idle_flows"] < IDLE_FLOWS / 2:
            raise PathError(f"{result['idle_flows']} are open")
        result["rr_beside_idle_p50_us"] = bench("rr", 1, 2, ktvpn.address(ECHO)).get("p50_us")
    finally:
        load.kill()
        load.communicate()
    result["agent_kib_per_idle_flow"] = (during["agent"] - before["agent"]) / result["idle_flows"]
    result["client_kib_per_idle_flow"] = (during["client"] - before["client"]) / result["idle_flows"]


def small_datagrams(ktvpn, result):
    for flows in (1, 8):
        ledger = cpu.Ledger(ktvpn.pids())
        answer = bench("udp", flows, 3, ktvpn.address(UDP_ECHO))
        spent = ledger.close()
        result[f"udp_64_bytes_{flows}_flows_per_s"] = answer["per_s"]
        result[f"udp_64_bytes_{flows}_flows_cpu_us"] = (spent["client"] + spent["agent"]) * 1e6 / (answer["per_s"] * 3.5)


def get(ktvpn):
    return subprocess.run(on_laptop(os.environ["KT_TESTAPP"], "get", "-q", f"http://{ktvpn.address(WEB)}/"), capture_output=True,
                          timeout=30, check=False).returncode == 0


def reconnect(ktvpn, result):
    """Every connection to the API server is reset; from the end of that to the next answer."""
    def rule(action):
        subprocess.run(on_laptop("iptables", action, "OUTPUT", "-p", "tcp", "-d", os.environ["KT_NODE_IP"], "--dport", "6443",
                                 "-j", "REJECT", "--reject-with", "tcp-reset"), check=True, capture_output=True, timeout=30)
    rule("-I")
    try:
        wait_until(lambda: ktvpn.status().get("state") != "connected", 20)
    finally:
        rule("-D")
    start = time.monotonic()
    wait_until(lambda: get(ktvpn), 30)
    result["reconnect_s"] = time.monotonic() - start


def ready(ktvpn, result):
    """A new one, with its own agent, from the command to the first answer; it goes on as the one that is measured."""
    ktvpn.stop()
    start = time.monotonic()
    ktvpn.start()
    if not wait_until(lambda: get(ktvpn), 30):
        raise PathError("no answer after ready")
    result["up_to_first_answer_s"] = time.monotonic() - start


def run(ktvpn):
    """The figures; what could not be measured is named in "failed"."""
    result = {"after_load_kib": memory(ktvpn), "failed": []}
    for part in (ready, idle_flows, small_datagrams, reconnect):
        try:
            part(ktvpn, result)
        except (PathError, subprocess.SubprocessError) as error:
            result["failed"].append(f"{part.__name__}: {error}")
    return result


def show(result):
    print("limits of ktvpn alone")
    for name, value in result.items():
        text = f"{value:.2f}" if isinstance(value, float) else json.dumps(value)
        print(f"  {name.replace('_', ' '):40} {text}")
    print()
