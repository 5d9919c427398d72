"""What is wrong with stores, files, servers and the cluster of an installation is reported by trying it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from healthpredict.config import Settings
from healthpredict.doctor.examine import examine_installation
from healthpredict.doctor.kubernetes import deployer_problem
from healthpredict.doctor.problem import Check, Problem, run_checks
from healthpredict.doctor.servers import mlflow_problem, prefect_problem
from healthpredict.doctor.stores import readable, state_disk_problem, store_checks
from healthpredict.errors import StorageError
from healthpredict.operations.installation import Installation
from healthpredict.storage import s3
from healthpredict.storage.probe import probe
from healthpredict.storage.uris import write_bytes

ROOT = Path(__file__).parents[2]
Opened = Callable[..., Installation]


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    """Returns an installation. Args: settings that differ."""

    def opened(**values: Any) -> Installation:
        places = {"data_uri": str(tmp_path / "data"), "reports_uri": str(tmp_path / "reports")}
        return Installation(Settings(**{**places, "state_path": tmp_path / "state", **values}))

    return opened


def texts(installation: Installation) -> list[str]:
    return [str(problem) for problem in examine_installation(installation)]


# How checks are run


def test_a_check_that_hangs_does_not_hold_up_the_others() -> None:
    asked = threading.Event()

    def hang() -> None:
        asked.wait()

    def fail() -> None:
        raise ZeroDivisionError

    def refuse() -> None:
        raise StorageError("Cannot write.")

    started = time.monotonic()
    checks = [Check("a", hang), Check("b", fail), Check("c", lambda: Problem("wrong", "mend it")), Check("d", refuse)]
    found = run_checks([*checks, Check("e", lambda: None)], seconds=0.5)
    asked.set()
    assert time.monotonic() - started < 5
    assert [str(problem) for problem in found] == [
        "The check of a did not end within 0.5 s. Fix: check its network and server",
        "The check of b failed with an unexpected ZeroDivisionError: .",
        "wrong Fix: mend it",
        "Cannot write.",
    ]


def test_a_check_that_ends_while_the_late_ones_are_listed_is_not_late() -> None:
    asked, ended = threading.Event(), threading.Event()

    class Subject(str):
        """Lets its check end when the sentence about late checks is written."""

        def __format__(self, _spec: str) -> str:
            asked.set()
            assert ended.wait(5)
            return str(self)

    class Wrong:
        """What the check finds. Its thread has reported it when the thread ends."""

        def find(self) -> Problem:
            asked.wait()
            threading.Thread(target=self._join, args=(threading.current_thread(),), daemon=True).start()
            return Problem("wrong")

        def _join(self, thread: threading.Thread) -> None:
            thread.join()
            ended.set()

    assert run_checks([Check(Subject("a"), Wrong().find)], seconds=0.1) == [Problem("wrong")]


# Folders and buckets


def test_a_good_installation_has_no_problem_and_is_not_changed(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert texts(opened()) == []
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "data"]


def test_a_place_that_is_a_file(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("")
    (found,) = texts(opened())
    assert found.startswith("HEALTHPREDICT_REPORTS_URI: Cannot write ")


def test_a_bucket_that_does_not_exist(opened: Opened, s3_bucket: str) -> None:
    missing = "s3://missing/mlflow"
    (found,) = texts(opened(data_uri=s3_bucket, artifacts_uri=missing))
    assert found == (
        f"HEALTHPREDICT_ARTIFACTS_URI: Cannot write {missing}/healthpredict-doctor: NoSuchBucket. "
        "Create the bucket (aws s3 mb s3://missing), or choose another one."
    )
    assert s3.client().list_objects_v2(Bucket="health").get("KeyCount") == 0


def test_a_backup_place_where_nothing_can_be_deleted(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(uri: str) -> None:
        raise StorageError(f"AccessDenied for {uri}.")

    monkeypatch.setattr("healthpredict.storage.probe.delete", refuse)
    assert [text.split(":")[0] for text in texts(opened())] == [
        "HEALTHPREDICT_DATA_URI",
        "HEALTHPREDICT_REPORTS_URI",
        "HEALTHPREDICT_STATE_PATH",
    ]


def test_a_probe_leaves_folders_that_others_have_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(_uri: str) -> None:
        (tmp_path / "new" / "other").write_text("")

    monkeypatch.setattr("healthpredict.storage.probe.delete", fill)
    probe(str(tmp_path / "new" / "deep"))
    assert (tmp_path / "new" / "other").exists()


def test_a_mount_that_hangs_does_not_hold_up_folders_of_other_devices(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def write(uri: str, data: bytes) -> None:
        if "/reports/" in uri:
            asked.wait()
        write_bytes(uri, data)

    monkeypatch.setattr("healthpredict.storage.probe.write_bytes", write)
    monkeypatch.setattr("healthpredict.storage.probe._device", lambda folder: int(folder.name == "reports"))
    found = run_checks(list(store_checks(opened())), seconds=1)
    asked.set()
    place = f"HEALTHPREDICT_REPORTS_URI ({tmp_path / 'reports'})"
    assert [problem.sentence for problem in found] == [f"The check of {place} did not end within 1 s."]


@pytest.mark.parametrize(("region", "wrong"), [("us-east1", True), ("us-east-1", False), ("cn-north-1", False)])
def test_a_misspelt_region(opened: Opened, monkeypatch: pytest.MonkeyPatch, region: str, wrong: bool) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    monkeypatch.setattr("healthpredict.doctor.stores.probe", lambda _uri: None)
    found = texts(opened(data_uri="s3://health"))
    sentence = "AWS has no region 'us-east1'; the nearest name is 'us-east-1'. Fix: correct AWS_DEFAULT_REGION"
    assert found == ([sentence] if wrong else [])


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_disk_problem(tmp_path / "new" / "state") is None
    monkeypatch.setattr("healthpredict.doctor.stores.MIN_FREE_GIB", 1e6)
    found = state_disk_problem(tmp_path / "new" / "state")
    assert found is not None
    assert "GiB free, and a training needs" in found.sentence


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert readable("HEALTHPREDICT_ARTIFACTS_PATH", tmp_path) is None
    found = readable("HEALTHPREDICT_API_KEY_PATH", tmp_path / "api-key")
    assert found == Problem(
        f"{tmp_path / 'api-key'} cannot be read: No such file or directory.",
        "correct HEALTHPREDICT_API_KEY_PATH, or the owner of the file",
    )


def test_files_of_the_hospital(opened: Opened, tmp_path: Path) -> None:
    paths = {"governance_path": tmp_path / "governance.yaml", "cds_hooks_path": tmp_path / "cds-hooks.toml"}
    governance, hooks = texts(opened(**paths))
    assert "which HEALTHPREDICT_GOVERNANCE_PATH names" in governance
    assert "cds-hooks.toml cannot be read" in hooks
    paths["governance_path"].write_text("usee: {}")
    paths["cds_hooks_path"].write_text("base_ur = 'x'")
    governance, hooks = texts(opened(**paths))
    assert "the nearest name is use" in governance
    assert "has wrong parameters. base_ur" in hooks
    paths["governance_path"].write_text("")
    paths["cds_hooks_path"].write_text("")
    assert texts(opened(**paths)) == []


# Servers


@contextmanager
def server(status: int) -> Iterator[tuple[str, list[str]]]:
    """A server that responds to everything with a status. Yields: its URL, and the requests."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            requests.append(f"{self.command} {self.path} {self.headers.get('Authorization', '')[:5]}".strip())
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            # It has no tokens against forged requests.
            self.send_response(404 if "csrf" in self.path else status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_PUT = do_POST = do_DELETE = respond  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}", requests
        httpd.shutdown()


