"""The image of the API, built by a real Docker engine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from rig import ROOT

from healthpredict.bundle.model import Bundle
from healthpredict.errors import RolloutError
from healthpredict.rollout.image import (
    COMMIT_LABEL,
    DIGEST_LABEL,
    REF_LABEL,
    VERSION_LABEL,
    build_image,
    push_image,
    read_from_image,
)
from healthpredict.rollout.source_tree import SourceTree

pytestmark = pytest.mark.kubernetes
MEGABYTE = 1024 * 1024
PYTHON = "python:3.11-slim-bookworm"


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    try:
        client = docker.from_env(version="auto")
    except docker.errors.DockerException:
        pytest.skip("no Docker engine answers")
    yield client
    client.close()


@pytest.fixture
def repository(engine: docker.DockerClient) -> Iterator[str]:
    name = f"127.0.0.1:5001/health-predict-e2e-{uuid.uuid4().hex[:8]}"
    yield name
    for image in engine.images.list(name):
        engine.images.remove(image.id, force=True)


def details(engine: docker.DockerClient, image_id: str) -> dict[str, Any]:
    found: dict[str, Any] = engine.api.inspect_image(image_id)
    return found


def test_the_bundle_is_the_last_layer_and_depends_on_the_bundle_alone(
    engine: docker.DockerClient, repository: str, bundle: Bundle, next_bundle: Bundle
) -> None:
    one = details(engine, build_image(bundle, repository, SourceTree(ROOT, "a" * 40), PYTHON).id)
    other = details(engine, build_image(next_bundle, repository, SourceTree(ROOT, "a" * 40), PYTHON).id)
    again = details(engine, build_image(bundle, repository, SourceTree(ROOT, "b" * 40), PYTHON).id)
    layers = [found["RootFS"]["Layers"] for found in (one, other, again)]
    assert layers[0][:-1] == layers[1][:-1] == layers[2][:-1]
    assert layers[0][-1] != layers[1][-1]
    assert layers[0][-1] == layers[2][-1], "with other labels"


def test_the_labels_of_the_image(engine: docker.DockerClient, repository: str, bundle: Bundle) -> None:
    image = build_image(bundle, repository, SourceTree(ROOT, "a" * 40, "v1"), PYTHON)
    found = details(engine, image.id)
    assert found["Config"]["User"] == "10001:10001"
    labels = found["Config"]["Labels"]
    assert [labels[name] for name in (COMMIT_LABEL, REF_LABEL, VERSION_LABEL, DIGEST_LABEL)] == [
        "a" * 40,
        "v1",
        "1",
        bundle.digest,
    ]
    assert image.tag.startswith("v1-")
    assert read_from_image(image.id, "/bundle/manifest.json") == (bundle.path / "manifest.json").read_bytes()
    base = details(engine, "python:3.11-slim-bookworm")["Size"]
    assert (found["Size"] - base) / MEGABYTE < 200


def test_a_push_that_fails_is_an_error(engine: docker.DockerClient, bundle: Bundle) -> None:
    nowhere = "127.0.0.1:9/health-predict-e2e-nowhere"
    image = build_image(bundle, nowhere, SourceTree(ROOT, None), PYTHON)
    try:
        with pytest.raises(RolloutError, match="The push to 127"):
            push_image(image)
    finally:
        engine.images.remove(image.id, force=True)


def test_a_build_that_fails_shows_its_last_lines(repository: str, bundle: Bundle, tmp_path: Path) -> None:
    from rig import copy_source

    source = copy_source(tmp_path / "source")
    (source / "requirements.serving.lock").write_text("numpy==0.0.1 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(RolloutError, match=r"(?s)The build failed.*numpy==0\.0\.1"):
        build_image(bundle, repository, SourceTree(source, None), PYTHON)
