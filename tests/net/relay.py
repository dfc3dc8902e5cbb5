"""A TCP relay in user space, which does to the client's carrier what networks do.

    relay.delay(0.02)    bytes wait that long, each way
    relay.limit(25e6, q) so many bytes a second, each way, for all connections together; at most q bytes queue for it
    relay.lose(0.001)    of so many packets of 1448 bytes: their connection's direction stands still for a round trip
    relay.stall()        a black hole: nothing is passed on, new connections hang; go() ends it
    relay.cut()          every connection is closed at once; reset() does it with RST, cut_one() and
                         reset_one() do it to the oldest
    relay.refuse()       new connections are refused; accept() ends it
"""
import collections
import contextlib
import random
import selectors
import socket
import struct
import threading
import time

BLOCK = 256 * 1024
BUFFER_MAX = 1024 * 1024
RATE_BLOCK = 8 * 1024  # of a connection at a time, so that those that share a link take turns


class Way:
    """One direction of the link that all connections share."""

    def __init__(self):
        self.free_at = 0.0  # when the last byte that queues has left


def linger(sock):
    """Its close will be a RST."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Pipe:
    """One direction of one connection: what was read and is not yet written, with the time from when it may be."""

    def __init__(self, source, target, is_out):
        self.source, self.target, self.is_out = source, target, is_out
        self.not_before = 0.0
        self.queue = collections.deque()
        self.size = 0
        self.ended = self.passed_end = False


class Relay(threading.Thread):
    def __init__(self, listen_space, listen_address, dial_space, dial_address):
        super().__init__(daemon=True, name="relay")
        self.listen_space, self.listen_address = listen_space, listen_address
        self.dial_space, self.dial_address = dial_space, dial_address
        self.lock = threading.RLock()
        self.wake_in, self.wake_out = socket.socketpair()
        self.pipes = {}     # socket -> the pipe that it is the source of
        self.waiting = []   # connections that came during a stall
        self.seconds = 0.0
        self.rate, self.queue_max, self.loss = None, 256 * 1024, 0.0
        self.ways = {True: Way(), False: Way()}  # from the client, to the client
        self.stalled = self.stopping = False
        self.connections = 0
        self.passed = 0
        self.listener = None
        self.accept()
        self.start()

    # What a test calls.

    def delay(self, seconds):
        with self.lock:
            self.seconds = seconds

    def limit(self, rate, queue_max=256 * 1024):
        with self.lock:
            self.rate, self.queue_max = rate, queue_max

    def lose(self, share):
        with self.lock:
            self.loss = share

    def stall(self):
        with self.lock:
            self.stalled = True

    def go(self):
        with self.lock:
            self.stalled = False
            waiting, self.waiting = self.waiting, []
            for client in waiting:
                self.dial(client)
        self.wake()

    def cut(self):
        with self.lock:
            for sock in list(self.pipes) + self.waiting:
                self.drop(sock)
            self.waiting = []
        self.wake()

    def cut_one(self):
        with self.lock:
            if self.pipes:
                self.drop(next(iter(self.pipes)))
        self.wake()

    def reset(self):
        with self.lock:
            for sock in list(self.pipes) + self.waiting:
                linger(sock)
        self.cut()

    def reset_one(self):
        with self.lock:
            if self.pipes:
                oldest = next(iter(self.pipes))
                linger(oldest)
                linger(self.pipes[oldest].target)
                self.drop(oldest)
        self.wake()

    def refuse(self):
        with self.lock:
            if self.listener:
                self.listener.close()
                self.listener = None
        self.wake()

    def accept(self):
        with self.lock:
            if self.listener is None:
                self.listener = self.listen_space.listen(self.listen_address)
                self.listener.setblocking(False)
                self.listen_address = self.listener.getsockname()
        self.wake()

    def close(self):
        self.stopping = True
        self.wake()
        self.join()
        self.cut()
        self.refuse()

    # The thread.

    def wake(self):
        try:
            self.wake_out.send(b"x")
        except OSError:
            pass

    def drop(self, sock):
        pipe = self.pipes.pop(sock, None)
        sock.close()
        if pipe:
            self.pipes.pop(pipe.target, None)
            pipe.target.close()

    def dial(self, client):
        try:
            server = self.dial_space.connect(self.dial_address, timeout=5)
        except OSError:
            client.close()
            return
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pipes[client] = Pipe(client, server, True)
        self.pipes[server] = Pipe(server, client, False)

    def take_new(self):
        try:
            client, _ = self.listener.accept()
        except OSError:
            return
        self.connections += 1
        if self.stalled:
            self.waiting.append(client)
        else:
            self.dial(client)

    def read(self, pipe):
        try:
            data = pipe.source.recv(BLOCK if self.rate is None else RATE_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            self.drop(pipe.source)
            return
        if not data:
            pipe.ended = True
            return
        pipe.queue.append((self.leaves(pipe, len(data)), data))
        pipe.size += len(data)

    def leaves(self, pipe, size):
        """When bytes that came now arrive at the other end."""
        now = time.monotonic()
        when = now + self.seconds
        if self.rate is not None:
            way = self.ways[pipe.is_out]
            way.free_at = max(way.free_at, now) + size / self.rate
            when = way.free_at + self.seconds
        if self.loss and random.random() < 1 - (1 - self.loss) ** (size / 1448):
            pipe.not_before = when + 2 * self.seconds
        return max(when, pipe.not_before)

    def is_full(self, pipe):
        if self.rate is None:
            return pipe.size >= BUFFER_MAX
        queued = (self.ways[pipe.is_out].free_at - time.monotonic()) * self.rate
        return queued >= self.queue_max or pipe.size >= 8 * BUFFER_MAX

    def write(self, pipe):
        now = time.monotonic()
        while pipe.queue and pipe.queue[0][0] <= now:
            when, data = pipe.queue.popleft()
            try:
                sent = pipe.target.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.drop(pipe.source)
                return
            self.passed += sent
            pipe.size -= sent
            if sent < len(data):
                pipe.queue.appendleft((when, data[sent:]))
                return
        if pipe.ended and not pipe.queue:  # as a port-forward does: the end of one direction ends both
            self.drop(pipe.source)

    def due(self, pipe):
        return pipe.queue and pipe.queue[0][0] <= time.monotonic()

    def wait(self):
        """Events of this turn: (listener or pipe, 'read' or 'write')."""
        with selectors.DefaultSelector() as selector:
            wishes = collections.defaultdict(int)
            wishes[self.wake_in] |= selectors.EVENT_READ
            timeout = 1.0
            with self.lock:
                if self.listener:
                    wishes[self.listener] |= selectors.EVENT_READ
                for pipe in () if self.stalled else self.pipes.values():
                    if not pipe.ended and self.is_full(pipe):
                        timeout = min(timeout, 0.001) if self.rate else timeout
                    elif not pipe.ended:
                        wishes[pipe.source] |= selectors.EVENT_READ
                    if self.due(pipe):
                        wishes[pipe.target] |= selectors.EVENT_WRITE
                    elif pipe.queue:
                        timeout = min(timeout, pipe.queue[0][0] - time.monotonic())
                    elif pipe.ended:
                        timeout = 0
                for sock, events in wishes.items():
                    selector.register(sock, events)
            return selector.select(max(timeout, 0))

    def run(self):
        while not self.stopping:
            try:
                events = self.wait()
            except (OSError, ValueError, KeyError):
                continue  # a socket was closed under it: look again
            with self.lock:
                for key, mask in events:
                    self.serve(key.fileobj, mask)
                for pipe in list(self.pipes.values()):
                    if not self.stalled and pipe.source in self.pipes and (pipe.ended or self.due(pipe)):
                        self.write(pipe)

    def serve(self, sock, mask):
        if sock is self.wake_in:
            self.wake_in.recv(4096)
        elif sock is self.listener:
            self.take_new()
        elif sock in self.pipes and mask & selectors.EVENT_READ and not self.stalled:
            self.read(self.pipes[sock])
