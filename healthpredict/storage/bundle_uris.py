"""Fetch a bundle from a folder, from S3, or by the alias of a registered model. Needs neither MLflow nor pandas."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from healthpredict.bundle.cache import fetch_into_cache
from healthpredict.errors import ConfigurationError, RegistryError
from healthpredict.storage.uris import join, read_bytes

_MODEL: Final = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>[0-9]+))")
_DIGEST: Final = re.compile("[0-9a-f]{64}")
_PROXIED: Final = "mlflow-artifacts:"
_SECONDS: Final = 30.0


def fetch_bundle(source: str, cache: Path, tracking_uri: str | None = None) -> Path:
    """Fetch a bundle, and return its local folder.

    Args:
        source: a folder, `s3://bucket/prefix`, `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        cache: local folder for what is fetched.
        tracking_uri: of the MLflow server, `http(s)://[user:password@]host`; needed for `models:/` only.

    Returns:
        The folder of the bundle. If `source` is a folder, it is returned unchecked.

    Raises:
        BundleError: the bundle is incomplete or altered, or is not the registered one.
        ConfigurationError: the source has none of these forms.
        RegistryError: MLflow does not answer, or has no such version.
        StorageError: S3 failed, or the cache cannot be written.
    """
    if source.startswith("models:"):
        return _fetch_registered(source, cache, tracking_uri)
    if source.startswith("s3://"):
        return fetch_into_cache(cache, source, lambda name: read_bytes(join(source, name)))
    if "://" in source:
        raise ConfigurationError(
            f"No bundle can be fetched from {source!r}. Name a folder, s3://bucket/prefix or models:/NAME@ALIAS."
        )
    return Path(source)


def _fetch_registered(source: str, cache: Path, tracking_uri: str | None) -> Path:
    match = _MODEL.fullmatch(source)
    if match is None:
        raise ConfigurationError(f"{source!r} names no model. Write models:/NAME@ALIAS or models:/NAME/VERSION.")
    with closing(_Mlflow(source, tracking_uri or "")) as mlflow:
        digest, origin = mlflow.digest_and_origin(match)
        if origin.startswith(_PROXIED):
            # Only MLflow's server may read the artifacts, so it sends them.
            folder = f"mlflow-artifacts/artifacts/{quote(urlsplit(origin).path.strip('/'))}"
            return fetch_into_cache(cache, source, lambda name: mlflow.get(f"{folder}/{name}"), digest)
    if origin.startswith("file:"):
        origin = unquote(urlsplit(origin).path)
    return fetch_into_cache(cache, source, lambda name: read_bytes(join(origin, name)), digest)


class _Mlflow:
    """A client for the REST API of an MLflow server."""

    def __init__(self, source: str, tracking_uri: str) -> None:
        import httpx

        self._source = source
        try:
            parts = urlsplit(tracking_uri)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
            if not usable or "@" in f"{parts.path}{parts.query}{parts.fragment}":
                raise ValueError
            # Without the password, which must not be in a message.
            self.address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
            login = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
            self._client = httpx.Client(base_url=f"{self.address}/api/2.0/", auth=login, timeout=_SECONDS)
        except (ValueError, httpx.InvalidURL):
            raise ConfigurationError(
                f"{source} needs the address of an MLflow server, http(s)://[user:password@]host:port. "
                "Characters such as / # @ in a password are written %2F %23 %40."
            ) from None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str) -> bytes:
        """Send a GET request and return the body of the response.

        Raises:
            RegistryError: the server does not respond, or not with success.
        """
        import httpx

        try:
            response = self._client.get(path)
        except httpx.HTTPError as error:
            raise RegistryError(
                f"{self._source}: MLflow does not answer at {self.address} ({error}). Check that it runs."
            ) from None
        if not response.is_success:
            raise RegistryError(
                f"{self._source}: MLflow at {self.address} answered {response.status_code}. Check name, alias and access."
            )
        return response.content

    def digest_and_origin(self, model: re.Match[str]) -> tuple[str, str]:
        """Return the digest of the bundle of a version, and the URI of its folder."""
        name = quote(model["name"])
        if model["alias"]:
            answer = self.get(f"mlflow/registered-models/alias?name={name}&alias={quote(model['alias'])}")
        else:
            answer = self.get(f"mlflow/model-versions/get?name={name}&version={model['version']}")
        try:
            version: dict[str, Any] = json.loads(answer)["model_version"]
            tags = {tag["key"]: tag["value"] for tag in version.get("tags", ())}
            digest, origin = str(tags.get("bundle_digest")), str(version["source"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RegistryError(
                f"{self._source}: the server at {self.address} is not MLflow. Check the address."
            ) from None
        if not _DIGEST.fullmatch(digest):
            raise RegistryError(f"{self._source} was never completed: it has no bundle. Choose another version.")
        return digest, origin