def test_mlflow_stores_a_file_and_deletes_it() -> None:
    with server(200) as (url, requests):
        assert mlflow_problem(Settings(tracking_uri=url, mlflow_user="admin", mlflow_password="password")) is None
    place = "/api/2.0/mlflow-artifacts/artifacts/healthpredict-doctor"
    assert requests == [f"PUT {place} Basic", f"DELETE {place} Basic"]


def test_prefect_stores_a_variable_and_deletes_it() -> None:
    with server(201) as (url, requests):
        assert prefect_problem(Settings(prefect_api_url=f"{url}/api", prefect_login="admin:password")) is None
    assert requests == [
        "GET /api/csrf-token?client=healthpredict-doctor Basic",
        "POST /api/variables/ Basic",
        "DELETE /api/variables/name/healthpredict_doctor Basic",
    ]


@pytest.mark.parametrize(
    ("status", "of_mlflow", "of_prefect"),
    [
        (401, "rejects the password (status 401)", "rejects the password (status 401)"),
        (500, "cannot store a model's files (status 500)", "cannot store anything (status 500)"),
    ],
)
def test_servers_that_refuse(status: int, of_mlflow: str, of_prefect: str) -> None:
    with server(status) as (url, _):
        settings = Settings(tracking_uri=url, prefect_api_url=f"{url}/api")
        mlflow, prefect = mlflow_problem(settings), prefect_problem(settings)
    assert mlflow is not None
    assert prefect is not None
    assert of_mlflow in mlflow.sentence
    assert of_prefect in prefect.sentence


