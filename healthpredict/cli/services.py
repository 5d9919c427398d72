"""The servers of a demo: Prefect's and MLflow's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

from healthpredict.errors import HealthPredictError

_SECONDS_TO_START = 120.0
_HOST = "127.0.0.1"


class LocalServices:
    """The server processes of one demo, on loopback only. Each has a name and is started once."""

    def __init__(self, state_path: Path) -> None:
        """Args: state_path, folder for databases, logs and process ids."""
        self.state_path = state_path
        self._folder = state_path / "services"
        self._folder.mkdir(parents=True, exist_ok=True)

    def start_prefect(self, port: int) -> str:
        """Start Prefect's server on SQLite, if it does not run. Returns: the URL of its API, which may not respond yet."""
        environment = {
            "PREFECT_HOME": str(self.state_path / "prefect"),
            # By default, the UI uses the address under which it is opened.
            "PREFECT_SERVER_UI_API_URL": f"http://{_HOST}:{port}/api",
        }
        self._start("prefect", ["prefect", "server", "start", "--host", _HOST, "--port", str(port)], environment)
        return f"http://{_HOST}:{port}/api"

    def start_mlflow(self, port: int, tracking_uri: str) -> str:
        """Start MLflow's server on a tracking store, if it does not run. Returns: its URL, which may not respond yet."""
        command = ["mlflow", "server", "--host", _HOST, "--port", str(port), "--workers", "1"]
        # Without job execution, which needs a gigabyte and is not used here.
        self._start(
            "mlflow", [*command, "--backend-store-uri", tracking_uri], {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        )
        return f"http://{_HOST}:{port}"

    def runs(self, name: str) -> bool:
        """Return whether the process of a service runs."""
        return self._process(name) is not None

    def wait(self, name: str, url: str) -> None:
        """Wait until a service responds. A server of somebody else on the same port does not count.

        Raises:
            HealthPredictError: it ended, or did not respond in time.
        """
        deadline = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < deadline and (process := self._process(name)) is not None:
            with contextlib.suppress(httpx.HTTPError):
                if _listens(process, httpx.URL(url).port) and httpx.get(url, trust_env=False, timeout=5).is_success:
                    return
            time.sleep(0.2)
        self.stop()
        raise HealthPredictError(f"{name} did not answer on {url}. See {self.log(name)}.")

    def stop(self) -> None:
        """Stop every service of this demo."""
        for record in self._folder.glob("*.pid"):
            process = self._process(record.stem)
            if process is not None:
                family = [process, *process.children(recursive=True)]
                for member in family:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        member.terminate()
                _, alive = psutil.wait_procs(family, timeout=10)
                for member in alive:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        member.kill()
            record.unlink()

    def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        if self._process(name) is not None:
            return
        executable = Path(sys.executable).with_name(command[0])
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                [str(executable), *command[1:]],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started = psutil.Process(child.pid)
        (self._folder / f"{name}.pid").write_text(f"{child.pid} {started.create_time()}")

    def _process(self, name: str) -> psutil.Process | None:
        """Return the running process of a service, or None if it has ended. Its id may belong to another process by then."""
        record = self._folder / f"{name}.pid"
        if not record.exists():
            return None
        pid, created = record.read_text().split()
        try:
            process = psutil.Process(int(pid))
            same = process.create_time() == float(created) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if same else None

    def log(self, name: str) -> Path:
        """Return the file of a service's output."""
        return self._folder / f"{name}.log"


def _listens(process: psutil.Process, port: int | None) -> bool:
    """Return whether a process or one that it started listens on a port."""
    try:
        sockets = [s for member in (process, *process.children(recursive=True)) for s in member.net_connections("tcp")]
    except psutil.Error:
        return False
    return any(s.status == psutil.CONN_LISTEN and s.laddr.port == port for s in sockets)
