"""`ktvpn up` and an API server that misbehaves: each case ends with a sensible exit code and one clear line, or ktvpn goes on
working; in bounded time and memory, and nothing stays behind.

KTVPN names another build of the client to be tried, such as the one with sanitizers (no limit of memory then).
"""
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

import services
from conftest import SERVER
from hostile_api import (AGENT_POD, BINARY, CLOSE, GOOD, PING, PONG, PORTS, TEXT, HostileApi, accept_of, answer, frame, items, status,
                         upgrade)
from programs import KTVPN, Agent, wait_for

MEGABYTE = 1 << 20
MEMORY_MAX = 64 * MEGABYTE  # at rest it has 12
LINE_MAX = 1100             # "ktvpn: " and an error's text
IS_SANITIZED = "debug" in KTVPN
UNREACHABLE, TLS, UNAUTHORIZED, FORBIDDEN, AGENT, CONFLICT, NOT_FOUND, INTERRUPTED = 4, 5, 6, 7, 8, 10, 12, 130


class Up:
    """A `ktvpn up` whose output is kept as bytes: nobody decodes what a server may have put there."""

    def __init__(self, net, api, folder, name, *options):
        self.net, self.folder = net, folder
        self.output = open(folder / "output", "w+b")
        env = {k: v for k, v in os.environ.items() if not k.startswith("KTVPN")}
        env |= {"XDG_RUNTIME_DIR": str(folder), "LC_ALL": "C", "KUBECONFIG": str(api.kubeconfig(folder / "kubeconfig"))}
        env |= {"ASAN_OPTIONS": "exitcode=99", "UBSAN_OPTIONS": "halt_on_error=1:exitcode=99"}
        mount = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        self.env = env
        self.process = subprocess.Popen(
            [*net.laptop.inside, "unshare", "--mount", "sh", "-c", mount, str(net.laptop_conf), KTVPN, "up", "--name", name, "-n",
             "ems", *options], stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output, env=env)
        self.code = None
        self.memory = 0

    @property
    def text(self):
        return (self.folder / "output").read_bytes()

    def poll(self):
        """Looks at its memory too. (The rusage of a child would begin with what this process has.)"""
        self.code = self.process.poll()
        if self.code is None:
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
            if "Name:\tktvpn" in status and (found := re.search(r"VmHWM:\s+(\d+)", status)):
                self.memory = max(self.memory, int(found[1]) * 1024)
        return self.code

    def wait_text(self, words, timeout=10):
        def has():
            assert words in self.text or self.poll() is None, self.text.decode(errors="replace")
            return words in self.text
        wait_for(f"{words!r} in {self.folder / 'output'}", has, timeout)

    def wait_end(self, timeout=10, memory_max=MEMORY_MAX):
        wait_for("the end of ktvpn", lambda: self.poll() is not None, timeout)
        assert self.code != 99, self.text.decode(errors="replace")  # a sanitizer
        assert self.code >= 0, f"ended by signal {-self.code}"
        self.check_text()
        if not IS_SANITIZED:
            assert self.memory < memory_max, f"{self.memory >> 10} KiB"
        return self.code

    def check_text(self):
        assert b"tell-nobody" not in self.text
        assert len(self.text) < 64 * 1024, "a flood of lines"
        for line in self.text.split(b"\n"):
            assert len(line) <= LINE_MAX, line
            assert re.fullmatch(rb"[\x20-\x7e\t]*", line), line

    def errors(self):
        return [line.decode() for line in self.text.split(b"\n") if line.startswith(b"ktvpn: ")]

    def leave(self, timeout=10, memory_max=MEMORY_MAX):
        self.process.send_signal(signal.SIGTERM)
        return self.wait_end(timeout, memory_max)

    def close(self):
        if self.poll() is None:
            self.process.kill()
            self.process.wait()
        self.output.close()


