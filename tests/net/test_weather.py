"""Bad networks: the relay delays, cuts, resets, swallows. Flows go on, and their bytes are right."""
import hashlib
import signal
import socket
import threading
import time

import services
from conftest import RELAY, SERVER
from programs import wait_for
from test_joined import MEGABYTE, assert_quick, connect, download, upload


class Transfer(threading.Thread):
    """A download in the background whose rate the server does not limit."""

    def __init__(self, world, size, seed=5):
        super().__init__(daemon=True)
        self.size, self.seed, self.got = size, seed, 0
        self.error = None
        self.digest = hashlib.sha256()
        self.sock = connect(world, services.SOURCE, timeout=90)
        self.sock.sendall(f"{size} {seed}\n".encode())
        self.start()

    def run(self):
        try:
            while data := self.sock.recv(1 << 18):
                self.digest.update(data)
                self.got += len(data)
        except OSError as error:
            self.error = error
        self.sock.close()

    def finish(self, timeout):
        self.join(timeout)
        assert not self.is_alive(), f"{self.got} of {self.size} bytes after {timeout} s"
        assert self.error is None and self.got == self.size
        assert self.digest.hexdigest() == services.digest_of(self.size, self.seed)


def weather(world, transfer, act, every, times):
    """act() every so often, while the transfer runs."""
    done = 0
    while transfer.is_alive() and done < times:
        time.sleep(every)
        act()
        done += 1
    return done



def test_twenty_ms_each_way(joined):
    joined.relay.delay(0.02)
    assert_quick(joined)
    download(joined, 20 * MEGABYTE)
    upload(joined, 20 * MEGABYTE)


def test_carrier_cut_every_second_of_a_download(joined):
    joined.relay.delay(0.01)  # so that it lasts
    transfer = Transfer(joined, 400 * MEGABYTE)
    cuts = weather(joined, transfer, joined.relay.cut, 1.0, 8)
    transfer.finish(90)
    assert cuts >= 3, f"the transfer was over after {cuts} cuts"


def test_carrier_reset_every_second_of_an_upload(joined):
    joined.relay.delay(0.01)
    failed = []

    def run():
        try:
            upload(joined, 300 * MEGABYTE, timeout=90)
        except (OSError, AssertionError, EOFError) as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    resets = 0
    while thread.is_alive() and resets < 8:
        time.sleep(1)
        joined.relay.reset()
        resets += 1
    thread.join(90)
    assert not thread.is_alive() and not failed, failed
    assert resets >= 3


def test_idle_flow_survives_a_cut(joined):
    with connect(joined, services.ECHO) as sock:
        sock.sendall(b"before")
        assert services.read_exactly(sock, 6) == b"before"
        joined.relay.cut()
        started = time.monotonic()
        sock.sendall(b"after")
        assert services.read_exactly(sock, 5) == b"after"
        assert time.monotonic() - started < 2


def test_black_hole_of_twenty_seconds(joined):
    """Row C15 without a cluster: the download ends right, and goes on within 2 s after the hole ends."""
    joined.relay.delay(0.01)
    transfer = Transfer(joined, 300 * MEGABYTE)
    wait_for("bytes flow", lambda: transfer.got > MEGABYTE)
    joined.relay.stall()
    time.sleep(20)
    joined.relay.go()
    ended = time.monotonic()
    assert_quick_within(joined, 2)
    before = transfer.got
    wait_for("the download goes on", lambda: transfer.got > before + MEGABYTE, 4)
    assert time.monotonic() - ended < 4
    transfer.finish(60)


def assert_quick_within(world, seconds):
    end = time.monotonic() + seconds
    with connect(world, services.GREETS, timeout=seconds) as sock:
        assert services.read_line(sock) == "hello"
    assert time.monotonic() < end


def test_packets_to_the_agent_dropped_for_twenty_seconds(joined):
    """The same below TCP: not even the carrier's own retransmissions pass."""
    pod = joined.net.pod
    joined.relay.delay(0.01)
    transfer = Transfer(joined, 300 * MEGABYTE)
    wait_for("bytes flow", lambda: transfer.got > MEGABYTE)
    pod.run("nft", "add table inet weather; add chain inet weather in { type filter hook input priority 0; };"
            f"add rule inet weather in tcp dport {RELAY[1]} drop")
    try:
        time.sleep(20)
    finally:
        pod.run("nft", "delete table inet weather")
    assert_quick_within(joined, 2)
    transfer.finish(60)