def test_servers_that_do_not_respond_matter_only_after_the_start(opened: Opened) -> None:
    url = "http://127.0.0.1:9"
    installation = opened(tracking_uri=url, prefect_api_url=f"{url}/api")
    assert examine_installation(installation, servers=False) == []
    mlflow, prefect = texts(installation)
    assert mlflow.startswith(f"MLflow does not respond at {url}: ")
    assert prefect.startswith(f"Prefect does not respond at {url}/api: ")


# Kubernetes


ON_KUBERNETES = {"target": "kubernetes", "context": "minikube"}


def write_kubeconfig(path: Path) -> None:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "one", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "one", "user": {"token": "x"}}],
        "contexts": [{"name": "minikube", "context": {"cluster": "one", "user": "one"}}],
    }
    path.write_text(yaml.safe_dump(content))


def test_settings_of_rollouts_that_are_missing(opened: Opened) -> None:
    repository, cluster = texts(opened(rollout={"target": "kubernetes"}))
    assert repository == "There is no repository for images. Fix: set HEALTHPREDICT_IMAGE_REPOSITORY=HOST/NAME"
    assert cluster.endswith("set HEALTHPREDICT_KUBECONFIG and HEALTHPREDICT_ROLLOUT__CONTEXT.")


def test_a_login_that_ecr_refuses(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    repository = "123456789012.dkr.ecr.us-east-1.amazonaws.com/health-predict"
    login, cluster = texts(
        opened(rollout=ON_KUBERNETES, image_repository=repository, kubeconfig=tmp_path / "kubeconfig")
    )
    assert login.startswith(f"No login for {repository}: ")
    assert cluster.startswith(f"The kubeconfig {tmp_path / 'kubeconfig'} with context 'minikube' cannot be used")


def test_a_login_from_ecr_is_no_problem(opened: Opened, s3_bucket: str) -> None:
    repository = "123456789012.dkr.ecr.us-east-1.amazonaws.com/health-predict"
    (cluster,) = texts(opened(rollout={"target": "kubernetes"}, image_repository=repository))
    assert "HEALTHPREDICT_KUBECONFIG" in cluster


def test_a_cluster_that_does_not_respond(opened: Opened, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    write_kubeconfig(kubeconfig)
    (found,) = texts(opened(rollout=ON_KUBERNETES, image_repository="localhost/x", kubeconfig=kubeconfig))
    assert found.startswith("Kubernetes did not respond to a request to ")


@pytest.mark.parametrize("in_a_container", [True, False])
def test_a_deployer_without_rights(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_a_container: bool
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    write_kubeconfig(kubeconfig)
    monkeypatch.setattr("healthpredict.rollout.kubernetes.KubernetesTarget.allows", lambda _target, _right: False)
    if in_a_container:
        monkeypatch.setattr("healthpredict.doctor.kubernetes.KUBECONFIG", str(kubeconfig))
    found = deployer_problem(opened(rollout=ON_KUBERNETES, kubeconfig=kubeconfig))
    assert found is not None
    assert "the user of context 'minikube' may not " in found.sentence
    file = "FILE" if in_a_container else kubeconfig
    assert found.fix.startswith(f"HEALTHPREDICT_KUBECONFIG={file} HEALTHPREDICT_ROLLOUT__CONTEXT=minikube .venv/bin/")
    assert ("chmod 444 FILE" in found.fix) == in_a_container
