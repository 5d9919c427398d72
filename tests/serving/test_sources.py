"""Where a bundle comes from: a folder, S3, or a real MLflow server."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from as_process import service, wait_until
from bundles import build_tiny_bundle
from fake_mlflow import FakeMlflow, fake_mlflow
from typer.testing import CliRunner

from healthpredict.bundle.model import GOLDEN, MANIFEST, MODEL, Bundle, load_bundle
from healthpredict.cli.main import app as command
from healthpredict.errors import BundleError, ConfigurationError, RegistryError, StorageError
from healthpredict.registry.models import BUNDLE_ARTIFACT, Registry
from healthpredict.rollout.ports import free_port
from healthpredict.storage import bundle_uris
from healthpredict.storage.bundle_uris import fetch_bundle
from healthpredict.storage.uris import delete, join, read_bytes, write_bytes

CHAMPION = "models:/readmission@champion"
PASSWORD = "s3cret/#@:%41"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def fake() -> Iterator[FakeMlflow]:
    with fake_mlflow() as mlflow:
        yield mlflow


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


def test_a_folder_is_taken_as_it_is(tmp_path: Path, cache: Path) -> None:
    assert fetch_bundle(str(tmp_path), cache) == tmp_path
    assert fetch_bundle("var/bundle", cache) == Path("var/bundle")
    assert not cache.exists()


@pytest.mark.parametrize(
    "source", ["https://x/bundle", "gs://b/x", "models:/", "models:/a", "models:/a/b/c", "models:/a@"]
)
def test_a_source_of_no_known_form_says_which_there_are(source: str, cache: Path) -> None:
    with pytest.raises(ConfigurationError, match="models:/NAME@ALIAS"):
        fetch_bundle(source, cache, "http://127.0.0.1:1")


def upload(bundle: Bundle, uri: str) -> None:
    for file in bundle.path.iterdir():
        write_bytes(join(uri, file.name), file.read_bytes())


def test_a_bundle_in_s3_is_fetched_once(s3_bucket: str, cache: Path, bundle: Bundle, next_bundle: Bundle) -> None:
    uri = f"{s3_bucket}/bundles/served"
    upload(bundle, uri)
    folder = fetch_bundle(uri, cache)
    assert folder == cache / bundle.digest
    assert load_bundle(folder).digest == bundle.digest
    assert {file.name for file in folder.iterdir()} == {file.name for file in bundle.path.iterdir()}
    delete(join(uri, MODEL))
    assert fetch_bundle(f"{uri}/", cache) == folder
    upload(next_bundle, uri)
    assert load_bundle(fetch_bundle(uri, cache)).digest == next_bundle.digest
    assert kept(cache) == sorted([bundle.digest, next_bundle.digest])


def test_a_process_serves_from_s3(s3_bucket: str, tmp_path: Path, bundle: Bundle) -> None:
    upload(bundle, f"{s3_bucket}/served")
    with service(tmp_path / "log", f"{s3_bucket}/served", f"--cache={tmp_path / 'cache'}") as api:
        assert api.client.get("/model").json()["bundle_digest"] == bundle.digest


def test_what_s3_does_not_have_is_named(s3_bucket: str, cache: Path, bundle: Bundle) -> None:
    with pytest.raises(StorageError, match=r"s3://health/absent/manifest\.json"):
        fetch_bundle(f"{s3_bucket}/absent", cache)
    upload(bundle, f"{s3_bucket}/half")
    delete(f"{s3_bucket}/half/{GOLDEN}")
    with pytest.raises(StorageError, match=r"s3://health/half/golden\.json"):
        fetch_bundle(f"{s3_bucket}/half", cache)
    assert kept(cache) == []


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("names", {"files": {name: "0" * 64}})
        for name in ("../evil", "..", ".", "", "/etc/evil", "deeper/file", "a\\b\0", ".hidden", MANIFEST, "x" * 300)
    ]
    + [("no manifest", other) for other in ([], 7, {}, {"files": 3}, {"files": ["a"]}, "text")],
)
def test_a_manifest_that_is_none_is_not_trusted(name: str, manifest: Any, tmp_path: Path, fake: FakeMlflow) -> None:
    folder, cache = tmp_path / "bundle", tmp_path / "deep" / "cache"
    folder.mkdir()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / "evil").write_text("not of the bundle")
    fake.has(hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(), str(folder))
    with pytest.raises(BundleError, match=name):
        fetch_bundle(CHAMPION, cache, fake.uri)
    assert kept(cache) == []


def test_a_manifest_of_endless_depth_is_no_manifest(tmp_path: Path, fake: FakeMlflow, cache: Path) -> None:
    (tmp_path / MANIFEST).write_text("[" * 200_000)
    fake.has(hashlib.sha256((tmp_path / MANIFEST).read_bytes()).hexdigest(), str(tmp_path))
    with pytest.raises(BundleError, match="no manifest"):
        fetch_bundle(CHAMPION, cache, fake.uri)


@dataclass(frozen=True)
class Mlflow:
    """A real server, and the folder of its artifacts."""

    uri: str
    artifacts: Path

    def connect(self, name: str, cache: Path) -> Registry:
        return Registry(self.uri, name, cache)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    folder = tmp_path_factory.mktemp("mlflow-server")
    port = free_port()
    command = [Path(sys.executable).with_name("mlflow"), "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    stores = [
        f"--backend-store-uri=sqlite:///{folder / 'mlflow.db'}",
        f"--artifacts-destination={folder / 'artifacts'}",
    ]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *stores],
            env={**os.environ, **environment},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def answers() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, "mlflow", seconds=120)
        yield Mlflow(f"http://127.0.0.1:{port}", folder / "artifacts")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)


@pytest.fixture(scope="module")
def registry(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Version 1 is the champion, version 2 the challenger, version 3 was never completed."""
    folder = tmp_path_factory.mktemp("registered")
    registry = mlflow.connect("readmission", folder / "cache")
    for number in (1, 2):
        run_id = registry.open_run("readmission", {"trigger": str(number)})
        assert registry.reserve_version(run_id) == number
        built = build_tiny_bundle(folder / f"built-{number}", model_version=number, seed=number)
        registry.complete_version(run_id, built, {"trigger": str(number)})
    registry.make_champion(1)
    registry.reserve_version(registry.open_run("readmission", {"trigger": "killed"}))
    return registry


