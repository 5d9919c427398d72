"""A reload replaces the served bundle."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from as_process import Service, service, wait_for, wait_until
from fake_mlflow import fake_mlflow
from in_a_thread import Serve

from healthpredict.bundle.manifest import FORMAT
from healthpredict.bundle.model import ENCODER, EXPLAINER, GOLDEN, MANIFEST, MODEL, Bundle
from healthpredict.errors import ConfigurationError
from healthpredict.rollout.ports import free_port
from healthpredict.serving.app import create_app
from healthpredict.serving.encounter import as_sent
from healthpredict.serving.keys import KeyRing
from healthpredict.serving.server import ServiceParams, serve
from healthpredict.storage.key_file import add_key

RELOAD = "/admin/reload"


@dataclass(frozen=True)
class Reloadable:
    """A service that serves a folder, and the keys of a caller and of an administrator."""

    service: Service
    folder: Path
    caller: dict[str, str]
    administrator: dict[str, str]

    def put(self, bundle: Bundle) -> None:
        """Replace the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(bundle.path, self.folder)

    def reload(self) -> httpx.Response:
        return self.service.client.post(RELOAD, headers=self.administrator)

    def predict(self, bundle: Bundle) -> httpx.Response:
        return self.service.client.post(
            "/predict", json=as_sent(bundle.golden[0].record), headers=self.caller
        ).raise_for_status()

    def served(self) -> str:
        return str(self.service.client.get("/model", headers=self.caller).json()["bundle_digest"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Iterator[Reloadable]:
    state = tmp_path_factory.mktemp("reload")
    folder, keys, admin_keys = state / "bundle", state / "keys.json", state / "admin-keys.json"
    shutil.copytree(bundle.path, folder)
    caller, administrator = add_key(keys, "ward"), add_key(admin_keys, "operator")
    with service(state / "log", folder, f"--keys={keys}", f"--admin-keys={admin_keys}") as started:
        yield Reloadable(started, folder, bearer(caller), bearer(administrator))


@pytest.fixture
def api(running: Reloadable, bundle: Bundle) -> Reloadable:
    """Serves version 1."""
    running.put(bundle)
    assert running.reload().json()["bundle_digest"] == bundle.digest
    return running


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def by_signal(api: Reloadable, bundle: Bundle) -> None:
    api.service.process.send_signal(signal.SIGHUP)
    wait_until(lambda: api.served() == bundle.digest)


def by_request(api: Reloadable, bundle: Bundle) -> None:
    assert api.reload().json()["bundle_digest"] == bundle.digest


@pytest.mark.parametrize("reload", [by_signal, by_request])
def test_a_new_bundle_is_served_between_two_requests(
    api: Reloadable, bundle: Bundle, next_bundle: Bundle, reload: Callable[[Reloadable, Bundle], None]
) -> None:
    """Under requests: each response comes from the old bundle or from the new one as a whole, and none is missing."""
    risks = {b.digest: b.risk(bundle.golden[0].record) for b in (bundle, next_bundle)}
    assert len(set(risks.values())) == 2
    seen: list[tuple[str, float]] = []
    faults: list[Exception] = []
    done = threading.Event()

    def ask() -> None:
        body = {"encounters": [as_sent(bundle.golden[0].record)] * 20}
        with httpx.Client(base_url=api.service.client.base_url, trust_env=False, headers=api.caller) as client:
            try:
                while not done.is_set():
                    answer = client.post("/predict", json=body["encounters"][0]).raise_for_status().json()
                    seen.append((answer["bundle_digest"], answer["readmission_risk"]))
                    answer = client.post("/predict/batch", json=body).raise_for_status().json()
                    seen.extend((answer["bundle_digest"], row["readmission_risk"]) for row in answer["results"])
            except Exception as fault:
                faults.append(fault)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        wait_until(lambda: len(seen) > 100)
        api.put(next_bundle)
        reload(api, next_bundle)
        enough = len(seen) + 100
        wait_until(lambda: len(seen) > enough or bool(faults))
    finally:
        done.set()
        for client in clients:
            client.join()
    assert faults == []
    assert {digest for digest, _ in seen} == {bundle.digest, next_bundle.digest}
    assert all(risk == pytest.approx(risks[digest], abs=1e-7) for digest, risk in seen)


def test_a_reload_names_the_old_and_the_new_bundle(api: Reloadable, bundle: Bundle, next_bundle: Bundle) -> None:
    api.put(next_bundle)
    answer = {"model_version": 2, "bundle_digest": next_bundle.digest, "previous_digest": bundle.digest}
    assert api.reload().json() == answer
    assert api.reload().json() == answer | {"previous_digest": next_bundle.digest}
    assert api.service.client.get("/health/ready").status_code == 200


def test_what_was_loaded_is_served_without_its_folder(api: Reloadable, next_bundle: Bundle) -> None:
    """Also explanations, which were not requested before."""
    api.put(next_bundle)
    api.reload()
    shutil.rmtree(api.folder)
    record = as_sent(next_bundle.golden[0].record)
    explained = api.service.client.post("/explain", json=record, headers=api.caller).raise_for_status().json()
    assert explained["bundle_digest"] == next_bundle.digest
    assert explained["readmission_risk"] == next_bundle.risk(next_bundle.golden[0].record)


def rewrite(folder: Path, name: str, data: bytes) -> None:
    """Replace a file of a bundle and its digest in the manifest, as a faulty build would."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = hashlib.sha256(data).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(manifest))


def with_another_golden_row(folder: Path) -> None:
    golden = json.loads((folder / GOLDEN).read_bytes())
    golden[3]["risk"] += 1e-5
    rewrite(folder, GOLDEN, json.dumps(golden).encode())


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "altered": (
        lambda f: (f / MODEL).write_bytes((f / MODEL).read_bytes()[:-1] + b"x"),
        "Changed after the bundle was built",
    ),
    "cut": (lambda f: (f / MODEL).write_bytes(b""), "Changed after the bundle was built"),
    "incomplete": (lambda f: (f / ENCODER).unlink(), "Incomplete bundle"),
    "away": (shutil.rmtree, "Incomplete bundle"),
    "no manifest": (lambda f: (f / MANIFEST).write_bytes(b"{"), f"is not a manifest of format {FORMAT}"),
    "wrong golden row": (with_another_golden_row, "differs from training by"),
    "no model": (lambda f: rewrite(f, MODEL, b"not a model"), "cannot be loaded (InvalidProtobuf)"),
    "no encoder": (lambda f: rewrite(f, ENCODER, b"[]"), "cannot be loaded (TypeError)"),
    "no explainer": (lambda f: rewrite(f, EXPLAINER, b"not an explainer"), "cannot be loaded"),
}


@pytest.mark.parametrize("how", BAD)
@pytest.mark.parametrize("ask", ["request", "signal"])
def test_a_bad_bundle_leaves_the_old_one(
    api: Reloadable, bundle: Bundle, next_bundle: Bundle, how: str, ask: str
) -> None:
    spoil, reason = BAD[how]
    api.put(next_bundle)
    spoil(api.folder)
    refused = "Reload refused, version 1 stays: "
    before = api.service.output().count(refused)
    if ask == "request":
        response = api.reload()
        assert (response.status_code, response.headers["content-type"]) == (409, "application/problem+json")
        assert reason in response.json()["detail"]
        assert response.json()["detail"].endswith(" Version 1 keeps answering.")
    else:
        api.service.process.send_signal(signal.SIGHUP)
    api.service.wait_for_output(refused, before + 1)
    assert reason in api.service.output().rpartition(refused)[2]
    assert "Traceback" not in api.service.output()
    assert api.predict(bundle).json()["readmission_risk"] == bundle.risk(bundle.golden[0].record)
    assert api.served() == bundle.digest
    api.put(next_bundle)
    assert api.reload().json()["previous_digest"] == bundle.digest
    assert api.served() == next_bundle.digest


def test_only_an_administrator_reloads_and_does_nothing_else(api: Reloadable, next_bundle: Bundle) -> None:
    api.put(next_bundle)
    client = api.service.client
    for headers in ({}, api.caller, bearer("hp_wrong")):
        refused = client.post(RELOAD, headers=headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    for method, path in (("POST", "/predict"), ("POST", "/explain"), ("GET", "/model"), ("GET", "/metrics")):
        assert client.request(method, path, headers=api.administrator).status_code == 401
    assert client.get(RELOAD, headers=api.administrator).status_code == 405
    assert client.post("/admin/nothing", headers=api.administrator).status_code == 404
    assert client.post("/admin/nothing", headers=api.caller).status_code == 401
    assert api.served() != next_bundle.digest


def test_without_keys_of_administrators_there_is_no_reload_by_request(bundle: Bundle, serve_app: Serve) -> None:
    client = serve_app(create_app(bundle, source=lambda: bundle.path))
    assert client.post(RELOAD).status_code == 404


def test_callers_without_keys_do_not_reload(bundle: Bundle, serve_app: Serve, keys_path: Path, key: str) -> None:
    client = serve_app(create_app(bundle, source=lambda: bundle.path, admin_keys=KeyRing(keys_path)))
    assert client.get("/model").status_code == 200
    assert client.post(RELOAD).status_code == 401
    assert client.post(RELOAD, headers=bearer(key)).status_code == 200


def test_one_file_of_keys_for_both_is_refused(bundle: Bundle, keys_path: Path, key: str) -> None:
    params = ServiceParams(bundle=str(bundle.path), keys=keys_path, admin_keys=keys_path)
    with pytest.raises(ConfigurationError, match="a file of their own"):
        serve(params)


def test_concurrent_reloads_run_one_after_the_other(
    bundle: Bundle, next_bundle: Bundle, serve_app: Serve, keys_path: Path, key: str
) -> None:
    """The second reads the source again, because it may have changed since the first did."""
    at_work, most, looks = 0, 0, [next_bundle.path, bundle.path, bundle.path, next_bundle.path]

    def source() -> Path:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        time.sleep(0.05)
        at_work -= 1
        return looks.pop(0)

    client = serve_app(create_app(bundle, source=source, admin_keys=KeyRing(keys_path)))
    answers: list[httpx.Response] = []
    callers = [
        threading.Thread(target=lambda: answers.append(client.post(RELOAD, headers=bearer(key)))) for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [answer.status_code for answer in answers] == [200] * 4
    assert (most, looks) == (1, [])
    switched = sorted((a.json()["previous_digest"], a.json()["bundle_digest"]) for a in answers)
    one, two = bundle.digest, next_bundle.digest
    assert switched == sorted([(one, two), (two, one), (one, one), (one, two)])
    assert client.get("/model").json()["bundle_digest"] == two


def test_a_source_that_hangs_delays_neither_answers_nor_the_end(bundle: Bundle, tmp_path: Path) -> None:
    with fake_mlflow() as mlflow:
        mlflow.has(bundle.digest, str(bundle.path))
        options = (f"--tracking-uri={mlflow.uri}", f"--cache={tmp_path / 'cache'}")
        with service(tmp_path / "log", "models:/readmission@champion", *options) as api:
            mlflow.may_answer.clear()
            asked = mlflow.asked
            api.process.send_signal(signal.SIGHUP)
            wait_until(lambda: mlflow.asked > asked)
            assert api.client.get("/model").json()["bundle_digest"] == bundle.digest
            api.process.terminate()
            assert api.process.wait(timeout=10) == 0, "the question alone may take 30 seconds"


def test_a_reload_during_the_start_is_carried_out(bundle: Bundle, tmp_path: Path) -> None:
    """Without a handler, the signal would end the process."""
    port = free_port()
    with fake_mlflow() as mlflow, (tmp_path / "log").open("wb") as log:
        mlflow.has(bundle.digest, str(bundle.path))
        mlflow.may_answer.clear()
        options = (f"--port={port}", f"--tracking-uri={mlflow.uri}", f"--cache={tmp_path / 'cache'}")
        command = [sys.executable, "-m", "healthpredict.serving", "models:/readmission/1", *options]
        process = subprocess.Popen(command, stderr=log)
        try:
            wait_until(lambda: mlflow.asked == 1)
            process.send_signal(signal.SIGHUP)
            mlflow.may_answer.set()
            wait_for(port)
            wait_until(lambda: mlflow.asked == 2)
        finally:
            process.terminate()
            process.wait()
    assert process.returncode == 0
