"""Versions, aliases and bundles in a real MLflow on SQLite."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundles import build_tiny_bundle

from healthpredict.bundle.model import MANIFEST, MODEL, Bundle
from healthpredict.errors import BundleError, RegistryError
from healthpredict.registry.models import Registry


@pytest.fixture
def connect(tracking_uri: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], Registry]:
    """Connect as another process would: to the same model of this test, with an empty cache of its own."""

    def connect() -> Registry:
        cache = tmp_path / f"cache-{len(list(tmp_path.glob('cache-*')))}"
        cache.mkdir()
        return Registry(tracking_uri, request.node.name, cache)

    return connect


@pytest.fixture
def registry(connect: Callable[[], Registry]) -> Registry:
    return connect()


@pytest.fixture
def register(registry: Registry, tmp_path: Path) -> Callable[..., int]:
    """Register a bundle, each time another one, as an operation does it."""

    def register(**tags: str) -> int:
        run_id = registry.open_run(registry.model_name, {"trigger": str(len(registry.versions()))})
        version = registry.reserve_version(run_id)
        bundle = build_tiny_bundle(tmp_path / f"built-{version}", model_version=version, seed=version)
        registry.complete_version(run_id, bundle, tags)
        registry.close_run(run_id)
        return version

    return register


def test_a_new_registry_holds_nothing(registry: Registry) -> None:
    assert registry.versions() == []
    assert registry.by_alias("champion") is None
    assert registry.by_alias("challenger") is None
    with pytest.raises(RegistryError, match="no version 1"):
        registry.version(1)


@pytest.mark.parametrize("trigger", ["ward's", 'the "new" ward', """ward's "new" batch""", "50%_x"])
def test_an_open_run_is_found_again_by_any_trigger(registry: Registry, trigger: str) -> None:
    run_id = registry.open_run(f"train {trigger}", {"trigger": trigger})
    assert registry.open_run(f"train {trigger}", {"trigger": trigger}) == run_id
    registry.close_run(run_id)


def test_a_completed_version_is_the_challenger(
    connect: Callable[[], Registry], registry: Registry, register: Callable[..., int]
) -> None:
    """Another process sees it with its tags, its run and the digest of its bundle."""
    assert register(trigger="initial", git_commit="abc") == 1
    found = connect().by_alias("challenger")
    assert found is not None
    assert found == connect().version(1)
    assert (found.version, found.tags) == (1, {"trigger": "initial", "git_commit": "abc"})
    assert connect().fetch_bundle(found).digest == found.bundle_digest
    assert connect().fetch_bundle(found).manifest.model_version == 1
    assert registry.by_alias("champion") is None


def test_aliases_move_by_themselves(registry: Registry, register: Callable[..., int]) -> None:
    """A new version becomes the challenger. The champion changes only on request."""
    register()
    registry.make_champion(1)
    register()
    assert [registry.by_alias(alias).version for alias in ("champion", "challenger")] == [1, 2]  # type: ignore[union-attr, arg-type]
    registry.make_champion(2)
    assert registry.by_alias("champion") == registry.by_alias("challenger") == registry.version(2)
    registry.make_champion(1)
    assert registry.by_alias("champion") == registry.version(1)


def test_versions_are_in_order_of_number(registry: Registry, register: Callable[..., int]) -> None:
    for _ in range(3):
        register()
    assert [version.version for version in registry.versions()] == [1, 2, 3]
    with pytest.raises(RegistryError, match=r"no version 9\. Known versions: 1, 2, 3"):
        registry.version(9)


def test_a_version_that_was_only_reserved_does_not_count(registry: Registry, register: Callable[..., int]) -> None:
    """A version without a bundle, which a killed process leaves behind, is ignored."""
    register()
    run_id = registry.open_run(registry.model_name, {"trigger": "killed"})
    assert registry.reserve_version(run_id) == 2
    assert [version.version for version in registry.versions()] == [1]
    assert registry.by_alias("challenger") == registry.version(1)
    with pytest.raises(RegistryError, match="no version 2"):
        registry.version(2)


