"""The soak's traffic: what people's programs do all day, at a modest rate, each byte compared.

Each kind runs in threads of its own until `stop`. A kind counts what it did, what failed and what was wrong; only datagrams may
fail, and only near a cut. The longest wait of a long-lived echo is the stall that a cut costs.
"""
import hashlib
import random
import socket
import struct
import threading
import time

import nameserver
import services

TCP_TIMEOUT = 120.0      # longer than every cut: a flow that is silent for this long has failed
SERVFAIL = 2
UDP_TIMEOUT = 5.0
CUT_SHADOW = 10.0        # seconds after a cut's end in which datagrams may still be lost
KINDS = ("download", "upload", "half-close", "connect", "reset", "echo", "udp", "dns")
MAY_FAIL = ("udp", "dns")  # near a cut


class Tally:
    """What one kind of traffic did."""

    def __init__(self):
        self.done = self.failed = self.failed_in_cut = self.wrong = self.bytes = 0
        self.longest = 0.0
        self.notes = []


class Load:
    def __init__(self, net, server, name, outside_dns):
        self.net, self.server, self.name, self.outside_dns = net, server, name, outside_dns
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.tally = {kind: Tally() for kind in KINDS}
        self.cut_began = self.cut_ended = -1e9
        self.threads = []

    def start(self):
        self.repeat("download", self.download, count=2, pause=0.5)
        self.repeat("upload", self.upload, count=2, pause=0.5)
        self.repeat("half-close", self.half_close, count=1, pause=1)
        self.repeat("connect", self.connect_once, count=2, pause=0.4)
        self.repeat("reset", self.be_reset, count=1, pause=2)
        self.repeat("dns", self.ask, count=1, pause=0.5)
        self.repeat("udp", self.udp_round, count=1, pause=0.1)
        for number in range(8):
            self.thread(self.echo_for_ever, number)

    def thread(self, function, *args):
        thread = threading.Thread(target=function, args=args, daemon=True)
        self.threads.append(thread)
        thread.start()

    def repeat(self, kind, action, count, pause):
        for _ in range(count):
            self.thread(self.loop, kind, action, pause)

    def end(self, timeout=TCP_TIMEOUT + 10):
        """Each thread ends its round first; one that does not has a flow that hangs."""
        self.stop.set()
        until = time.monotonic() + timeout
        for thread in self.threads:
            thread.join(max(until - time.monotonic(), 0))
        return sum(thread.is_alive() for thread in self.threads)

    def loop(self, kind, action, pause):
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                self.done(kind, began, action())
            except (OSError, EOFError, ValueError, AssertionError) as error:
                self.failed(kind, began, error)
            self.stop.wait(pause * random.uniform(0.5, 1.5))

    def is_in_cut(self, began):
        return self.cut_ended < self.cut_began or began < self.cut_ended + CUT_SHADOW

    # What happened.

    def done(self, kind, began, size):
        with self.lock:
            tally = self.tally[kind]
            tally.done += 1
            tally.bytes += size
            tally.longest = max(tally.longest, time.monotonic() - began)

    def failed(self, kind, began, error):
        with self.lock:
            tally = self.tally[kind]
            if kind in MAY_FAIL and self.is_in_cut(began):
                tally.failed_in_cut += 1
            else:
                tally.failed += 1
            self.note(kind, error)

    def wrong(self, kind, what):
        with self.lock:
            self.tally[kind].wrong += 1
            self.note(kind, f"WRONG BYTES: {what}")

    def note(self, kind, text):
        if len(self.tally[kind].notes) < 5:
            self.tally[kind].notes.append(f"{time.strftime('%H:%M:%S')} {type(text).__name__} {text}")

    # The kinds. Each returns how many bytes of payload it moved.

    def connect(self, port):
        return self.net.laptop.connect((self.server, port), timeout=TCP_TIMEOUT)

    def download(self):
        size, seed = random.randrange(1, 6 << 20), random.randrange(1 << 30)
        digest, got = hashlib.sha256(), 0
        pace = Pace(500_000)
        with self.connect(services.SOURCE) as sock:
            sock.sendall(f"{size} {seed}\n".encode())
            while data := sock.recv(32768):
                digest.update(data)
                got += len(data)
                pace.passed(len(data))
        if got != size or digest.hexdigest() != services.digest_of(size, seed):
            self.wrong("download", f"{got} of {size} bytes")
        return got

    def upload(self):
        size, seed = random.randrange(1, 6 << 20), random.randrange(1 << 30)
        digest, pace = hashlib.sha256(), Pace(500_000)
        with self.connect(services.SINK) as sock:
            for block in services.blocks_of(size, seed):
                digest.update(block)
                for at in range(0, len(block), 32768):
                    sock.sendall(block[at:at + 32768])
                    pace.passed(32768)
            sock.shutdown(socket.SHUT_WR)
            answer = services.read_line(sock)
        if answer != f"{size} {digest.hexdigest()}":
            self.wrong("upload", f"{size} bytes, answer {answer!r}")
        return size

    def half_close(self):
        with self.connect(services.LATE) as sock:
            sock.sendall(b"all of it")
            sock.shutdown(socket.SHUT_WR)
            answer = services.read_line(sock)
            if answer != "late but whole" or sock.recv(1) != b"":
                self.wrong("half-close", answer)
        return 9

    def connect_once(self):
        with self.connect(services.GREETS) as sock:
            answer = services.read_line(sock)
            if answer != "hello" or sock.recv(1) != b"":
                self.wrong("connect", answer)
        return 6

    def be_reset(self):
        with self.connect(services.RESETS) as sock:
            try:
                sock.sendall(b"x")
                data = sock.recv(1)
            except ConnectionResetError:
                return 1
        raise AssertionError(f"the server's RST came as {data!r}")

    def ask(self):
        answer = nameserver.ask(self.net.laptop, self.outside_dns, self.name, timeout=UDP_TIMEOUT)
        if answer[0] == SERVFAIL:  # what a cut of five seconds gives, when it is not the asker who gives up first
            raise TimeoutError("SERVFAIL")
        if answer != (0, [self.server]):
            self.wrong("dns", f"another answer: {answer}")
        return 0

    def udp_round(self):
        """A socket for a while: flows of UDP come and go too."""
        moved = 0
        with self.net.laptop.udp() as sock:
            sock.settimeout(UDP_TIMEOUT)
            sock.connect((self.server, services.ECHO))
            for _ in range(20):
                data = random.randbytes(random.randrange(8, 1300))
                sock.send(data)
                if sock.recv(65536) != data:
                    self.wrong("udp", "another datagram")
                moved += 2 * len(data)
                if self.stop.wait(0.1):
                    break
        return moved

    def echo_for_ever(self, number):
        """A connection that lives as long as the soak: counted words out, compared as they come back."""
        began = time.monotonic()
        try:
            with self.connect(services.ECHO) as sock:
                Echo(self, sock, number).run()
        except (OSError, EOFError) as error:
            self.failed("echo", began, error)


