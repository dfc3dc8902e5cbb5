"""A client may send only from its session's address: what comes from another one is dropped, and counted."""
import socket
import struct

import services
from conftest import SERVER
from programs import wait_for

PORT = 7300


def datagram(source, target, port, data):
    head = struct.pack(">HHHH", 40000, port, 8 + len(data), 0)  # no checksum, as UDP of IPv4 may
    return struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28 + len(data), 0, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(target)) + head + data


def test_another_source_address_is_dropped(joined):
    net = joined.net
    own = joined.client.status()["addresses"][0].split("/")[0]
    with net.cluster.udp((SERVER, PORT)) as server, \
            net.laptop.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for source in ("10.99.0.3", "10.222.0.1", "192.0.2.1", own[:-1] + ("1" if own[-1] != "1" else "2")):
            raw.sendto(datagram(source, SERVER, PORT, b"forged"), (SERVER, 0))
        raw.sendto(datagram(own, SERVER, PORT, b"honest"), (SERVER, 0))
        assert server.recv(100) == b"honest"  # carriers keep the order of a flow, and each forged one was another: wait for them too
        server.settimeout(1)
        try:
            data = server.recv(100)
        except socket.timeout:
            data = None
        assert data is None
    with net.laptop.connect((SERVER, services.GREETS)) as sock:
        assert services.read_line(sock) == "hello"
    joined.client.close()
    wait_for("the agent has counted them", lambda: "4 packets with a foreign source" in joined.agent.log)
