"""The wall clock jumps by hours, as it does after a laptop's sleep or a wrong time server: nothing of ktvpn looks at it.

Both programs run with a clock_gettime() and time() whose wall clock is moved by what a shared file says."""
import pathlib
import struct
import subprocess
import threading
import time

import pytest

import services
from conftest import RANGE, RELAY
from programs import BUILD, Agent, Client, wait_for
from test_joined import connect

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static volatile int64_t *offset;
static int (*real)(clockid_t, struct timespec *);
__attribute__((constructor)) static void start(void)
{
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int fd = open(getenv("CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        abort();
    offset = page;
}
int clock_gettime(clockid_t id, struct timespec *out)
{
    int rc = real(id, out);
    if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        out->tv_sec += *offset;
    return rc;
}
time_t time(time_t *out)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
"""
REKEY_SECONDS = 120  # WIRE_REKEY_MS


class Clock:
    def __init__(self, net, folder):
        folder.chmod(0o755)
        (folder / "clock.c").write_text(SHIM)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "clock.so", folder / "clock.c", "-ldl"], check=True)
        self.path = folder / "offset"
        self.path.write_bytes(bytes(4096))
        for path in (folder / "clock.so", self.path):
            path.chmod(0o755)
        for path in (folder, *folder.parents):  # the agent is not root
            if path.owner() == "root" and str(path).startswith("/tmp/"):
                path.chmod(path.stat().st_mode | 0o055)
        self.env = {"LD_PRELOAD": str(folder / "clock.so"), "CLOCK_OFFSET": str(self.path)}

    def move(self, seconds):
        with open(self.path, "r+b") as file:
            file.write(struct.pack("=q", seconds))


@pytest.fixture
def clock(net, tmp_path):
    if not (BUILD / "agent/ktvpn-agent").exists():
        pytest.skip("needs the agent that is not static")
    return Clock(net, tmp_path)


def test_wall_clock_jumps_during_the_rekey(world, clock):
    """An hour on, an hour back, each second around the time of the rekey: no carrier ends, no flow stands still."""
    world.agent = world.keep(Agent(world.net.pod, "--log-level", "debug", resolv_conf=str(world.net.pod_conf), env=clock.env,
                                   path=str(BUILD / "agent/ktvpn-agent")))
    world.start_relay()
    world.client = world.keep(Client(world.net.laptop, "--agent", f"tcp://{RELAY[0]}:{RELAY[1]}", "--agent-key", world.agent.key,
                                     "--also", RANGE, "-n", "ems", "-v", resolv_conf=str(world.net.laptop_conf), env=clock.env))
    wait_for("the route into the tunnel", world.is_joined, 15)
    began = time.monotonic()
    wait_for("two carriers", lambda: len(world.client.status()["carriers"]) == 2)
    connections, longest = world.relay.connections, 0.0
    assert str(pathlib.Path(f"/proc/{world.agent.pid}/maps").read_text()).count("clock.so")
    with connect(world, services.ECHO, timeout=30) as sock:
        for second in range(REKEY_SECONDS + 15):
            if second > 5 and (second < 10 or second > REKEY_SECONDS - 10):
                clock.move((3600, -3600)[second % 2])
            asked = time.monotonic()
            sock.sendall(struct.pack(">Q", second))
            assert services.read_exactly(sock, 8) == struct.pack(">Q", second)
            longest = max(longest, time.monotonic() - asked)
            time.sleep(max(0, began + second + 1 - time.monotonic()))
    assert longest < 2
    status = world.client.status()
    assert status["state"] == "connected" and status["reconnects"] == 0
    assert world.relay.connections == connections
    assert all(carrier["age_ms"] > REKEY_SECONDS * 1000 for carrier in status["carriers"])
