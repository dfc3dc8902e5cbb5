"""X1, X2, X5, X6: a start that cannot work changes nothing, and says in one clear line which thing is wrong."""

import contextlib
import json
import socket
import ssl
import subprocess
import threading

import machine
import pytest
import traffic
from cluster import wait_for


def refused(*args, code, words, kubeconfig=None, prefix=()):
    rc, out, err = machine.run("up", *(args or ("-n", "ems")), kubeconfig=kubeconfig, prefix=prefix)
    lines = [line for line in err.splitlines() if line.startswith("ktvpn")]
    assert rc == code, err
    assert lines and all(word in lines[-1] + err[err.rfind(lines[-1]):] for word in words), err
    return err


def edited(cluster, tmp_path, *changes):
    text = open(cluster.kubeconfig).read()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "config"
    path.write_text(text)
    return path


def test_x1_no_kubeconfig():
    refused(code=3, words=["kubeconfig"])


def test_x1_missing_file():
    refused("--kubeconfig", "/nonexistent/config", code=3, words=["/nonexistent/config"])


def test_x1_unknown_context(cluster):
    refused("--context", "nowhere", kubeconfig=cluster.kubeconfig, code=3, words=["nowhere", cluster.name])


def test_x1_unknown_namespace(cluster):
    refused("-n", "nowhere", kubeconfig=cluster.kubeconfig, code=12, words=["nowhere"])


def test_x1_broken_yaml(cluster, tmp_path):
    path = edited(cluster, tmp_path, ("users:", "users: ]["))
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "][" in text)
    refused(kubeconfig=path, code=3, words=[str(path), str(line)])


@pytest.mark.parametrize("address", ["172.31.77.2:6444", "127.0.0.1:1"])
def test_x2_api_server_down(cluster, tmp_path, address):
    refused(kubeconfig=edited(cluster, tmp_path, (f"{cluster.node_ip}:6443", address)), code=4, words=[address])


def certificate(folder, name, ca, *options, names="IP:127.0.0.1", subject="/CN=kube-apiserver"):
    """A server's certificate and key in one file."""
    files = {kind: str(folder / f"{name}.{kind}") for kind in ("key", "csr", "crt", "ext")}
    (folder / f"{name}.ext").write_text(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", files["key"], "-out", files["csr"], "-subj", subject)
    openssl("x509", "-req", "-in", files["csr"], "-CA", f"{ca}.crt", "-CAkey", f"{ca}.key", "-set_serial", "77", "-out", files["crt"],
            "-extfile", files["ext"], *(options or ("-days", "1")))
    return files["crt"], files["key"]


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True)


@contextlib.contextmanager
def tls_server(crt, key):
    """Answers handshakes, and counts the bytes that came after one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    listener = socket.create_server(("127.0.0.1", 0))
    heard = []

    def serve():
        while True:
            try:
                plain = listener.accept()[0]
            except OSError:
                return
            with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as s:
                heard.append(s.recv(4096))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(2)


@pytest.mark.parametrize("what, word", [("another CA", "certificate"), ("expired", "expired"), ("another name", "127.0.0.1")])
def test_x2_not_to_be_trusted(cluster, tmp_path, what, word):
    ca = cluster.pki / "ca"
    if what == "another CA":
        ca = tmp_path / "other"
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-x509", "-keyout", f"{ca}.key", "-out", f"{ca}.crt", "-subj", "/CN=other", "-days", "1")
    options = ("-days", "-1") if what == "expired" else ()
    names = "DNS:elsewhere.example" if what == "another name" else "IP:127.0.0.1"
    with tls_server(*certificate(tmp_path, "server", ca, *options, names=names)) as (port, heard):
        config = edited(cluster, tmp_path, (f"{cluster.node_ip}:6443", f"127.0.0.1:{port}"))
        refused(kubeconfig=config, code=5, words=[word])
        assert not any(heard), "went on without verification"


def test_x5_no_tun(cluster):
    hide = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh"]
    refused(kubeconfig=cluster.kubeconfig, prefix=hide, code=9, words=["/dev/net/tun", "modprobe tun", "--device"])


def test_x5_no_capability(cluster, tmp_path):
    drop = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]
    refused(kubeconfig=cluster.kubeconfig, prefix=drop, code=9, words=["CAP_NET_ADMIN", "sudo ktvpn up", "setcap", "--cap-add"])


NETWORKS = {"v4": ("10.222.77.1/24", "10.222.77.0/24", "10.222.0.0/16"), "v6": ("fd31:222::7701/120", "fd31:222::7700/120", "fd31:222::/112")}


@contextlib.contextmanager
def connected_network(address):
    """The laptop has a network of its own inside the cluster's range."""
    subprocess.run(["ip", "addr", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else [])], check=True)
    wait_for(lambda: address.split("/")[0] in machine.text_of("ip", "route", "show", "table", "local")
             + machine.text_of("ip", "-6", "route", "show", "table", "local"), 5, "the address is in use")
    try:
        yield
    finally:
        subprocess.run(["ip", "addr", "del", address, "dev", "eth0"], check=True)


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_x6_a_network_of_this_machine(cluster, ktvpn_up, family):
    address, network, services = NETWORKS[family]
    with connected_network(address):
        before, objects = machine.snapshot(), cluster.snapshot()
        refused(kubeconfig=cluster.kubeconfig, code=10, words=[services, network, "eth0", f"--exclude {network}"])
        assert not machine.differences(before, machine.snapshot()) and objects == cluster.snapshot()
        with ktvpn_up("-n", "ems", "--exclude", network) as up:
            assert services not in up.status()["ranges"]
            assert traffic.pod_of("dashboard-api").startswith("dashboard-api-")
            assert "eth0" in machine.text_of("ip", "route", "get", network.split("/")[0][:-1] + "9")
