"""Network namespaces, and a look at what is in them.

A socket belongs to the namespace in which it was made, so one test process can hold both ends of everything: Space.socket()
makes one in that namespace, whatever thread calls it.
"""
import ctypes
import json
import os
import socket
import subprocess
import threading

CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def run(*args, check=True):
    """Runs a program, returns what it wrote; its errors are in the exception."""
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(args)}: exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def setns(fd):
    if libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def without_counters(value):
    """What ip prints, without what changes by itself."""
    if isinstance(value, list):
        return [without_counters(v) for v in value]
    if isinstance(value, dict):
        return {k: without_counters(v) for k, v in value.items()
                if k not in ("stats", "stats64", "expires", "valid_life_time", "preferred_life_time", "used", "age")}
    return value


def picture(inside=()):
    """Links, addresses, routes, rules and packet filter of a namespace: `inside` is the command that enters it."""
    def ip(*args):
        text = run(*inside, "ip", "-j", *args, check=False)
        return without_counters(json.loads(text)) if text.strip() else []
    return {
        "links": sorted((link["ifname"], link.get("mtu"), tuple(link["flags"])) for link in ip("link")),
        "addresses": sorted((link["ifname"], address["local"], address["prefixlen"])
                            for link in ip("address") for address in link["addr_info"]),
        "routes4": sorted(map(str, ip("-4", "route", "show", "table", "all"))),
        "routes6": sorted(map(str, ip("-6", "route", "show", "table", "all"))),
        "rules4": sorted(map(str, ip("-4", "rule"))),
        "rules6": sorted(map(str, ip("-6", "rule"))),
        "filter": run(*inside, "nft", "-s", "list", "ruleset", check=False),
    }


class Space:
    """A namespace of our own; close() removes it with all that is in it."""

    def __init__(self, name):
        self.name = name
        self.path = f"/run/netns/{name}"
        run("ip", "netns", "add", name)
        self.inside = ("nsenter", f"--net={self.path}")
        self.ip("link", "set", "lo", "up")
        self.run("sh", "-c", "[ ! -d /proc/sys/net/ipv6 ] || echo 0 >/proc/sys/net/ipv6/conf/default/dad_transmits")

    def close(self):
        run("ip", "netns", "delete", self.name, check=False)

    def ip(self, *args):
        return run("ip", "-n", self.name, *args)

    def run(self, *args, check=True):
        return run(*self.inside, *args, check=check)

    def picture(self):
        return picture(self.inside)

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        """A thread of its own, so that the caller's never changes its namespace."""
        made = []

        def make():
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(fd)
                made.append(socket.socket(family, kind, protocol))
            except OSError as error:
                made.append(error)
            finally:
                os.close(fd)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def connect(self, address, timeout=10):
        sock = self.socket()
        sock.settimeout(timeout)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock

    def listen(self, address, backlog=1024):
        sock = self.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(backlog)
        return sock

    def udp(self, address=None):
        sock = self.socket(kind=socket.SOCK_DGRAM)
        sock.settimeout(10)
        if address:
            sock.bind(address)
        return sock


def join(a, a_name, a_address, b, b_name, b_address):
    """A cable between two namespaces; addresses are CIDR texts."""
    run("ip", "link", "add", a_name, "netns", a.name, "type", "veth", "peer", "name", b_name, "netns", b.name)
    for space, name, address in ((a, a_name, a_address), (b, b_name, b_address)):
        space.ip("address", "add", address, "dev", name)
        space.ip("link", "set", name, "up")
