"""What runs in "the cluster": small servers, each on a port of its own, with behaviours that TCP and UDP allow."""
import hashlib
import socket
import struct
import threading

ECHO, SOURCE, SINK, LATE, RESETS, GREETS, SILENT = 7000, 7001, 7002, 7003, 7004, 7005, 7006
DEAD = 7099  # nobody listens
BLOCK = 256 * 1024


def pattern(size, seed=0):
    """`size` bytes, the same for the same seed, without two equal blocks side by side."""
    block = hashlib.sha256(str(seed).encode()).digest()
    unit = b"".join(hashlib.sha256(block + bytes([i])).digest() for i in range(256)) * 8
    whole, rest = divmod(size, len(unit))
    return unit * whole + unit[:rest]


def blocks_of(size, seed=0):
    data = pattern(BLOCK, seed)
    counter = 0
    while size > 0:
        block = struct.pack(">Q", counter) + data[8:]
        yield block[:min(size, BLOCK)]
        size -= BLOCK
        counter += 1


def digest_of(size, seed=0):
    digest = hashlib.sha256()
    for block in blocks_of(size, seed):
        digest.update(block)
    return digest.hexdigest()


def read_exactly(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError(f"ended after {len(data)} of {size} bytes")
        data += more
    return data


def read_line(sock):
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            break
        line += byte
    return line.decode().strip()


def echo(sock):
    while data := sock.recv(BLOCK):
        sock.sendall(data)


def source(sock):
    """Asked for "SIZE SEED": sends that many bytes and ends."""
    size, seed = map(int, read_line(sock).split())
    for block in blocks_of(size, seed):
        sock.sendall(block)


def sink(sock):
    """Takes all until the end, then answers with size and sha256."""
    digest, size = hashlib.sha256(), 0
    while data := sock.recv(BLOCK):
        digest.update(data)
        size += len(data)
    sock.sendall(f"{size} {digest.hexdigest()}\n".encode())


def late(sock, stop):
    """Waits for the asker's end, then answers 2 s later."""
    while sock.recv(BLOCK):
        pass
    stop.wait(2)
    sock.sendall(b"late but whole\n")


def resets(sock):
    """Answers one byte with RST."""
    sock.recv(1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def greets(sock):
    """Says one line and closes."""
    sock.sendall(b"hello\n")


class Services:
    """All servers, on `address` in `space`."""

    def __init__(self, space, address):
        self.space, self.address = space, address
        self.stop = threading.Event()
        self.sockets = []
        self.ends = {}  # port -> how the last connection ended, as the server saw it
        self.changed = threading.Condition()
        for port, handler in ((ECHO, echo), (SOURCE, source), (SINK, sink), (RESETS, resets), (GREETS, greets),
                              (LATE, lambda sock: late(sock, self.stop)), (SILENT, lambda sock: self.stop.wait())):
            self.serve_tcp(port, handler)
        self.serve_udp(ECHO)

    def close(self):
        self.stop.set()
        for sock in self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()

    def thread(self, function, *args):
        threading.Thread(target=function, args=args, daemon=True).start()

    def serve_tcp(self, port, handler):
        listener = self.space.listen((self.address, port))
        self.sockets.append(listener)
        self.thread(self.accept, listener, port, handler)

    def accept(self, listener, port, handler):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.thread(self.handle, sock, port, handler)

    def handle(self, sock, port, handler):
        end = "closed"
        try:
            handler(sock)
        except ConnectionResetError:
            end = "reset"
        except OSError as error:
            end = error.strerror or str(error)
        sock.close()
        with self.changed:
            self.ends[port] = end
            self.changed.notify_all()

    def wait_end(self, port, timeout=10):
        """How the next connection on this port ended, as the server saw it."""
        with self.changed:
            self.changed.wait_for(lambda: port in self.ends, timeout)
            return self.ends.pop(port, None)

    def serve_udp(self, port):
        sock = self.space.udp((self.address, port))
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        self.sockets.append(sock)
        self.thread(self.echo_udp, sock)

    def echo_udp(self, sock):
        while not self.stop.is_set():
            try:
                data, peer = sock.recvfrom(65536)
                if peer:
                    sock.sendto(data, peer)
            except OSError:
                if self.stop.is_set():
                    return