class Stage:
    """One server for all tests; each gets it as good as new."""

    def __init__(self, net, api, folder):
        self.net, self.api, self.folder = net, api, folder
        self.ups = []

    def up(self, *options, name="hostile", folder=None):
        up = Up(self.net, self.api, folder or self.folder, name, *options)
        self.ups.append(up)
        return up

    def refused(self, code, *words, timeout=10, jobs=0):
        """It ends by itself, with one line."""
        up = self.up()
        try:
            assert up.wait_end(timeout) == code, up.text.decode(errors="replace")
            lines = up.errors()
            assert len(lines) == 1, up.text.decode(errors="replace")
            for word in words:
                assert word in lines[0], lines[0]
            wait_for("its Job is deleted", lambda: len(self.api.jobs) == jobs, 5)
        finally:
            up.close()
        return lines[0] if lines else ""

    def ready(self):
        """It gets through all the same, and works."""
        up = self.up()
        up.wait_text(b"ready after", 15)
        self.works()
        return up

    def works(self):
        with self.net.laptop.connect((SERVER, services.GREETS)) as sock:
            assert services.read_line(sock) == "hello"

    def dials_on(self, *words):
        """No session comes about, but the next try may bring one: it says so once. Then the server mends its ways."""
        up = self.up()
        up.wait_text(b"dialling on", 15)
        wait_for("more tries", lambda: self.api.seen["portforward"] >= 3, 10)
        lines = [line.decode() for line in up.text.split(b"\n") if b"dialling on" in line]
        assert len(lines) == 1, lines
        for word in words:
            assert word in lines[0], lines[0]
        self.api.on.clear()
        up.wait_text(b"ready after", 15)
        self.works()
        assert up.leave() == 0
        return lines[0]


@pytest.fixture(scope="module")
def api(net, tmp_path_factory):
    agent = Agent(net.pod, resolv_conf=str(net.pod_conf))
    api = HostileApi(net.pod, "10.201.0.2", ("127.0.0.1", 4789), agent.key, tmp_path_factory.mktemp("certs"))
    yield api
    api.close()
    agent.close()


@pytest.fixture(scope="module")
def before(net):
    return net.laptop.picture()


@pytest.fixture
def stage(net, api, before, tmp_path):
    api.on.clear()
    api.on_accept = None
    api.reset_counts()
    stage = Stage(net, api, tmp_path)
    yield stage
    for up in stage.ups:
        up.close()
    assert net.laptop.picture() == before, "the laptop is not as it was"
    assert not api.jobs, "a Job stays behind"
    net.services.ends.clear()


def gives(code, body=b"", headers=""):
    return lambda connection, request: connection.send(answer(code, body, headers))


def raw(data):
    def send(connection, request):
        connection.send(data)
        raise ConnectionAbortedError
    return send


def test_a_good_server_is_enough(stage):
    up = stage.ready()
    assert up.leave() == 0
    assert stage.api.tokens.keys() == {"Bearer tell-nobody"}


# ---- the connection and TLS


def test_closed_before_tls(stage):
    def leave(sock):
        raise ConnectionAbortedError
    stage.api.on_accept = leave
    stage.refused(UNREACHABLE, stage.api.url)


def test_reset_before_tls(stage):
    def reset(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        raise ConnectionAbortedError
    stage.api.on_accept = reset
    stage.refused(UNREACHABLE, stage.api.url)


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28", b"\x00" * 5000,
                                  b"SSH-2.0-OpenSSH_9.6\r\n"], ids=["http", "alert", "zeros", "ssh"])
def test_no_tls_at_all(stage, data):
    def talk(sock):
        sock.sendall(data)
        sock.recv(4096)
        raise ConnectionAbortedError
    stage.api.on_accept = talk
    stage.refused(TLS, stage.api.url)


@pytest.mark.parametrize("size", [1, 50, 500])
def test_cut_in_the_handshake(stage, size):
    """A server hello that ends early: passed on by hand from a real handshake."""
    def talk(sock):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = stage.api.context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(sock.recv(65536))
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        sock.sendall(outgoing.read()[:size])
        raise ConnectionAbortedError
    stage.api.on_accept = talk
    up = stage.up()
    assert up.wait_end() in (UNREACHABLE, TLS)
    assert len(up.errors()) == 1


def test_slow_loris_in_the_handshake(stage):
    def talk(sock):
        for byte in b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + b"\x00" * 100:
            sock.sendall(bytes([byte]))
            if stage.api.wait(0.5):
                break
    stage.api.on_accept = talk
    started = time.monotonic()
    stage.refused(UNREACHABLE, "does not answer", timeout=20)
    assert time.monotonic() - started < 15


# ---- answers that are no answers

FIRST = ("namespace", "ssar", "service-cidrs", "dry-run", "services", "nodes", "pods")


def all_of(stage, what):
    for name in FIRST:
        stage.api.on[name] = what


