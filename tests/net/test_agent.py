"""The agent's program by itself: what it prints, when it ends, whom it serves."""
import base64
import re
import shutil
import signal
import subprocess
import time

import pytest

from conftest import RELAY
from programs import agent_path, wait_for

KEY = base64.b64encode(bytes(range(32))).decode()


def run(*args, timeout=10):
    return subprocess.run([agent_path(), *args], capture_output=True, text=True, timeout=timeout)


def check(net):
    return subprocess.run([*net.pod.inside, agent_path(), "--check"], capture_output=True, text=True, timeout=10)


def test_key_is_the_first_line(world):
    agent = world.start_agent()
    assert re.fullmatch(r"ktvpn-agent \d+\.\d+\.\d+ key [0-9A-Za-z+/]{43}=", agent.lines[0])
    assert len(base64.b64decode(agent.key)) == 32


def test_each_start_has_its_own_key(world):
    first = world.start_agent()
    first.close()
    assert world.start_agent().key != first.key


def test_version_help_and_usage():
    assert run("--version").stdout.startswith("ktvpn-agent ")
    assert "--allow-key" in run("--help").stdout
    done = run("--frob")
    assert done.returncode == 2
    assert "--frob" in done.stderr


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:4789"])
def test_open_door_without_keys_is_refused(address):
    done = run("--listen", address)
    assert done.returncode == 2
    assert "--allow-key" in done.stderr
    assert done.stdout == ""


def test_health_probe(world):
    assert check(world.net).returncode == 1
    agent = world.start_agent("--idle-first", "20s")
    assert check(world.net).returncode == 0
    agent.kill(signal.SIGSTOP)
    try:
        assert check(world.net).returncode == 1
    finally:
        agent.kill(signal.SIGCONT)
    assert check(world.net).returncode == 0


def test_leaves_when_no_client_comes_although_it_is_probed(world):
    agent = world.start_agent("--idle-first", "2s")
    started = time.monotonic()
    while agent.is_running() and time.monotonic() - started < 10:
        check(world.net)
    assert agent.wait_end() == 0
    assert time.monotonic() - started > 1.5
    assert "no client came" in agent.log


def test_leaves_when_the_last_client_is_gone(world):
    agent = world.start_agent("--idle-first", "60s", "--idle", "2s")
    world.start_relay()
    client = world.start_client()
    time.sleep(3)  # longer than --idle: a connected client counts
    assert agent.is_running()
    client.close()
    assert agent.wait_end(8) == 0


def test_sigterm_says_goodbye(joined):
    """The client is told, does not wait for a time-out, and tries again for as long as the agent may come back."""
    joined.agent.kill(signal.SIGTERM)
    assert joined.agent.wait_end(3) == 0
    wait_for("the client knows", lambda: "told to stop" in joined.client.log or "stop" in joined.client.log, 3)


def test_wrong_key_is_told(world):
    world.start_agent()
    world.start_relay()
    client = world.start_client(key=KEY, wait=False)
    assert client.wait_end(5) == 8
    assert "is not the agent of this --agent-key" in client.log
    wait_for("the agent says so", lambda: "another key" in world.agent.log)


def test_agent_that_is_not_there_is_told(world):
    world.start_agent()
    client = world.start_client(wait=False)  # no relay: nobody listens
    assert client.wait_end(5) == 8
    assert f"no agent answers at {RELAY[0]}:{RELAY[1]}" in client.log


def test_only_listed_keys_may_come(world):
    agent = world.start_agent("--allow-key", KEY)
    world.start_relay()
    client = world.start_client(wait=False)
    wait_for("the agent refuses", lambda: "not on the agent's list" in agent.log)
    assert client.wait_end(10) != 0
    wait_for("the client says why", lambda: "key" in client.log)


def test_lives_in_an_empty_root(tmp_path):
    """As in a pod of any image: the root holds nothing but the binary and cannot be written, the user is nobody."""
    if "static-agent" not in agent_path():
        pytest.skip("only the static agent does")
    tmp_path.chmod(0o755)
    shutil.copy(agent_path(), tmp_path / "ktvpn-agent")
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script, str(tmp_path), "chroot", "--userspec=65532:65532",
                           str(tmp_path), "/ktvpn-agent", "--listen", "127.0.0.1:0", "--idle-first", "300ms"],
                          capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ktvpn-agent ")
    assert "no client came" in done.stderr


def test_garbage_on_its_port_changes_nothing(joined):
    agent = joined.agent
    for junk in (b"", b"\0" * 1000, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 300):
        with joined.net.laptop.connect(RELAY) as sock:
            sock.sendall(junk)
    for _ in range(200):
        joined.net.laptop.connect(RELAY).close()
    assert agent.is_running()
    assert joined.client.status()