def test_a_killed_run_goes_on_and_gives_its_number_up(
    connect: Callable[[], Registry], registry: Registry, tmp_path: Path
) -> None:
    """The next start finds the run by its tags and reserves anew; the number of another run is left alone."""
    tags = {"trigger": "batch-03", "data_digest": "0" * 64}
    run_id = registry.open_run(registry.model_name, tags)
    other_run = registry.open_run(registry.model_name, tags | {"trigger": "batch-04"})
    assert registry.reserve_version(run_id) == 1
    assert registry.reserve_version(other_run) == 2

    again = connect()
    assert again.open_run(again.model_name, tags) == run_id != other_run
    version = again.reserve_version(run_id)
    numbers = {int(v.version) for v in again.client.search_model_versions(f"name = '{again.model_name}'")}
    assert numbers == {2, version}
    again.complete_version(run_id, build_tiny_bundle(tmp_path / "built", model_version=version), {})
    assert [v.version for v in again.versions()] == [version]
    assert again.reserve_version(run_id) != version
    assert again.version(version), "a complete version is never given up"


def test_a_kill_during_completion_leaves_a_version_that_counts_or_none(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any call to MLflow: a version that counts is the challenger already, with a bundle that can be fetched."""
    run_id = registry.open_run(registry.model_name, {"trigger": "killed"})
    bundle = build_tiny_bundle(tmp_path / "built", model_version=registry.reserve_version(run_id))
    allowed = 0
    while not registry.versions():
        calls_left = allowed

        def kill_after(call: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **kwargs: Any) -> Any:
                nonlocal calls_left
                if calls_left == 0:
                    raise KeyboardInterrupt
                calls_left -= 1
                return call(*args, **kwargs)

            return counted

        with monkeypatch.context() as patch:
            for name in ("log_artifacts", "set_model_version_tag", "set_registered_model_alias"):
                patch.setattr(registry.client, name, kill_after(getattr(registry.client, name)))
            try:
                registry.complete_version(run_id, bundle, {"trigger": "killed"})
            except KeyboardInterrupt:
                allowed += 1
    (version,) = registry.versions()
    assert version.tags == {"trigger": "killed"}
    assert registry.by_alias("challenger") == version
    assert registry.fetch_bundle(version).digest == bundle.digest


def test_a_finished_run_is_not_opened_again(registry: Registry) -> None:
    first = registry.open_run(registry.model_name, {"trigger": "x"})
    registry.close_run(first)
    assert registry.open_run(registry.model_name, {"trigger": "x"}) != first


def test_a_run_keeps_what_is_logged(registry: Registry, bundle: Bundle) -> None:
    """Parameters that are there already are left, as a run that goes on logs them again; the run stays open."""
    run_id = registry.open_run(registry.model_name, {"trigger": "x"})
    registry.log(run_id, params={"family": "xgboost", "depth": 3}, metrics={"auroc": 0.66})
    registry.log(run_id, params={"family": "lightgbm", "trials": 4}, metrics={"auroc": 0.67})
    registry.log_files(run_id, "plots", {"roc.png": b"\x89PNG"})
    registry.log_onnx(run_id, "lightgbm", (bundle.path / MODEL).read_bytes())
    registry.tag_run(run_id, {"flow_run": "f1"})
    run = registry.client.get_run(run_id)
    assert run.data.params == {"family": "xgboost", "depth": "3", "trials": "4"}
    assert run.data.metrics == {"auroc": 0.67}
    assert run.data.tags["flow_run"] == "f1"
    assert run.info.status == "RUNNING"
    assert [file.path for file in registry.client.list_artifacts(run_id, "plots")] == ["plots/roc.png"]
    (logged,) = registry.client.search_logged_models([registry.experiment_id], f"source_run_id = '{run_id}'")
    assert logged.name == "lightgbm"


def test_a_fetched_bundle_is_cached_by_its_digest(
    connect: Callable[[], Registry], register: Callable[..., int]
) -> None:
    """The second time, MLflow is not needed: its artifacts may be gone."""
    reader = connect()
    version = reader.version(register())
    fetched = reader.fetch_bundle(version)
    assert fetched.path == reader.cache_path / version.bundle_digest
    artifacts = reader.client.get_run(version.run_id).info.artifact_uri
    shutil.rmtree(artifacts.removeprefix("file://"))
    assert reader.fetch_bundle(version).digest == version.bundle_digest
    with pytest.raises(RegistryError, match="MLflow at sqlite:///"):
        connect().fetch_bundle(version)


def altered(data: bytes, name: str) -> bytes:
    """Return other content for a file of a bundle; a manifest still agrees with itself."""
    return data.replace(b'"threshold":0.3', b'"threshold":0.9') if name == MANIFEST else data[:-1] + b"x"


@pytest.mark.parametrize("name", [MODEL, MANIFEST])
def test_a_bundle_that_was_altered_in_mlflow_is_an_error(
    connect: Callable[[], Registry], register: Callable[..., int], name: str
) -> None:
    """Also if the manifest agrees with itself, because the registered digest differs."""
    reader = connect()
    version = reader.version(register())
    artifacts = reader.client.get_run(version.run_id).info.artifact_uri
    file = Path(artifacts.removeprefix("file://")) / "bundle" / name
    file.write_bytes(altered(file.read_bytes(), name))
    with pytest.raises(BundleError, match=r"The bundle of .+ version 1 was altered") as refusal:
        reader.fetch_bundle(version)
    assert ("its digest is" if name == MANIFEST else MODEL) in str(refusal.value)


@pytest.mark.parametrize("name", [MODEL, MANIFEST])
def test_a_bundle_that_was_altered_in_the_cache_is_fetched_again(
    connect: Callable[[], Registry], register: Callable[..., int], name: str
) -> None:
    reader = connect()
    version = reader.version(register())
    file = reader.fetch_bundle(version).path / name
    right = file.read_bytes()
    file.write_bytes(altered(right, name))
    assert reader.fetch_bundle(version).digest == version.bundle_digest
    assert file.read_bytes() == right


def test_an_altered_bundle_does_not_stay_in_the_cache(
    connect: Callable[[], Registry], register: Callable[..., int]
) -> None:
    """Once the stored bundle is put right, fetching it again is enough."""
    reader = connect()
    version = reader.version(register())
    stored = Path(reader.client.get_run(version.run_id).info.artifact_uri.removeprefix("file://")) / "bundle" / MODEL
    right = stored.read_bytes()
    stored.write_bytes(right[:-1])
    with pytest.raises(BundleError):
        reader.fetch_bundle(version)
    stored.write_bytes(right)
    assert reader.fetch_bundle(version).digest == version.bundle_digest


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://no-such-host.invalid:5000"])
def test_an_mlflow_that_cannot_be_reached_is_said_at_once(tmp_path: Path, uri: str) -> None:
    """MLflow's own retries would take four minutes."""
    start = time.monotonic()
    with pytest.raises(RegistryError, match=f"MLflow at {uri} failed.*Check that it runs"):
        Registry(uri, "readmission", tmp_path)
    assert time.monotonic() - start < 15


def test_an_error_does_not_show_the_password_of_mlflow(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"MLflow at http://127\.0\.0\.1:9 failed") as raised:
        Registry("http://me:SECRET@127.0.0.1:9", "readmission", tmp_path)
    assert "SECRET" not in str(raised.value)


def test_a_run_may_be_named_after_a_batch_with_an_apostrophe(registry: Registry) -> None:
    run_id = registry.open_run("train bob's batch", {"trigger": "bob's batch"})
    assert registry.open_run("train bob's batch", {"trigger": "bob's batch"}) == run_id


def test_a_database_that_cannot_be_written_is_a_registry_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match=r"MLflow at sqlite:///.* failed"):
        Registry(f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}", "readmission", tmp_path)


def test_only_a_server_has_pages_of_runs(registry: Registry) -> None:
    assert registry.run_url("r1") is None
