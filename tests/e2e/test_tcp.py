"""C10, C13, C14: TCP through the tunnel ends, stalls and carries bytes as a direct connection does."""

import select
import socket
import struct
import time

import traffic
from cluster import wait_for

SIZE = 100 * traffic.MIB


def test_c10_download(joined, cluster):
    download = traffic.Download(cluster.pod_ip(), SIZE, "down").read()
    assert download.is_right()
    download.close()


def test_c10_upload(joined, cluster):
    assert traffic.upload(cluster.pod_ip(), SIZE, "up") == [str(SIZE), traffic.stream_sum("up", SIZE)]


def test_c10_client_half_closes(joined, cluster):
    with traffic.script(cluster.service_ip(), "late 100") as s:
        for block in traffic.stream_blocks("half", traffic.MIB):
            s.sendall(block)
        s.shutdown(socket.SHUT_WR)
        assert traffic.read_all(s).decode().split() == [str(traffic.MIB), traffic.stream_sum("half", traffic.MIB)]


def test_c10_server_half_closes(joined, cluster):
    host = cluster.pod_ip()
    with traffic.script(host, "close half") as s:
        assert traffic.until_closed(s) == "eof"
        for block in traffic.stream_blocks("x", traffic.MIB):
            s.sendall(block)
    wait_ending(host, "half", f"eof {traffic.MIB}")


def test_c10_server_resets(joined, cluster):
    with traffic.script(cluster.pod_ip(), "reset") as s:
        assert traffic.until_closed(s) == "reset"


def test_c10_client_resets(joined, cluster):
    host = cluster.pod_ip()
    with traffic.script(host, "note reset") as s:
        s.sendall(b"x" * 1000)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_ending(host, "reset", "reset 1000", "reset 0")  # the reset may overtake what the server has not read


def wait_ending(host, key, *expected):
    wait_for(lambda: traffic.ending(host, key) in expected, 3, f"{expected} of {key}")


def test_c10_thousand_connections(joined, cluster):
    host = cluster.service_ip()
    with traffic.closing_all() as opened:
        for _ in range(1000):
            opened.append(traffic.connect(host, 7000))
        for i, s in enumerate(opened):
            s.sendall(f"connection {i}".encode())
        for i, s in enumerate(opened):
            assert s.recv(100).decode() == f"connection {i}"


def test_c13_eof_at_once(joined, cluster):
    host = cluster.pod_ip()

    def echo():
        with traffic.connect(host, 7000) as s:
            s.sendall(b"x\n")
            s.recv(1)

    def closed():
        with traffic.script(host, "close c13") as s:
            assert s.recv(1) == b""

    assert traffic.median_ms(closed) < traffic.median_ms(echo) + 10


def test_c13_late_answer(joined, cluster):
    with traffic.script(cluster.pod_ip(), "late 5000") as s:
        s.sendall(b"abc")
        s.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        answer = traffic.read_all(s).decode().split()
        assert 4.9 < time.monotonic() - began < 5.5
    assert answer[0] == "3"


def test_c14_abandoned(joined, cluster):
    host = cluster.pod_ip()

    def one_get():
        assert traffic.get(host, 8080)[0] == 200

    before = traffic.median_ms(one_get)
    with traffic.closing_all() as unread:
        unread.append(traffic.script(host, f"source {1 << 30} unread"))
        for i in range(100):
            abandoned = traffic.Download(host, 10 * traffic.MIB, "c14").read(until=traffic.MIB)
            abandoned.close()
        refuse_thousand(host)
        assert traffic.median_ms(one_get) < 2 * before + 5


def refuse_thousand(host):
    refused = 0
    with traffic.closing_all() as tried:
        for _ in range(1000):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex((host, 7777))
            tried.append(s)
        waiting, end = set(tried), time.monotonic() + 10
        while waiting:
            ready = select.select([], waiting, [], max(0, end - time.monotonic()))[1]
            assert ready, f"{len(waiting)} connections were neither refused nor opened"
            for s in ready:
                refused += s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 111
                waiting.discard(s)
    assert refused == 1000
