"""Kubeconfigs of every kind, bad ones too: each by the real kubectl and by `ktvpn up`, against a server that answers 403 to all
and keeps what came: path prefix, Host, SNI, the client certificate's subject, Authorization, Impersonate-*, and the proxy that
was used. Both send the same, or both send nothing. What differs on purpose is in DIFFERENCES, with the reason, and asserted too.

KUBECTL names another kubectl than the one that tests/cluster/build.sh makes. Both programs run in a namespace that has loopback only.
"""
import base64
import contextlib
import json
import os
import pathlib
import re
import select
import socket
import ssl
import string
import subprocess
import threading
from dataclasses import dataclass, field

import pytest

from hostile_api import answer, api_server, status
from programs import KTVPN, TREE
from space import Space, picture

KUBECONFIG, TLS, UNAUTHORIZED, FORBIDDEN, UNREACHABLE = 3, 5, 6, 7, 4
CA = {"certificate-authority-data": "$CA64"}


# ---- what is written ----

def yaml(value, indent=""):
    """Block style; texts in JSON's quotes."""
    if isinstance(value, dict) and value:
        return "".join(f"\n{indent}{json.dumps(k) if not k.isascii() else k}: {yaml(v, indent + '  ').lstrip(' ')}" for k, v in value.items())
    if isinstance(value, list) and value:
        return "".join(f"\n{indent}- {yaml(v, indent + '  ').lstrip()}" for v in value)
    return " " + json.dumps(value)


@dataclass
class Case:
    """`sends`: what must have arrived, of what is compared. `refused`: our exit code and words of our line."""
    user: dict = field(default_factory=dict)
    cluster: dict = field(default_factory=lambda: dict(CA))
    context: dict = field(default_factory=dict)
    top: dict = field(default_factory=dict)
    text: str = None        # the whole file, in place of the above
    files: dict = field(default_factory=dict)
    list: str = "$DIR/config"  # KUBECONFIG
    args: tuple = ()
    sends: dict = None
    refused: tuple = None
    also: str = None        # of a difference: which one sends, "kubectl" or "ktvpn"
    reason: str = None

    def config(self):
        if self.text is not None:
            return self.text
        return yaml({"apiVersion": "v1", "kind": "Config", "current-context": "c",
                     "clusters": [{"name": "k", "cluster": {"server": "$URL", **self.cluster}}],
                     "users": [{"name": "u", "user": self.user}],
                     "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", **self.context}}], **self.top}).lstrip() + "\n"


def script(answer_text, more=""):
    return f"#!/bin/sh\n{more}\ncat <<END\n{answer_text}\nEND\n"


def credential(version="v1", **fields):
    return json.dumps({"kind": "ExecCredential", "apiVersion": f"client.authentication.k8s.io/{version}", "status": fields})


def plugin(version="v1", **more):
    mode = {"interactiveMode": "Never"} if version == "v1" else {}
    return {"exec": {"apiVersion": f"client.authentication.k8s.io/{version}", "command": "./plugin", **mode, **more}}


def without(user, key):
    return {"exec": {k: v for k, v in user["exec"].items() if k != key}}


