"""The process: what it imports, when it listens, how it ends."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest
from as_process import service, start, wait_for, wait_until
from fake_mlflow import fake_mlflow

from healthpredict.bundle.model import Bundle
from healthpredict.errors import BundleError, ConfigurationError
from healthpredict.prediction_log.patient_key import make_patient_key
from healthpredict.rollout.ports import free_port
from healthpredict.serving.encounter import as_sent
from healthpredict.serving.server import PlacesOnly, ServiceParams, serve
from healthpredict.storage.key_file import add_key

LEFT_OUT = {
    "boto3",
    "catboost",
    "evidently",
    "lightgbm",
    "matplotlib",
    "mlflow",
    "onnx",
    "optuna",
    "pandas",
    "pandera",
    "prefect",
    "pyarrow",
    "ray",
    "scipy",
    "shap",
    "sklearn",
    "sqlalchemy",
    "xgboost",
}

LISTS_ITS_MODULES = """
import atexit, json, runpy, sys
from pathlib import Path
*arguments, listed, port = sys.argv[1:]
atexit.register(lambda: Path(listed).write_text(json.dumps(sorted({name.partition(".")[0] for name in sys.modules}))))
sys.argv[1:] = [*arguments, f"--port={port}"]
runpy.run_module("healthpredict.serving", run_name="__main__")
"""


def test_the_process_imports_nothing_that_only_training_needs(bundle: Bundle, tmp_path: Path, key: str) -> None:
    """With all features in use: bundle from MLflow, keys, log, every endpoint, reload. The modules are listed at the end."""
    make_patient_key(tmp_path / "patient-key")
    administrator = add_key(tmp_path / "admin-keys.json", "operator")
    listed = tmp_path / "modules.json"
    names = ("keys", "admin-keys", "log", "patient-key", "cache")
    files = {"keys": "keys.json", "admin-keys": "admin-keys.json"}
    options = [f"--{name}={tmp_path / files.get(name, name)}" for name in names]
    with fake_mlflow() as mlflow:
        mlflow.has(bundle.digest, str(bundle.path))
        arguments = ["models:/readmission@champion", *options, f"--tracking-uri={mlflow.uri}", listed]
        with service(tmp_path / "said", *arguments, program=LISTS_ITS_MODULES) as api:
            encounter = as_sent(bundle.golden[0].record)
            api.client.headers["authorization"] = f"Bearer {key}"
            for path in ("/model", "/metrics", "/docs", "/openapi.json", "/health"):
                api.client.get(path).raise_for_status()
            for path, body in (
                ("/predict", encounter),
                ("/explain", encounter),
                ("/predict/batch", {"encounters": [encounter, 7]}),
                ("/outcomes", {"outcomes": [{"encounter_id": 1, "readmitted": "NO"}]}),
            ):
                api.client.post(path, json=body).raise_for_status()
            headers = {"Authorization": f"Bearer {administrator}"}
            api.client.post("/admin/reload", headers=headers).raise_for_status()
    modules = set(json.loads(listed.read_text()))
    assert modules >= {"healthpredict", "onnxruntime", "fastapi", "httpx", "prometheus_client"}
    assert LEFT_OUT.isdisjoint(modules)


def test_with_keys_it_listens_anywhere(bundle: Bundle, keys_path: Path, key: str) -> None:
    port = free_port()
    process = start(str(bundle.path), "--host=0.0.0.0", f"--port={port}", f"--keys={keys_path}")
    try:
        wait_for(port)
        url = f"http://127.0.0.1:{port}/model"
        assert httpx.get(url, trust_env=False).status_code == 401
        assert httpx.get(url, trust_env=False, headers={"Authorization": f"Bearer {key}"}).status_code == 200
    finally:
        process.terminate()
    _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert key not in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "example.org"])
def test_without_keys_it_listens_on_loopback_only(bundle: Bundle, host: str) -> None:
    with pytest.raises(ConfigurationError, match="without API keys"):
        serve(ServiceParams(bundle=str(bundle.path), host=host))


def test_an_altered_bundle_never_answers(bundle: Bundle, tmp_path: Path) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(bundle.path, altered)
    with (altered / "model.onnx").open("ab") as file:
        file.write(b"x")
    process = start(str(altered), f"--port={free_port()}")
    _, said = process.communicate(timeout=30)
    assert process.returncode == BundleError.exit_code
    assert said.startswith("Changed after the bundle was built: model.onnx")


def test_it_is_private_until_asked_and_ends_with_zero(bundle: Bundle) -> None:
    private, public = free_port(), free_port()
    process = start(str(bundle.path), f"--port={public}", f"--verify-port={private}")
    wait_for(private)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{public}/health/live", trust_env=False)
    process.send_signal(signal.SIGUSR1)
    wait_for(public)
    wait_for(private)
    process.terminate()
    assert process.wait(timeout=10) == 0


def test_a_request_accepted_before_the_end_is_answered(bundle: Bundle) -> None:
    """The head arrives before the signal, and the body after it. The process was still private."""
    port = free_port()
    process = start(str(bundle.path), f"--port={free_port()}", f"--verify-port={port}")
    wait_for(port)
    body = json.dumps(bundle.golden[0].record).encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n")
        connection.sendall(b"Content-Length: %d\r\n\r\n" % len(body))
        time.sleep(0.1)
        process.terminate()
        time.sleep(1)  # by now the port is closed
        connection.sendall(body)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert process.wait(timeout=10) == 0


def test_before_its_end_it_asks_clients_to_close_their_connections(bundle: Bundle, tmp_path: Path) -> None:
    with service(tmp_path / "log", bundle.path) as running:
        assert "connection" not in running.client.get("/health/live").headers
        running.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: running.client.get("/health/live").headers.get("connection") == "close")
        assert running.client.get("/health/live").status_code == 200, "new connections are still accepted"


def test_a_taken_port_is_named(bundle: Bundle) -> None:
    private = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start(str(bundle.path), f"--port={port}", f"--verify-port={private}")
        wait_for(private)
        process.send_signal(signal.SIGUSR1)
        _, said = process.communicate(timeout=30)
    assert process.returncode == ConfigurationError.exit_code
    assert f"Cannot listen on 127.0.0.1 port {port} (Address already in use)" in said


def test_a_traceback_in_the_log_has_places_and_no_values() -> None:
    try:
        int("patient 4711")
    except ValueError:
        written = PlacesOnly().format(logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), sys.exc_info()))
    assert "4711" not in written
    assert written.startswith("failed\nValueError at\n")
    assert "test_server.py:" in written


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port=99999"], "port: Input should be less than or equal to 65535"),
        (["--host=no-such-host.invalid", "--keys=FOLDER/KEYS"], "Cannot listen on no-such-host.invalid port 8080 ("),
        (["--log=FOLDER/log"], "The prediction log needs a key for the pseudonyms of patients"),
        (["--admin-keys=absent"], "The API keys in absent cannot be read"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line(
    bundle: Bundle, tmp_path: Path, arguments: list[str], said: str
) -> None:
    add_key(tmp_path / "KEYS", "ward")
    process = start(str(bundle.path), *(word.replace("=FOLDER", f"={tmp_path}") for word in arguments))
    _, error = process.communicate(timeout=30)
    assert process.returncode == ConfigurationError.exit_code
    assert said in error.splitlines()[-1]
    assert "Traceback" not in error
