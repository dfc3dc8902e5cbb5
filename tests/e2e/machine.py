"""The laptop: its state, compared before and after, and a running `ktvpn up` on it."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import tempfile
import termios
import time
from pathlib import Path

from cluster import REPO, wait_for

KTVPN = Path(os.environ.get("KTVPN", REPO / "build/release/client/ktvpn"))
RUNTIME = Path(tempfile.mkdtemp(prefix="ktvpn-e2e-"))  # XDG_RUNTIME_DIR of every ktvpn here


def environment(kubeconfig):
    env = {k: v for k, v in os.environ.items() if not k.startswith("KTVPN") and k != "SUDO_UID"}
    env |= {"XDG_RUNTIME_DIR": str(RUNTIME), "HOME": str(RUNTIME)}
    env.pop("KUBECONFIG", None)
    return env | ({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {})


def run(*args, kubeconfig=None, timeout=30, prefix=()):
    """A ktvpn that ends by itself: (exit code, stdout, stderr)."""
    done = subprocess.run([*prefix, KTVPN, *args], env=environment(kubeconfig), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


def text_of(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def addresses():
    """Without lifetimes and the flags of an address that the kernel still looks at."""
    devices = json.loads(text_of("ip", "-j", "addr"))
    return [(d["ifname"], sorted(d["flags"]), d.get("mtu"), d.get("operstate"),
             sorted((a["local"], a["prefixlen"]) for a in d["addr_info"])) for d in devices if d]


def sockets():
    """Listeners, and connections of anybody but this test's own."""
    lines = text_of("ss", "-Htunlp").splitlines()
    return sorted(" ".join(line.split()[:6]) for line in lines if f"pid={os.getpid()}," not in line)


def processes():
    found = []
    for path in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):
            if os.path.realpath(path) == str(KTVPN):
                found.append(path.parent.name)
    return found


def kernel_settings():
    return {str(path): path.read_text() for family in ("ipv4", "ipv6") for device in ("all", "default", "eth0")
            for path in sorted(Path(f"/proc/sys/net/{family}/conf/{device}").glob("*")) if os.access(path, os.R_OK) and path.name != "stable_secret"}


def snapshot():
    return {
        "addresses": addresses(),
        "routes": text_of("ip", "-j", "route", "show", "table", "all") + text_of("ip", "-6", "-j", "route", "show", "table", "all"),
        "rules": text_of("ip", "-j", "rule") + text_of("ip", "-6", "-j", "rule"),
        "nftables": text_of("nft", "list", "ruleset"),
        "resolv.conf": Path("/etc/resolv.conf").read_bytes(),
        "sockets": sockets(),
        "processes": processes(),
        "runtime folder": sorted(str(p) for p in RUNTIME.rglob("*") if not p.is_dir() and p.suffix != ".log"),
        "kernel settings": kernel_settings(),
    }


def differences(before, after):
    return [f"{key}: was {before.get(key)!r}, is {after.get(key)!r}" for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]


class Up:
    """`ktvpn up` in the foreground of its own session. `began` and `ready` are the monotonic times around it."""

    def __init__(self, *args, kubeconfig, name="e2e", terminal=None):
        self.name, self.log = name, tempfile.TemporaryFile("w+")
        self.began = time.monotonic()
        self.process = subprocess.Popen([KTVPN, "up", "--name", name, *args], env=environment(kubeconfig), start_new_session=True,
                                        **self.files(terminal))

    def files(self, terminal):
        """A terminal becomes the session's controlling one: whoever hangs up sends SIGHUP."""
        if terminal is None:
            return {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}
        return {"stdin": terminal, "stdout": terminal, "stderr": terminal, "preexec_fn": lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)}

    def output(self):
        self.log.seek(0)
        return self.log.read()

    def status(self):
        rc, out, _ = run("status", self.name, "-o", "json", timeout=5)
        return json.loads(out) if rc == 0 else {}

    def is_connected(self):
        assert self.process.poll() is None, f"ktvpn up ended with {self.process.returncode}:\n{self.output()}"
        return self.status().get("state") == "connected"

    def wait_connected(self, seconds=30):
        try:
            wait_for(self.is_connected, seconds, "connected", every=0.02)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()}") from None
        self.ready = time.monotonic()
        return self

    def send(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=15):
        return self.process.wait(seconds)

    def leave(self):
        """Ctrl-C; the exit code."""
        if self.process.poll() is None:
            self.send(signal.SIGINT)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"ktvpn up did not leave:\n{self.output()}") from None


@contextlib.contextmanager
def up(*args, **kw):
    instance = Up(*args, **kw)
    try:
        yield instance.wait_connected()
    except BaseException:
        print(instance.output())
        if instance.process.poll() is None:
            instance.leave()
        raise
    code = instance.leave()
    assert code == 0, f"exit code {code}:\n{instance.output()}"
