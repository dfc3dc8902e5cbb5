"""One client, one agent, a carrier over plain TCP: what a developer does, and what the other side sees of it."""
import concurrent.futures
import hashlib
import json
import signal
import socket
import struct
import time

import pytest

import nameserver
import services
from conftest import OUTSIDE_DNS, POD, RANGE, RELAY, SERVER, SERVICE
from programs import wait_for

MEGABYTE = 1 << 20


def connect(world, port, address=SERVER, timeout=10):
    return world.net.laptop.connect((address, port), timeout)


def download(world, size, seed=1, timeout=60):
    with connect(world, services.SOURCE, timeout=timeout) as sock:
        sock.sendall(f"{size} {seed}\n".encode())
        digest, got = hashlib.sha256(), 0
        while data := sock.recv(1 << 18):
            digest.update(data)
            got += len(data)
    assert got == size
    assert digest.hexdigest() == services.digest_of(size, seed)


def upload(world, size, seed=2, timeout=60):
    with connect(world, services.SINK, timeout=timeout) as sock:
        for block in services.blocks_of(size, seed):
            sock.sendall(block)
        sock.shutdown(socket.SHUT_WR)
        answer = services.read_line(sock)
    assert answer == f"{size} {services.digest_of(size, seed)}"


def test_bytes_are_equal_both_ways(joined):
    download(joined, 100 * MEGABYTE)
    upload(joined, 100 * MEGABYTE)


def test_bytes_are_equal_both_ways_at_once(joined):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(job, joined, 10 * MEGABYTE, i) for i in range(4) for job in (download, upload)]
        for job in jobs:
            job.result()


def test_dead_port_refuses_at_once(joined):
    started = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        connect(joined, services.DEAD)
    assert time.monotonic() - started < 1


def test_unused_address_never_connects(joined):
    with pytest.raises((OSError, TimeoutError)) as error:
        connect(joined, services.ECHO, "10.99.0.200", timeout=6)
    assert not isinstance(error.value, ConnectionRefusedError)


def test_pods_own_loopback_is_closed_and_the_agent_too(joined):
    """The agent listens on 127.0.0.1 of its pod: not reachable by the pod's address either."""
    with pytest.raises(ConnectionRefusedError):
        connect(joined, 4789, POD)


def test_server_closes_first(joined):
    started = time.monotonic()
    with connect(joined, services.GREETS) as sock:
        assert services.read_line(sock) == "hello"
        assert sock.recv(1) == b""
    assert time.monotonic() - started < 1


def test_client_half_closes_and_the_answer_comes_later(joined):
    with connect(joined, services.LATE) as sock:
        sock.sendall(b"question")
        sock.shutdown(socket.SHUT_WR)
        assert services.read_line(sock) == "late but whole"
        assert sock.recv(1) == b""


def test_reset_by_the_server_is_a_reset_here(joined):
    with connect(joined, services.RESETS) as sock:
        sock.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            assert sock.recv(1) != b"", "an orderly end instead of a reset"


def test_reset_by_the_client_is_a_reset_there(joined):
    sock = connect(joined, services.ECHO)
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    assert joined.net.services.wait_end(services.ECHO) == "reset"


def test_thousand_connections_at_once(joined):
    socks = []
    try:
        for _ in range(1000):
            sock = joined.net.laptop.socket()
            sock.setblocking(False)
            sock.connect_ex((SERVER, services.ECHO))
            socks.append(sock)
        for i, sock in enumerate(socks):
            sock.settimeout(20)
            message = f"flow {i}".encode()
            sock.sendall(message)
        for i, sock in enumerate(socks):
            message = f"flow {i}".encode()
            assert services.read_exactly(sock, len(message)) == message
    finally:
        for sock in socks:
            sock.close()
    assert_quick(joined)


def assert_quick(world):
    started = time.monotonic()
    with connect(world, services.GREETS) as sock:
        assert services.read_line(sock) == "hello"
    assert time.monotonic() - started < 1


def test_abandoned_unread_and_refused_flows_hurt_nobody(joined):
    """Row C14."""
    unread = connect(joined, services.SOURCE)
    unread.sendall(b"1000000000 1\n")
    for _ in range(100):
        with connect(joined, services.SOURCE) as sock:
            sock.sendall(b"10000000 1\n")
            services.read_exactly(sock, 10000)
    for _ in range(1000):
        with pytest.raises(ConnectionRefusedError):
            connect(joined, services.DEAD)
    assert_quick(joined)
    unread.close()


def memory_of(pid):
    """The most that it ever had, in bytes."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def test_what_nobody_reads_does_not_pile_up(joined):
    """The agent's pod has 256 MiB: flows whose reader sleeps must not fill it, in either direction."""
    net = joined.net.services
    socks = []
    for _ in range(150):
        down, up = connect(joined, services.SOURCE), connect(joined, services.SILENT)
        socks += [down, up]
        down.sendall(b"1000000000 1\n")
        up.setblocking(False)
    for _ in range(10):
        for up in socks[1::2]:
            try:
                while up.send(b"x" * (1 << 18)):
                    pass
            except BlockingIOError:
                pass
        time.sleep(0.1)
    assert memory_of(joined.agent.pid) < 200 * MEGABYTE
    assert memory_of(joined.client.pid) < 100 * MEGABYTE
    assert_quick(joined)
    for sock in socks:
        sock.close()
    net.ends.clear()


