"""The soak test's topology, cuts, and verdict; run.sh starts it.

    laptop ──veth── pod ──veth── cluster        as in tests/net/conftest.py, which this builds
    ktvpn up ──► relay in user space ──► agent ──► servers

Every 60 s the relay cuts the carriers, in turn: RST, FIN, a black hole of 20 s, then the same for only one of the two (a black hole
is always of all). Flows run on; see load.py for what is compared.
"""
import csv
import itertools
import pathlib
import sys
import threading
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "net"))

import conftest  # noqa: E402
import watch  # noqa: E402
from load import KINDS, Load  # noqa: E402
from programs import wait_for  # noqa: E402
from space import picture  # noqa: E402

CUT_EVERY, SAMPLE_EVERY, HOLE = 60.0, 10.0, 20.0
STALL_MAX = 15.0  # an echo may wait this much longer than the cut itself


class Cuts:
    def __init__(self, relay, load):
        self.relay, self.load = relay, load
        self.kinds = itertools.cycle((("RST", relay.reset), ("FIN", relay.cut), ("black hole", self.hole),
                                      ("RST of one", relay.reset_one), ("FIN of one", relay.cut_one)))
        self.count = {}

    def hole(self):
        self.relay.stall()
        time.sleep(HOLE)
        self.relay.go()

    def cut(self):
        name, act = next(self.kinds)
        self.load.cut_began = time.monotonic()
        act()
        self.load.cut_ended = time.monotonic()
        self.count[name] = self.count.get(name, 0) + 1


class Soak:
    def __init__(self, minutes, out):
        self.seconds, self.out = minutes * 60, out
        self.samples = []  # (seconds, program, sample)
        self.problems = []

    def run(self, world, net):
        world.start_agent()
        world.start_relay()
        world.start_client()
        world.relay.delay(0.005)
        self.world = world
        self.pids = {"client": world.client.pid, "agent": world.agent.pid}
        for helper in watch.children(world.client.pid):
            self.pids["helper"] = helper
        self.load = Load(net, conftest.SERVER, conftest.SERVICE, conftest.OUTSIDE_DNS)
        self.cuts = Cuts(world.relay, self.load)
        self.began = time.monotonic()
        self.take_sample()
        self.load.start()
        self.watch_and_cut()
        self.hanging = self.load.end()
        self.lasted = time.monotonic() - self.began
        self.status = world.client.status()
        wait_for("the agent closes what is over", self.is_quiet, 90)
        self.take_sample()

    def is_quiet(self):
        return watch.sample(self.pids["agent"])["descriptors"] <= self.samples[0][2]["descriptors"] + 2

    def watch_and_cut(self):
        next_sample, next_cut = SAMPLE_EVERY, CUT_EVERY
        while (now := time.monotonic() - self.began) < self.seconds and self.are_alive():
            if now >= next_sample:
                self.take_sample()
                next_sample += SAMPLE_EVERY
            if now >= next_cut and now < self.seconds - HOLE:
                next_cut += CUT_EVERY
                threading.Thread(target=self.cuts.cut, daemon=True).start()
            time.sleep(0.1)

    def are_alive(self):
        return self.world.client.is_running() and self.world.agent.is_running()

    def take_sample(self):
        seconds = time.monotonic() - self.began
        for program, pid in self.pids.items():
            self.samples.append((seconds, program, watch.sample(pid)))

    # The verdict.

    def series(self, program, field):
        return [(seconds, sample[field]) for seconds, name, sample in self.samples if name == program]

    def judge(self):
        is_long = self.seconds >= 600  # a short one is still filling its pools: it only proves that the soak itself works
        window, leniency = (60, 1) if is_long else (30, 4)
        if not self.are_alive():
            self.problems.append("a program ended by itself")
        if self.hanging:
            self.problems.append(f"{self.hanging} flows hang")
        for kind, tally in self.load.tally.items():
            if tally.wrong:
                self.problems.append(f"{kind}: wrong bytes, {tally.wrong} times")
            if tally.failed:
                self.problems.append(f"{kind}: {tally.failed} failed")
            if not tally.done:
                self.problems.append(f"{kind}: nothing was done")
        self.grown = {(program, field): watch.growth(self.series(program, field)[:-1], window)
                      for program in self.pids for field in watch.GROWTH_MAX}
        for (program, field), gain in self.grown.items():
            if gain > watch.GROWTH_MAX[field] * leniency:
                self.problems.append(f"{program}: {field} grew by {gain:.0f} in the last two thirds")
        if self.load.tally["echo"].longest > HOLE + STALL_MAX:
            self.problems.append(f"an echo waited {self.load.tally['echo'].longest:.1f} s")

    def table(self):
        moved = sum(tally.bytes for tally in self.load.tally.values())
        yield f"{self.lasted / 60:.1f} minutes, {moved / 1e6:.0f} MB, {moved * 8 / self.lasted / 1e6:.1f} Mbit/s"
        cuts = ", ".join(f"{name} {count}" for name, count in self.cuts.count.items())
        yield f"cuts: {sum(self.cuts.count.values())} ({cuts}); connections that the relay saw: {self.world.relay.connections}"
        yield f"reconnects after nothing answered, by the client: {self.status['reconnects'] if self.status else '?'}"
        yield ""
        yield f"{'traffic':<12}{'done':>9}{'failed':>8}{'in a cut':>10}{'wrong':>7}{'longest s':>11}{'MB':>9}"
        for kind in KINDS:
            t = self.load.tally[kind]
            yield f"{kind:<12}{t.done:>9}{t.failed:>8}{t.failed_in_cut:>10}{t.wrong:>7}{t.longest:>11.2f}{t.bytes / 1e6:>9.1f}"
        yield ""
        yield f"{'program':<9}{'of':<13}{'first':>8}{'lowest':>8}{'highest':>9}{'last':>8}{'growth':>9}"
        for program in self.pids:
            for field in watch.FIELDS:
                values = [value for _, value in self.series(program, field)]
                gain = f"{self.grown[program, field]:9.1f}" if field in watch.GROWTH_MAX else ""
                yield f"{program:<9}{field:<13}{values[0]:>8.4g}{min(values):>8.4g}{max(values):>9.4g}{values[-1]:>8.4g}{gain}"
        yield ""
        for kind in KINDS:
            yield from (f"{kind}: {note}" for note in self.load.tally[kind].notes)
        yield from (f"PROBLEM {problem}" for problem in self.problems)
        yield "ok soak" if not self.problems else "FAIL soak"

    def write(self):
        text = "\n".join(self.table()) + "\n"
        (self.out / "table.txt").write_text(text)
        with open(self.out / "samples.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("seconds", "program", *watch.FIELDS))
            writer.writerows((f"{seconds:.1f}", program, *(sample[f] for f in watch.FIELDS)) for seconds, program, sample in self.samples)
        print(text, end="")


def main(minutes, out):
    out.mkdir(parents=True, exist_ok=True)
    before = picture()
    net = conftest.Net(out)
    world = conftest.World(net)
    soak = Soak(minutes, out)
    try:
        soak.run(world, net)
        soak.judge()
        soak.write()
    finally:
        for thing, name in ((world.client, "client.log"), (world.agent, "agent.log")):
            if thing:
                (out / name).write_text(thing.log)
        world.close()
        net.close()
    assert picture() == before, "the machine's own namespace is not as it was"
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()))
