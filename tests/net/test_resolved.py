"""systemd-resolved as the machine's resolver: the real one, with a bus of its own, in a mount namespace of the laptop.

Needs the programs of the package systemd-resolved and dbus-daemon; KTVPN_RESOLVED_ROOT names a folder that the package was unpacked into.
"""
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

import nameserver
from conftest import OUTSIDE_DNS, RANGE, RELAY, SERVER, SERVICE
from programs import Client, Program, wait_for

ROOT = pathlib.Path(os.environ.get("KTVPN_RESOLVED_ROOT", "/"))
PROGRAM = ROOT / "lib/systemd/systemd-resolved"
CONTROL = ROOT / "usr/bin/resolvectl"
STUB = "127.0.0.53"
FOLDER = "/run/systemd/resolve"

BUS = """<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/>
<allow receive_sender="*"/></policy></busconfig>
"""
SETUP = """
cd "$0"
mount -t tmpfs tmpfs /run && mkdir -p /run/dbus /run/systemd/resolve
mount --bind passwd /etc/passwd && mount --bind group /etc/group && chown systemd-resolve: /run/systemd/resolve
mkdir up work && cp resolvectl up/ && mount -t overlay overlay -o "lowerdir=/usr/bin,upperdir=$PWD/up,workdir=$PWD/work" /usr/bin
echo ready
exec dbus-daemon --config-file=bus.conf --nofork --nopidfile
"""


class Laptop:
    """The laptop's namespace with a mount namespace in which systemd-resolved serves. Looks like a Space to Client."""

    def __init__(self, net, folder):
        self.net, self.folder, self.resolved = net, folder, None
        libraries = [str(ROOT / path) for path in ("usr/lib/x86_64-linux-gnu/systemd", "usr/lib/x86_64-linux-gnu")]
        self.env = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)} if ROOT != pathlib.Path("/") else dict(os.environ)
        user = "systemd-resolve:x:990:990::/:/usr/sbin/nologin\n"
        for name, line in (("passwd", user), ("group", "systemd-resolve:x:990:\n")):
            text = pathlib.Path("/etc", name).read_text()
            (folder / name).write_text(text if "systemd-resolve:" in text else text + line)
        wrapper = folder / "resolvectl"
        wrapper.write_text(f"#!/bin/sh\nLD_LIBRARY_PATH={self.env.get('LD_LIBRARY_PATH', '')} exec {CONTROL} \"$@\"\n")
        wrapper.chmod(0o755)
        (folder / "bus.conf").write_text(BUS)
        self.bus = Program([*net.laptop.inside, "unshare", "--mount", "sh", "-c", SETUP, str(folder)])
        self.bus.wait_line("ready")
        self.inside = ("nsenter", f"--target={self.bus.pid}", "--mount", f"--net={net.laptop.path}")
        self.start()

    def start(self):
        self.resolved = Program([*self.inside, str(PROGRAM)], env=self.env)
        wait_for("systemd-resolved", lambda: self.control("status").returncode == 0)
        for words in (("dns", "eth0", OUTSIDE_DNS), ("domain", "eth0", "corp.test"), ("default-route", "eth0", "yes")):
            assert self.control(*words).returncode == 0

    def control(self, *words):
        return subprocess.run([*self.inside, "resolvectl", *words], capture_output=True, text=True, timeout=30)

    def ask(self, name):
        return nameserver.ask(self.net.laptop, STUB, name)

    def close(self):
        for program in (self.resolved, self.bus):
            program.close()


@pytest.fixture
def laptop(world, tmp_path):
    if not PROGRAM.exists() or not CONTROL.exists() or not shutil.which("dbus-daemon"):
        pytest.skip("needs systemd-resolved and dbus-daemon")
    return world.keep(Laptop(world.net, tmp_path))


def start_client(world, laptop, tmp_path):
    conf = tmp_path / "stub.conf"
    conf.write_text(f"nameserver {STUB}\n")
    conf.chmod(0o644)
    world.start_agent()
    world.start_relay()
    world.client = world.keep(Client(laptop, "--agent", f"tcp://{RELAY[0]}:{RELAY[1]}", "--agent-key", world.agent.key,
                                     "--also", RANGE, "-n", "ems", "-v", resolv_conf=str(conf)))
    world.client.wait_line("ready after", 15)
    return world.client


def forget(net):
    net.cluster_dns.asked.clear()
    net.outside_dns.asked.clear()


def test_cluster_names_by_systemd_resolved(world, laptop, tmp_path):
    net = world.net
    client = start_client(world, laptop, tmp_path)
    assert "warning" not in client.log, client.log
    forget(net)
    assert laptop.ask(SERVICE) == (0, [SERVER])
    assert laptop.ask("dashboard-api.ems.svc") == (0, [SERVER])
    assert laptop.ask("dashboard-api.ems") == (0, [SERVER])
    assert laptop.ask("nothing.ems.svc.cluster.local") == (3, [])
    assert "kubernetes.default.svc.cluster.local" in laptop.control("query", "kubernetes.default.svc.cluster.local").stdout
    assert SERVER in laptop.control("query", "dashboard-api").stdout  # by the search domain
    assert not [name for name in net.outside_dns.asked if "cluster.local" in name or name.endswith((".svc", ".ems"))]
    forget(net)
    assert laptop.ask("www.example.test") == (0, ["192.0.2.80"])
    assert net.outside_dns.asked and not net.cluster_dns.asked


def test_the_process_for_systemd_resolved_can_nothing_else(world, laptop, tmp_path):
    client = start_client(world, laptop, tmp_path)
    children = pathlib.Path(f"/proc/{client.pid}/task/{client.pid}/children").read_text().split()
    status = next(text for text in (pathlib.Path(f"/proc/{pid}/status").read_text() for pid in children)
                  if "ktvpn-resolved" in text)
    for line in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
        assert line in status, status
    pid = next(pid for pid in children if "ktvpn-resolved" in pathlib.Path(f"/proc/{pid}/comm").read_text())
    assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2", "3"]
    client.kill(signal.SIGTERM)
    client.wait_end(5)
    wait_for("it has gone too", lambda: not os.path.exists(f"/proc/{pid}"), 5)


def test_systemd_resolved_starts_anew(world, laptop, tmp_path):
    start_client(world, laptop, tmp_path)
    laptop.resolved.close()
    laptop.start()
    wait_for("cluster names resolve again", lambda: laptop.ask(SERVICE) == (0, [SERVER]), 10)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_it(world, laptop, tmp_path, how):
    client = start_client(world, laptop, tmp_path)
    assert laptop.ask(SERVICE) == (0, [SERVER])
    client.kill(how)
    client.wait_end(5)
    wait_for("the device has gone", lambda: "ktvpn0" not in laptop.control("status").stdout, 5)
    laptop.control("flush-caches")
    forget(world.net)
    assert laptop.ask("www.example.test") == (0, ["192.0.2.80"])
    with world.net.laptop.udp() as sock:
        sock.sendto(nameserver.question("other.ems.svc"), (STUB, 53))
        wait_for("it is asked outside", lambda: "other.ems.svc" in world.net.outside_dns.asked)
    assert not world.net.cluster_dns.asked
