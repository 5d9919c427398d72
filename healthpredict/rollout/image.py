"""Build and push the API's image around one bundle. A pushed image is named by its digest."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import docker
import docker.errors
import requests

from healthpredict.bundle.model import Bundle
from healthpredict.errors import ConfigurationError, RolloutError
from healthpredict.rollout.source_tree import SourceTree

DOCKERFILE: Final = "docker-compose/Dockerfile.serving"
LOCK: Final = "requirements.serving.lock"
PACKAGE: Final = "healthpredict"
COMMIT_LABEL: Final = "org.opencontainers.image.revision"
REF_LABEL: Final = "healthpredict.git-ref"
VERSION_LABEL: Final = "healthpredict.model-version"
DIGEST_LABEL: Final = "healthpredict.bundle-digest"
_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")
_LINES_SHOWN: Final = 15
_ENGINE_TIMEOUT_SECONDS: Final = 600


@dataclass(frozen=True)
class Image:
    """An image in the local engine.

    Attributes:
        repository: without tag, as in `docker pull`.
        tag: model version and start of the image id. It never moves, so registries with immutable tags accept it.
        id: digest of its configuration, `sha256:` and 64 hex digits.
    """

    repository: str
    tag: str
    id: str


def build_image(bundle: Bundle, repository: str, source: SourceTree, base: str) -> Image:
    """Build the image of a bundle.

    The same bundle gives the same layer, because its files have a fixed owner, mode and time.

    Args:
        bundle: to serve.
        repository: that the image will be pushed to.
        source: of the code.
        base: Python image, by tag or digest.

    Raises:
        ConfigurationError: the source is incomplete, or no Docker engine responds.
        RolloutError: the build failed. The message contains its last lines.
    """
    version = bundle.manifest.model_version
    labels = {
        VERSION_LABEL: str(version),
        DIGEST_LABEL: bundle.digest,
        COMMIT_LABEL: source.commit or "unknown",
        REF_LABEL: source.ref or "",
    }
    with _engine() as engine:
        lines = engine.api.build(
            fileobj=build_context(source.path, bundle),
            custom_context=True,
            encoding="gzip",
            dockerfile="Dockerfile",
            buildargs={"PYTHON_IMAGE": base},
            labels=labels,
            rm=True,
            forcerm=True,
            decode=True,
        )
        built = _read_digest(lines, "build", lambda aux: aux.get("ID"))
        # The id depends on the content, so the tag never moves.
        image = Image(repository, f"v{version}-{built.removeprefix('sha256:')[:12]}", built)
        engine.api.tag(image.id, repository, image.tag)
    return image


def push_image(image: Image, login: Mapping[str, str] | None = None) -> str:
    """Push an image.

    Args:
        image: in the local engine.
        login: `username` and `password`. Without it, Docker's own configuration is used.

    Returns:
        The reference by digest: `repository@sha256:...`.

    Raises:
        RolloutError: the registry refused it or did not respond.
    """
    with _engine() as engine:
        lines = engine.api.push(
            image.repository, image.tag, stream=True, decode=True, auth_config=dict(login) if login else None
        )
        digest = _read_digest(lines, f"push to {image.repository}", lambda aux: aux.get("Digest"))
    return f"{image.repository}@{digest}"


def read_from_image(image_id: str, path: str) -> bytes:
    """Read a file from an image in the local engine.

    Raises:
        RolloutError: there is no such file, or no such image.
    """
    with _engine() as engine:
        container = engine.containers.create(image_id)  # never started
        try:
            packed = io.BytesIO(b"".join(container.get_archive(path)[0]))
        finally:
            container.remove()
    with tarfile.open(fileobj=packed) as archive:
        file = archive.extractfile(archive.getmembers()[0])
        assert file is not None, "a path to a file"
        return file.read()


def build_context(source: Path, bundle: Bundle) -> io.BytesIO:
    """Pack the build context, a tar archive. The same files give the same bytes.

    Raises:
        ConfigurationError: a file is missing.
    """
    files = {"Dockerfile": source / DOCKERFILE, LOCK: source / LOCK}
    package = source / PACKAGE
    files |= {f"{PACKAGE}/{p.relative_to(package).as_posix()}": p for p in package.rglob("*.py")}
    files |= {f"bundle/{name}": bundle.path / name for name in ("manifest.json", *bundle.manifest.files)}
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing or not package.is_dir():
        raise ConfigurationError(
            f"No image can be built from {source}: {', '.join(missing) or package} is missing. "
            "Name a checkout of this project (HEALTHPREDICT_SOURCE_PATH)."
        )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as archive:
        folders = {parent.as_posix() for name in files for parent in Path(name).parents} - {"."}
        for name in sorted(folders):
            archive.addfile(_entry(name, 0o755, tarfile.DIRTYPE))
        for name, path in sorted(files.items()):
            data = path.read_bytes()
            archive.addfile(_entry(name, 0o644, tarfile.REGTYPE, len(data)), io.BytesIO(data))
    packed.seek(0)
    return packed


def _entry(name: str, mode: int, kind: bytes, size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type, entry.size = mode, kind, size
    return entry


def _read_digest(lines: Iterable[dict[str, Any]], purpose: str, wanted: Any) -> str:
    """Read the engine's stream to its end, because failures are reported only there. Returns: the digest in it."""
    found = None
    log: list[str] = []
    for line in lines:
        log += [text for text in (line.get("stream") or "").splitlines() if text.strip()]
        if "error" in line:
            raise RolloutError("\n".join((f"The {purpose} failed: {line['error']}", *log[-_LINES_SHOWN:])))
        if isinstance(aux := line.get("aux"), dict):
            found = wanted(aux) or found
    if found is None or not _DIGEST.fullmatch(found):
        raise RolloutError("\n".join((f"The {purpose} returned no digest.", *log[-_LINES_SHOWN:])))
    return str(found)


@contextmanager
def _engine() -> Iterator[docker.DockerClient]:
    try:
        client = docker.from_env(version="auto", timeout=_ENGINE_TIMEOUT_SECONDS)
    except docker.errors.DockerException as error:
        raise ConfigurationError(
            f"No Docker engine responds ({error}). Start one to build images, or name one in DOCKER_HOST."
        ) from error
    try:
        yield client
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise RolloutError(f"The Docker engine failed: {error}") from error
    finally:
        client.close()