PLUGIN_TOKEN = {"plugin": script(credential(token="of-plugin"))}
# Its token is all that it was told, in one order.
TELLS_ALL = {"plugin": """#!/usr/bin/env python3
import base64, json, os, sys
told = [json.loads(os.environ["KUBERNETES_EXEC_INFO"]), sys.argv[1:], os.environ.get("FLAVOUR")]
token = base64.b64encode(json.dumps(told, sort_keys=True).encode()).decode()
print(json.dumps({"kind": "ExecCredential", "apiVersion": told[0]["apiVersion"], "status": {"token": token}}))
"""}
CERT_PLUGIN = {"plugin": """#!/usr/bin/env python3
import json
print(json.dumps({"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": {
    "clientCertificateData": open("$CLIENT_CRT").read(), "clientKeyData": open("$CLIENT_KEY").read()}}))
"""}
CERT_DATA = {"client-certificate-data": "$CLIENT_CRT64", "client-key-data": "$CLIENT_KEY64"}
TOKEN = {"token": "plain"}
BEARER = {"authorization": "Bearer plain"}
OF_PLUGIN = {"authorization": "Bearer of-plugin"}
EXTRA = {"as": "jane", "as-groups": ["dev", "ops"], "as-uid": "u-1", "as-user-extra": {"reason": ["a b"], "Acme.com/project": ["x", "y"]}}
NAMED = """{"clusters": [{"name": "k", "cluster": {"server": "$URL", "certificate-authority-data": "$CA64"}}],
 "users": [{"name": "u", "user": {"token": "%s"}}], "contexts": [{"name": "%s", "context": {"cluster": "k", "user": "u"}}],
 "current-context": "%s"}"""
ANCHOR = NAMED.replace('{"token": "%s"}', '&t {"token": "%s"}').replace('"%s"', '"c"').replace('"token": "c"', '"token": "%s"')
ALIAS = (ANCHOR % "plain").replace('"name": "u"', '"name": &u "u"').replace('"user": "u"', '"user": *u')

