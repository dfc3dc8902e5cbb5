"""What run.sh prints, from nothing but RESULT.json's content."""
from statistics import median

# title, the sample's measure, its figure, unit, goal for ktvpn / kubectl
ROWS = [("bulk down, 1 flow", "bulk down, 1 flow", "mbit_s", "Mbit/s", 0.9),
        ("bulk down, 8 flows", "bulk down, 8 flows", "mbit_s", "Mbit/s", None),
        ("bulk up, 1 flow", "bulk up, 1 flow", "mbit_s", "Mbit/s", 0.9),
        ("bulk up, 8 flows", "bulk up, 8 flows", "mbit_s", "Mbit/s", None),
        ("request-response, p50 *", "request-response", "p50_us", "us", None),
        ("request-response, p99 *", "request-response", "p99_us", "us", None),
        ("connections", "connect-request-close", "per_s", "/s", 1.5)]
BULK = [row[1] for row in ROWS if row[2] == "mbit_s"]


def values(result, path, measure, figure):
    return [s[figure] for s in result["samples"] if s["path"] == path and s["measure"] == measure and figure in s]


def spread(numbers):
    if not numbers:
        return "not measured"
    if min(numbers) >= 10:
        return f"{median(numbers):.0f} ({min(numbers):.0f}-{max(numbers):.0f})"
    return f"{median(numbers):.2f} ({min(numbers):.2f}-{max(numbers):.2f})"


def ratio_of(ours, theirs):
    return median(ours) / median(theirs) if ours and theirs and median(theirs) else None


def verdict(ratio, goal):
    if goal is None:
        return "-"
    return f">= {goal} " + ("?" if ratio is None else "met" if ratio >= goal else "missed")


def lines(result):
    for title, measure, figure, unit, goal in ROWS:
        theirs, ours = (values(result, path, measure, figure) for path in ("kubectl", "ktvpn"))
        ratio = ratio_of(ours, theirs)
        yield [f"{title}, {unit}", spread(theirs), spread(ours), "-" if ratio is None else f"{ratio:.2f}", verdict(ratio, goal)]


def per_gigabyte(result, path, measure, who):
    return [s["cpu_s"][who] * 1e9 / s["bytes"] for s in result["samples"]
            if s["path"] == path and s["measure"] == measure and s["bytes"] > 0 and who in s["cpu_s"]]


def cpu_lines(result, measure):
    for who in ["client", "agent", "apiserver", "kubelet", "containerd", "pod", "load client", "others", "idle"]:
        theirs, ours = (per_gigabyte(result, path, measure, who) for path in ("kubectl", "ktvpn"))
        yield [who, spread(theirs), spread(ours)]


def show_rows(head, rows):
    rows = [head, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        print(" | ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print()


def show(result):
    """Nothing when there was no round, which is how to get a profile alone."""
    if not result["rounds"]:
        return
    where, loads = result["environment"], [f"{r['load_average'][0]:.2f}" for r in result["rounds"]]
    control = where["congestion_control"]
    print(f"commit {where['commit']}, Linux {where['kernel']}, {where['cpus']} CPUs, TCP congestion control {control['laptop']} "
          f"(laptop) and {control['node']} (node), kubectl {where['kubectl']}, Kubernetes {where['kubernetes']}")
    print(f"load average at the start of each round: {' '.join(loads)}; kubectl died and was started again "
          f"{result['kubectl_restarts']} times; {len(result['failures'])} measures were repeated\n")
    show_rows(["measure", "kubectl median (range)", "ktvpn median (range)", "ratio", "goal"], lines(result))
    print("* less is better\n")
    for measure in BULK:
        show_rows([f"CPU seconds per GB, {measure}", "kubectl", "ktvpn"], cpu_lines(result, measure))


def other_rows(samples):
    for title, measure, figure, unit, _ in ROWS:
        for other in sorted({s["beside"] for s in samples}):
            beside = [s for s in samples if s["beside"] == other and s["measure"] == measure and figure in s]
            theirs, ours = ([s[figure] for s in beside if s["path"] == path] for path in ("kubectl", other))
            ratio = ratio_of(ours, theirs)
            yield [f"{title}, {unit}", other, spread(theirs), spread(ours), "-" if ratio is None else f"{ratio:.2f}"]
    for measure in BULK:
        for other in sorted({s["beside"] for s in samples}):
            mine = [s for s in samples if s["path"] == other and s["measure"] == measure and s["bytes"] > 0]
            each = [(s["cpu_s"]["client"] + s["cpu_s"]["agent"]) * 1e9 / s["bytes"] for s in mine]
            yield [f"CPU of both ends, s/GB, {measure}", other, "", spread(each), "-"]


def show_others(samples):
    show_rows(["measure", "who", "kubectl beside it", "median (range)", "ratio"], other_rows(samples))