def test_an_alias_and_a_number_name_a_registered_bundle(registry: Registry, cache: Path) -> None:
    one, two = (registry.version(number).bundle_digest for number in (1, 2))
    found = {
        source: load_bundle(fetch_bundle(source, cache, registry.tracking_uri)).digest
        for source in (CHAMPION, "models:/readmission@challenger", "models:/readmission/1", "models:/readmission/2")
    }
    assert list(found.values()) == [one, two, one, two]
    assert kept(cache) == sorted([one, two])


def test_a_process_follows_the_alias(registry: Registry, tmp_path: Path) -> None:
    options = (f"--tracking-uri={registry.tracking_uri}", f"--cache={tmp_path / 'cache'}")
    with service(tmp_path / "log", CHAMPION, *options) as api:
        assert api.client.get("/model").json()["model_version"] == 1
        registry.make_champion(2)
        try:
            api.process.send_signal(signal.SIGHUP)
            wait_until(lambda: api.client.get("/model").json()["model_version"] == 2)
        finally:
            registry.make_champion(1)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("models:/readmission@nobody", "answered 40"),
        ("models:/readmission/99", "answered 404"),
        ("models:/unknown@champion", "answered 404"),
        ("models:/readmission/3", "was never completed"),
    ],
)
def test_a_version_that_is_not_registered_is_named(registry: Registry, cache: Path, source: str, problem: str) -> None:
    with pytest.raises(RegistryError, match=problem) as error:
        fetch_bundle(source, cache, registry.tracking_uri)
    assert source in str(error.value)


@pytest.mark.parametrize(
    ("name", "problem"), [(MANIFEST, "its digest is"), (MODEL, f"{MODEL} is not what its manifest")]
)
def test_an_altered_artifact_is_neither_kept_nor_served(
    mlflow: Mlflow, registry: Registry, cache: Path, name: str, problem: str
) -> None:
    """Also if the manifest agrees with itself, because the registered digest differs."""
    (stored,) = mlflow.artifacts.glob(f"*/{registry.version(2).run_id}/artifacts/{BUNDLE_ARTIFACT}/{name}")
    right = stored.read_bytes()
    stored.write_bytes(right.replace(b'"threshold":0.3', b'"threshold":0.9') if name == MANIFEST else right[:-1])
    try:
        with pytest.raises(BundleError, match=f"altered: {problem}"):
            fetch_bundle("models:/readmission/2", cache, registry.tracking_uri)
    finally:
        stored.write_bytes(right)
    assert kept(cache) == []
    assert fetch_bundle("models:/readmission/2", cache, registry.tracking_uri).is_dir()