class Echo:
    """Writes without waiting for the answer, so that a cut finds bytes on the way in both directions."""

    def __init__(self, load, sock, number):
        self.load, self.sock, self.number = load, sock, number
        self.sent_words = 0
        self.sent_at = {}  # word's number after the chunk -> when

    def words(self, first, count):
        return b"".join(struct.pack(">HIH", self.number, word & 0xFFFFFFFF, word * 40503 & 0xFFFF) for word in range(first, first + count))

    def run(self):
        writer = threading.Thread(target=self.write, daemon=True)
        writer.start()
        got, rest = 0, b""
        while data := self.sock.recv(65536):
            data = rest + data
            count = len(data) // 8
            if data[:count * 8] != self.words(got, count):
                self.load.wrong("echo", f"connection {self.number}, near word {got}")
            got, rest = got + count, data[count * 8:]
            for last in [last for last in list(self.sent_at) if last <= got]:
                self.load.done("echo", self.sent_at.pop(last), 0)
        writer.join()
        with self.load.lock:
            self.load.tally["echo"].bytes += 16 * got
        if got != self.sent_words:
            self.load.wrong("echo", f"connection {self.number}: {got} of {self.sent_words} words")

    def write(self):
        try:
            while not self.load.stop.wait(0.1):
                count = random.randrange(1, 500)
                data = self.words(self.sent_words, count)
                self.sent_words += count
                self.sent_at[self.sent_words] = time.monotonic()
                self.sock.sendall(data)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.load.failed("echo", -1e9, error)


class Pace:
    def __init__(self, bytes_per_second):
        self.rate, self.began, self.bytes = bytes_per_second, time.monotonic(), 0

    def passed(self, size):
        """Sleeps when it is ahead; a stall is not made up for."""
        self.bytes += size
        ahead = self.began + self.bytes / self.rate - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        elif ahead < -1:
            self.began -= ahead
