"""A small system with a champion and five processed batches, and a fresh copy of it for each case."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize
from healthpredict.rollout.ports import free_port
from tests.loop.installation import SMALL

_BIN = Path(sys.executable).parent
_COMMAND_SECONDS = 300
_START_SECONDS = 60
_SETTINGS = SMALL | {
    "INITIAL_SHARE": "0.5",
    "N_BATCHES": "5",
    "ROLLOUT__TARGET": "none",
    "SEARCH__N_TRIALS": "2",
    "SEARCH__RETRAIN_N_TRIALS": "1",
}


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    exit: int
    output: str
    stdout: str


class System:
    """The folder of the system. Cases use it one after the other, because MLflow keeps absolute paths."""

    def __init__(self, folder: Path) -> None:
        """Args: folder, empty."""
        self._pristine = folder / "pristine"
        self.folder = folder / "system"
        self.data = self.folder / "data"
        self.inputs = folder / "inputs"
        self.logs = self.folder / "state" / "prediction-log"
        self._port = free_port()

    def build(self) -> None:
        """Prepare made-up data, train the first model and process all batches."""
        self.folder.mkdir(parents=True)
        source = self.folder / "source.csv"
        source.write_bytes(format_raw(synthesize(5000, seed=3)))
        for arguments in (["prepare", "--source", str(source)], ["drift-loop"]):
            ran = self.run(arguments)
            if ran.exit != 0:
                raise SystemExit(f"The system could not be built:\n{ran.output}")
        shutil.copytree(self.folder, self._pristine)

    def reset(self) -> None:
        """Make the system a fresh copy again, with no inputs."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._pristine, self.folder)
        shutil.rmtree(self.inputs, ignore_errors=True)
        self.inputs.mkdir()

    def environment(self, **settings: str) -> dict[str, str]:
        """The environment of a command. Args: settings, further ones, without their prefix."""
        paths = {name: str(self.folder / value) for name, value in _PATHS.items()}
        own = {f"HEALTHPREDICT_{name}": value for name, value in (_SETTINGS | paths | settings).items()}
        # Settings of the surrounding process must not reach the system under test.
        outside = {name: value for name, value in os.environ.items() if not name.startswith("HEALTHPREDICT_")}
        return {**outside, **own, "HEALTHPREDICT_API_PORT": str(self._port)}

    def start(self, arguments: list[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> Any:
        """Start the `healthpredict` command."""
        return subprocess.Popen(
            [str(_BIN / "healthpredict"), *arguments],
            env=environment or self.environment(),
            cwd=folder or self.inputs.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: list[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> Ran:
        """Run the `healthpredict` command."""
        return finish(self.start(arguments, environment, folder))

    def flow(self) -> Ran:
        """Run the flow `drift-loop` on a Prefect server of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.cases.run_flow"],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return finish(process)

    def ask(self, path: str, requests: list[tuple[bytes, dict[str, str]]]) -> tuple[list[httpx.Response], str]:
        """Start the API, send the bodies one after the other, and stop it. Returns: the responses, and its output."""
        api = self.start(["serve"])
        url = f"http://127.0.0.1:{self._port}"
        deadline = time.monotonic() + _START_SECONDS
        try:
            with httpx.Client(trust_env=False, timeout=30) as client:
                while not _is_ready(client, url):
                    if api.poll() is not None or time.monotonic() > deadline:
                        raise SystemExit(f"The API did not start:\n{api.communicate()[1]}")
                    time.sleep(0.1)
                responses = [
                    client.post(url + path, content=body, headers={"content-type": "application/json", **headers})
                    for body, headers in requests
                ]
        finally:
            api.send_signal(signal.SIGTERM)
            ran = finish(api)
        return responses, ran.output


_PATHS = {"DATA_URI": "data", "STATE_PATH": "state", "REPORTS_URI": "reports"}


def finish(process: Any) -> Ran:
    """Wait for a command. One that takes too long is killed; its exit code is then 124."""
    try:
        stdout, stderr = process.communicate(timeout=_COMMAND_SECONDS)
        return Ran(process.returncode, stdout + stderr, stdout)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
        return Ran(124, f"{stdout}{stderr}\nended after {_COMMAND_SECONDS} s", stdout)


def _is_ready(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/health/ready").is_success
    except httpx.HTTPError:
        return False
