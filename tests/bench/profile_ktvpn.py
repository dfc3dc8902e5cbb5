"""Where client and agent spend their time during bulk down, by `perf`."""
import os
import shutil
import subprocess
import tempfile
import time

SYMBOLS = 15


def record(perf, pids, file, seconds):
    return subprocess.Popen([perf, "record", "-q", "-F", "999", "-o", file, "-p", ",".join(map(str, pids)), "--", "sleep",
                             str(seconds)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def report(perf, file):
    return subprocess.run([perf, "report", "-i", file, "--stdio", "-q", "--sort", "comm,symbol"], capture_output=True, text=True,
                          timeout=120, check=False).stdout


def run(ktvpn, load, seconds):
    perf = shutil.which("perf")
    if perf is None:
        print("no profile: perf is not installed\n")
        return
    pids = [pid for group in ktvpn.pids().values() for pid in group]
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "perf.data")
        recorder = record(perf, pids, file, seconds)
        time.sleep(0.2)  # perf attaches; what it misses of the start is warm-up
        load()
        _, error = recorder.communicate(timeout=60)
        if recorder.returncode != 0:
            print(f"no profile: perf record: {error.strip()}\n")
            return
        rows = [line.rstrip() for line in report(perf, file).splitlines() if line.strip()]
    print("profile of bulk down, 1 flow: share of client and agent together, program, symbol")
    print("\n".join(rows[:SYMBOLS]) + "\n")
