"""CPU seconds by process, from /proc/PID/stat, in clock ticks: what a measure of seconds needs."""
import os
import resource

TICK = os.sysconf("SC_CLK_TCK")
CLUSTER = ["apiserver", "kubelet", "containerd"]  # names of tests/cluster's pid files


def stat(pid):
    """The fields after the name; None when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def seconds(pids):
    fields = [stat(pid) for pid in pids]
    return sum(int(f[11]) + int(f[12]) for f in fields if f) / TICK


def all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def tree(root):
    """The process and what descends from it."""
    parent = {pid: int(f[1]) for pid in all_pids() if (f := stat(pid))}
    found = [root]
    for pid in found:
        found += [child for child, of in parent.items() if of == pid]
    return found


def is_of_cluster(pid):
    """Its parent is a shim of this cluster's containerd: other instances have pods of the same names."""
    fields = stat(pid)
    with open(f"/proc/{fields[1]}/cmdline", "rb") as file:
        return os.environ["KT_STATE"].encode() + b"/" in file.read()


def find_pod_process(program, pod):
    """The process of a pod, as the node sees it: by its program's name, and the pod's name, which is its HOSTNAME."""
    for pid in all_pids():
        try:
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")) != program:
                continue
            with open(f"/proc/{pid}/environ", "rb") as file:
                if b"HOSTNAME=" + pod.encode() in file.read().split(b"\0") and is_of_cluster(pid):
                    return pid
        except OSError:  # a kernel thread, or gone
            continue
    return None


def cluster_pids():
    groups = {}
    for name in CLUSTER:
        with open(os.path.join(os.environ["KT_STATE"], "run", name + ".pid"), encoding="utf-8") as file:
            groups[name] = [int(file.read().split()[0])]
    return groups


def machine():
    """Busy and idle seconds of all CPUs."""
    with open("/proc/stat", encoding="utf-8") as file:
        ticks = [int(t) for t in file.readline().split()[1:9]]
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / TICK, idle / TICK


def children():
    """Of those that have been waited for: the load client."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Ledger:
    """From here to close(): who took how much. "others" is what the machine did besides; look there for a neighbour's load."""

    def __init__(self, pids):
        self.groups = {**pids, **cluster_pids()}
        self.app = find_pod_process("testapp", "store-0")
        self.groups["pod"] = [self.app] if self.app else []
        self.before = {name: seconds(group) for name, group in self.groups.items()}
        self.load, self.machine = children(), machine()

    def close(self):
        spent = {name: seconds(group) - self.before[name] for name, group in self.groups.items()}
        spent["load client"] = children() - self.load
        busy, idle = (now - then for now, then in zip(machine(), self.machine))
        spent["others"] = max(0.0, busy - sum(spent.values()))
        spent["idle"] = idle
        return {name: round(value, 3) for name, value in spent.items()}