def test_a_server_that_is_down_is_reported_quickly(tmp_path: Path) -> None:
    options = [f"--tracking-uri=http://127.0.0.1:{free_port()}", f"--cache={tmp_path / 'cache'}"]
    command = [sys.executable, "-m", "healthpredict.serving", CHAMPION, *options]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == RegistryError.exit_code
    assert "MLflow does not answer at http://127.0.0.1:" in done.stderr
    assert "Traceback" not in done.stderr


class Killed(BaseException):
    """Ends the fetch like `kill -9`, except that the temporary folder is removed."""


def test_a_fetch_that_is_killed_leaves_nothing_that_looks_like_a_bundle(
    fake: FakeMlflow, cache: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fetch is killed at each file in turn."""
    fake.has(bundle.digest, str(bundle.path))
    n_files = len(list(bundle.path.iterdir()))
    for survives in range(n_files):
        left = survives

        def read(uri: str) -> bytes:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return read_bytes(uri)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(bundle_uris, "read_bytes", read)
            fetch_bundle(CHAMPION, cache, fake.uri)
        assert kept(cache) == []
    assert load_bundle(fetch_bundle(CHAMPION, cache, fake.uri)).digest == bundle.digest


def spoil_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("{}")


def cut_model(folder: Path) -> None:
    (folder / MODEL).write_bytes(b"")


def lose_model(folder: Path) -> None:
    (folder / MODEL).unlink()


def lose_all(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("damage", [spoil_manifest, cut_model, lose_model, lose_all])
def test_what_was_damaged_in_the_cache_is_fetched_again(
    fake: FakeMlflow, cache: Path, bundle: Bundle, damage: Callable[[Path], None]
) -> None:
    """A power cut or an incomplete copy of a backup leaves such files."""
    fake.has(bundle.digest, str(bundle.path))
    damage(fetch_bundle(CHAMPION, cache, fake.uri))
    assert load_bundle(fetch_bundle(CHAMPION, cache, fake.uri)).digest == bundle.digest
    assert kept(cache) == [bundle.digest]


def test_what_is_in_the_cache_is_not_fetched_again(
    fake: FakeMlflow, cache: Path, bundle: Bundle, tmp_path: Path
) -> None:
    fake.has(bundle.digest, str(bundle.path))
    folder = fetch_bundle(CHAMPION, cache, fake.uri)
    fake.has(bundle.digest, str(tmp_path / "gone"))
    assert fetch_bundle(CHAMPION, cache, fake.uri) == folder


@pytest.mark.parametrize("damaged", [False, True])
def test_of_many_that_fetch_at_once_each_gets_the_bundle(
    fake: FakeMlflow, cache: Path, bundle: Bundle, damaged: bool
) -> None:
    fake.has(bundle.digest, str(bundle.path))
    if damaged:
        cut_model(fetch_bundle(CHAMPION, cache, fake.uri))
    with ThreadPoolExecutor(8) as pool:
        loaded = set(pool.map(lambda _: load_bundle(fetch_bundle(CHAMPION, cache, fake.uri)).digest, range(16)))
    assert loaded == {bundle.digest}
    assert kept(cache) == [bundle.digest]


@pytest.mark.parametrize("status", [200, 404])
def test_connections_to_mlflow_are_closed(
    fake: FakeMlflow, cache: Path, bundle: Bundle, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a service that runs for months leaks one connection with each reload."""
    clients: list[httpx.Client] = []

    class RecordedClient(httpx.Client):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            clients.append(self)

    monkeypatch.setattr(httpx, "Client", RecordedClient)
    fake.has(bundle.digest, str(bundle.path))
    fake.status = status
    with suppress(RegistryError):
        fetch_bundle(CHAMPION, cache, fake.uri)
    assert [client.is_closed for client in clients] == [True]


def test_a_cache_that_cannot_be_written_is_named(fake: FakeMlflow, tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "file").write_text("")
    fake.has(bundle.digest, str(bundle.path))
    with pytest.raises(StorageError, match=r"cannot be kept in .*file"):
        fetch_bundle(CHAMPION, tmp_path / "file" / "cache", fake.uri)


def test_artifacts_on_a_disk_that_is_shared_are_read_there(fake: FakeMlflow, tmp_path: Path, bundle: Bundle) -> None:
    folder = tmp_path / "with space 100%41#"
    shutil.copytree(bundle.path, folder)
    for number, origin in enumerate((str(folder), folder.as_uri())):
        fake.has(bundle.digest, origin)
        assert load_bundle(fetch_bundle(CHAMPION, tmp_path / str(number), fake.uri)).digest == bundle.digest


@pytest.mark.parametrize("digest", [None, "", "../../etc", "/etc", "0" * 63, "A" * 64])
def test_a_tag_that_is_no_digest_names_no_folder(fake: FakeMlflow, cache: Path, bundle: Bundle, digest: str) -> None:
    fake.has(digest, str(bundle.path))
    with pytest.raises(RegistryError, match="was never completed"):
        fetch_bundle(CHAMPION, cache, fake.uri)


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"[]", b"{}", b'{"model_version": 3}', b'{"model_version": {}}', b"\xff"]
)
def test_a_server_that_is_not_mlflow_is_reported(fake: FakeMlflow, cache: Path, answer: bytes) -> None:
    fake.answer = answer
    with pytest.raises(RegistryError, match="is not MLflow"):
        fetch_bundle(CHAMPION, cache, fake.uri)