CASES = {
    # tokens
    "token": Case(user=TOKEN, sends=BEARER),
    "token file": Case(user={"tokenFile": "$DIR/token"}, files={"token": "of-file\n"}, sends={"authorization": "Bearer of-file"}),
    "token file, relative": Case(user={"tokenFile": "sub/token"}, files={"sub/token": "of-file"}, sends={"authorization": "Bearer of-file"}),
    "token file before token": Case(user={"token": "plain", "tokenFile": "token"}, files={"token": " of-file \r\n"},
                                    sends={"authorization": "Bearer of-file"}),
    "token file missing, token": Case(user={"token": "plain", "tokenFile": "none"}, sends=BEARER),
    "token file missing": Case(user={"tokenFile": "none"}, refused=(KUBECONFIG, "tokenFile")),
    "token with CRLF": Case(user={"token": "a\r\nX-Evil: 1"}, refused=(KUBECONFIG, "token of user u")),
    "token with a control character": Case(user={"token": "a\x01b"}, refused=(KUBECONFIG, "token of user u")),
    # certificates
    "certificate, data": Case(user=CERT_DATA, sends={"certificate": "client", "authorization": None}),
    "certificate, files": Case(user={"client-certificate": "$CLIENT_CRT", "client-key": "$CLIENT_KEY"}, sends={"certificate": "client"}),
    "certificate, relative files": Case(user={"client-certificate": "tls/c.crt", "client-key": "tls/c.key"},
                                        files={"tls/c.crt": "$CLIENT_CRT_TEXT", "tls/c.key": "$CLIENT_KEY_TEXT"}, sends={"certificate": "client"}),
    "certificate and token": Case(user={**CERT_DATA, **TOKEN}, sends={"certificate": "client", **BEARER}),
    "certificate without key": Case(user={"client-certificate-data": "$CLIENT_CRT64"}, refused=(KUBECONFIG, "client-key")),
    "certificate, another's key": Case(user={**CERT_DATA, "client-key-data": "$SERVER_KEY64"}, refused=(KUBECONFIG, "key")),
    "certificate file missing": Case(user={"client-certificate": "none", "client-key": "none"}, refused=(KUBECONFIG, "client-certificate")),
    "certificate, bad base64": Case(user={**CERT_DATA, "client-certificate-data": "!!!"}, refused=(KUBECONFIG, "base64")),
    "certificate, no PEM": Case(user={**CERT_DATA, "client-certificate-data": "bm8gUEVN"}, refused=(KUBECONFIG, "certificate")),
    # plugins
    "plugin v1": Case(user=plugin(), files=PLUGIN_TOKEN, sends=OF_PLUGIN),
    "plugin v1beta1": Case(user=plugin("v1beta1"), files={"plugin": script(credential("v1beta1", token="of-plugin"))}, sends=OF_PLUGIN),
    "plugin v1alpha1": Case(user=plugin("v1alpha1"), files={"plugin": script(credential("v1alpha1", token="of-plugin"))},
                            refused=(KUBECONFIG, "apiVersion")),
    "plugin without apiVersion": Case(user=without(plugin(), "apiVersion"), files=PLUGIN_TOKEN, refused=(KUBECONFIG, "apiVersion")),
    "plugin answers in another apiVersion": Case(user=plugin(), files={"plugin": script(credential("v1beta1", token="x"))},
                                                 refused=(UNAUTHORIZED, "apiVersion")),
    "plugin v1 without interactiveMode": Case(user=without(plugin(), "interactiveMode"), files=PLUGIN_TOKEN,
                                              refused=(KUBECONFIG, "interactiveMode")),
    "plugin with a strange interactiveMode": Case(user=plugin(interactiveMode="Often"), files=PLUGIN_TOKEN,
                                                  refused=(KUBECONFIG, "interactiveMode")),
    "plugin that needs a terminal": Case(user=plugin(interactiveMode="Always"), files=PLUGIN_TOKEN, refused=(UNAUTHORIZED, "terminal")),
    "plugin without command": Case(user=without(plugin(), "command"), refused=(KUBECONFIG, "command")),
    "plugin not installed": Case(user=plugin(command="ktvpn-test-none", installHint="get it at the desk"),
                                 refused=(UNAUTHORIZED, "ktvpn-test-none", "get it at the desk")),
    "plugin not there": Case(user=plugin(), refused=(UNAUTHORIZED, "plugin")),
    "plugin fails": Case(user=plugin(), files={"plugin": "#!/bin/sh\nexit 3\n"}, refused=(UNAUTHORIZED, "exit code 3")),
    "plugin writes garbage": Case(user=plugin(), files={"plugin": script("<html>")}, refused=(UNAUTHORIZED, "JSON")),
    "plugin writes nothing": Case(user=plugin(), files={"plugin": "#!/bin/sh\n"}, refused=(UNAUTHORIZED, "JSON")),
    "plugin answers an empty status": Case(user=plugin(), files={"plugin": script(credential())}, refused=(UNAUTHORIZED, "without a token")),
    "plugin answers a certificate without key": Case(user=plugin(), files={"plugin": script(credential(clientCertificateData="x"))},
                                                     refused=(UNAUTHORIZED, "certificate")),
    "plugin's token expires later": Case(user=plugin(), sends=OF_PLUGIN, files={
        "plugin": script(credential(token="of-plugin", expirationTimestamp="2190-01-01T00:00:00Z"))}),
    "plugin's token has expired": Case(user=plugin(), sends=OF_PLUGIN, files={
        "plugin": script(credential(token="of-plugin", expirationTimestamp="2020-01-01T00:00:00Z"))}),
    "plugin's expiry is no time": Case(user=plugin(), refused=(UNAUTHORIZED, "expirationTimestamp"), files={
        "plugin": script(credential(token="x", expirationTimestamp="soon"))}),
    "plugin's certificate": Case(user=plugin(), files=CERT_PLUGIN, sends={"certificate": "client", "authorization": None}),
    "plugin is told nothing of the cluster": Case(user=plugin(), files=TELLS_ALL, sends={}),
    "plugin is told of the cluster, arguments, variables": Case(
        user=plugin(provideClusterInfo=True, args=["get", "a token"], env=[{"name": "FLAVOUR", "value": "lemon=1"}]), files=TELLS_ALL,
        cluster={**CA, "tls-server-name": "kubernetes.example", "extensions": [
            {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a", "values": [1, True, None, "1"]}}]}, sends={}),
    "plugin is told of a cluster without verification": Case(user=plugin("v1beta1", provideClusterInfo=True), files=TELLS_ALL,
                                                             cluster={"insecure-skip-tls-verify": True}, sends={}),
    "plugin by PATH, empty env": Case(user=plugin(command="sh", args=["-c", "cat $DIR/answer"], env=None),
                                      files={"answer": credential(token="of-plugin")}, sends=OF_PLUGIN),
    "token before plugin": Case(user={**TOKEN, **plugin()}, files=PLUGIN_TOKEN, sends=BEARER),
    "certificate before plugin's": Case(user={**CERT_DATA, **plugin()}, files=CERT_PLUGIN, sends={"certificate": "client"}),
    # impersonation
    "impersonate a user": Case(user={**TOKEN, "as": "jane"}, sends={"impersonate": [("impersonate-user", "jane")]}),
    "impersonate all": Case(user={**TOKEN, **EXTRA}, sends=BEARER),
    "impersonate groups only": Case(user={**TOKEN, "as-groups": ["dev"]}, refused=(KUBECONFIG, "impersonated")),
    "impersonate by the command line": Case(user={**TOKEN, "as": "jane"}, args=("--as", "joe", "--as-group", "g1", "--as-group", "g2"),
                                            sends={"impersonate": [("impersonate-group", "g1"), ("impersonate-group", "g2"),
                                                                   ("impersonate-user", "joe")]}),
    # the server
    "path prefix": Case(user=TOKEN, cluster={**CA, "server": "$URL/k8s/clusters/c-1/"}, sends={"prefix": "/k8s/clusters/c-1", **BEARER}),
    "IPv6": Case(user=TOKEN, cluster={**CA, "server": "https://[::1]:$PORT"}, sends=BEARER),
    "host name": Case(user=TOKEN, cluster={**CA, "server": "https://localhost:$PORT"}, sends={"sni": "localhost"}),
    "http": Case(user=TOKEN, cluster={"server": "http://127.0.0.1:$HTTP_PORT"}, sends={"tls": False, "authorization": None}),
    "http, token file": Case(user={"tokenFile": "token"}, files={"token": "of-file"}, cluster={"server": "http://127.0.0.1:$HTTP_PORT"},
                             sends={"authorization": None}),
    "http, plugin that fails": Case(user=plugin(), files={"plugin": "#!/bin/sh\nexit 3\n"}, cluster={"server": "http://127.0.0.1:$HTTP_PORT"},
                                    sends={"authorization": None}),
    "http, impersonation": Case(user={**TOKEN, **EXTRA}, cluster={"server": "http://127.0.0.1:$HTTP_PORT"}, sends={"authorization": None}),
    "http with a path": Case(user=TOKEN, cluster={"server": "http://127.0.0.1:$HTTP_PORT/a"}, sends={"tls": False, "prefix": "/a"}),
    "no scheme": Case(user=TOKEN, cluster={"server": "127.0.0.1:$HTTP_PORT"}, sends={"tls": False}),
    "another scheme": Case(user=TOKEN, cluster={**CA, "server": "ftp://127.0.0.1:$PORT"}, refused=(KUBECONFIG, "http")),
    "CA file, relative": Case(user=TOKEN, cluster={"certificate-authority": "ca.crt"}, files={"ca.crt": "$CA_TEXT"}, sends=BEARER),
    "CA file missing": Case(user=TOKEN, cluster={"certificate-authority": "none"}, refused=(KUBECONFIG, "certificate-authority")),
    "CA, bad base64": Case(user=TOKEN, cluster={"certificate-authority-data": "not base64"}, refused=(KUBECONFIG, "base64")),
    "CA, wrong": Case(user=TOKEN, cluster={"certificate-authority-data": "$OTHER_CA64"}, refused=(TLS, "certificate")),
    "CA, none": Case(user=TOKEN, cluster={}, refused=(TLS, "certificate")),
    "not verified": Case(user=TOKEN, cluster={"insecure-skip-tls-verify": True}, sends=BEARER),
    "not verified, and a CA": Case(user=TOKEN, cluster={**CA, "insecure-skip-tls-verify": True}, refused=(KUBECONFIG, "insecure")),
    "not verified, as a text": Case(user=TOKEN, cluster={"insecure-skip-tls-verify": "true"}, refused=(KUBECONFIG, "insecure")),
    "tls-server-name": Case(user=TOKEN, cluster={**CA, "tls-server-name": "kubernetes.example"}, sends={"sni": "kubernetes.example"}),
    "tls-server-name, wrong": Case(user=TOKEN, cluster={**CA, "tls-server-name": "other.example"}, refused=(TLS, "certificate")),
    # proxies
    "proxy": Case(user=TOKEN, cluster={**CA, "proxy-url": "http://127.0.0.1:$PROXY"}, sends={"proxies": ["CONNECT 127.0.0.1:$PORT None"], **BEARER}),
    "proxy with a password": Case(user=TOKEN, cluster={**CA, "proxy-url": "http://joe:s%40cret@127.0.0.1:$PROXY"},
                                  sends={"proxies": ["CONNECT 127.0.0.1:$PORT Basic am9lOnNAY3JldA=="]}),
    "proxy socks5": Case(user=TOKEN, cluster={**CA, "server": "https://localhost:$PORT", "proxy-url": "socks5://127.0.0.1:$SOCKS"},
                         sends={"proxies": ["SOCKS localhost:$PORT"], **BEARER}),
    "proxy of another scheme": Case(user=TOKEN, cluster={**CA, "proxy-url": "ftp://127.0.0.1:$PROXY"}, refused=(KUBECONFIG, "proxy-url")),
    "proxy that is not there": Case(user=TOKEN, cluster={**CA, "proxy-url": "http://127.0.0.1:1"}, refused=(UNREACHABLE, "127.0.0.1")),
    # contexts
    "another context": Case(user=TOKEN, top={"current-context": "none"}, args=("--context", "c"), sends=BEARER),
    "unknown context": Case(user=TOKEN, args=("--context", "none"), refused=(KUBECONFIG, "no context none", "c")),
    "unknown current context": Case(user=TOKEN, top={"current-context": "none"}, refused=(KUBECONFIG, "no context none")),
    "empty current context": Case(user=TOKEN, top={"current-context": ""}, refused=(KUBECONFIG, "current context")),
    "cluster missing": Case(user=TOKEN, context={"cluster": "none"}, refused=(KUBECONFIG, "no cluster none")),
    "user missing": Case(user=TOKEN, context={"user": "none"}, refused=(KUBECONFIG, "no user none")),
    "cluster without server": Case(user=TOKEN, cluster={"server": ""}, refused=(KUBECONFIG, "no server")),
    # files
    "JSON": Case(text=NAMED % ("plain", "c", "c"), sends=BEARER),
    "several files, the first wins": Case(list="$DIR/one:$DIR/two", sends=BEARER,
                                          files={"one": NAMED % ("plain", "c", ""), "two": NAMED % ("other", "c", "c")}),
    "several files, parts of each": Case(list="$DIR/none:$DIR/one::$DIR/two", sends={"authorization": "Bearer two"}, files={
        "one": "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n", "two": NAMED % ("two", "d", "d")}),
    "several files, one broken": Case(list="$DIR/one:$DIR/two", refused=(KUBECONFIG, "two"),
                                      files={"one": NAMED % ("plain", "c", "c"), "two": "a: [\n"}),
    "no file": Case(list="$DIR/none", refused=(KUBECONFIG, "none")),
    "empty file": Case(text="", refused=(KUBECONFIG, "current context")),
    "a folder": Case(list="$DIR", refused=(KUBECONFIG, "cannot read")),
    "broken YAML": Case(text="clusters: [\n", refused=(KUBECONFIG, "line")),
    "tabs": Case(text="clusters:\n\t- name: k\n", refused=(KUBECONFIG, "line")),
    "a list": Case(text="- 1\n", refused=(KUBECONFIG, "no kubeconfig")),
    "clusters are a map": Case(user=TOKEN, top={"clusters": {"k": {"server": "$URL"}}}, refused=(KUBECONFIG, "list")),
    "another kind": Case(user=TOKEN, top={"kind": "Pod"}, refused=(KUBECONFIG, "kind")),
    "another apiVersion": Case(user=TOKEN, top={"apiVersion": "v2"}, refused=(KUBECONFIG, "apiVersion")),
    "the same name twice": Case(user=TOKEN, top={"users": [{"name": "u", "user": TOKEN}, {"name": "u", "user": {"token": "b"}}]},
                                refused=(KUBECONFIG, "same name")),
    "unknown fields": Case(user={**TOKEN, "shoe-size": 43}, top={"extras": {"a": [1]}}, sends=BEARER),
    "an alias": Case(text=ALIAS, sends=BEARER),
    "an anchor": Case(text=ANCHOR % "plain", sends=BEARER),
    "two documents": Case(text=(NAMED % ("plain", "c", "c")) + "\n---\n" + (NAMED % ("b", "c", "c")), sends=BEARER),
    "a key twice": Case(text=(NAMED % ("plain", "c", "c")).replace('{"token"', '{"token": "first", "token"'), sends=BEARER),
    "password and token": Case(user={**TOKEN, "username": "joe", "password": "x"}, refused=(KUBECONFIG, "password")),
    "auth-provider": Case(user={"auth-provider": {"name": "oidc-none", "config": {"a": "b"}}}, refused=(KUBECONFIG, "auth-provider")),
}

BOTH = "kubectl says that data override a path, and then refuses to work at all; we let data override it"

# What is known to differ: who sends all the same, and why the other does not.
DIFFERENCES = {
    "a password": Case(user={"username": "joe", "password": "secret"}, refused=(KUBECONFIG, "password"), also="kubectl",
                       reason="no API server takes passwords since Kubernetes 1.19; we say so instead of sending one in vain"),
    "no user's fields": Case(also="ktvpn", reason="kubectl asks on the terminal for a name and a password; we are anonymous"),
    "certificate, data and files": Case(user={**CERT_DATA, "client-certificate": "bad", "client-key": "bad"}, files={"bad": "no PEM"},
                                        also="ktvpn", sends={"certificate": "client"}, reason=BOTH),
    "CA, data and a file": Case(user=TOKEN, cluster={**CA, "certificate-authority": "none"}, also="ktvpn", sends=BEARER, reason=BOTH),
    "no scheme, with a CA": Case(user=TOKEN, cluster={**CA, "server": "127.0.0.1:$PORT"}, also="ktvpn",
                                 reason="kubectl takes http wherever there is no scheme; a CA says that https is meant"),
    "a number in place of a text": Case(user={"token": 12345}, also="ktvpn", reason="we take every plain value as it is written"),
}


# ---- who listens ----

class Recorder:
    """The server, by TLS on 127.0.0.1 and ::1 and plainly, and two proxies that lead to it."""

    def __init__(self, space, folder):
        self.space, self.folder, self.requests, self.proxies = space, folder, [], []
        for name in ("ca", "otherca"):
            api_server.make_ca(folder, name)
        api_server.make_cert(folder, "server", "ca", "IP:127.0.0.1,IP:::1,DNS:localhost,DNS:kubernetes.example")
        api_server.make_cert(folder, "client", "ca", "DNS:client")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "server.crt", folder / "server.key")
        self.context.load_verify_locations(folder / "ca.crt")
        self.context.verify_mode = ssl.CERT_OPTIONAL
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.sni_callback = lambda sock, name, _: setattr(sock, "ktvpn_name", name)
        self.listeners = []
        port = self.listen("127.0.0.1", 0, self.serve_tls)
        self.listen("::1", port, self.serve_tls)
        self.values = {"URL": f"https://127.0.0.1:{port}", "PORT": port, "HTTP_PORT": self.listen("127.0.0.1", 0, self.serve),
                       "PROXY": self.listen("127.0.0.1", 0, self.serve_connect), "SOCKS": self.listen("127.0.0.1", 0, self.serve_socks),
                       "CLIENT_CRT": folder / "client.crt", "CLIENT_KEY": folder / "client.key"}
        for key, name in (("CA", "ca.crt"), ("OTHER_CA", "otherca.crt"), ("CLIENT_CRT", "client.crt"), ("CLIENT_KEY", "client.key"),
                          ("SERVER_KEY", "server.key")):
            text = (folder / name).read_text()
            self.values |= {f"{key}_TEXT": text, f"{key}64": base64.b64encode(text.encode()).decode()}

    def listen(self, host, port, serve):
        listener = self.space.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.bind((host, port))
        listener.listen()
        self.listeners.append(listener)
        threading.Thread(target=self.accept, args=(listener, serve), daemon=True).start()
        return listener.getsockname()[1]

    def accept(self, listener, serve):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.run, args=(sock, serve), daemon=True).start()

    @staticmethod
    def run(sock, serve):
        sock.settimeout(20)
        with contextlib.suppress(OSError, ValueError), sock:
            serve(sock)

    def serve_tls(self, sock):
        with self.context.wrap_socket(sock, server_side=True) as wrapped:
            self.serve(wrapped)

    def serve(self, sock):
        reader = sock.makefile("rb")
        while first := reader.readline().decode().split():
            headers = []
            while line := reader.readline().decode("latin-1").rstrip("\r\n"):
                name, _, value = line.partition(":")
                headers.append((name.lower(), value.strip()))
            reader.read(int(dict(headers).get("content-length", 0)))
            self.keep(sock, first[1], headers)
            sock.sendall(answer(403, status(403, "Forbidden", "not you"), "Content-Type: application/json\r\n"))

    def keep(self, sock, path, headers):
        is_tls = isinstance(sock, ssl.SSLSocket)
        subject = (sock.getpeercert() or {}).get("subject", ()) if is_tls else ()
        self.requests.append({
            "tls": is_tls, "prefix": re.split(r"/apis?/", path)[0], "host": dict(headers).get("host"),
            "sni": getattr(sock, "ktvpn_name", None), "certificate": next((value for ((_, value),) in subject), None),
            "authorization": dict(headers).get("authorization"),
            "impersonate": sorted(h for h in headers if h[0].startswith("impersonate-"))})

    def serve_connect(self, sock):
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        method, target, _ = head.decode().split(" ", 2)
        password = re.search(r"(?i)proxy-authorization: (.*)\r", head.decode())
        self.proxies.append(f"{method} {target} {password[1] if password else None}")
        self.relay(sock, target.rsplit(":", 1)[1], b"HTTP/1.1 200 Fine\r\n\r\n")

    def serve_socks(self, sock):
        assert sock.recv(1) == b"\5"
        sock.recv(sock.recv(1)[0])
        sock.sendall(b"\5\0")
        kind = sock.recv(4)[3]
        host = sock.recv(sock.recv(1)[0]).decode() if kind == 3 else socket.inet_ntop(
            socket.AF_INET if kind == 1 else socket.AF_INET6, sock.recv(4 if kind == 1 else 16))
        port = int.from_bytes(sock.recv(2), "big")
        self.proxies.append(f"SOCKS {host}:{port}")
        self.relay(sock, port, b"\5\0\0\1\0\0\0\0\0\0")

    def relay(self, sock, port, greeting):
        with self.space.connect(("127.0.0.1", int(port))) as other:
            sock.sendall(greeting)
            while True:
                for one in select.select([sock, other], [], [], 20)[0]:
                    data = one.recv(65536)
                    if not data:
                        return
                    (other if one is sock else sock).sendall(data)

    def take(self):
        """What came since the last time, each different one once."""
        seen = sorted({json.dumps(r, sort_keys=True) for r in self.requests})
        proxies = sorted(set(self.proxies))
        self.requests, self.proxies = [], []
        return [{**json.loads(r), "proxies": proxies} for r in seen]

    def close(self):
        for listener in self.listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def find_kubectl():
    if "KUBECTL" in os.environ:
        return os.environ["KUBECTL"]
    names = subprocess.run([TREE / "tests/cluster/env.sh"], capture_output=True, text=True, check=True).stdout
    return re.search(r"KT_KUBECTL=(.*)", names)[1]


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if not pathlib.Path(find_kubectl()).exists():
        pytest.skip("no kubectl: tests/cluster/build.sh makes it")
    before = picture()
    space = Space(f"ktvpn-test-matrix-{os.getpid():x}")
    recorder = Recorder(space, tmp_path_factory.mktemp("certs"))
    yield recorder
    recorder.close()
    space.close()
    assert picture() == before, "the machine's own namespace is not as it was"


class Trial:
    """One case on disk, and both programs with it."""

    def __init__(self, recorder, folder, case):
        self.recorder, self.folder, self.case = recorder, folder, case
        values = {**recorder.values, "DIR": folder}
        self.fill = lambda text: string.Template(text).safe_substitute(values)
        for name, text in {"config": case.config(), **case.files}.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(self.fill(text).encode())
            path.chmod(0o700)
        keep = {k: v for k, v in os.environ.items() if k.startswith(("PATH", "ASAN", "UBSAN"))}
        self.env = {**keep, "LC_ALL": "C", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder), "KUBECONFIG": self.fill(case.list)}

    def run(self, *argv):
        done = subprocess.run([*self.recorder.space.inside, *argv, *self.case.args], env=self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=20)
        return done.returncode, done.stderr.decode(), self.recorder.take()

    def kubectl(self):
        return self.run(find_kubectl(), "get", "--raw", "/api/v1/namespaces/ems")

    def ktvpn(self):
        return self.run(KTVPN, "up", "--name", "matrix", "-n", "ems")

    def check_sent(self, seen):
        assert len(seen) == 1, seen
        for key, value in (self.case.sends or {}).items():
            value = json.loads(self.fill(json.dumps(value)))
            assert seen[0][key] == value, (key, seen[0][key], value)

    def check_refused(self, code, text):
        """By one line, which nobody's terminal minds."""
        lines = [line for line in text.splitlines() if line.startswith("ktvpn: ")]
        assert code == self.case.refused[0] and len(lines) == 1, (code, text)
        assert all(word in lines[0] for word in self.case.refused[1:]), lines[0]
        assert re.fullmatch(r"[\x20-\x7e\n]*", text), repr(text)


@pytest.mark.parametrize("name", CASES)
def test_as_kubectl(recorder, tmp_path, name):
    trial = Trial(recorder, tmp_path, CASES[name])
    theirs_code, theirs_text, theirs = trial.kubectl()
    code, text, ours = trial.ktvpn()
    if trial.case.refused:
        assert theirs_code != 0 and not theirs, (theirs_code, theirs_text, theirs)
        assert not ours, ours
        trial.check_refused(code, text)
    else:
        assert theirs and ours == theirs, f"\n{theirs}\n{ours}\nkubectl: {theirs_text}\nktvpn: {code} {text}"
        assert code == FORBIDDEN, (code, text)
        trial.check_sent(ours)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_known_difference(recorder, tmp_path, name):
    trial = Trial(recorder, tmp_path, DIFFERENCES[name])
    _, theirs_text, theirs = trial.kubectl()
    code, text, ours = trial.ktvpn()
    assert trial.case.reason and bool(theirs) == (trial.case.also == "kubectl"), (theirs, theirs_text)
    assert bool(ours) == (trial.case.also == "ktvpn"), (code, text)
    if trial.case.refused:
        trial.check_refused(code, text)
    else:
        assert code == FORBIDDEN, (code, text)
        trial.check_sent(ours)
