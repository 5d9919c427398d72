"""Where a bundle comes from: a folder, S3, or the alias of a registered model. Neither MLflow nor pandas is needed.

What is fetched is kept in a local folder named by its digest. `load_bundle` then checks every file against the manifest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from healthpredict.bundle.model import MANIFEST
from healthpredict.errors import BundleError, ConfigurationError, RegistryError
from healthpredict.storage.uris import join, read_bytes

_MODEL: Final = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")
_PROXIED: Final = "mlflow-artifacts:"
_SECONDS: Final = 30.0
Read = Callable[[str], bytes]
"""The content of a file of the bundle, by name."""


def fetch_source(source: str, cache: Path, tracking_uri: str | None = None) -> Path:
    """Bring a bundle to this machine.

    Args:
        source: a folder, `s3://bucket/prefix`, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        cache: local folder for what is fetched.
        tracking_uri: of the MLflow server, `http(s)://[user:password@]host`; needed for `models:/` only.

    Returns:
        The folder of the bundle; not checked yet.

    Raises:
        BundleError: it cannot be fetched whole, or is not what was registered.
        ConfigurationError: the source is of no known form.
        RegistryError: MLflow does not answer, or has no such version.
        StorageError: S3 failed.
    """
    if source.startswith("models:"):
        return _fetch_registered(source, cache, tracking_uri)
    if source.startswith("s3://"):
        return _keep(source, lambda name: read_bytes(join(source, name)), cache, None)
    if "://" in source:
        raise ConfigurationError(
            f"No bundle can be fetched from {source!r}. Name a folder, s3://bucket/prefix or models:/NAME@ALIAS."
        )
    return Path(source)


def _fetch_registered(source: str, cache: Path, tracking_uri: str | None) -> Path:
    match = _MODEL.fullmatch(source)
    if match is None:
        raise ConfigurationError(f"{source!r} names no model. Write models:/NAME@ALIAS or models:/NAME/VERSION.")
    if tracking_uri is None or not tracking_uri.startswith(("http://", "https://")):
        raise ConfigurationError(f"{source} needs the address of an MLflow server (http://...).")
    version = _version(match, tracking_uri)
    tags: dict[str, str] = {tag["key"]: tag["value"] for tag in version.get("tags", ())}
    digest = tags.get("bundle_digest")
    if digest is None:
        raise RegistryError(f"{source} is version {version['version']}, which is not complete. Choose another one.")
    if (cache / digest).exists():
        return cache / digest
    origin: str = version["source"]
    if origin.startswith(_PROXIED):
        # MLflow's server hands out what it alone may read.
        path = urlsplit(origin).path.strip("/")
        base = f"{tracking_uri.rstrip('/')}/api/2.0/mlflow-artifacts/artifacts/{quote(path)}"
        return _keep(source, lambda name: _get(f"{base}/{name}"), cache, digest)
    if origin.startswith("s3://"):
        return _keep(source, lambda name: read_bytes(join(origin, name)), cache, digest)
    folder = Path(urlsplit(origin).path)
    return _keep(source, lambda name: read_bytes(str(folder / name)), cache, digest)


def _version(match: re.Match[str], tracking_uri: str) -> dict[str, Any]:
    api = f"{tracking_uri.rstrip('/')}/api/2.0/mlflow"
    name = quote(match["name"])
    if match["alias"]:
        url = f"{api}/registered-models/alias?name={name}&alias={quote(match['alias'])}"
    else:
        url = f"{api}/model-versions/get?name={name}&version={match['version']}"
    found: dict[str, Any] = json.loads(_get(url))["model_version"]
    return found


def _get(url: str) -> bytes:
    import httpx

    try:
        response = httpx.get(url, timeout=_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        raise RegistryError(f"MLflow does not answer at {_place(url)} ({error}). Check that it runs.") from None
    if not response.is_success:
        raise RegistryError(f"MLflow answered {response.status_code} for {_place(url)}. Check name, alias and access.")
    return response.content


def _place(url: str) -> str:
    """Without the password that may be in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}{parts.path}"


def _keep(source: str, read: Read, cache: Path, digest: str | None) -> Path:
    """Fetch manifest and files, and keep them where no half bundle is ever seen."""
    manifest = read(MANIFEST)
    found = hashlib.sha256(manifest).hexdigest()
    if digest is not None and found != digest:
        raise BundleError(
            f"The bundle of {source} is {found[:12]}, registered was {digest[:12]}. Fetch another version."
        )
    kept = cache / found
    if kept.exists():
        return kept
    try:
        names = list(json.loads(manifest)["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{source} holds no manifest of a bundle. Name the folder of a bundle.") from error
    if any(Path(name).name != name for name in names):
        raise BundleError(f"The manifest of {source} names files outside of the bundle. Do not trust it.")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temporary:
        part = Path(temporary) / "bundle"
        part.mkdir()
        for name in names:
            (part / name).write_bytes(read(name))
        (part / MANIFEST).write_bytes(manifest)
        with contextlib.suppress(OSError):
            part.rename(kept)  # another process may have been faster
    return kept
