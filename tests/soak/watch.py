"""What the programs cost: samples of /proc, and whether they grew.

A load that comes and goes makes peaks, so growth is that of the lows: the lowest sample of each window, a line through those of the
last two thirds by least squares, and what it gains from their first to their last.
"""
import os
from pathlib import Path

FIELDS = ("rss_kib", "descriptors", "threads", "cpu_s")
TICK = os.sysconf("SC_CLK_TCK")
GROWTH_MAX = {"rss_kib": 1024, "descriptors": 4, "threads": 0.5}


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def sample(pid):
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return {"rss_kib": int(status["VmRSS"].split()[0]), "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": int(status["Threads"]), "cpu_s": (int(stat[11]) + int(stat[12])) / TICK}


def slope(points):
    """By least squares; 0 for one point."""
    if len(points) < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def lows(series, window):
    """series: (seconds, value). The lowest of each window, at its middle."""
    found = {}
    for seconds, value in series:
        key = int(seconds // window)
        found[key] = min(found.get(key, value), value)
    return [((key + 0.5) * window, value) for key, value in sorted(found.items())]


def growth(series, window):
    points = lows(series, window)
    points = points[len(points) // 3:]
    return slope(points) * (points[-1][0] - points[0][0]) if points else 0.0
