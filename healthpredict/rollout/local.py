"""Roll out the API as a local process, without a failed request.

The process table is the only record of what runs, so it is never out of date. The processes of a target have the same `--owner` on
their command line. The newest of them that listens on the public port is in service. So a rollout can be killed at any step. The
next one ends the processes that it left behind.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from healthpredict.bundle.model import Bundle, load_bundle
from healthpredict.errors import RolloutError
from healthpredict.rollout.ports import free_port
from healthpredict.rollout.verify import verify_golden_rows

_MODULE: Final = "healthpredict.serving"
_VERIFY_PORT: Final = "--verify-port="
_SECONDS_TO_START: Final = 60.0
"""It takes 1.5 s on an idle machine, and much longer on a busy one."""
_SECONDS_TO_END: Final = 30.0
"""More than the server waits for its last requests on both ports."""
_POLL_SECONDS: Final = 0.02
_LOG_LINES_SHOWN: Final = 5


@dataclass(frozen=True)
class CandidateProcess:
    """A new process on a private port, which only the rollout sends requests to.

    Attributes:
        bundle: that it serves.
        process: the process.
        verify_port: the private port.
    """

    bundle: Bundle
    process: psutil.Process
    verify_port: int


@dataclass(frozen=True)
class ServingProcess:
    """The process in service on the public port.

    Attributes:
        pid: of the process.
        url: of the API.
        bundle_path: folder of the bundle.
        bundle_digest: as the process reports it.
        model_version: as the process reports it.
    """

    pid: int
    url: str
    bundle_path: Path
    bundle_digest: str
    model_version: int


class LocalTarget:
    """The local API of one installation. Only one rollout may run at a time, so the caller must hold a lock."""

    def __init__(
        self,
        state_path: Path,
        host: str = "127.0.0.1",
        port: int = 8080,
        options: Sequence[str] = (),
        api_key: str | None = None,
    ) -> None:
        """Create the target. No process is started yet.

        Args:
            state_path: folder for logs, which also identifies the installation.
            host: a loopback address, or any address if the options contain `--keys`.
            port: the public port.
            options: further command-line options of every process.
            api_key: for the rollout's own requests, if the options contain `--keys`.
        """
        self._folder = state_path.resolve() / "serving"
        self._host = host
        self._port = port
        self._options = tuple(options)
        self._owner = f"--owner={self._folder}:{port}"
        headers = {"Connection": "close"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        # A connection for each request: a connection that is kept alive stays with the process that is being replaced.
        self._http = httpx.Client(trust_env=False, timeout=10, headers=headers)

    def start(self, bundle_path: Path) -> CandidateProcess:
        """End what an interrupted rollout left behind, then start a process that serves a bundle on a private port.

        Raises:
            BundleError: the bundle is altered or incomplete.
            RolloutError: the process ended, or was terminated because it was not ready in time. The message names its log.
        """
        self.recover()
        bundle = load_bundle(bundle_path.resolve())
        verify_port = free_port(self._host)
        self._folder.mkdir(parents=True, exist_ok=True)
        # Relative to the working directory of the process, because the path of a Unix socket may have only about 100 bytes.
        handover = f"--handover={self._host}-{self._port}.sock"
        ports = (f"--host={self._host}", f"--port={self._port}", f"{_VERIFY_PORT}{verify_port}", handover)
        command = [sys.executable, "-m", _MODULE, str(bundle.path), *ports, *self._options, self._owner]
        with self._log(bundle).open("ab") as log:
            child = subprocess.Popen(
                command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that Ctrl+C does not end it
            )
        candidate = CandidateProcess(bundle, psutil.Process(child.pid), verify_port)
        child.returncode = 0  # it outlives this process, so Popen must not warn that it is still running
        self._await(candidate, lambda: self._ask(verify_port, "/health/ready") is not None, "become ready")
        return candidate

    def verify(self, candidate: CandidateProcess) -> None:
        """Verify that the candidate reproduces its golden rows over HTTP.

        Raises:
            RolloutError: it does not. It still runs, so the caller must `abandon` it.
        """
        problem = verify_golden_rows(self._http, self._url(candidate.verify_port), candidate.bundle).problem
        if problem is not None:
            raise RolloutError(self._failure(candidate.bundle, problem))

    def switch(self, candidate: CandidateProcess) -> ServingProcess:
        """Let the candidate take over the public port, then end the old process.

        Raises:
            RolloutError: the candidate could not take over and was terminated, so the old process still serves; or the candidate
                ended right after it took over, so nothing serves.
        """
        process, digest = candidate.process, candidate.bundle.digest

        def serves_the_bundle() -> bool:
            return self._listens(process) and (self._ask(self._port, "/model") or {}).get("bundle_digest") == digest

        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGUSR1)
        self._await(candidate, serves_the_bundle, f"listen on port {self._port}")
        _end([other for other in self._processes() if other != process])
        serving = self.current()
        if serving is None:
            raise RolloutError(self._failure(candidate.bundle, "ended right after it took over."))
        return serving

    def abandon(self, candidate: CandidateProcess) -> None:
        """End a candidate. The old process still serves."""
        _end([candidate.process])

    def current(self) -> ServingProcess | None:
        """Determine which process serves. Returns: the process, or None if there is none or it does not respond."""
        process = self._serving()
        if process is None:
            return None
        command = process.info["cmdline"]
        (verify_port,) = (int(word.removeprefix(_VERIFY_PORT)) for word in command if word.startswith(_VERIFY_PORT))
        # On its private port: while one process replaces another, both answer on the public port.
        model = self._ask(verify_port, "/model")
        if model is None:
            return None
        return ServingProcess(
            process.pid, self._url(self._port), Path(command[3]), model["bundle_digest"], model["model_version"]
        )

    def listens(self) -> bool:
        """Whether a process of this target listens on the public port, even if it does not respond."""
        return self._serving() is not None

    def recover(self) -> None:
        """End all processes of this target except the one in service: those that an interrupted rollout left behind."""
        serving = self._serving()
        _end([process for process in self._processes() if process != serving])

    def stop(self) -> None:
        """End every process of this target."""
        _end(self._processes())

    def _processes(self) -> list[psutil.Process]:
        """The running processes of this target."""
        found = psutil.process_iter(["cmdline"])
        return [p for p in found if self._owner in (words := p.info["cmdline"] or ()) and _MODULE in words]

    def _serving(self) -> psutil.Process | None:
        # An older process that also listens is being replaced, and may be shutting down.
        return max(filter(self._listens, self._processes()), key=psutil.Process.create_time, default=None)

    def _listens(self, process: psutil.Process) -> bool:
        try:
            sockets = process.net_connections("tcp")
        except psutil.Error:
            return False
        return any(s.status == psutil.CONN_LISTEN and s.laddr.port == self._port for s in sockets)

    def _await(self, candidate: CandidateProcess, condition: Callable[[], bool], purpose: str) -> None:
        """Wait for a condition. If it is not met in time, end the candidate and raise."""
        deadline = time.monotonic() + _SECONDS_TO_START
        while _alive(candidate.process):
            if condition():
                return
            if time.monotonic() > deadline:
                _end([candidate.process])
                raise RolloutError(
                    self._failure(candidate.bundle, f"did not {purpose} within {_SECONDS_TO_START:.0f} s.")
                )
            time.sleep(_POLL_SECONDS)
        lines = self._log(candidate.bundle).read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        raise RolloutError(self._failure(candidate.bundle, "\n".join((f"ended before it could {purpose}:", *lines))))

    def _failure(self, bundle: Bundle, problem: str) -> str:
        return f"The API with bundle {bundle.digest[:12]} {problem}\nSee {self._log(bundle)}, then roll out again."

    def _ask(self, port: int, path: str) -> dict[str, Any] | None:
        """The JSON of an endpoint, or None if it does not respond with success."""
        try:
            found: dict[str, Any] = self._http.get(self._url(port) + path).raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None
        return found

    def _url(self, port: int) -> str:
        return f"http://{self._host}:{port}"

    def _log(self, bundle: Bundle) -> Path:
        return self._folder / f"{bundle.digest[:12]}.log"


def _end(processes: list[psutil.Process]) -> None:
    """Terminate processes, and kill those that do not end in time."""
    for number, seconds in ((signal.SIGTERM, _SECONDS_TO_END), (signal.SIGKILL, 5.0)):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = time.monotonic() + seconds
        while (processes := [p for p in processes if _alive(p)]) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(timeout=0)  # so that an ended child is no longer a zombie
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
