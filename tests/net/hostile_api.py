"""An API server that plays its part well enough for a whole `ktvpn up`, until it is told to misbehave.

Every request has a name ("namespace", "log", "portforward", ...); `server.on[name]` is what is done in place of the good
answer: a function of the connection and the request. The port-forward ends at a real agent, in the namespace that the server
listens in.
"""
import base64
import collections
import contextlib
import hashlib
import json
import pathlib
import re
import select
import socket
import ssl
import struct
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "fake"))
import api_server  # noqa: E402  (tests/fake: the certificates)

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
POD = "ktvpn-agent-pod"
PORTS = b"\x82\x03\x00\xb5\x12\x82\x03\x01\xb5\x12"  # port 4789, on both channels
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

Request = collections.namedtuple("Request", "method path headers body")

# What a request is, by method and path; the first that fits.
NAMES = [(name, re.compile(pattern)) for name, pattern in (
    ("ssar", r"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ("dry-run", r"POST /api/v1/namespaces/ems/services\?dryRun=All"),
    ("dry-run-job", r"POST /apis/batch/v1/namespaces/ems/jobs\?.*dryRun=All"),
    ("service-cidrs", r"GET /apis/networking.k8s.io/v1/servicecidrs"),
    ("watch-services", r"GET /api/v1/namespaces/ems/services\?.*watch="),
    ("services", r"GET /api/v1/namespaces/ems/services"),
    ("watch-namespaces", r"GET /api/v1/namespaces\?.*watch="),
    ("namespaces", r"GET /api/v1/namespaces(\?|$)"),
    ("namespace", r"GET /api/v1/namespaces/ems$"),
    ("find-nodes", r"GET /api/v1/nodes\?limit="),
    ("nodes", r"GET /api/v1/nodes"),
    ("watch-pods", r"GET /api/v1/namespaces/ems/pods\?.*watch="),
    ("last-words", r"GET /api/v1/namespaces/ems/pods/[^/]+/log\?.*tailLines="),
    ("log", r"GET /api/v1/namespaces/ems/pods/[^/]+/log"),
    ("portforward", r"GET /api/v1/namespaces/ems/pods/[^/]+/portforward"),
    ("pod", r"GET /api/v1/namespaces/ems/pods/[^/?]+$"),
    ("pods", r"GET /api/v1/namespaces/ems/pods"),
    ("events", r"GET /api/v1/namespaces/ems/events"),
    ("job", r"POST /apis/batch/v1/namespaces/ems/jobs"),
    ("config-map", r"POST /api/v1/namespaces/ems/configmaps"),
    ("delete-job", r"DELETE /apis/batch/v1/namespaces/ems/jobs/"),
)]


def name_of(request):
    line = f"{request.method} {request.path}"
    return next((name for name, pattern in NAMES if pattern.match(line)), "other")


def status(code, reason, message):
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code}


def items(*objects, **metadata):
    return {"metadata": {"resourceVersion": "1", **metadata}, "items": list(objects)}


NODE = {"metadata": {"name": "node-1", "labels": {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}},
        "spec": {"podCIDRs": ["10.99.128.0/17"]},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "images": [{"names": ["registry.example/pause:3.9"]}]}}
AGENT_POD = {"metadata": {"name": POD, "namespace": "ems", "resourceVersion": "2"}, "spec": {"nodeName": "node-1"},
             "status": {"phase": "Running", "podIP": "10.99.0.1",
                        "containerStatuses": [{"name": "agent", "state": {"running": {}}}]}}
SERVICE = {"metadata": {"name": "dashboard-api", "namespace": "ems", "resourceVersion": "1"},
           "spec": {"clusterIPs": ["10.99.0.2"], "ports": [{"port": 80}]}}

