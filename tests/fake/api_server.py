#!/usr/bin/env python3
"""A scripted API server for unit tests: plain HTTP and several kinds of TLS, each on a port of 127.0.0.1 that the kernel picks.

Prints "NAME PORT" for each listener and the folder of certificates, then "ready"; ends when its standard input does.

  POST /_script  {"GET /path": [ANSWER, ...]}   each request takes the next answer, the last one stays
  GET  /_seen    [{"method", "path", "headers", "body", "alpn", "listener", "connection"}], and forgets them

ANSWER: status, headers {}, body (text or JSON), lines [] (streamed), end: "close" (in order), "cut" (in the middle of a chunk),
"hold" (stays open until the client leaves), "drop" (no answer at all), "silent" (no answer, stays open). Or raw: bytes that are
sent `times` times, before the connection ends.
"""
import itertools
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

script, seen, lock, numbers = {}, [], threading.Lock(), itertools.count()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.number = next(numbers)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *args):
        pass

    def serve(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size).decode()
        if self.path == "/_script":
            with lock:
                script.update(json.loads(body))
            return self.answer({"body": "{}"})
        if self.path == "/_seen":
            with lock:
                taken = seen[:]
                seen.clear()
            return self.answer({"body": taken})
        alpn = self.connection.selected_alpn_protocol() if isinstance(self.connection, ssl.SSLSocket) else None
        with lock:
            seen.append({"method": self.command, "path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()},
                         "body": body, "alpn": alpn, "listener": self.server.name, "connection": self.number})
            answers = script.get(f"{self.command} {self.path}", [{"status": 404, "body": "nothing scripted\n"}])
            answer = answers[0] if len(answers) == 1 else answers.pop(0)
        return self.answer(answer)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = serve

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def until_the_client_leaves(self):
        self.close_connection = True
        try:
            while self.connection.recv(4096):
                pass
        except OSError:
            pass

    def answer(self, answer):
        end = answer.get("end", "close")
        if end == "silent":
            return self.until_the_client_leaves()
        if end == "drop":
            self.close_connection = True
            return None
        if "raw" in answer:
            self.close_connection = True
            for _ in range(answer.get("times", 1)):
                self.wfile.write(answer["raw"].encode("latin-1"))
            return None
        self.send_response(answer.get("status", 200))
        for name, value in answer.get("headers", {}).items():
            for one in value if isinstance(value, list) else [value]:
                self.send_header(name, one)
        if "lines" not in answer:
            body = answer.get("body", "")
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            data *= answer.get("times", 1)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return None
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in answer["lines"]:
            self.chunk((line if isinstance(line, str) else json.dumps(line) + "\n").encode())
        if end == "hold":
            return self.until_the_client_leaves()
        if end == "cut":
            self.wfile.write(b"ff\r\nhalf")
            self.close_connection = True
            return None
        self.wfile.write(b"0\r\n\r\n")
        return None


def openssl(*args, text=""):
    subprocess.run(["openssl", *args], input=text.encode(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def make_ca(folder, name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
            "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.crt")


def make_cert(folder, name, ca, san, days="2"):
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
            f"{folder}/{name}.key", "-out", f"{folder}/{name}.csr")
    with open(f"{folder}/{name}.ext", "w") as out:
        out.write(f"subjectAltName={san}\n")
    openssl("x509", "-req", "-in", f"{folder}/{name}.csr", "-CA", f"{folder}/{ca}.crt", "-CAkey", f"{folder}/{ca}.key",
            "-CAcreateserial", "-days", days, "-extfile", f"{folder}/{name}.ext", "-out", f"{folder}/{name}.crt")


def listen(folder, name, cert=None, alpn=("http/1.1",), client_ca=None):
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request, client_address):
            pass

        def finish_request(self, request, client_address):
            if cert is None:
                return super().finish_request(request, client_address)
            try:
                wrapped = context.wrap_socket(request.dup(), server_side=True)  # in the connection's own thread
            except ssl.SSLError:
                while request.recv(4096):  # no RST over the alert
                    pass
                raise
            with wrapped:
                return super().finish_request(wrapped, client_address)

    if cert is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/{cert}.crt", f"{folder}/{cert}.key")
        context.set_alpn_protocols(list(alpn))
        if client_ca is not None:
            context.load_verify_locations(f"{folder}/{client_ca}.crt")
            context.verify_mode = ssl.CERT_REQUIRED
    server = Server(("127.0.0.1", 0), Handler)
    server.name = name
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(name, server.server_address[1], flush=True)


def main():
    folder = tempfile.mkdtemp(prefix="ktvpn-test-certs-")
    try:
        make_ca(folder, "ca")
        make_ca(folder, "otherca")
        san = "IP:127.0.0.1,DNS:localhost"
        make_cert(folder, "good", "ca", san)
        make_cert(folder, "expired", "ca", san, days="-1")
        make_cert(folder, "othername", "ca", "DNS:kubernetes.example")
        make_cert(folder, "client", "ca", "DNS:client")
        make_cert(folder, "otherclient", "otherca", "DNS:client")
        listen(folder, "http")
        for name in ("good", "expired", "othername"):
            listen(folder, name, name)
        listen(folder, "h2", "good", alpn=("h2", "http/1.1"))
        listen(folder, "mtls", "good", client_ca="ca")
        print("certs", folder, flush=True)
        print("ready", flush=True)
        sys.stdin.read()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


if __name__ == "__main__":
    main()
