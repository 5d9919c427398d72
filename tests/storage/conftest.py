"""One rig: every storage test runs on a local folder and on S3 (a real HTTP server that speaks its API)."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of an empty bucket."""
    from healthpredict.storage import s3

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
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


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place to store to that is empty and need not exist yet."""
    if request.param == "local":
        return str(tmp_path / "data")
    return f"{request.getfixturevalue('s3_bucket')}/data"
