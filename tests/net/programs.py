"""The two programs under test, each in its namespace, with their logs kept.

KTVPN_BUILD names the build (default: build/release of this tree); KTVPN and KTVPN_AGENT name single programs.
"""
import json
import os
import pathlib
import queue
import signal
import subprocess
import tempfile
import threading
import time

TREE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("KTVPN_BUILD", TREE / "build/release"))
KTVPN = os.environ.get("KTVPN", str(BUILD / "client/ktvpn"))


def agent_path():
    static, ordinary = BUILD / "static-agent/agent/ktvpn-agent", BUILD / "agent/ktvpn-agent"
    return os.environ.get("KTVPN_AGENT") or str(static if static.exists() else ordinary)


def wait_for(what, condition, timeout=10):
    """Waits until condition() is true; fails with `what` otherwise."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.01)


class Program:
    """A process whose output is read line by line, as it comes."""

    def __init__(self, argv, env=None):
        self.lines = []
        self.fresh = queue.Queue()
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, env=env, start_new_session=True)
        for stream in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self.read, args=(stream,), daemon=True).start()

    def read(self, stream):
        for line in stream:
            self.lines.append(line.rstrip("\n"))
            self.fresh.put(line.rstrip("\n"))
        stream.close()

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return "\n".join(self.lines)

    def is_running(self):
        return self.process.poll() is None

    def wait_line(self, text, timeout=10):
        """The first line, from the start of the program, that holds `text`."""
        def found():
            return next((line for line in list(self.lines) if text in line), None)
        end = time.monotonic() + timeout
        while not (line := found()):
            assert time.monotonic() < end, f"no '{text}' within {timeout} s in:\n{self.log}"
            if not self.is_running():
                time.sleep(0.1)
                assert found(), f"ended with {self.process.returncode} before '{text}':\n{self.log}"
            time.sleep(0.005)
        return line

    def kill(self, number):
        if self.is_running():
            self.process.send_signal(number)

    def wait_end(self, timeout=10):
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {timeout} s:\n{self.log}") from None

    def close(self):
        self.kill(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill(signal.SIGKILL)
            self.process.wait(5)


class Agent(Program):
    """The agent, as in a pod: not root, no capability, nothing but its binary."""
    UID = "65532"

    def __init__(self, space, *options, resolv_conf=None, path=None, env=None):
        argv = [*space.inside, "setpriv", f"--reuid={self.UID}", f"--regid={self.UID}", "--clear-groups",
                "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", path or agent_path(), "--listen", "127.0.0.1:4789"]
        super().__init__(argv + (["--resolv-conf", resolv_conf] if resolv_conf else []) + list(options), env=env or {})
        words = self.wait_line("ktvpn-agent ").split()
        assert words[2] == "key", self.log
        self.key = words[3]


class Client(Program):
    """`ktvpn up` in a namespace, with a resolv.conf of its own that only it and its children see."""

    def __init__(self, space, *options, resolv_conf, name="net", env=None):
        self.space, self.name = space, name
        self.folder = tempfile.mkdtemp(prefix="ktvpn-test-")
        self.env = {**os.environ, "XDG_RUNTIME_DIR": self.folder, "LC_ALL": "C", **(env or {})}
        mount = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        super().__init__([*space.inside, "unshare", "--mount", "sh", "-c", mount, resolv_conf,
                          KTVPN, "up", "--name", name, *options], env=self.env)

    def command(self, *args):
        return subprocess.run([*self.space.inside, KTVPN, *args], env=self.env, capture_output=True, text=True, timeout=20)

    def status(self):
        done = self.command("status", self.name, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def close(self):
        super().close()
        subprocess.run(["rm", "-rf", self.folder], check=False)
