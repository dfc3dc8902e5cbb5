"""The agent in a namespace that enforces Pod Security "restricted", by a user who holds the documented Role and nothing else."""

import api_proxy
import traffic


def test_restricted_by_developer(ktvpn_up, cluster, tmp_path):
    with api_proxy.ApiProxy(cluster, "developer") as proxy:
        with ktvpn_up("-n", "restricted", kubeconfig=proxy.kubeconfig(tmp_path)) as up:
            assert traffic.get("dashboard-api")[0] == 200
            assert traffic.get(cluster.service_ip(namespace="restricted"))[0] == 200
            agent = cluster.get(f"/api/v1/namespaces/restricted/pods/{up.status()['agent']['pod']}")
            assert agent["spec"]["securityContext"]["runAsNonRoot"] and agent["spec"]["automountServiceAccountToken"] is False
    assert proxy.answers > 5
    assert not proxy.warnings
