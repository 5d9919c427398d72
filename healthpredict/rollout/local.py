"""The API as a local process, replaced without a failed request.

What runs is read from the process table, where it cannot be out of date: the processes of this target are those whose command
line names it as their owner, and the one that serves is the newest of them that listens on the public port. A rollout that
is killed at any step therefore leaves nothing behind that the next one does not see and put right.
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
from healthpredict.rollout.verify import ask_golden_rows

_MODULE: Final = "healthpredict.serving"
_VERIFY_PORT: Final = "--verify-port="
_SECONDS_TO_START: Final = 60.0
"""It takes 1.5 s on a quiet machine; loaded ones are slow, not broken."""
_SECONDS_TO_END: Final = 30.0
"""Above what the server gives its last requests, on one port after the other."""
_POLL_SECONDS: Final = 0.02
_LOG_LINES_SHOWN: Final = 5


@dataclass(frozen=True)
class NewProcess:
    """A started process, on a private port, that nobody but the rollout asks.

    Attributes:
        bundle: what it serves.
        process: the process.
        verify_port: its private port.
    """

    bundle: Bundle
    process: psutil.Process
    verify_port: int


@dataclass(frozen=True)
class ServingProcess:
    """What answers on the public port.

    Attributes:
        pid: of its process.
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
    """The local API of one installation. Rollouts of one target must not run at the same time: the caller holds a lock."""

    def __init__(
        self,
        state_path: Path,
        host: str = "127.0.0.1",
        port: int = 8080,
        options: Sequence[str] = (),
        api_key: str | None = None,
    ) -> None:
        """Say what is rolled out to.

        Args:
            state_path: folder for logs, which also names the installation.
            host: a loopback address, or any other with keys among the options.
            port: the public one.
            options: further ones of every process.
            api_key: that the rollout itself asks with, where the options name keys.
        """
        self._folder = state_path.resolve() / "serving"
        self._host = host
        self._port = port
        self._options = tuple(options)
        self._owner = f"--owner={self._folder}:{port}"
        headers = {"Connection": "close"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        # A connection for each question: one that is kept would go on asking a process that is being replaced.
        self._http = httpx.Client(trust_env=False, timeout=10, headers=headers)

    def start(self, bundle_path: Path) -> NewProcess:
        """Start a process around a bundle, on a private port, after ending what an interrupted rollout left.

        Raises:
            BundleError: the bundle is altered or incomplete.
            RolloutError: the process ended, or was not ready in time; it is gone and its last log lines are in the message.
        """
        self.recover()
        bundle = load_bundle(bundle_path.resolve())
        verify_port = free_port(self._host)
        self._folder.mkdir(parents=True, exist_ok=True)
        # Relative to the folder that the process runs in, because the system allows only about 100 bytes.
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
                start_new_session=True,  # neither Ctrl+C nor the end of this process reaches it
            )
        candidate = NewProcess(bundle, psutil.Process(child.pid), verify_port)
        child.returncode = 0  # it may outlive this process: no warning that it was left running
        self._await(candidate, lambda: self._ask(verify_port, "/health/ready") is not None, "become ready")
        return candidate

    def verify(self, candidate: NewProcess) -> None:
        """Ask the candidate for its golden rows over HTTP.

        Raises:
            RolloutError: it serves another bundle, refuses a row or differs from training. It is still running: abandon it.
        """
        problem = ask_golden_rows(self._http, self._url(candidate.verify_port), candidate.bundle).problem
        if problem is not None:
            raise RolloutError(self._failure(candidate.bundle, problem))

    def switch(self, candidate: NewProcess) -> ServingProcess:
        """Let the candidate answer on the public port, then end the process that did so before.

        Raises:
            RolloutError: the candidate did not come to answer there; it is gone, and the old process keeps answering. Or it
                died when it already answered alone.
        """
        process, digest = candidate.process, candidate.bundle.digest

        def answers_in_public() -> bool:
            return self._serves(process) and (self._ask(self._port, "/model") or {}).get("bundle_digest") == digest

        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGUSR1)
        self._await(candidate, answers_in_public, f"listen on port {self._port}")
        _end([other for other in self._processes() if other != process])
        running = self.current()
        if running is None:
            raise RolloutError(self._failure(candidate.bundle, "ended as soon as it answered alone."))
        return running

    def abandon(self, candidate: NewProcess) -> None:
        """End a candidate. The old process was never touched."""
        _end([candidate.process])

    def current(self) -> ServingProcess | None:
        """What answers on the public port now; None where nothing of this target does."""
        process = self._serving()
        if process is None:
            return None
        command = process.info["cmdline"]
        (verify_port,) = (int(word.removeprefix(_VERIFY_PORT)) for word in command if word.startswith(_VERIFY_PORT))
        # On the public port another process may answer as well, for the moment in which one replaces the other.
        model = self._ask(verify_port, "/model")
        if model is None:
            return None
        return ServingProcess(
            process.pid, self._url(self._port), Path(command[3]), model["bundle_digest"], model["model_version"]
        )

    def listens(self) -> bool:
        """Whether a process of this target has the public port; it need not answer."""
        return self._serving() is not None

    def recover(self) -> None:
        """End everything but the process that serves: what an interrupted rollout left behind."""
        serving = self._serving()
        _end([process for process in self._processes() if process != serving])

    def stop(self) -> None:
        """End every process of this target."""
        _end(self._processes())

    def _processes(self) -> list[psutil.Process]:
        """The living processes of this target."""
        found = psutil.process_iter(["cmdline"])
        return [p for p in found if self._owner in (words := p.info["cmdline"] or ()) and _MODULE in words]

    def _serving(self) -> psutil.Process | None:
        # An older one that listens too is being replaced, and may have been told to end.
        return max(filter(self._serves, self._processes()), key=psutil.Process.create_time, default=None)

    def _serves(self, process: psutil.Process) -> bool:
        try:
            sockets = process.net_connections("tcp")
        except psutil.Error:
            return False
        return any(s.status == psutil.CONN_LISTEN and s.laddr.port == self._port for s in sockets)

    def _await(self, candidate: NewProcess, condition: Callable[[], bool], purpose: str) -> None:
        """Wait until the candidate does what it should; end it where it does not."""
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
        """The answer of an endpoint, None where it does not answer or is not well."""
        try:
            answer: dict[str, Any] = self._http.get(self._url(port) + path).raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None
        return answer

    def _url(self, port: int) -> str:
        return f"http://{self._host}:{port}"

    def _log(self, bundle: Bundle) -> Path:
        return self._folder / f"{bundle.digest[:12]}.log"


def _end(processes: list[psutil.Process]) -> None:
    """Ask processes to end, and end those that do not."""
    for number, seconds in ((signal.SIGTERM, _SECONDS_TO_END), (signal.SIGKILL, 5.0)):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = time.monotonic() + seconds
        while (processes := [p for p in processes if _alive(p)]) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(timeout=0)  # an ended child is a zombie until someone waits for it
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
