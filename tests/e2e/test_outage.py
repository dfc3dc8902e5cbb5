"""C15, and a deleted agent pod: flows outlive carriers, and traffic outlives the agent."""

import threading
import time

import pytest
import traffic
from cluster import wait_for

SIZE = 500 * traffic.MIB
AGENTS = "app.kubernetes.io/name=ktvpn-agent"


@pytest.mark.parametrize("verdict, seconds", [("drop", 20), ("reject with tcp reset", 5)])
def test_c15_outage(joined, cluster, verdict, seconds):
    host = cluster.pod_ip()
    download = traffic.Download(host, SIZE, "c15").read(until=20 * traffic.MIB)
    reader = threading.Thread(target=download.read)
    with cluster.world_rule(verdict):
        reader.start()
        time.sleep(seconds)  # the outage itself
    ended = time.monotonic()
    assert download.received < SIZE  # the outage was during the download
    wait_for(lambda: traffic.works(host, 8080, timeout=0.5), 10, "a new GET")
    assert time.monotonic() - ended < 2
    reader.join(60)
    assert download.is_right()
    download.close()


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def test_agent_pod_deleted(joined, cluster):
    host, old = cluster.service_ip(), joined.status()["agent"]["pod"]
    assert traffic.works(host)
    status, _ = cluster.call("DELETE", f"/api/v1/namespaces/ems/pods/{old}", {"gracePeriodSeconds": 0})
    assert status == 200
    wait_for(lambda: [p for p in cluster.running_pods("ems", AGENTS) if p["metadata"]["name"] != old and is_ready(p)], 30, "a new agent", every=0.02)
    started = time.monotonic()
    wait_for(lambda: traffic.works(host, timeout=0.5), 10, "a GET")
    assert time.monotonic() - started < 2
    assert joined.status()["state"] == "connected"
