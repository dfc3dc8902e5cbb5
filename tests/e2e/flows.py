"""Long-lived connections in the background of a test: each echoes a counted stream of its own, compared as it comes back."""

import selectors
import socket
import threading
import time

import traffic

STREAM = traffic.MIB
AHEAD = 8192  # bytes of a flow that may be on the way


class Flow:
    def __init__(self, host, port, number):
        self.sock = traffic.connect(host, port)
        self.sock.setblocking(False)
        self.number, self.sent, self.got, self.changed = number, 0, 0, 0.0
        self.longest, self.error = 0.0, None
        noise = bytes(next(traffic.stream_blocks(f"flow {number}", STREAM)))
        self.stream = noise + noise[:AHEAD]

    def write(self, size):
        at = self.sent % STREAM
        self.sent += self.sock.send(self.stream[at:at + min(size, AHEAD - (self.sent - self.got))])

    def read(self, now):
        data = self.sock.recv(AHEAD)
        if not data:
            raise EOFError(f"ended after {self.got} of {self.sent} bytes")
        at = self.got % STREAM
        if data != self.stream[at:at + len(data)]:
            raise ValueError(f"wrong bytes after {self.got}")
        self.longest, self.changed, self.got = max(self.longest, now - self.changed), now, self.got + len(data)


class Flows(threading.Thread):
    """`with Flows(host, 99) as flows:` - they run at once; the end waits for all bytes and fails for a flow that had an error."""

    def __init__(self, host, count, port=7000, every=0.1, size=256, is_checked=True):
        super().__init__(daemon=True)
        self.every, self.size, self.is_checked, self.stopping = every, size, is_checked, False
        self.flows = [Flow(host, port, number) for number in range(count)]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        self.stopping = True
        self.join(20)
        for flow in self.flows:
            flow.sock.close()
        if kind is None and self.is_checked:
            self.assert_right()

    def assert_right(self):
        bad = [f"flow {f.number}: {f.error!r}, {f.got} of {f.sent} bytes" for f in self.flows if f.error or f.got != f.sent or not f.got]
        assert not bad, bad[:10]

    def got(self):
        return [flow.got for flow in self.flows]

    def have_all_moved(self, before):
        """Each by more than what was on the way."""
        return all(now > then + AHEAD for now, then in zip(self.got(), before))

    def errors(self):
        return [flow.error for flow in self.flows if flow.error]

    @property
    def longest(self):
        return max(flow.longest for flow in self.flows)

    def run(self):
        for flow in self.flows:
            flow.changed = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for flow in self.flows:
                selector.register(flow.sock, selectors.EVENT_READ, flow)
            next_write, until = time.monotonic(), None
            while until is None or (time.monotonic() < until and any(f.got < f.sent for f in self.flows if not f.error)):
                if self.stopping and until is None:
                    until = time.monotonic() + 15
                elif until is None and time.monotonic() >= next_write:
                    next_write += self.every
                    self.each(selector, lambda flow: flow.write(self.size))
                for key, _ in selector.select(self.every / 4):
                    self.attempt(selector, key.data, lambda flow: flow.read(time.monotonic()))

    def each(self, selector, act):
        for flow in self.flows:
            if not flow.error:
                self.attempt(selector, flow, act)

    def attempt(self, selector, flow, act):
        try:
            act(flow)
        except BlockingIOError:
            pass
        except (OSError, EOFError, ValueError) as error:
            flow.error = error
            selector.unregister(flow.sock)


def fill(sock, quiet=2.0):
    """Writes until nothing was taken for a while; how much was."""
    sock.setblocking(False)
    sent, last = 0, time.monotonic()
    while time.monotonic() - last < quiet:
        try:
            sent += sock.send(bytes(65536))
            last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.02)
    return sent


def reset_reason(sock, seconds):
    """Waits for the end of a connection that has lost its other side: the error's name, "eof", or "hangs"."""
    sock.settimeout(seconds)
    try:
        return "eof" if sock.recv(1) == b"" else "data"
    except socket.timeout:
        return "hangs"
    except OSError as error:
        return type(error).__name__
