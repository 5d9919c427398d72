"""The model registry: MLflow's, with a bundle for every version.

A version number is reserved first, because the bundle contains it. The version is complete once it is tagged with the digest of its
bundle, which is written last. Versions without this tag were left behind by killed processes and are ignored.
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
    """A complete registered version.

    Attributes:
        version: its number.
        run_id: the MLflow run that created it.
        bundle_digest: see `Bundle.digest`.
        tags: trigger, data digest, git commit, flow run and others.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    run_id: str
    bundle_digest: str
    tags: dict[str, str]


class Registry:
    """A registered model in MLflow."""

    def __init__(self, tracking_uri: str, model_name: str, cache_path: Path, ui_url: str | None = None) -> None:
        """Connect to MLflow.

        Args:
            tracking_uri: of MLflow's tracking server and registry.
            model_name: registered name.
            cache_path: local folder for fetched bundles, named by digest.
            ui_url: of MLflow's pages. By default `tracking_uri`, if it is a server.

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
                # Without a server, MLflow's client would retry for four minutes.
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
        """Name of the experiment that contains all runs."""
        return _EXPERIMENT

    def open_run(self, name: str, tags: Mapping[str, str]) -> str:
        """Return the id of the unfinished run with this name and these tags, or create one.

        So if a training is killed and started again, it continues its run.
        """
        with self._translated():
            wanted = [_condition(key, value) for key, value in ({"mlflow.runName": name} | dict(tags)).items()]
            query = " and ".join(["attributes.status = 'RUNNING'", *wanted])
            for run in self.client.search_runs([self.experiment_id], query):
                if dict(tags).items() <= run.data.tags.items():
                    return str(run.info.run_id)
            run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
            return str(run.info.run_id)

    def tag_run(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        with self._translated():
            for key, value in tags.items():
                self.client.set_tag(run_id, key, value)

    def run_tag(self, run_id: str, key: str) -> str | None:
        """Return a tag of a run, or None if it is not set."""
        with self._translated():
            value: str | None = self.client.get_run(run_id).data.tags.get(key)
            return value

    def log(
        self, run_id: str, *, params: Mapping[str, Any] | None = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Log parameters and metrics to a run. Existing parameters stay unchanged."""
        from mlflow.entities import Metric, Param

        now = time.time_ns() // 1_000_000
        with self._translated():
            known = self.client.get_run(run_id).data.params
            new = [Param(key, str(value)) for key, value in (params or {}).items() if key not in known]
            measured = [Metric(key, number, now, 0) for key, number in (metrics or {}).items()]
            self.client.log_batch(run_id, metrics=measured, params=new)  # up to 1,000 in one request

    def log_files(self, run_id: str, folder: str, files: Mapping[str, bytes]) -> None:
        """Log files (name -> content) to a folder of a run."""
        with self._translated(), tempfile.TemporaryDirectory() as temporary:
            for name, data in files.items():
                (Path(temporary) / name).write_bytes(data)
            self.client.log_artifacts(run_id, temporary, folder)

    def log_onnx(self, run_id: str, name: str, onnx_model: bytes) -> None:
        """Log an ONNX model to a run, under a name such as `lightgbm`, so that MLflow's own tools can load it."""
        import mlflow
        import onnx

        with self._translated():
            mlflow.set_tracking_uri(self.tracking_uri)
            with mlflow.start_run(run_id=run_id):
                # Without requirements, MLflow would load the model in another process to find them.
                mlflow.onnx.log_model(
                    onnx.load_from_string(onnx_model), name=name, pip_requirements=["onnx", "onnxruntime", "numpy"]
                )
            # The block ends the run, but the training continues.
            self.client.update_run(run_id, status="RUNNING")

    def close_run(self, run_id: str) -> None:
        """End a run. Trials of it that a killed process left running are marked as killed."""
        with self._translated():
            query = f"attributes.status = 'RUNNING' and tags.`mlflow.parentRunId` = '{run_id}'"
            for trial in self.client.search_runs([self.experiment_id], query):
                self.client.set_terminated(trial.info.run_id, "KILLED")
            self.client.set_terminated(run_id, "FINISHED")

    def reserve_version(self, run_id: str) -> int:
        """Reserve the next version number, for a bundle that is not built yet.

        If a killed process reserved a number for the same run, that number is deleted.
        """
        from mlflow.exceptions import MlflowException

        with self._translated():
            try:
                self.client.create_registered_model(self.model_name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            for existing in self.client.search_model_versions(f"name = '{self.model_name}'"):
                if existing.run_id == run_id and _DIGEST not in existing.tags:
                    self.client.delete_model_version(self.model_name, existing.version)
            artifacts = self.client.get_run(run_id).info.artifact_uri
            source = f"{artifacts}/{BUNDLE_ARTIFACT}"
            return int(self.client.create_model_version(self.model_name, source, run_id).version)

    def complete_version(self, run_id: str, bundle: Bundle, tags: Mapping[str, str]) -> ModelVersion:
        """Upload a bundle and make its version the challenger.

        Args:
            run_id: of the run that built it.
            bundle: its manifest names the reserved version.
            tags: of the version.
        """
        version = bundle.manifest.model_version
        with self._translated():
            self.client.log_artifacts(run_id, str(bundle.path), BUNDLE_ARTIFACT)
            for key, value in tags.items():
                self.client.set_model_version_tag(self.model_name, str(version), key, value)
            self.client.set_registered_model_alias(self.model_name, "challenger", str(version))
            # Last: with this tag, the version is complete.
            self.client.set_model_version_tag(self.model_name, str(version), _DIGEST, bundle.digest)
        return self.version(version)

    def versions(self) -> list[ModelVersion]:
        """Return all complete versions, the oldest first."""
        with self._translated():
            found = self.client.search_model_versions(f"name = '{self.model_name}'")
        complete = [_model_version(version) for version in found if _DIGEST in version.tags]
        return sorted(complete, key=lambda version: version.version)

    def version(self, number: int) -> ModelVersion:
        """Return a complete version.

        Raises:
            RegistryError: there is no complete version with this number.
        """
        match = [version for version in self.versions() if version.version == number]
        if not match:
            known = ", ".join(str(version.version) for version in self.versions()) or "none"
            raise RegistryError(f"{self.model_name} has no version {number}. Known versions: {known}.")
        return match[0]

    def by_alias(self, alias: Alias) -> ModelVersion | None:
        """Return the complete version that an alias points to, or None."""
        from mlflow.exceptions import MlflowException

        with self._translated():
            try:
                found = self.client.get_model_version_by_alias(self.model_name, alias)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise
        return _model_version(found) if _DIGEST in found.tags else None

    def champion(self) -> ModelVersion:
        """Return the version that the alias `champion` points to.

        Raises:
            RegistryError: there is no champion, or MLflow failed.
        """
        found = self.by_alias("champion")
        if found is None:
            raise RegistryError(f"{self.model_name} has no champion. Train one first: `healthpredict drift-loop`.")
        return found

    def make_champion(self, version: int) -> None:
        """Move the alias `champion` to a version."""
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
        """Return the address of a run's page, or None if MLflow has no pages."""
        if self.ui_url is None:
            return None
        return f"{self.ui_url}/#/experiments/{self.experiment_id}/runs/{run_id}"

    def _artifact_location(self) -> str | None:
        if not self.tracking_uri.startswith("sqlite:///"):
            return None
        # MLflow's default is a folder in the current directory.
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
            message = (
                f"MLflow at {self.tracking_uri} failed: {text}. Check that it runs and is writable, then start again."
            )
            raise RegistryError(re.sub(r"://[^/@\s]*@", "://", message)) from error  # a URI may contain a password


def _condition(tag: str, value: str) -> str:
    """Return the condition of an MLflow filter that a tag has a value, perhaps among others.

    Filters have no escapes. If the value contains both kinds of quotes, one kind is replaced by a wildcard.
    """
    if "'" in value and '"' in value:
        pattern = value.replace("'", "_")
        return f"tags.`{tag}` LIKE '{pattern}'"
    quote = '"' if "'" in value else "'"
    return f"tags.`{tag}` = {quote}{value}{quote}"


def _model_version(found: Any) -> ModelVersion:
    tags = dict(found.tags)
    return ModelVersion(version=int(found.version), run_id=found.run_id, bundle_digest=tags.pop(_DIGEST), tags=tags)
