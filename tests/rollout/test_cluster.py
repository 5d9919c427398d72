"""An API server or a pod that accepts connections and never responds does not stop a rollout forever."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from healthpredict.errors import RolloutError
from healthpredict.rollout import cluster as module
from healthpredict.rollout.cluster import Cluster, Unreachable


@pytest.fixture
def silent_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster whose API server accepts connections and never responds. Timeouts are short."""
    monkeypatch.setattr(module, "_TIMEOUT", (0.2, 0.2))
    monkeypatch.setattr(module, "_PORT_FORWARD_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield cluster_at(tmp_path, {"server": f"http://127.0.0.1:{server.getsockname()[1]}"})


def cluster_at(folder: Path, address: dict[str, Any]) -> Cluster:
    """A cluster with this address in its kubeconfig."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": address}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (folder / "kubeconfig").write_text(yaml.safe_dump(content))
    return Cluster(folder / "kubeconfig", "c", "health-predict")


REQUESTS: dict[str, Callable[[Cluster], object]] = {
    "read": lambda cluster: cluster.read("Deployment", "healthpredict-api"),
    "find": lambda cluster: cluster.find("Pod"),
    "apply": lambda cluster: cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}),
    "delete": lambda cluster: cluster.delete("Secret", "s"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("request_to", REQUESTS.values(), ids=list(REQUESTS))
def test_a_request_to_an_api_server_that_hangs_fails(
    silent_cluster: Cluster, request_to: Callable[[Cluster], object]
) -> None:
    """Also the discovery of resource kinds, which comes first."""
    with pytest.raises(Unreachable, match="did not respond"):
        request_to(silent_cluster)


@pytest.mark.timeout(20)
def test_a_request_to_a_pod_through_an_api_server_that_hangs_fails(silent_cluster: Cluster) -> None:
    with pytest.raises(RolloutError, match=r"Pod api-1 does not respond to /model within"):
        silent_cluster.ask_pod("api-1", 8080, "/model", "key")


class Forward:
    """A port forwarding to a pod that accepts the connection and never responds."""

    def __init__(self) -> None:
        self._ours, self._pods = socket.socketpair()
        self.is_closed = False

    def socket(self, _port: int) -> socket.socket:
        return self._ours

    def close(self) -> None:
        self.is_closed = True
        self._ours.close()
        self._pods.close()


@pytest.mark.timeout(20)
def test_the_connection_to_a_pod_that_never_responds_is_closed(
    silent_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Forward()
    monkeypatch.setattr("kubernetes.stream.portforward", lambda *_, **__: forward)
    with pytest.raises(RolloutError, match=r"Pod api-1 does not respond to /model within"):
        silent_cluster.ask_pod("api-1", 8080, "/model", "key")
    while not forward.is_closed:
        time.sleep(0.01)


@pytest.mark.parametrize(
    "address",
    [
        {"server": "https://kubernetes.example.org"},
        {"server": "https://kubernetes.example.org", "insecure-skip-tls-verify": True},
        {"server": "https://kubernetes.example.org", "certificate-authority-data": "Y2VydGlmaWNhdGU="},
    ],
    ids=["public authority", "not verified", "own authority"],
)
def test_the_address_is_the_one_in_the_kubeconfig(tmp_path: Path, address: dict[str, Any]) -> None:
    assert cluster_at(tmp_path, address).address() == address
