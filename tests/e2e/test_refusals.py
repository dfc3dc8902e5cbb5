"""X3, X4, and an agent that ends: who refuses what, in one line with the words of the API or the pod, and nothing is left."""

import contextlib
import json
import time

import machine
import pytest
import traffic
from cluster import wait_for

RIGHTS = [("batch", "jobs", "create"), ("batch", "jobs", "get"), ("batch", "jobs", "delete"), ("", "configmaps", "create"),
          ("", "configmaps", "delete"), ("", "pods", "get"), ("", "pods", "list"), ("", "pods", "watch"), ("", "pods/log", "get"),
          ("", "pods/portforward", "get"), ("", "pods/portforward", "create"), ("", "services", "get"), ("", "services", "list"),
          ("", "services", "watch")]
ROLE = "/apis/rbac.authorization.k8s.io/v1/namespaces/ems/roles/ktvpn"


def refused(cluster, *args, kubeconfig=None, code, words, seconds=30):
    """Exit code and words of the last message; nothing was left in the namespace."""
    began = time.monotonic()
    rc, _, err = machine.run("up", *args, kubeconfig=kubeconfig or cluster.kubeconfig, timeout=60)
    took = time.monotonic() - began
    message = err[err.rfind("ktvpn: "):] if "ktvpn: " in err else err
    assert rc == code, err
    assert all(word in message for word in words), err
    assert took < seconds, f"{took:.1f} s\n{err}"
    namespace = args[args.index("-n") + 1]
    wait_for(lambda: nothing_of_ours(cluster, namespace), 20, "nothing is left")
    return message


def nothing_of_ours(cluster, namespace):
    paths = ["/apis/batch/v1/namespaces/{}/jobs", "/api/v1/namespaces/{}/configmaps", "/api/v1/namespaces/{}/pods"]
    return not [item for path in paths for item in cluster.get(path.format(namespace))["items"] if "ktvpn" in item["metadata"]["name"]]


@pytest.fixture
def role(cluster):
    """The developer's Role in namespace ems, to be changed."""
    before = cluster.get(ROLE)

    def put(rules):
        status, answer = cluster.call("PUT", ROLE, {**before, "rules": rules, "metadata": {"name": "ktvpn", "namespace": "ems"}})
        assert status == 200, answer
    yield put
    put(before["rules"])


def one_rule_each(rights):
    return [{"apiGroups": [group], "resources": [resource], "verbs": [verb]} for group, resource, verb in rights]


@pytest.mark.parametrize("missing", RIGHTS, ids=lambda r: f"{r[2]} {r[1]}")
def test_x3_forbidden(cluster, role, missing):
    group, resource, verb = missing
    role(one_rule_each([right for right in RIGHTS if right != missing]))
    message = refused(cluster, "-n", "ems", kubeconfig=cluster.developer_kubeconfig, code=7, words=[f"{verb} {resource};", "namespace ems"], seconds=5)
    assert f'{{apiGroups: ["{group}"], resources: [{resource}], verbs: [{verb}]}}' in message


def test_x3_no_right_at_all(cluster, role):
    role([])
    refused(cluster, "-n", "ems", kubeconfig=cluster.developer_kubeconfig, code=7, seconds=5,
            words=["resources: [jobs], verbs: [create, get, delete]", "resources: [pods/portforward], verbs: [get, create]"])


def test_x3_unauthorized(cluster, tmp_path):
    config = tmp_path / "config"
    ca = (cluster.pki / "ca.crt")
    config.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": f"https://{cluster.node_ip}:6443", "certificate-authority": str(ca)}}],
        "users": [{"name": "x", "user": {"token": "of-yesterday"}}]}))
    message = refused(cluster, "-n", "ems", kubeconfig=config, code=6, words=["401"], seconds=5)
    assert "of-yesterday" not in message


@contextlib.contextmanager
def namespace(cluster, labels=None, objects=()):
    """A namespace `bad` with these objects, where the developer has the documented Role."""
    labels_ = dict(labels or {})
    cluster.kc("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bad", "labels": labels_}}))
    try:
        for obj in objects:
            cluster.kc("-n", "bad", "create", "-f", "-", input=json.dumps(obj))
        cluster.kc("-n", "bad", "apply", "-f", str(machine.REPO / "deploy/role.yaml"))
        yield
    finally:
        cluster.kc("delete", "namespace", "bad", "--timeout=60s")


def quota(**hard):
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {k.replace("_", "."): v for k, v in hard.items()}}}


LIMITS = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "tight"}, "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}}


@pytest.mark.parametrize("who", ["administrator", "developer"])
@pytest.mark.parametrize("what, words", [("quota", ["exceeded quota: small", "limits.cpu"]), ("limits", ["maximum cpu usage per Container is 1"])])
def test_x4_quota_and_limits(cluster, who, what, words):
    """The administrator hears it from the dry run; a developer, who may make no pod, from the Job's events."""
    objects = [quota(limits_cpu="1")] if what == "quota" else [LIMITS]
    with namespace(cluster, objects=objects):
        config = cluster.kubeconfig if who == "administrator" else cluster.developer_kubeconfig
        refused(cluster, "-n", "bad", "--agent-image", "localhost/pause:1", kubeconfig=config, code=8 if who == "developer" else 7, words=words, seconds=10)