@pytest.mark.parametrize("size", [0, 1, 512, 1400, 9000, 30000, 60000])
def test_datagrams_of_all_sizes(joined, size):
    with joined.net.laptop.udp() as sock:
        sock.connect((SERVER, services.ECHO))
        message = services.pattern(size)
        sock.send(message)
        assert sock.recv(65536) == message


def test_thousand_udp_flows(joined):
    socks = [joined.net.laptop.udp() for _ in range(1000)]
    for i, sock in enumerate(socks):
        sock.sendto(f"datagram {i}".encode(), (SERVER, services.ECHO))
        if i % 100 == 99:
            time.sleep(0.01)  # a paced sender: the servers' socket has no room for all at once
    for i, sock in enumerate(socks):
        data, peer = sock.recvfrom(100)
        assert data == f"datagram {i}".encode()
        assert peer == (SERVER, services.ECHO)
        sock.close()


def test_ping_is_answered_by_those_who_are_there(joined):
    joined.net.laptop.run("ping", "-c", "3", "-i", "0.2", "-W", "2", SERVER)
    joined.net.laptop.run("ping", "-c", "1", "-W", "2", "-s", "1400", POD)
    with pytest.raises(RuntimeError):
        joined.net.laptop.run("ping", "-c", "1", "-W", "2", "10.99.0.200")


def test_cluster_names_and_outside_names(joined):
    net = joined.net
    assert nameserver.ask(net.laptop, OUTSIDE_DNS, SERVICE) == (0, [SERVER])
    assert nameserver.ask(net.laptop, OUTSIDE_DNS, "www.example.test") == (0, ["192.0.2.80"])
    assert nameserver.ask(net.laptop, OUTSIDE_DNS, "nothing.ems.svc.cluster.local") == (3, [])
    assert "www.example.test" not in net.cluster_dns.asked
    assert SERVICE not in net.outside_dns.asked


def test_name_server_on_the_gateway_which_is_the_agents_host_too(world, tmp_path):
    """Row C7: its DNS is ours, its other ports and the carrier itself go where they went before."""
    net = world.net
    gateway = RELAY[0]
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver {gateway}\n")
    dns = world.keep(nameserver.NameServer(net.pod, gateway, {"www.example.test": "192.0.2.81"}))
    world.keep(services.Services(net.pod, gateway))
    world.start_agent()
    world.start_relay()
    world.start_client(resolv_conf=str(conf))
    assert "carrier 3" not in world.agent.log, "the carrier went into the tunnel"
    assert nameserver.ask(net.laptop, gateway, SERVICE) == (0, [SERVER])
    assert nameserver.ask(net.laptop, gateway, "www.example.test") == (0, ["192.0.2.81"])
    assert SERVICE not in dns.asked
    with connect(world, services.GREETS, gateway) as sock:
        assert services.read_line(sock) == "hello"
    with pytest.raises(ConnectionRefusedError):
        connect(world, services.DEAD, gateway)
    with connect(world, services.LATE, gateway) as sock:
        sock.shutdown(socket.SHUT_WR)
        assert services.read_line(sock) == "late but whole"
    with net.laptop.udp() as sock:
        sock.sendto(b"x", (gateway, services.ECHO))
        assert sock.recvfrom(10) == (b"x", (gateway, services.ECHO))
    world.relay.cut()  # the question waits for the next carrier
    assert nameserver.ask(net.laptop, gateway, SERVICE) == (0, [SERVER])
    # Two before the cut; after it two tries for the first slot at most, since both carriers were lost, and one for the second.
    assert "carrier 6" not in world.agent.log, "the carrier went into the tunnel"


def test_status_tells(joined):
    status = joined.client.status()
    text = json.dumps(status)
    assert RANGE in text or "10.99.0.0" in text, text
    assert "connected" in text or "up" in text, text


def test_down_and_signals_leave_nothing(world):
    """Row C11, with each way of leaving."""
    before = world.net.laptop.picture()
    world.start_agent()
    world.start_relay()
    for leave in ("down", signal.SIGINT, signal.SIGTERM, signal.SIGHUP, "down"):
        client = world.start_client()
        assert world.net.laptop.picture() != before
        if leave == "down":
            done = client.command("down", client.name)
            assert done.returncode == 0, done.stderr
        else:
            client.kill(leave)
        client.wait_end(5)
        assert world.net.laptop.picture() == before, leave
        wait_for("the agent hears of it", lambda: "the client left" in world.agent.log or
                 "destroyed" in world.agent.log)


def test_killed_client_leaves_nothing(world):
    """Row K1: within a second, and by the kernel alone."""
    before = world.net.laptop.picture()
    world.start_agent()
    world.start_relay()
    client = world.start_client()
    with connect(world, services.ECHO) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
        client.kill(signal.SIGKILL)
        wait_for("nothing is left", lambda: world.net.laptop.picture() == before, 1)
    client.wait_end(5)


def test_two_clients_share_one_agent(world):
    """Two sessions; the second client's range collides with the first's, so it is looked at from the agent's log."""
    world.start_agent()
    world.start_relay()
    first = world.start_client()
    done = first.command("up", "--name", "other", "--agent", f"tcp://{RELAY[0]}:{RELAY[1]}", "--agent-key",
                         world.agent.key, "--also", RANGE)
    assert done.returncode != 0
    assert "10.99.0.0" in done.stderr, done.stderr
    assert_quick(world)