def test_agent_unreachable_for_five_seconds(joined):
    """Row C15's second half: connections are refused, those that exist are reset."""
    transfer = Transfer(joined, 200 * MEGABYTE)
    wait_for("bytes flow", lambda: transfer.got > MEGABYTE)
    joined.relay.refuse()
    joined.relay.reset()
    time.sleep(5)
    joined.relay.accept()
    assert_quick_within(joined, 2)
    transfer.finish(60)


def test_ping_and_udp_after_a_cut(joined):
    with joined.net.laptop.udp() as sock:
        sock.connect((SERVER, services.ECHO))
        sock.send(b"one")
        assert sock.recv(10) == b"one"
        joined.relay.cut()
        sock.settimeout(0.5)
        for _ in range(20):  # datagrams may be lost, the flow is not
            sock.send(b"two")
            try:
                assert sock.recv(10) == b"two"
                break
            except socket.timeout:
                continue
        else:
            raise AssertionError("no datagram came back")
    joined.net.laptop.run("ping", "-c", "2", "-i", "0.3", "-W", "2", SERVER)


def test_stopped_agent_comes_back(joined):
    """An agent that is frozen (a node under pressure) is not a dead one."""
    with connect(joined, services.ECHO, timeout=30) as sock:
        joined.agent.kill(signal.SIGSTOP)
        try:
            sock.sendall(b"x" * 100000)
            time.sleep(6)
        finally:
            joined.agent.kill(signal.SIGCONT)
        assert services.read_exactly(sock, 100000) == b"x" * 100000


def carriers(world):
    """The slots whose carriers answer."""
    status = world.client.status()
    return sorted(carrier["slot"] for carrier in status["carriers"] if carrier["answers"]) if status else []


def test_two_carriers_one_is_cut_again_and_again_during_eight_downloads(joined):
    """No byte is wrong, no flow stands still, and the client never says that the connection was lost."""
    joined.relay.delay(0.01)
    wait_for("two carriers", lambda: carriers(joined) == [0, 1])
    transfers = [Transfer(joined, 60 * MEGABYTE, seed) for seed in range(8)]
    gap, cuts = 0.0, 0
    next_cut, seen = time.monotonic() + 0.7, [(0, time.monotonic())] * len(transfers)
    while any(transfer.is_alive() for transfer in transfers):
        now = time.monotonic()
        for i, transfer in enumerate(transfers):
            if transfer.got != seen[i][0] or not transfer.is_alive():
                seen[i] = (transfer.got, now)
            gap = max(gap, now - seen[i][1])
        if now >= next_cut and cuts < 6:
            joined.relay.cut_one()
            cuts += 1
            next_cut = now + 0.7
        time.sleep(0.01)
    for transfer in transfers:
        transfer.finish(10)
    assert cuts >= 2, f"the transfers were over after {cuts} cuts"
    assert gap < 3, f"a flow stood still for {gap:.1f} s"
    assert "connection lost" not in joined.client.log
    wait_for("two carriers again", lambda: carriers(joined) == [0, 1])


def test_a_request_does_not_wait_behind_bulk(joined):
    """Four downloads on a slow link whose hops would gladly hold megabytes, as a port-forward's do: what is under way
    stays small (a second of it would be 5 MB), in both directions."""
    joined.relay.delay(0.01)
    joined.relay.limit(5e6, 64 * 1024)
    wait_for("two carriers", lambda: carriers(joined) == [0, 1])
    bulk = [connect(joined, services.SOURCE, timeout=30) for _ in range(4)]
    for sock in bulk:
        sock.sendall(b"1000000000 5\n")
    stop = threading.Event()

    def drink(sock):
        try:
            while not stop.is_set() and sock.recv(1 << 18):
                pass
        except OSError:
            pass

    threads = [threading.Thread(target=drink, args=(sock,), daemon=True) for sock in bulk]
    for thread in threads:
        thread.start()
    time.sleep(2)
    waits = []
    for _ in range(4):  # new flows: not all on one carrier
        with connect(joined, services.ECHO) as sock:
            for _ in range(5):
                started = time.monotonic()
                sock.sendall(b"x" * 100)
                assert services.read_exactly(sock, 100) == b"x" * 100
                waits.append(time.monotonic() - started)
    stop.set()
    for sock in bulk:
        sock.close()
    for thread in threads:
        thread.join(5)
    assert sorted(waits)[len(waits) // 2] < 0.3, waits


def test_one_carrier_when_asked_for_one(world):
    world.start_agent()
    world.start_relay()
    world.start_client("--carriers", "1")
    assert_quick(world)
    assert carriers(world) == [0]
