"""The process: what it imports, when it listens, how it ends."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from healthpredict.bundle.model import Bundle
from healthpredict.errors import ConfigurationError
from healthpredict.serving.server import PlacesOnly, serve

LEFT_OUT = {
    "pandas",
    "sklearn",
    "scipy",
    "mlflow",
    "prefect",
    "ray",
    "evidently",
    "onnx",
    "pyarrow",
    "xgboost",
    "lightgbm",
}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "healthpredict.serving", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise TimeoutError(port)


def test_the_process_imports_nothing_that_only_training_needs(bundle: Bundle) -> None:
    """The modules are listed after a prediction, so that a late import is seen as well."""
    program = (
        "import sys, json; from pathlib import Path; import healthpredict.serving.server as server;"
        "import uvicorn.protocols.http.httptools_impl;"
        f"bundle = server.load_bundle(Path({str(bundle.path)!r})); server.create_app(bundle).openapi();"
        "bundle.risk(bundle.golden[0].record);"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert LEFT_OUT.isdisjoint(json.loads(done.stdout))


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
        serve(bundle.path, host)


def test_an_altered_bundle_never_answers(bundle: Bundle, tmp_path: Path) -> None:
    altered = tmp_path / "altered"
    shutil.copytree(bundle.path, altered)
    with (altered / "model.onnx").open("ab") as file:
        file.write(b"x")
    process = start(str(altered), f"--port={free_port()}")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.startswith("Altered after it was made: model.onnx")


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
    """The headers are there when the signal comes, the body follows. The process was still private."""
    port = free_port()
    process = start(str(bundle.path), f"--port={free_port()}", f"--verify-port={port}")
    wait_for(port)
    body = json.dumps(bundle.golden[0].record).encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        time.sleep(0.1)
        process.terminate()
        time.sleep(1)  # by now the port is closed
        connection.sendall(body)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert process.wait(timeout=10) == 0


def test_a_taken_port_is_named(bundle: Bundle) -> None:
    private = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = start(str(bundle.path), f"--port={port}", f"--verify-port={private}")
        wait_for(private)
        process.send_signal(signal.SIGUSR1)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {port} (Address already in use)" in said


def test_a_traceback_in_the_log_has_places_and_no_values() -> None:
    try:
        int("patient 4711")
    except ValueError:
        written = PlacesOnly().format(logging.LogRecord("x", logging.ERROR, "", 0, "failed", (), sys.exc_info()))
    assert "4711" not in written
    assert written.startswith("failed\nValueError at\n")
    assert "test_server.py:" in written
