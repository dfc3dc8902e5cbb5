"""An agent that is reachable directly lets in only the keys that it was told; two clients with one key."""
import pytest

from conftest import RANGE
from programs import KTVPN, Agent, Client, wait_for

DIRECT = "10.201.0.2:4795"


def public_key(net, path):
    done = net.laptop.run(KTVPN, "key", "--key", str(path))
    assert path.stat().st_mode & 0o7777 == 0o600
    return done.strip()


@pytest.fixture
def direct(net, tmp_path):
    """(agent, key file): it listens on the network, too."""
    key = public_key(net, tmp_path / "key")
    agent = Agent(net.pod, "--listen", DIRECT, "--allow-key", key, resolv_conf=str(net.pod_conf))
    yield agent, tmp_path / "key"
    agent.close()


def join(net, agent, *options, name="keys"):
    return Client(net.laptop, "--agent", f"tcp://{DIRECT}", "--agent-key", agent.key, *options, resolv_conf=str(net.laptop_conf), name=name)


def test_only_the_key_it_was_told(net, direct, tmp_path):
    agent, key = direct
    stranger = join(net, agent, "--also", RANGE)
    try:
        assert stranger.wait_end() == 8
        assert "list of allowed keys" in stranger.log
    finally:
        stranger.close()
    client = join(net, agent, "--also", RANGE, "--key", str(key))
    try:
        client.wait_line("ready after")
    finally:
        client.close()


def test_two_clients_with_one_key(net, direct):
    """The newest has it; the older says why and stops."""
    agent, key = direct
    older = join(net, agent, "--also", RANGE, "--key", str(key), name="older")
    newer = None
    try:
        older.wait_line("ready after")
        newer = join(net, agent, "--also", "10.98.0.0/16", "--key", str(key), name="newer")
        newer.wait_line("ready after")
        assert older.wait_end() == 8
        assert "another ktvpn with the same key" in older.log
        wait_for("the newer is connected", lambda: newer.status()["state"] == "connected")
    finally:
        older.close()
        if newer:
            newer.close()
