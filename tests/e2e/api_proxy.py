"""A proxy in front of the API server that reads along: it ends TLS, and presents the user's certificate itself."""

import contextlib
import re
import select
import socket
import ssl
import threading


class ApiProxy:
    def __init__(self, cluster, user):
        self.cluster, self.warnings, self.answers = cluster, [], 0
        self.front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.front.load_cert_chain(cluster.pki / "apiserver.crt", cluster.pki / "apiserver.key")
        self.back = ssl.create_default_context(cafile=cluster.pki / "ca.crt")
        self.back.load_cert_chain(cluster.pki / f"{user}.crt", cluster.pki / f"{user}.key")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.connections = []

    def kubeconfig(self, folder):
        text = open(self.cluster.developer_kubeconfig).read()
        path = folder / "proxied"
        path.write_text(text.replace(f"{self.cluster.node_ip}:6443", "127.0.0.1:%d" % self.listener.getsockname()[1]))
        return path

    def __enter__(self):
        threading.Thread(target=self.accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for s in self.connections:
            with contextlib.suppress(OSError):
                s.close()

    def accept(self):
        while True:
            try:
                plain = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(plain,), daemon=True).start()

    def serve(self, plain):
        try:
            client = self.front.wrap_socket(plain, server_side=True)
            server = self.back.wrap_socket(socket.create_connection((self.cluster.node_ip, 6443)), server_hostname=self.cluster.node_ip)
        except OSError:
            return
        self.connections += [client, server]
        with client, server, contextlib.suppress(OSError, ValueError):
            relay(client, server, self.look)

    def look(self, data):
        """Heads come whole: the API server writes each in one record."""
        self.answers += len(re.findall(rb"(?m)^HTTP/1\.1 \d+", data))
        self.warnings += re.findall(rb"(?mi)^warning:[^\r\n]*", data)


def relay(client, server, look):
    """Until either ends. One thread: Python's TLS sockets may not be read by one thread and written by another."""
    client.setblocking(False)
    server.setblocking(False)
    while True:
        select.select([client, server], [], [])
        for source, target in ((client, server), (server, client)):
            while (data := read_some(source)) is not None:
                if not data:
                    return
                if source is server:
                    look(data)
                write_all(target, data)


def read_some(s):
    """None when there is nothing yet, though a record of TLS's own may have come."""
    try:
        return s.recv(65536)
    except ssl.SSLWantReadError:
        return None


def write_all(s, data):
    while data:
        try:
            data = data[s.send(data):]
        except ssl.SSLWantWriteError:
            select.select([], [s], [])
