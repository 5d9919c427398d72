"""Fixtures that several test folders share."""

from __future__ import annotations

import logging
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from healthpredict.rollout.ports import free_port

if TYPE_CHECKING:
    # Training libraries take seconds to import: only tests that need a bundle wait for them.
    from healthpredict.bundle.model import Bundle
    from healthpredict.config import Settings
    from tests.two_nodes import TwoNodes


# A shell lets what it starts in the background ignore Ctrl-C, and so would the commands that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow modules first: at the end, one of them would leave the other workers idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny real bundle, version 1. Altering it means copying `bundle.path` first."""
    from bundles import build_tiny_bundle

    path: Path = tmp_path_factory.mktemp("bundles") / "one"
    return build_tiny_bundle(path)


@pytest.fixture(scope="session")
def next_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Another model, version 2."""
    from bundles import build_tiny_bundle

    return build_tiny_bundle(tmp_path_factory.mktemp("bundles") / "two", model_version=2, seed=5)


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real MLflow on SQLite; its tables take seconds to make, so tests share it and use names of their own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def rollout_settings(tmp_path: Path, tracking_uri: str, request: pytest.FixtureRequest) -> Settings:
    """Settings with a registry of its own and the rollout target `none`."""
    from healthpredict.config import Settings

    return Settings(
        data_uri=str(tmp_path / "data"),
        state_path=tmp_path / "state",
        tracking_uri=tracking_uri,
        model_name=re.sub(r"\W+", "-", request.node.name),
        rollout={"target": "none"},
    )


@pytest.fixture
def register(rollout_settings: Settings, tmp_path: Path) -> Callable[[], int]:
    """Register another tiny model, and return its version."""
    from bundles import register_tiny_bundle

    return lambda: register_tiny_bundle(rollout_settings, tmp_path)


@pytest.fixture(scope="session")
def ray_nodes() -> Iterator[str]:
    """The address of a Ray cluster of two nodes with one core each. Starting it takes ten seconds of CPU, so tests share it."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    nodes.add_node(**node)
    yield nodes.address
    nodes.shutdown()


@pytest.fixture(scope="module")
def cluster(ray_nodes: str) -> Iterator[str]:
    """The same, connected: searches without an address run there."""
    from healthpredict.training.ray_cluster import ray_runtime

    with ray_runtime(ray_nodes):
        yield ray_nodes


@pytest.fixture
def two_nodes() -> Iterator[TwoNodes]:
    """A cluster of its own, whose second node can be killed."""
    from tests.two_nodes import started

    with started() as nodes:
        yield nodes


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    """A Prefect server of its own, with an empty database."""
    from prefect.testing import utilities

    with pytest.MonkeyPatch.context() as patch:
        # The server starts for seconds, while its own choice of port may be given to Ray.
        patch.setattr(utilities, "_find_available_port", free_port)
        with utilities.prefect_test_harness(server_startup_timeout=120):
            yield


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """A real HTTP server that speaks the API of AWS. What it holds is the process's, so tests use names of their own."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of an empty bucket."""
    from healthpredict.storage import s3

    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3.client.cache_clear()
    client = s3.client()
    client.create_bucket(Bucket="health")
    yield "s3://health"
    for item in client.list_objects_v2(Bucket="health").get("Contents", ()):
        client.delete_object(Bucket="health", Key=item["Key"])
    client.delete_bucket(Bucket="health")
    s3.client.cache_clear()