# name: (status, body)
GOOD = {
    "ssar": (201, {"status": {"allowed": True}}),
    "dry-run": (422, status(422, "Invalid", "spec.clusterIPs: Invalid value: \"1.2.3.4\": failed to allocate IP 1.2.3.4: the "
                            "provided IP (1.2.3.4) is not in the valid range. The range of valid IPs is 10.99.0.0/17")),
    "dry-run-job": (201, {"metadata": {"name": "x", "uid": "u"}}),
    "service-cidrs": (200, items({"spec": {"cidrs": ["10.99.0.0/17"]}})),
    "services": (200, items(SERVICE)),
    "namespace": (200, {"kind": "Namespace", "metadata": {"name": "ems"}}),
    "namespaces": (200, items({"metadata": {"name": "ems", "resourceVersion": "1"}})),
    "nodes": (200, items(NODE)),
    "find-nodes": (200, items(NODE)),
    "pods": (200, items(AGENT_POD)),
    "pod": (200, AGENT_POD),
    "events": (200, items()),
    "job": (201, {"metadata": {"name": "x", "uid": "0d7e5f3c"}}),
    "config-map": (201, {"metadata": {"name": "x"}}),
    "delete-job": (200, status(200, "", "")),
}


def frame(opcode, payload, fin=True, mask=False, size=None):
    """`size`: what the head announces, when that is not the truth."""
    size = len(payload) if size is None else size
    bit = 0x80 if mask else 0
    head = bytes([(0x80 if fin else 0) | opcode])
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += struct.pack("!BH", bit | 126, size)
    else:
        head += struct.pack("!BQ", bit | 127, size)
    return head + (b"\0\0\0\0" if mask else b"") + payload


def accept_of(request):
    return base64.b64encode(hashlib.sha1((request.headers["sec-websocket-key"] + GUID).encode()).digest()).decode()


def upgrade(request, accept=None, protocol="v4.channel.k8s.io", extra="", upgrade_header="Upgrade: websocket\r\n"):
    return (f"HTTP/1.1 101 Switching Protocols\r\n{upgrade_header}Connection: Upgrade\r\nSec-WebSocket-Accept: "
            f"{accept or accept_of(request)}\r\nSec-WebSocket-Protocol: {protocol}\r\n{extra}\r\n").encode()


def answer(code, body=b"", headers=""):
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    return f"HTTP/1.1 {code} Whatever\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode() + data


