"""The whole `ktvpn up`, and the Nth allocation, read, write, descriptor or setting of it fails: it ends with one clear line, or
goes on working; never a crash, never a hang, nothing left behind.

A sample of all N is tried; KTVPN_FAIL_EVERY=1 tries each.
"""
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import pytest

import services
from conftest import RANGE, RELAY, SERVER
from programs import KTVPN, wait_for

SAMPLES = 10  # of each kind
EXIT_CODES = (*range(13), 130)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if "debug" in KTVPN:
        pytest.skip("the sanitizer has its own malloc")
    out = tmp_path_factory.mktemp("preload") / "fail_nth.so"
    source = pathlib.Path(__file__).with_name("fail_nth.c")
    subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-fPIC", "-shared", "-o", out, source, "-ldl"], check=True)
    return out


class Run:
    def __init__(self, world, library, kind, nth):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ktvpn-test-"))
        self.world, self.name = world, f"{kind} {nth}"
        env = {k: v for k, v in os.environ.items() if not k.startswith("KTVPN")}
        env |= {"XDG_RUNTIME_DIR": str(self.folder), "LC_ALL": "C"}
        mount = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        fail = ["env", f"LD_PRELOAD={library}", f"FAIL_KIND={kind}", f"FAIL_NTH={nth}", f"FAIL_LOG={self.folder}/count"]
        self.output = open(self.folder / "output", "wb")
        self.process = subprocess.Popen(
            [*world.net.laptop.inside, "unshare", "--mount", "sh", "-c", mount, str(world.net.laptop_conf), *fail, KTVPN, "up",
             "--name", "nth", "--agent", f"tcp://{RELAY[0]}:{RELAY[1]}", "--agent-key", world.agent.key, "--also", RANGE, "-n",
             "ems"], stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output, env=env)

    @property
    def text(self):
        return (self.folder / "output").read_text(errors="replace")

    def is_over(self):
        return self.process.poll() is not None

    def go(self):
        """To the end, by way of some traffic if it gets that far."""
        wait_for(f"{self.name}: ready, or an end: {self.text}", lambda: self.is_over() or "ready after" in self.text, 20)
        if not self.is_over():
            self.traffic()
            self.process.send_signal(signal.SIGTERM)
        wait_for(f"{self.name}: the end: {self.text}", self.is_over, 12)
        code = self.process.returncode
        assert code in EXIT_CODES, f"{self.name}: exit code {code}\n{self.text}"
        errors = [line for line in self.text.splitlines() if line.startswith("ktvpn: ")]
        assert len(errors) == (code != 0), f"{self.name}: exit code {code}\n{self.text}"
        return code

    def traffic(self):
        """One failure may cost a connection, or the tunnel; not the next connection, if there is a tunnel."""
        end = time.monotonic() + 15
        while not self.is_over():
            try:
                with self.world.net.laptop.connect((SERVER, services.GREETS), 3) as sock:
                    if services.read_line(sock) == "hello":
                        return
            except OSError:
                pass
            assert time.monotonic() < end, f"{self.name}: no way through\n{self.text}"

    def count(self):
        return int((self.folder / "count").read_text())

    def close(self):
        if not self.is_over():
            self.process.kill()
            self.process.wait()
        self.output.close()
        subprocess.run(["rm", "-rf", self.folder], check=False)


@pytest.mark.parametrize("kind", ["memory", "read", "write", "open", "set"])
def test_the_nth_call_fails(world, library, kind):
    world.start_agent()
    world.start_relay()
    before = world.net.laptop.picture()

    def run(nth):
        one = Run(world, library, kind, nth)
        try:
            code = one.go()
            wait_for(f"{one.name}: nothing is left", lambda: world.net.laptop.picture() == before, 5)
            return one.count() if nth == 0 else code
        finally:
            one.close()

    count = run(0)
    assert count > 5, f"{count} calls: they are not seen"
    step = int(os.environ.get("KTVPN_FAIL_EVERY", 0)) or max(1, count // SAMPLES)
    codes = [run(nth) for nth in range(1, count + 1, step)]
    print(kind, count, codes)
    assert any(codes), "no failure was ever felt"
