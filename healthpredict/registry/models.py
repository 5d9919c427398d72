"""The model registry: MLflow's, with one bundle behind every version.

A version is reserved first, because the bundle holds its number; it counts only once it is tagged with the digest of its
bundle, which is the last thing to be written. A version without that tag is what a killed process left behind.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from healthpredict.bundle.cache import fetch_into_cache
from healthpredict.bundle.model import Bundle, load_bundle
from healthpredict.errors import RegistryError
from healthpredict.registry.sqlite_store import prepare_store

Alias = Literal["champion", "challenger"]
BUNDLE_ARTIFACT = "bundle"
_DIGEST = "bundle_digest"
_EXPERIMENT = "health-predict"
_CONNECT_SECONDS = 10.0


class ModelVersion(BaseModel):
    """A registered version that is complete.

    Attributes:
        version: its number.
        run_id: the MLflow run that made it.
        bundle_digest: see `Bundle.digest`.
        tags: trigger, data digest, git commit, flow run and what else was known.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    run_id: str
    bundle_digest: str
    tags: dict[str, str]


class Registry:
    """One registered model in one MLflow."""

    def __init__(self, tracking_uri: str, model_name: str, cache_path: Path, ui_url: str | None = None) -> None:
        """Connect.

        Args:
            tracking_uri: of MLflow's tracking and registry.
            model_name: registered name.
            cache_path: local folder for fetched bundles, named by digest.
            ui_url: of MLflow's pages; by default the server itself, where it is one.

        Raises:
            RegistryError: MLflow does not answer.
        """
        import mlflow
        import requests

        self.tracking_uri = tracking_uri
        self.model_name = model_name
        self.cache_path = cache_path
        self.ui_url = ui_url or (tracking_uri if tracking_uri.startswith("http") else None)
        with self._translated():
            if tracking_uri.startswith("sqlite:///"):
                prepare_store(Path(tracking_uri.removeprefix("sqlite:///")))
            if tracking_uri.startswith("http"):
                # MLflow's client would try for four minutes before it says that nobody is there.
                requests.get(f"{tracking_uri}/health", timeout=_CONNECT_SECONDS)
            self.client = mlflow.MlflowClient(tracking_uri)
            found = self.client.get_experiment_by_name(_EXPERIMENT)
            if found is None:
                location = self._artifact_location()
                self.experiment_id = self.client.create_experiment(_EXPERIMENT, artifact_location=location)
            else:
                self.experiment_id = found.experiment_id

    @property
    def experiment(self) -> str:
        """Name of the experiment that holds all runs."""
        return _EXPERIMENT

    def open_run(self, name: str, tags: Mapping[str, str]) -> str:
        """Return the id of the unfinished run with these tags, or of a new one.

        What was killed and starts again goes on in the run it began.
        """
        with self._translated():
            wanted = [
                f"tags.`{key}` = {_literal(value)}" for key, value in ({"mlflow.runName": name} | dict(tags)).items()
            ]
            query = " and ".join(["attributes.status = 'RUNNING'", *wanted])
            found = self.client.search_runs([self.experiment_id], query, max_results=1)
            if found:
                return str(found[0].info.run_id)
            run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
            return str(run.info.run_id)

    def tag_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        with self._translated():
            for key, value in tags.items():
                self.client.set_tag(run_id, key, value)

    def run_tag(self, run_id: str, key: str) -> str | None:
        """A tag of a run; None where it is not set."""
        with self._translated():
            value: str | None = self.client.get_run(run_id).data.tags.get(key)
            return value

    def log(
        self, run_id: str, *, params: Mapping[str, Any] | None = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Log parameters and metrics to a run; a parameter that is there already is left."""
        from mlflow.entities import Metric, Param

        now = time.time_ns() // 1_000_000
        with self._translated():
            known = self.client.get_run(run_id).data.params
            new = [Param(key, str(value)) for key, value in (params or {}).items() if key not in known]
            measured = [Metric(key, number, now, 0) for key, number in (metrics or {}).items()]
            self.client.log_batch(run_id, metrics=measured, params=new)  # up to 1,000 in one request

    def log_files(self, run_id: str, folder: str, files: Mapping[str, bytes]) -> None:
        """Log files to a run, by name."""
        with self._translated(), tempfile.TemporaryDirectory() as temporary:
            for name, data in files.items():
                (Path(temporary) / name).write_bytes(data)
            self.client.log_artifacts(run_id, temporary, folder)

    def log_onnx(self, run_id: str, name: str, onnx_model: bytes) -> None:
        """Log an ONNX model to a run, so that MLflow's own tools can load it.

        Args:
            run_id: of the run.
            name: of the logged model, such as `lightgbm`.
            onnx_model: from encoded features to probabilities.
        """
        import mlflow
        import onnx

        with self._translated():
            mlflow.set_tracking_uri(self.tracking_uri)
            with mlflow.start_run(run_id=run_id):
                # Named requirements: else MLflow loads the model in a process of its own to find them.
                mlflow.onnx.log_model(
                    onnx.load_from_string(onnx_model), name=name, pip_requirements=["onnx", "onnxruntime", "numpy"]
                )
            # Leaving the block ends the run, but the search that it belongs to goes on.
            self.client.update_run(run_id, status="RUNNING")

    def close_run(self, run_id: str) -> None:
        """End a run, and the trials under it that a killed process left running."""
        with self._translated():
            query = f"attributes.status = 'RUNNING' and tags.`mlflow.parentRunId` = '{run_id}'"
            for trial in self.client.search_runs([self.experiment_id], query):
                self.client.set_terminated(trial.info.run_id, "KILLED")
            self.client.set_terminated(run_id, "FINISHED")

    def reserve_version(self, run_id: str) -> int:
        """Take the next version number for a bundle that is about to be built.

        A number that a killed process had reserved for the same run is given up.
        """
        from mlflow.exceptions import MlflowException

        with self._translated():
            try:
                self.client.create_registered_model(self.model_name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            for left in self.client.search_model_versions(f"name = '{self.model_name}'"):
                if left.run_id == run_id and _DIGEST not in left.tags:
                    self.client.delete_model_version(self.model_name, left.version)
            artifacts = self.client.get_run(run_id).info.artifact_uri
            source = f"{artifacts}/{BUNDLE_ARTIFACT}"
            return int(self.client.create_model_version(self.model_name, source, run_id).version)

    def complete_version(self, run_id: str, bundle: Bundle, tags: Mapping[str, str]) -> ModelVersion:
        """Upload a bundle and make its version the challenger.

        Args:
            run_id: of the run that built it.
            bundle: its manifest names the reserved version.
            tags: set on the version.
        """
        version = bundle.manifest.model_version
        with self._translated():
            self.client.log_artifacts(run_id, str(bundle.path), BUNDLE_ARTIFACT)
            for key, value in tags.items():
                self.client.set_model_version_tag(self.model_name, str(version), key, value)
            self.client.set_registered_model_alias(self.model_name, "challenger", str(version))
            # Last: from here on the version counts, and nobody completes it again.
            self.client.set_model_version_tag(self.model_name, str(version), _DIGEST, bundle.digest)
        return self.version(version)

    def versions(self) -> list[ModelVersion]:
        """All complete versions, the oldest first."""
        with self._translated():
            found = self.client.search_model_versions(f"name = '{self.model_name}'")
        complete = [_model_version(version) for version in found if _DIGEST in version.tags]
        return sorted(complete, key=lambda version: version.version)

    def version(self, number: int) -> ModelVersion:
        """A complete version.

        Raises:
            RegistryError: there is none with this number.
        """
        match = [version for version in self.versions() if version.version == number]
        if not match:
            known = ", ".join(str(version.version) for version in self.versions()) or "none"
            raise RegistryError(f"{self.model_name} has no version {number}. Known versions: {known}.")
        return match[0]

    def by_alias(self, alias: Alias) -> ModelVersion | None:
        """The complete version that an alias points to, or None."""
        from mlflow.exceptions import MlflowException

        with self._translated():
            try:
                found = self.client.get_model_version_by_alias(self.model_name, alias)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise
        return _model_version(found) if _DIGEST in found.tags else None

    def make_champion(self, version: int) -> None:
        """Move the alias `champion`."""
        with self._translated():
            self.client.set_registered_model_alias(self.model_name, "champion", str(version))

    def fetch_bundle(self, version: ModelVersion) -> Bundle:
        """Fetch the bundle of a version, or take it from the cache, and check its digest.

        Raises:
            BundleError: the stored bundle is not the registered one.
            RegistryError: MLflow failed.
            StorageError: the cache cannot be written.
        """
        with tempfile.TemporaryDirectory() as temporary:

            def read(name: str) -> bytes:
                artifact = f"{BUNDLE_ARTIFACT}/{name}"
                with self._translated():
                    return Path(self.client.download_artifacts(version.run_id, artifact, temporary)).read_bytes()

            source = f"{self.model_name} version {version.version}"
            return load_bundle(fetch_into_cache(self.cache_path, source, read, version.bundle_digest))

    def run_url(self, run_id: str) -> str | None:
        """The page of a run, where MLflow has pages."""
        if self.ui_url is None:
            return None
        return f"{self.ui_url}/#/experiments/{self.experiment_id}/runs/{run_id}"

    def _artifact_location(self) -> str | None:
        if not self.tracking_uri.startswith("sqlite:///"):
            return None
        # MLflow's own default is a folder below wherever the process was started.
        return (Path(self.tracking_uri.removeprefix("sqlite:///")).parent / "artifacts").as_uri()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import requests
        import sqlalchemy.exc
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            message = f"MLflow at {self.tracking_uri} failed: {text}. Check that it runs and can be written, then start again."
            raise RegistryError(re.sub(r"://[^/@\s]*@", "://", message)) from error  # a URI may hold a password


def _literal(value: str) -> str:
    """A value in a filter of MLflow, which knows no escapes."""
    quote = '"' if "'" in value else "'"
    return f"{quote}{value}{quote}"


def _model_version(found: Any) -> ModelVersion:
    tags = dict(found.tags)
    return ModelVersion(version=int(found.version), run_id=found.run_id, bundle_digest=tags.pop(_DIGEST), tags=tags)