@pytest.mark.parametrize("data", [
    b"", b"\r\n", b"H", b"HTTP/1.1", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    b"HTTP/9.9 200 OK\r\n\r\n", b"HTTP/1.1 99 OK\r\n\r\n", b"\x00\xff" * 1000, b"SSH-2.0-x\r\n", b"\x1b[2J\x1b]0;owned\x07\r\n\r\n",
], ids=lambda data: repr(data[:30]) + str(len(data)))
def test_what_is_no_http_answer(stage, data):
    all_of(stage, raw(data))
    up = stage.up()
    allowed = (FORBIDDEN,) if b"999" in data else (1, UNREACHABLE)  # libcurl takes what comes with a length that it can't read
    assert up.wait_end() in allowed, up.text.decode(errors="replace")
    assert len(up.errors()) == 1, up.text


@pytest.mark.parametrize("status_code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(stage, status_code):
    """It would carry the token to whoever is named."""
    heard = []
    trap = stage.net.pod.listen(("10.201.0.2", 0))
    threading.Thread(target=lambda: heard.append(trap.accept()), daemon=True).start()
    all_of(stage, gives(status_code, "{}", "Location: http://10.201.0.2:%d/api\r\n" % trap.getsockname()[1]))
    stage.refused(1, str(status_code))
    assert not heard
    trap.close()


@pytest.mark.parametrize("case", ["header", "headers", "body", "chunks", "trailer", "informational"])
def test_endless_answers(stage, case):
    start = {"header": b"HTTP/1.1 200 OK\r\nX: ", "headers": b"HTTP/1.1 200 OK\r\n", "body": b"HTTP/1.1 200 OK\r\n\r\n",
             "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
             "trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "informational": b""}[case]
    block = {"header": b"x" * 4096, "headers": b"X-Y: " + b"z" * 1000 + b"\r\n", "body": b" " * 65536,
             "chunks": b"1000\r\n" + b"x" * 4096 + b"\r\n", "trailer": b"X-Y: " + b"z" * 1000 + b"\r\n",
             "informational": b"HTTP/1.1 100 Continue\r\n\r\n" * 100}[case]

    def endless(connection, request):
        connection.send(start)
        connection.flood(block)
    stage.api.on["namespace"] = endless
    up = stage.up()
    assert up.wait_end(40) in (1, UNREACHABLE)
    assert len(up.errors()) == 1, up.text


def test_slow_loris(stage, tmp_path):
    """Time is bounded by the call, not by the last byte that came. All at once: each takes its 30 s (API_TIMEOUT_MS)."""
    cases = itertools.cycle(["nothing", "head", "body"])

    def slow(connection, request):
        case = next(cases)
        if case == "nothing":
            connection.hold()
        connection.send(b"HTTP/1.1 200 OK\r\n" + (b"" if case == "head" else b"Content-Length: 1000000\r\n\r\n"))
        connection.flood(b"X: y\r\n" if case == "head" else b" ", pause=0.2)
    stage.api.on["namespace"] = slow
    ups = []
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        ups.append(stage.up(name=str(i), folder=tmp_path / str(i)))
    for up in ups:
        assert up.wait_end(45) == UNREACHABLE
        assert ["does not answer" in line for line in up.errors()] == [True], up.text


@pytest.mark.parametrize("body", [
    "{" * 100000, "[" * 100000, '{"a":' * 100000 + "1" + "}" * 100000, '{"items": 1e99999}', '{"items": [' + "1," * 100000 + "1]}",
    "\x00", '"\\ud800"', "not json", "", "null", "[]", "{}", "1e400"],
    ids=["objects", "arrays", "nested", "number", "many", "nul", "surrogate", "text", "empty", "null", "list", "object", "inf"])
def test_bodies_that_mean_nothing(stage, body):
    """Nothing is granted and no range is found, which is said."""
    all_of(stage, gives(200, body))
    up = stage.up()
    assert up.wait_end() == FORBIDDEN
    assert len(up.errors()) == 1, up.text


WRONG = [None, True, -1, 1e300, "", "x" * 70000, [], {}, [[]], [None], [{}], {"items": None}, {"metadata": []}, "\x1b[2J\r\n\x9b1m"]


def twisted(value):
    """Each value in a JSON tree replaced by each wrong one, one at a time."""
    def places(tree, path=()):
        if isinstance(tree, dict):
            for key, sub in tree.items():
                yield (*path, key)
                yield from places(sub, (*path, key))
        elif isinstance(tree, list):
            for i, sub in enumerate(tree):
                yield (*path, i)
                yield from places(sub, (*path, i))
    for place in places(value):
        for wrong in WRONG:
            copy = json.loads(json.dumps(value))
            at = copy
            for key in place[:-1]:
                at = at[key]
            at[place[-1]] = wrong
            yield copy


@pytest.mark.parametrize("name", ["namespace", "ssar", "service-cidrs", "dry-run", "services", "nodes", "pods", "find-nodes",
                                  "job", "config-map", "watch-pods"])
def test_wrong_types_in_what_is_read(stage, name):
    """Of the twisted bodies of each kind of object a sample goes through the whole program."""
    bodies = list(twisted(AGENT_POD if name == "watch-pods" else GOOD[name][1]))
    sample = bodies[::max(1, len(bodies) // 3)]
    for body in sample:
        def twist(connection, request):
            if name == "watch-pods":
                connection.stream({"type": "ADDED", "object": body}, {"type": "MODIFIED", "object": AGENT_POD})
                connection.hold()
            connection.send(answer(GOOD[name][0], body))
        stage.api.on[name] = twist
        up = stage.up()
        wait_for("an end or success", lambda: up.poll() is not None or b"ready after" in up.text, 15)
        if up.poll() is None:
            up.leave()
        else:
            up.wait_end()
            assert len(up.errors()) == 1, up.text
        up.close()


def test_gzip_that_nobody_asked_for(stage):
    stage.api.on["ssar"] = gives(201, b"\x1f\x8b\x08\x00" + b"\x00" * 50, "Content-Encoding: gzip\r\n")
    stage.refused(FORBIDDEN)


# ---- refusals


@pytest.mark.parametrize("code, exit_code", [(400, 1), (401, UNAUTHORIZED), (403, None), (404, NOT_FOUND), (500, 1), (599, 1)])
@pytest.mark.parametrize("body", ["", status(0, "Whatever", "for a \x1b[31mreason\r\nktvpn: liar"), "\x1b[2J" * 2600000],
                         ids=["empty", "status", "10MB"])
def test_refused_namespace(stage, code, exit_code, body):
    """A 403 alone is fine: not everybody may look at namespaces."""
    stage.api.on["namespace"] = gives(code, body)
    stage.api.on["namespaces"] = gives(code, body)
    if exit_code is None:
        assert stage.ready().leave() == 0
    else:
        stage.refused(exit_code)


@pytest.mark.parametrize("name, exit_code", [("job", None), ("config-map", None), ("ssar", None)])
@pytest.mark.parametrize("code, expect", [(401, UNAUTHORIZED), (403, FORBIDDEN), (500, 1), (422, 1)])
def test_refused_later(stage, name, exit_code, code, expect):
    stage.api.on[name] = gives(code, status(code, "Whatever", "quota \x1b[31mexceeded\r\nktvpn: liar"))
    if name == "config-map":
        stage.api.on["watch-pods"] = lambda connection, request: (connection.stream(), connection.hold())
    if name == "job":
        stage.api.on["job"] = lambda c, r: (stage.api.jobs.clear(), c.send(answer(code, status(code, "X", "quota \x1b[1m"))))
    line = stage.refused(expect)
    if code != 401:
        assert "quota \\x1b[" in line


def test_an_answer_to_the_job_that_never_comes(stage):
    """The server may have made it: it is deleted."""
    stage.api.on["job"] = lambda connection, request: connection.reset()
    stage.refused(UNREACHABLE)
    assert stage.api.seen["delete-job"] == 1


# ---- the pod and its log


@pytest.mark.parametrize("lines", [
    [b"{\n"], [b"null\n", b"1\n", b"[]\n", b"\n", b"{}\n"], [b'{"type":"ADDED"}\n'], [b'{"type":"ADDED","object":{}}\n'],
    [b'{"type":1,"object":[]}\n'], [{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}],
    [{"type": "ERROR", "object": status(410, "Expired", "too old")}], [{"type": "ERROR", "object": 5}], [{"type": "ERROR"}],
    [b'{"type":"ADDED","object":{"metadata":{"name":"../../secrets"}}}\n'], [b"\x00\xff\x1b[2J\n"]],
    ids=lambda lines: str(lines[0])[:30])
def test_a_watch_that_talks_nonsense_at_first(stage, lines):
    """It ends, and the next one makes sense."""
    def nonsense(connection, request):
        if stage.api.seen["watch-pods"] > 1:
            connection.good(request)
        connection.stream(*lines)
        raise ConnectionAbortedError
    stage.api.on["watch-pods"] = nonsense
    assert stage.ready().leave() == 0


def test_a_watch_with_an_endless_line(stage):
    def endless(connection, request):
        if stage.api.seen["watch-pods"] > 1:
            connection.good(request)
        connection.stream()
        connection.flood(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    stage.api.on["watch-pods"] = endless
    assert stage.ready().leave() == 0
    assert stage.api.flooded < 32 * MEGABYTE


def test_a_watch_that_floods_events(stage):
    event = json.dumps({"type": "MODIFIED", "object": {"metadata": {"name": "x"}, "status": {"phase": "Pending"}}}) + "\n"
    chunk = b"%x\r\n%s\r\n" % (len(event) * 500, event.encode() * 500)

    def flood(connection, request):
        connection.stream()
        connection.flood(chunk, most=20 * MEGABYTE)
    stage.api.on["watch-pods"] = flood
    up = stage.up()
    wait_for("the flood", lambda: stage.api.flooded > 10 * MEGABYTE, 20)
    assert up.leave() == INTERRUPTED


@pytest.mark.parametrize("lines, words", [
    ([b"hello\n"], "hello"), ([b"\x1b[2J\x07\x00\xff\n"], "\\x1b[2J"), ([b"ktvpn-agent 0.1.0 key AAAA\n"], "AAAA"),
    ([b"ktvpn-agent 9.9.9 key QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n"], "9.9.9"), ([b"\n"], "no ktvpn-agent"),
    ([b"x" * 3000 + b"\n"], "xxx"), ([b"ktvpn-agent 0.1.0\tkey QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n"], "\\x09")],
    ids=["text", "binary", "short-key", "version", "empty", "long", "tab"])
def test_a_log_that_is_not_the_agents(stage, lines, words):
    def log(connection, request):
        connection.stream(*lines)
        connection.hold()
    stage.api.on["log"] = log
    stage.refused(AGENT, words)


def test_a_log_without_end_of_line(stage):
    def log(connection, request):
        connection.stream()
        connection.flood(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    stage.api.on["log"] = log
    stage.refused(AGENT, timeout=30)


def test_a_key_line_in_pieces(stage):
    def log(connection, request):
        connection.stream()
        for byte in stage.api.key_line():
            connection.chunk(bytes([byte]))
            stage.api.wait(0.005)
        connection.hold()
    stage.api.on["log"] = log
    assert stage.ready().leave() == 0


def test_a_log_that_is_cut_at_first(stage):
    def log(connection, request):
        if stage.api.seen["log"] > 3:
            connection.good(request)
        connection.stream(stage.api.key_line()[:10 * stage.api.seen["log"]])
        raise ConnectionAbortedError
    stage.api.on["log"] = log
    assert stage.ready().leave() == 0


def test_another_agents_key(stage):
    """The man in the middle: no session, whatever else is right."""
    other = b"ktvpn-agent 0.1.0 key QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n"

    def log(connection, request):
        connection.stream(other)
        connection.hold()
    stage.api.on["log"] = log
    up = stage.up()
    wait_for("several tries", lambda: stage.api.seen["portforward"] >= 3, 10)
    assert up.leave() == INTERRUPTED


# ---- the upgrade


def upgrade_gives(make):
    def send(connection, request):
        connection.send(make(request))
        connection.hold()
    return send


@pytest.mark.parametrize("make, words", [
    (lambda r: upgrade(r, accept="AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "Sec-WebSocket-Accept"),
    (lambda r: upgrade(r, accept=accept_of(r) + "x"), "Sec-WebSocket-Accept"),
    (lambda r: upgrade(r, accept="A" * 5000), "HTTP/1.1"),
    (lambda r: upgrade(r, protocol="v5.channel.k8s.io"), "sub-protocol"),
    (lambda r: upgrade(r, protocol=""), "sub-protocol"),
    (lambda r: upgrade(r, upgrade_header=""), "WebSocket"),
    (lambda r: upgrade(r, upgrade_header="Upgrade: SPDY/3.1\r\n"), "WebSocket"),
    (lambda r: upgrade(r, extra="Sec-WebSocket-Extensions: permessage-deflate\r\n"), "extensions"),
    (lambda r: upgrade(r, extra=f"Sec-WebSocket-Accept: {accept_of(r)}\r\n"), "HTTP/1.1"),
    (lambda r: b"\x1b[2J\x00garbage\r\n\r\n", "HTTP/1.1"),
    (lambda r: answer(200, "hello \x1b[1m"), "200"),
    (lambda r: answer(302, "", "Location: https://elsewhere.example/\r\n"), "302"),
    (lambda r: answer(400, "Upgrade request required"), "proxy"),
    (lambda r: answer(403), "v4.channel.k8s.io"),
    (lambda r: answer(403, status(403, "Forbidden", "pods \x1b[31mforbidden")), "pods \\x1b[31mforbidden"),
    (lambda r: answer(401), "401"),
    (lambda r: answer(500, "\x1b[2J" * 2600000), "\\x1b[2J"),
    (lambda r: b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnope\r\n0\r\n\r\n", "nope"),
    (lambda r: b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nzzzz", "500"),
    (lambda r: b"HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\nshort", "short"),
    (lambda r: b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nlonger", "lo"),
], ids=["accept", "accept-longer", "accept-long", "protocol", "no-protocol", "no-upgrade", "spdy", "extensions", "accept-twice",
        "garbage", "200", "302", "proxy", "403-empty", "403-status", "401", "10MB", "chunked", "chunked-garbage", "length-more",
        "length-less"])
def test_upgrade_answered_wrongly(stage, make, words):
    stage.api.on["portforward"] = upgrade_gives(make)
    stage.dials_on(words)


@pytest.mark.parametrize("frames, words", [
    (frame(BINARY, b"\0\x90\x1f", mask=True), "WebSocket protocol"),
    (frame(BINARY, b"\0\xb5", fin=False), "WebSocket protocol"),
    (frame(BINARY, b"", size=1 << 40), "WebSocket protocol"),
    (frame(BINARY, b"", size=1 << 63), "WebSocket protocol"),
    (frame(3, b"\0\xb5\x12"), "WebSocket protocol"),
    (b"\xf2\x03\0\xb5\x12", "WebSocket protocol"),
    (frame(BINARY, b"\0\x00\x50") + frame(BINARY, b"\1\x00\x50"), ""),
    (frame(BINARY, b"\1\xb5\x12") * 3, ""),
    (frame(BINARY, b"\7\xb5\x12"), ""),
    (frame(BINARY, b""), ""),
    (frame(TEXT, b"\0\xb5\x12"), ""),
    (frame(PING, b"x" * 125, size=126), "WebSocket protocol"),
    (frame(CLOSE, b""), ""),
    (frame(CLOSE, b"\x03\xe8bye"), ""),
    (frame(CLOSE, b"\x03\xf3\x1b[2Jbye"), ""),
    (frame(CLOSE, b"\x03"), ""),
    (PORTS + frame(BINARY, b"\1connection refused \x1b[2J\r\n"), ""),
    (PORTS + frame(BINARY, b"\1" + b"\x1b[2J" * 10000), ""),
    (b"", ""),
], ids=["masked", "fragmented", "huge", "huger", "opcode", "reserved", "other-port", "error-channel-first", "channel-7", "empty",
        "text", "long-ping", "close-empty", "close-1000", "close-1011", "close-1-byte", "error-text", "long-error-text", "cut"])
def test_first_frames_wrong(stage, frames, words):
    def send(connection, request):
        connection.send(upgrade(request) + frames)
        raise ConnectionAbortedError
    stage.api.on["portforward"] = send
    stage.dials_on(words)


def byte_by_byte(connection, request):
    for byte in upgrade(request) + PORTS:
        connection.send(bytes([byte]))
    connection.relay(lambda data: b"".join(frame(BINARY, b"\0" + data[i:i + 1]) for i in range(len(data))))


def with_controls(connection, request):
    connection.send(upgrade(request) + frame(PING, b"a") + PORTS[:5] + frame(PONG, b"") + PORTS[5:] + frame(PING, b"x" * 125))
    connection.relay(lambda data: frame(PING, b"y") + frame(BINARY, b"\0" + data) + frame(PONG, b"z"))


@pytest.mark.parametrize("how", [byte_by_byte, with_controls])
def test_odd_but_right(stage, how):
    stage.api.on["portforward"] = how
    assert stage.ready().leave() == 0


@pytest.mark.parametrize("bad", [
    frame(BINARY, b"\0" + b"x" * 3000), frame(BINARY, b"\0x", mask=True), frame(BINARY, b"\0x", fin=False), frame(TEXT, b"\0x"),
    frame(BINARY, b"", size=1 << 50), frame(BINARY, b"\1pod \x1b[2J gone"), frame(CLOSE, b"\x03\xf3why"), b"\xff" * 100, b""],
    ids=["garbage", "masked", "fragmented", "text", "huge", "error", "close", "noise", "cut"])
def test_a_carrier_broken_later_is_replaced(stage, bad):
    """After the session is up; the flows live on over the next one."""
    dials, breaking = [], threading.Event()

    def send(connection, request):
        dials.append(connection)
        if len(dials) > 4:
            connection.good(request)
        connection.send(upgrade(request) + PORTS)

        def shape(data):
            if breaking.is_set():
                connection.send(bad)
                raise ConnectionAbortedError
            return frame(BINARY, b"\0" + data)
        connection.relay(shape)
    stage.api.on["portforward"] = send
    up = stage.ready()
    before = len(dials)
    breaking.set()
    with stage.net.laptop.connect((SERVER, services.ECHO)) as sock:
        sock.settimeout(20)
        sock.sendall(b"through it all")
        stage.api.on.clear()
        breaking_ended = services.read_exactly(sock, 14)
        assert breaking_ended == b"through it all"
        assert stage.api.seen["portforward"] > before - 1
    assert up.leave() == 0


@pytest.mark.parametrize("case", ["nothing", "head", "body", "ports"])
def test_slow_loris_in_the_upgrade(stage, case):
    """The first try takes its 10 s (PORTFORWARD_OPEN_MS), the next ones are good."""
    def slow(connection, request):
        if stage.api.seen["portforward"] > 2:
            connection.good(request)
        if case == "nothing":
            connection.hold()
        start = {"head": b"HTTP/1.1 101 X\r\n", "body": b"HTTP/1.1 500 X\r\nContent-Length: 100000\r\n\r\n",
                 "ports": upgrade(request)}[case]
        connection.send(start)
        connection.flood({"head": b"X: y\r\n", "body": b"x", "ports": frame(PING, b"x")}[case], pause=0.2)
    stage.api.on["portforward"] = slow
    up = stage.up()
    up.wait_text(b"ready after", 25)
    assert up.leave() == 0


def test_an_upgrade_head_without_end(stage):
    def endless(connection, request):
        connection.send(b"HTTP/1.1 101 X\r\n")
        connection.flood(b"X: " + b"y" * 1000 + b"\r\n")
    stage.api.on["portforward"] = endless
    stage.dials_on("HTTP/1.1")
    assert stage.api.flooded < 32 * MEGABYTE


# ---- the watches of names


@pytest.mark.parametrize("lines", [
    [b"{\n"], [{"type": "ERROR", "object": status(410, "Expired", "too old")}],
    [{"type": "ERROR", "object": status(500, "X", "\x1b[2J")}], [{"type": "BOOKMARK", "object": {"metadata": {}}}],
    [{"type": "ADDED", "object": {"metadata": {"name": 5, "resourceVersion": []}}}], [b"\xff\x00\n" * 100]],
    ids=["truncated", "gone", "error", "bookmark", "types", "binary"])
def test_services_watch_talks_nonsense(stage, lines):
    """Names are a help: the tunnel works without them, and nothing is asked again and again without a pause."""
    def nonsense(connection, request):
        connection.stream(*lines)
        raise ConnectionAbortedError
    stage.api.on["watch-services"] = nonsense
    up = stage.ready()
    asked = stage.api.seen["watch-services"]
    time.sleep(1)
    assert stage.api.seen["watch-services"] - asked < 20
    assert up.leave() == 0


def test_very_many_services(stage):
    many = [{"metadata": {"name": f"s{i}", "namespace": "ems"}, "spec": {"clusterIPs": ["10.99.0.2"]}} for i in range(60000)]
    stage.api.on["services"] = gives(200, items(*many))
    up = stage.ready()
    assert up.leave(memory_max=128 * MEGABYTE) == 0  # 5 MB of JSON, as a tree
