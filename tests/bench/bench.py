"""The rounds of run.sh, which sets KT_* and says what is measured against what."""
import argparse
import json
import os
import platform
import signal
import subprocess
import sys

import cpu
import limits
import others
import profile_ktvpn
import table
import weather
from paths import Kubectl, Ktvpn, PathError, on_laptop

# name, the load client's test, its flows, the pod's port
MEASURES = [("bulk down, 1 flow", "down", 1, 9001), ("bulk down, 8 flows", "down", 8, 9001),
            ("bulk up, 1 flow", "up", 1, 9000), ("bulk up, 8 flows", "up", 8, 9000),
            ("request-response", "rr", 1, 7000), ("connect-request-close", "crr", 1, 7000)]
POD = "store-0"
ATTEMPTS = 3


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--ktvpn", required=True)
    parser.add_argument("--agent-symbols", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--limits", action="store_true")
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--weather", metavar="PROGRAM")
    return parser.parse_args()


def output(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def congestion_control(namespace):
    return output("ip", "netns", "exec", namespace, "cat", "/proc/sys/net/ipv4/tcp_congestion_control")


def environment():
    version = json.loads(output(*on_laptop(os.environ["KT_KUBECTL"], "--kubeconfig", os.environ["KT_KUBECONFIG"], "version",
                                           "-o", "json")))
    return {"commit": output("git", "describe", "--always", "--dirty"), "kernel": platform.release(), "cpus": os.cpu_count(),
            "congestion_control": {"laptop": congestion_control(os.environ["KT_LAPTOP"]),
                                   "node": congestion_control(os.environ["KT_NODE"])},
            "kubectl": version["clientVersion"]["gitVersion"], "kubernetes": version["serverVersion"]["gitVersion"]}


def run_load(path, test, flows, seconds, port):
    """One run of the load client: what it says, who took CPU meanwhile, and the bytes that the path moved."""
    address = path.address(port)
    moved = path.bytes_moved()
    ledger = cpu.Ledger(path.pids())
    load = subprocess.Popen(on_laptop(os.environ["KT_TESTAPP"], "bench", test, str(flows), str(seconds), address),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, error = load.communicate(timeout=seconds + 20)
    except subprocess.TimeoutExpired:
        load.kill()
        load.communicate()
        raise PathError(f"the load client hung: {test} {address}") from None
    if load.returncode != 0:
        raise PathError(f"{test} {address}: " + (error.strip().splitlines() or [f"exit {load.returncode}"])[-1])
    spent = ledger.close()
    answer = json.loads(out)
    now = path.bytes_moved()
    bytes_ = now - moved if now is not None else answer.get("mbit_s", 0) * 1e6 / 8 * (seconds + 0.5)
    return {**answer, "bytes": bytes_, "cpu_s": spent}


def measure(path, measure_, seconds, failures):
    """kubectl ends when a connection is reset or refused, at times only later: it is started again and the measure repeated."""
    name, test, flows, port = measure_
    for attempt in range(1, ATTEMPTS + 1):
        try:
            path.ensure()
            return {"measure": name, "path": path.name, "attempt": attempt, **run_load(path, test, flows, seconds, port)}
        except PathError as error:
            failures.append({"measure": name, "path": path.name, "attempt": attempt, "error": str(error)})
            print(f"  {path.name}, {name}: {error}", file=sys.stderr)
            path.after_failure()
    return None


def rounds(paths, args, result):
    for number in range(1, args.rounds + 1):
        load = os.getloadavg()
        result["rounds"].append({"round": number, "load_average": load})
        print(f"round {number} of {args.rounds}, load average {load[0]:.2f}", file=sys.stderr)
        order = paths if number % 2 else paths[::-1]
        for measure_ in MEASURES:
            for path in order:
                sample = measure(path, measure_, args.seconds, result["failures"])
                if sample is not None:
                    result["samples"].append({"round": number, **sample})


def compare_others(kubectl, ktvpn, args, result):
    """Each of them in turn with kubectl, while ktvpn is away: they want the same addresses."""
    pod_ip = ktvpn.pod_ip
    ktvpn.stop()
    program = others.install(os.path.join(os.path.dirname(args.out), "wireguard"))
    for path in (others.Sshuttle(POD, pod_ip), others.Wireguard(program, pod_ip)):
        try:
            path.start()
            for number in range(1, args.rounds + 1):
                for measure_ in MEASURES:
                    for each in (path, kubectl):
                        sample = measure(each, measure_, args.seconds, result["failures"])
                        if sample is not None:
                            result["others"].append({"round": number, "beside": path.name, **sample})
        except PathError as error:
            print(f"  {path.name}: {error}", file=sys.stderr)
        finally:
            path.stop()


def write(path, result):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


def stop(number, _frame):
    raise SystemExit(128 + number)


def main():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    args = arguments()
    result = {"rounds": [], "samples": [], "failures": [], "others": []}
    kubectl, ktvpn = Kubectl(POD, sorted({m[3] for m in MEASURES})), Ktvpn(args.ktvpn, f"bench-{args.name}", POD)
    try:
        result["environment"] = environment()
        kubectl.start()
        ktvpn.start()
        rounds([kubectl, ktvpn], args, result)
        if args.profile:
            profile_ktvpn.run(ktvpn, args.agent_symbols, lambda: run_load(ktvpn, "down", 1, args.seconds, 9001), args.seconds)
        if args.limits:
            result["limits"] = limits.run(ktvpn)
        if args.others:
            compare_others(kubectl, ktvpn, args, result)
        if args.weather:
            kubectl.stop()
            ktvpn.stop()
            result["weather"] = weather.run(args.weather, args.ktvpn, f"bench-{args.name}", POD, args.rounds, args.seconds)
    except PathError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        kubectl.stop()
        ktvpn.stop()
        result["kubectl_restarts"] = kubectl.restarts
        write(args.out, result)
    table.show(result)
    if result["others"]:
        table.show_others(result["others"])
    if "limits" in result:
        limits.show(result["limits"])
    if "weather" in result:
        weather.show(result["weather"])
    return 0 if len(result["samples"]) == 2 * len(MEASURES) * args.rounds else 1


sys.exit(main())
