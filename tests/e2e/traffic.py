"""Traffic from the laptop, with nothing between the test and the sockets."""

import contextlib
import hashlib
import http.client
import json
import os
import select
import socket
import struct
import time

MIB = 1 << 20


def connect(host, port, timeout=10.0):
    return socket.create_connection((host, port), timeout=timeout)


def get(host, port=80, path="/", timeout=10.0, name=None):
    """(status, body) of a GET on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Host": name or host})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def pod_of(host, port=80, timeout=10.0):
    status, body = get(host, port, timeout=timeout)
    assert status == 200
    return json.loads(body)["pod"]


def works(host, port=80, timeout=1.0):
    try:
        return get(host, port, timeout=timeout)[0] == 200
    except OSError:
        return False


def ending(host, key):
    return get(host, 8080, f"/ending?key={key}")[1].decode()


def script(host, line, port=7002):
    """A connection that goes on as the line says (tests/cluster/src/testapp/serve.go)."""
    s = connect(host, port)
    s.sendall(line.encode() + b"\n")
    return s


def read_all(s):
    data = bytearray()
    while part := s.recv(256 << 10):
        data += part
    return bytes(data)


def stream_blocks(seed, size):
    """The test app's stream of that seed, in pieces of at most 1 MiB."""
    noise, block = hashlib.sha256(seed.encode()).digest(), bytearray(8)
    while len(block) < MIB:
        block += noise
        noise = hashlib.sha256(noise).digest()
    block = block[:MIB]
    for i in range((size + MIB - 1) // MIB):
        block[:8] = struct.pack(">Q", i)
        yield memoryview(block)[:min(MIB, size - i * MIB)]


def stream_sum(seed, size):
    digest = hashlib.sha256()
    for block in stream_blocks(seed, size):
        digest.update(block)
    return digest.hexdigest()


class Download:
    """GET /bulk of a seed's stream, summed while it comes."""

    def __init__(self, host, size, seed, timeout=60.0):
        self.size, self.seed, self.digest, self.received = size, seed, hashlib.sha256(), 0
        self.connection = http.client.HTTPConnection(host, 8080, timeout=timeout)
        self.connection.request("GET", f"/bulk?bytes={size}&seed={seed}")
        self.answer = self.connection.getresponse()

    def read(self, until=None):
        while self.received < (until or self.size):
            part = self.answer.read(min(256 << 10, self.size - self.received))
            if not part:
                break
            self.digest.update(part)
            self.received += len(part)
        return self

    def is_right(self):
        return self.received == self.size and self.digest.hexdigest() == stream_sum(self.seed, self.size)

    def close(self):
        self.answer.close()
        self.connection.close()


def upload(host, size, seed):
    """POST of a seed's stream; what the server counted and summed."""
    with connect(host, 8080, 60) as s:
        s.sendall(f"POST /bulk HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode())
        for block in stream_blocks(seed, size):
            s.sendall(block)
        return read_all(s).split(b"\r\n\r\n", 1)[1].decode().split()


def ping(address, seconds=2.0):
    """Is an ICMP echo answered?"""
    ident, payload = os.getpid() & 0xFFFF, os.urandom(32)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        head = struct.pack(">BBHHH", 8, 0, 0, ident, 1)
        s.sendto(struct.pack(">BBHHH", 8, 0, checksum(head + payload), ident, 1) + payload, (address, 0))
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([s], [], [], left)[0]:
                return False
            packet, source = s.recvfrom(2048)
            icmp = packet[(packet[0] & 15) * 4:]
            if icmp[0] == 0 and icmp[8:] == payload and source[0] == address:
                return True
    return False


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def until_closed(s):
    """Reads until the end: "eof", or the name of the error."""
    try:
        while s.recv(65536):
            pass
        return "eof"
    except ConnectionResetError:
        return "reset"


TYPES = {"A": 1, "CNAME": 5, "SRV": 33}


def query(name, kind, server, timeout=3.0):
    """A DNS question by UDP: (rcode, sorted answers as text)."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split(".")) + b"\0"
    ident = os.urandom(2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(timeout)
        s.connect((server, 53))
        s.send(ident + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + question + struct.pack(">HH", TYPES[kind], 1))
        answer = s.recv(65536)
    assert answer[:2] == ident
    flags, _, count = struct.unpack(">HHH", answer[2:8])
    at, found = 12 + len(question) + 4, []
    for _ in range(count):
        _, at = read_name(answer, at)
        rtype, _, _, size = struct.unpack(">HHIH", answer[at:at + 10])
        found.append(answer_text(answer, rtype, at + 10, size))
        at += 10 + size
    return flags & 15, sorted(found)


def answer_text(message, rtype, at, size):
    if rtype == TYPES["A"]:
        return "A " + socket.inet_ntoa(message[at:at + size])
    if rtype == TYPES["CNAME"]:
        return "CNAME " + read_name(message, at)[0]
    if rtype == TYPES["SRV"]:
        return "SRV %d %d %d " % struct.unpack(">HHH", message[at:at + 6]) + read_name(message, at + 6)[0]
    return f"type {rtype}"


def read_name(message, at):
    labels, after = [], None
    while size := message[at]:
        if size >= 0xC0:
            after = after or at + 2
            at = struct.unpack(">H", message[at:at + 2])[0] & 0x3FFF
        else:
            labels.append(message[at + 1:at + 1 + size].decode())
            at += 1 + size
    return ".".join(labels) + ".", after or at + 1


def lookup(name):
    """By the machine's own resolver."""
    try:
        return sorted({a[4][0] for a in socket.getaddrinfo(name, 80, socket.AF_INET, socket.SOCK_STREAM)})
    except socket.gaierror:
        return []


def nameserver():
    with open("/etc/resolv.conf") as f:
        return next(line.split()[1] for line in f if line.startswith("nameserver"))


def median_ms(action, times=20):
    taken = []
    for _ in range(times):
        began = time.monotonic()
        action()
        taken.append((time.monotonic() - began) * 1000)
    return sorted(taken)[times // 2]


@contextlib.contextmanager
def closing_all():
    """A list whose sockets are closed at the end."""
    opened = []
    try:
        yield opened
    finally:
        for s in opened:
            s.close()