class Connection:
    """One TLS connection, in a thread of its own."""

    def __init__(self, server, sock):
        self.server, self.sock, self.buffer = server, sock, b""

    def send(self, data):
        self.sock.sendall(data)

    def read_request(self):
        while b"\r\n\r\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                return None
            self.buffer += data
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        size = int(headers.get("content-length", 0))
        while len(self.buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                return None
            self.buffer += data
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        method, path, _ = first.split(" ")
        return Request(method, path, headers, body)

    def stream(self, *lines):
        """A chunked answer; the caller goes on with chunk()."""
        self.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for line in lines:
            self.chunk(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")

    def chunk(self, data):
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def hold(self):
        """Until the client leaves, or the server ends."""
        with contextlib.suppress(OSError, ValueError):
            while not self.server.ending:
                if select.select([self.sock], [], [], 0.1)[0] and not self.sock.recv(65536):
                    break
        raise ConnectionAbortedError

    def flood(self, block, pause=0.0, most=1 << 40):
        """The same bytes until the client has had enough."""
        sent = 0
        while sent < most and not self.server.ending:
            self.send(block)
            sent += len(block)
            self.server.flooded = max(self.server.flooded, sent)
            if pause:
                self.server.wait(pause)
        raise ConnectionAbortedError

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionAbortedError

    def good(self, request):
        name = name_of(request)
        if name == "watch-pods":
            self.stream({"type": "ADDED", "object": AGENT_POD})
            self.hold()
        elif name == "log":
            self.stream(self.server.key_line())
            self.hold()
        elif name in ("watch-services", "watch-namespaces"):
            self.stream()
            self.hold()
        elif name == "portforward":
            self.send(upgrade(request) + PORTS)
            self.relay()
        else:
            code, body = GOOD.get(name, (404, status(404, "NotFound", f"no {request.path}")))
            self.send(answer(code, body))

    def take_frames(self):
        """Of the client's: (opcode, payload) of all that are whole in the buffer."""
        while len(self.buffer) >= 6:
            size, head = self.buffer[1] & 0x7f, 2
            if size == 126:
                size, head = struct.unpack_from("!H", self.buffer, 2)[0], 4
            elif size == 127:
                if len(self.buffer) < 10:
                    return
                size, head = struct.unpack_from("!Q", self.buffer, 2)[0], 10
            if len(self.buffer) < head + 4 + size:
                return
            assert self.buffer[head:head + 4] == b"\0\0\0\0", "the client's mask is zero"
            yield self.buffer[0] & 0xf, self.buffer[head + 4:head + 4 + size]
            self.buffer = self.buffer[head + 4 + size:]

    def relay(self, shape=lambda data: frame(BINARY, b"\0" + data)):
        """Data frames to and from the agent; `shape` makes frames of what the agent says."""
        with self.server.space.connect(self.server.agent) as agent:
            while not self.server.ending:
                if not self.sock.pending():
                    select.select([self.sock, agent], [], [], 0.1)
                if self.sock.pending() or select.select([self.sock], [], [], 0)[0]:
                    data = self.sock.recv(65536)
                    if not data:
                        return
                    self.buffer += data
                    for opcode, payload in self.take_frames():
                        if opcode == CLOSE:
                            raise ConnectionAbortedError
                        if opcode == BINARY and payload[0] == 0:
                            agent.sendall(payload[1:])
                if select.select([agent], [], [], 0)[0]:
                    data = agent.recv(32768)
                    if not data:
                        return
                    self.send(shape(data))


class HostileApi:
    def __init__(self, space, address, agent, key, folder):
        self.space, self.agent, self.key = space, agent, key
        self.folder = folder
        self.on = {}           # name of a request: function(connection, request)
        self.on_accept = None  # function(plain socket), before TLS
        self.reset_counts()
        self.stopping = threading.Event()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        api_server.make_ca(folder, "ca")
        api_server.make_cert(folder, "server", "ca", f"IP:{address}")
        self.context.load_cert_chain(f"{folder}/server.crt", f"{folder}/server.key")
        self.listener = space.listen((address, 0))
        self.url = "https://%s:%d" % self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def reset_counts(self):
        self.seen = collections.Counter()
        self.tokens = collections.Counter()
        self.jobs = set()
        self.flooded = 0

    @property
    def ending(self):
        return self.stopping.is_set()

    def wait(self, seconds):
        return self.stopping.wait(seconds)

    def key_line(self):
        return f"ktvpn-agent 0.1.0 key {self.key}\n".encode()

    def kubeconfig(self, path):
        ca = base64.b64encode(pathlib.Path(self.folder, "ca.crt").read_bytes()).decode()
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "k", "cluster": {"server": self.url, "certificate-authority-data": ca}}],
            "users": [{"name": "u", "user": {"token": "tell-nobody"}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}]}))
        return path

    def accept(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(plain,), daemon=True).start()

    def serve(self, plain):
        with contextlib.suppress(OSError, ValueError), plain:
            if self.on_accept is not None:
                self.on_accept(plain)
            with self.context.wrap_socket(plain, server_side=True) as sock:
                connection = Connection(self, sock)
                while (request := connection.read_request()) is not None:
                    self.take(connection, request)

    def take(self, connection, request):
        name = name_of(request)
        self.seen[name] += 1
        self.tokens[request.headers.get("authorization")] += 1
        if name == "job":
            self.jobs.add(json.loads(request.body)["metadata"]["name"])
        if name == "delete-job":
            self.jobs.discard(request.path.rsplit("/", 1)[1])
        self.on.get(name, Connection.good)(connection, request)

    def close(self):
        self.stopping.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
