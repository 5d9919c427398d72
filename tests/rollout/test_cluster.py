"""An API server that accepts connections and never responds does not stop a rollout forever."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

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
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.getsockname()[1]}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
        yield Cluster(tmp_path / "kubeconfig", "c", "health-predict")


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
