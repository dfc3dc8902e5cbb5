"""Where client and agent spend their time during bulk down, by `perf`. The agent's file in the pod has no names of functions; the
build keeps them beside it, and as the program is linked to fixed addresses, an address is enough to find one."""
import bisect
import collections
import os
import re
import shutil
import subprocess
import tempfile
import time

SYMBOLS = 15
SAMPLE = re.compile(r"\s*(?P<program>\S+)\s+(?P<ip>[0-9a-f]+)\s+(?P<symbol>.*) \((?P<file>.*)\)$")


class Names:
    """The functions of a program that is linked to fixed addresses."""

    def __init__(self, program):
        table = subprocess.run(["nm", "-n", program], capture_output=True, text=True, timeout=30, check=True).stdout
        rows = [line.split() for line in table.splitlines()]
        self.table = [(int(row[0], 16), row[2]) for row in rows if len(row) == 3 and row[1] in "tTwW"]
        self.starts = [start for start, _ in self.table]

    def of(self, address):
        at = bisect.bisect_right(self.starts, address)
        return self.table[at - 1][1] if at else "[unknown]"


def record(perf, pids, file, seconds):
    return subprocess.Popen([perf, "record", "-q", "-F", "999", "-o", file, "-p", ",".join(map(str, pids)), "--", "sleep",
                             str(seconds)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def samples(perf, file, names):
    """(program, file, function) of each sample."""
    text = subprocess.run([perf, "script", "-i", file, "-F", "comm,ip,sym,dso"], capture_output=True, text=True, timeout=120,
                          check=False).stdout
    for line in text.splitlines():
        if (match := SAMPLE.match(line)) is None:
            continue
        binary = os.path.basename(match["file"])
        symbol = names.of(int(match["ip"], 16)) if binary == "ktvpn-agent" else match["symbol"]
        yield match["program"], binary, symbol


def show(counts):
    total = sum(counts.values())
    print(f"profile of bulk down, 1 flow: share of client and agent together ({total} samples), program, file, function")
    for (program, binary, symbol), count in counts.most_common(SYMBOLS):
        print(f"{100 * count / total:5.1f} %  {program:12} {binary:20} {symbol}")
    print()


def run(ktvpn, agent_symbols, load, seconds):
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
        show(collections.Counter(samples(perf, file, Names(agent_symbols))))
