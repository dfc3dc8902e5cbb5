"""A name server: answers A queries from a table, NXDOMAIN for the rest, and remembers what it was asked."""
import socket
import struct
import threading


def parse_name(message, at):
    labels = []
    while message[at]:
        labels.append(message[at + 1:at + 1 + message[at]].decode())
        at += 1 + message[at]
    return ".".join(labels).lower(), at + 1


def question(name, kind=1, ident=0x1234):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)


def ask(space, server, name, timeout=5, kind=1):
    """(rcode, addresses) of one query from `space`."""
    sock = space.udp()
    sock.settimeout(timeout)
    with sock:
        sock.sendto(question(name, kind), (server, 53))
        message, _ = sock.recvfrom(4096)
    return parse_answer(message)


def parse_answer(message):
    ident, flags, _, answers, _, _ = struct.unpack(">6H", message[:12])
    assert ident == 0x1234 and flags & 0x8000
    _, at = parse_name(message, 12)
    at += 4
    addresses = []
    for _ in range(answers):
        if message[at] & 0xc0:
            at += 2
        else:
            _, at = parse_name(message, at)
        kind, _, _, size = struct.unpack(">HHIH", message[at:at + 10])
        if kind == 1:
            addresses.append(socket.inet_ntoa(message[at + 10:at + 14]))
        at += 10 + size
    return flags & 15, addresses


class NameServer(threading.Thread):
    def __init__(self, space, address, table):
        super().__init__(daemon=True, name="dns")
        self.table = table
        self.asked = []
        self.sock = space.udp((address, 53))
        self.sock.settimeout(None)
        self.start()

    def close(self):
        self.sock.close()

    def run(self):
        while True:
            try:
                message, peer = self.sock.recvfrom(4096)
                self.sock.sendto(self.answer(message), peer)
            except OSError:
                return
            except (IndexError, struct.error):
                continue

    def answer(self, message):
        name, end = parse_name(message, 12)
        kind = struct.unpack(">H", message[end:end + 2])[0]
        self.asked.append(name)
        address = self.table.get(name)
        rcode = 0 if address else 3
        has_answer = address and kind == 1
        head = message[:2] + struct.pack(">5H", 0x8180 | rcode, 1, 1 if has_answer else 0, 0, 0)
        record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton(address) if has_answer else b""
        return head + message[12:end + 4] + record
