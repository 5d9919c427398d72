"""The folder and the environment of a demo: it belongs to nobody else, and nothing of an installation reaches it."""

from __future__ import annotations

import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from healthpredict.cli import demo, services
from healthpredict.cli.demo import preferred_ports
from healthpredict.cli.demo_environment import demo_environment
from healthpredict.cli.services import LocalServices
from healthpredict.config import Settings, variables
from healthpredict.errors import ConfigurationError, HealthPredictError
from healthpredict.rollout.ports import free_port

PORTS = {"api": 8080, "prefect": 4200, "mlflow": 5000}


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """A demo replaces the environment of its process."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def stranger() -> Iterator[int]:
    """The port of a server of somebody else, which answers every request."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def run(state: Path, *, fresh: bool = False, keep: bool = False) -> demo.Demo:
    with demo.demo_in(state, keep=keep, fresh=fresh) as running:
        running.seconds["total"] = 0
    return running


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_that_no_demo_made_is_refused(tmp_path: Path, fresh: bool) -> None:
    (tmp_path / "patient-key").write_text("secret")
    with pytest.raises(ConfigurationError, match="no demo made it"):
        run(tmp_path, fresh=fresh)
    demo.stop_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["patient-key"]


@pytest.mark.parametrize("name", ["STATE_PATH", "DATA_URI"])
def test_a_folder_that_the_settings_use_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run(tmp_path)
    (tmp_path / "data").mkdir()
    for setting in ("STATE_PATH", "DATA_URI"):
        monkeypatch.setenv(f"HEALTHPREDICT_{setting}", str(tmp_path.parent))
    monkeypatch.setenv(f"HEALTHPREDICT_{name}", str(tmp_path / "data"))
    with pytest.raises(ConfigurationError, match="is not deleted"):
        run(tmp_path, fresh=True)
    assert (tmp_path / "data").exists()


def test_fresh_deletes_what_an_earlier_demo_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "demo"
    run(state)
    (state / "data").mkdir()
    for name in ("DATA_URI", "STATE_PATH"):
        monkeypatch.delenv(f"HEALTHPREDICT_{name}")
    run(state, fresh=True)
    assert not (state / "data").exists()


def test_what_cannot_be_deleted_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "demo"
    run(state)
    for name in ("DATA_URI", "STATE_PATH"):
        monkeypatch.delenv(f"HEALTHPREDICT_{name}")

    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError):
        run(state, fresh=True)


def test_of_the_settings_only_those_of_learning_reach_a_demo(tmp_path: Path) -> None:
    given = dict.fromkeys((*variables(Settings), "RAY_ADDRESS", "MLFLOW_TRACKING_URI", "PREFECT_API_KEY", "PATH"), "x")
    found = demo_environment(given | {"healthpredict_webhook_url": "x"}, tmp_path, PORTS)
    passed = {name.partition("__")[0] for name, value in found.items() if value == "x"}
    assert passed == {"PATH"} | {
        f"HEALTHPREDICT_{name}"
        for name in (
            *("DRIFT", "FHIR", "INITIAL_SHARE", "KNOWN_SHARE", "LABEL_DELAY"),
            *("MODEL", "N_BATCHES", "OUTCOME", "PROMOTION", "SEARCH"),
        )
    }


def test_a_misspelt_setting_is_still_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHPREDCIT_N_BATCHES", "3")
    with pytest.raises(ConfigurationError, match="nearest one is HEALTHPREDICT_N_BATCHES"):
        run(tmp_path / "demo")


def test_a_demo_without_running_servers_gets_free_ports(tmp_path: Path, stranger: int) -> None:
    demo.write_json(str(tmp_path / "ports.json"), dict.fromkeys(PORTS, stranger))
    running = run(tmp_path)
    assert stranger not in running.ports.values()
    assert json.loads((tmp_path / "ports.json").read_text()) == running.ports


def test_a_server_that_runs_keeps_its_port(tmp_path: Path) -> None:
    recorded = {name: free_port() for name in PORTS}
    demo.write_json(str(tmp_path / "ports.json"), recorded)
    LocalServices(tmp_path)._start("prefect", ["python", "-c", "import time; time.sleep(60)"], {})
    assert run(tmp_path).ports["prefect"] == recorded["prefect"]


def test_a_server_of_somebody_else_is_not_waited_for(
    tmp_path: Path, stranger: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_SECONDS_TO_START", 1.0)
    local = LocalServices(tmp_path)
    local._start("prefect", ["python", "-c", "import time; time.sleep(60)"], {})
    with pytest.raises(HealthPredictError, match="prefect did not answer"):
        local.wait("prefect", f"http://127.0.0.1:{stranger}/api/health")


def test_a_failed_demo_stops_its_services_even_if_it_should_keep_them(tmp_path: Path) -> None:
    with pytest.raises(HealthPredictError, match="a step failed"), demo.demo_in(tmp_path, keep=True, fresh=False) as it:
        it.services._start("prefect", ["python", "-c", "import time; time.sleep(60)"], {})
        raise HealthPredictError("a step failed")
    assert not it.services.runs("prefect")


@pytest.mark.parametrize("curl", [True, False], ids=["curl", "no curl"])
def test_an_api_that_does_not_respond_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, curl: bool) -> None:
    if not curl:
        monkeypatch.setattr(demo.shutil, "which", lambda _: None)
    with pytest.raises(HealthPredictError, match="The API did not respond"):
        demo.ask_api(run(tmp_path), "body.json", {}, "/predict")


def test_a_proxy_is_not_asked(tmp_path: Path, stranger: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{stranger}")
    with pytest.raises(HealthPredictError, match="The API did not respond"):
        demo.ask_api(run(tmp_path), "body.json", {}, "/predict")


def test_of_two_demos_that_start_at_once_one_gets_the_usual_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    # A demo may run on this machine.
    monkeypatch.setattr(demo, "_CLAIM", f"\0of-a-test-{os.getpid()}")
    with preferred_ports() as first, preferred_ports() as second:
        assert (first["api"], second) == (8080, {})
    with preferred_ports() as later:
        assert later == first