def test_x4_quota_of_jobs(cluster):
    with namespace(cluster, objects=[quota(**{"count/jobs_batch": "0"})]):
        refused(cluster, "-n", "bad", "--agent-image", "localhost/pause:1", kubeconfig=cluster.developer_kubeconfig, code=7, words=["exceeded quota: small"], seconds=5)


def test_x4_image_that_cannot_be_pulled(cluster):
    refused(cluster, "-n", "ems", "--agent-image", "localhost:1/nothing:7", code=8, words=["ErrImagePull", "localhost:1/nothing:7"], seconds=12)


def test_x4_no_image_at_all(cluster):
    refused(cluster, "-n", "ems", "--agent-image", "Not An Image", code=8, words=["Not An Image"], seconds=12)


def test_x4_no_schedulable_node(cluster):
    cluster.kc("cordon", "node1")
    try:
        refused(cluster, "-n", "ems", code=8, words=["Unschedulable", "0/1 nodes are available"], seconds=12)
    finally:
        cluster.kc("uncordon", "node1")


def test_x4_another_program(cluster):
    """The pod's last words, or what is no key line."""
    refused(cluster, "-n", "ems", "--agent-image", "localhost/pause:1", code=8, words=["the agent's pod"], seconds=20)


def agents(cluster):
    return cluster.running_pods("ems", "app.kubernetes.io/name=ktvpn-agent")


def test_crash_loop(cluster):
    """An agent that is killed again and again; the third time within a minute is the last."""
    up = machine.Up("-n", "ems", kubeconfig=cluster.kubeconfig).wait_connected()
    for _ in range(3):
        pod = wait_for(lambda: (agents(cluster) or [None])[0], 20, "an agent")["metadata"]["name"]
        wait_for(lambda: up.process.poll() is not None or up.status().get("agent", {}).get("pod") == pod and up.is_connected(), 20, "the session")
        cluster.stop_container(pod, number=9)
        wait_for(lambda: pod not in [p["metadata"]["name"] for p in agents(cluster)], 20, "it is gone")
    assert up.wait(20) == 8
    assert "3 times within 60 s" in up.output() and "exit code 137" in up.output(), up.output()
    wait_for(lambda: nothing_of_ours(cluster, "ems"), 20, "nothing is left")


def test_deadline_and_drain(joined, cluster):
    """The Job's deadline, and the eviction of its pod: a new agent comes by itself."""
    host = cluster.service_ip()
    for way in ("deadline", "eviction"):
        pod = joined.status()["agent"]["pod"]
        if way == "deadline":
            job = cluster.get(f"/api/v1/namespaces/ems/pods/{pod}")["metadata"]["labels"]["app.kubernetes.io/instance"]
            cluster.kc("-n", "ems", "patch", "job", job, "--type=merge", "-p", '{"spec":{"activeDeadlineSeconds":1}}')
        else:
            body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "ems"}}
            status, answer = cluster.call("POST", f"/api/v1/namespaces/ems/pods/{pod}/eviction", body)
            assert status == 201, answer
        wait_for(lambda: joined.status().get("agent", {}).get("pod") not in (pod, None), 30, "another agent")
        wait_for(lambda: traffic.works(host, timeout=0.5), 10, "a GET")


def test_placement(ktvpn_up, cluster):
    """Flags reach the pod; a tainted node takes it when it is tolerated."""
    cluster.kc("label", "node", "node1", "e2e=here")
    cluster.kc("taint", "node", "node1", "e2e=only:NoSchedule")
    try:
        refused(cluster, "-n", "ems", code=8, words=["untolerated taint"], seconds=12)
        flags = ["--agent-toleration", "e2e=only:NoSchedule", "--agent-node-selector", "e2e=here", "--agent-requests", "cpu=20m,memory=48Mi",
                 "--agent-limits", "memory=200Mi", "--agent-label", "team=e2e", "--agent-annotation", "example.com/why=a test, all of it"]
        with ktvpn_up("-n", "ems", *flags) as up:
            pod = cluster.get(f"/api/v1/namespaces/ems/pods/{up.status()['agent']['pod']}")
            assert pod["metadata"]["labels"]["team"] == "e2e" and pod["metadata"]["annotations"]["example.com/why"] == "a test, all of it"
            assert pod["spec"]["nodeSelector"]["e2e"] == "here"
            assert pod["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": {"cpu": "2", "memory": "200Mi"}}
    finally:
        cluster.kc("taint", "node", "node1", "e2e-")
        cluster.kc("label", "node", "node1", "e2e-")


@pytest.mark.parametrize("flag, value, words", [("--agent-label", "a=b c", "a valid label must be"), ("--agent-requests", "memory=lots", "quantities must match"),
                                                ("--agent-toleration", "a:Sometimes", "unsupported taint effect")])
def test_placement_that_is_no_placement(cluster, flag, value, words):
    refused(cluster, "-n", "ems", flag, value, code=2, words=[flag, words], seconds=2)


def test_placement_that_the_server_refuses(cluster):
    """The dry run says it, and nothing is made."""
    refused(cluster, "-n", "ems", "--agent-requests", "memory=1Gi", code=1, words=["must be less than or equal to memory limit"], seconds=5)