def with_login(uri: str, password: str) -> str:
    return uri.replace("http://", f"http://nurse:{password}@")


def test_a_login_in_the_address_is_used(fake: FakeMlflow, cache: Path, bundle: Bundle) -> None:
    fake.has(bundle.digest, str(bundle.path))
    fetch_bundle(CHAMPION, cache, with_login(fake.uri, "s3cret%2F%23%40%3A%2541"))
    assert fake.authorization == f"Basic {base64.b64encode(f'nurse:{PASSWORD}'.encode()).decode()}"


@pytest.mark.parametrize("status", [200, 301, 401, 403, 404, 500])
def test_a_password_is_in_no_message(
    fake: FakeMlflow, cache: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    fake.status = status
    caplog.set_level("DEBUG")
    for uri in (fake.uri, "http://127.0.0.1:1", "http://no-such-host.invalid"):
        with pytest.raises(RegistryError) as error:
            fetch_bundle(CHAMPION, cache, with_login(uri, "s3cret"))
        assert "s3cret" not in f"{error.value}{caplog.text}"
        assert "nurse" not in str(error.value)


@pytest.mark.parametrize(
    "uri",
    [
        *(f"http://nurse:{password}@127.0.0.1:1" for password in ("s3cret/x", "s3cret#x", "s3cret?x", "1/s3cret")),
        "http://nurse:s3cret@127.0.0.1:s3cret",
        "http://nurse:s3cret@127.0.0.1:99999",
        "http://nurse:s3cret@[::1",
        "http://nurse:s3cret@",
        "ftp://nurse:s3cret@127.0.0.1",
        "s3cret",
        "sqlite:///s3cret.db",
        "",
        None,
    ],
)
def test_an_address_that_cannot_be_used_is_not_repeated(cache: Path, uri: str | None) -> None:
    with pytest.raises(ConfigurationError, match="needs the address of an MLflow server") as error:
        fetch_bundle(CHAMPION, cache, uri)
    assert "s3cret" not in str(error.value)
    assert error.value.__cause__ is None


def test_serve_keeps_a_password_out_of_the_list_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user of the machine can read the arguments of a process."""
    monkeypatch.setenv("HEALTHPREDICT_STATE_PATH", str(tmp_path))
    monkeypatch.setenv("HEALTHPREDICT_TRACKING_URI", "http://nurse:s3cret@127.0.0.1:1")
    arguments: list[str] = []
    monkeypatch.setattr("os.execv", lambda _, words: arguments.extend(words))
    result = CliRunner().invoke(command, ["serve"], catch_exceptions=False)
    assert result.exit_code == 0
    assert CHAMPION in arguments
    assert "s3cret" not in " ".join(arguments)
    (from_pipe,) = (word.removeprefix("@") for word in arguments if word.startswith("@"))
    descriptor = int(from_pipe.rpartition("/")[2])
    try:
        assert os.get_inheritable(descriptor)
        # In place of this process, the new one reads it as the arguments that it stands for.
        done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=30, pass_fds=[descriptor])
    finally:
        os.close(descriptor)
    assert done.returncode == RegistryError.exit_code
    assert "MLflow does not answer at http://127.0.0.1:1 (" in done.stderr
    assert "s3cret" not in done.stderr
