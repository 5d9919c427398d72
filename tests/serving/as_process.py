"""The API as a process of its own, on 127.0.0.1."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from healthpredict.rollout.ports import free_port


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "healthpredict.serving", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_until(condition: Callable[[], bool], what: object = "", seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.02)


def is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/ready", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(port: int) -> None:
    wait_until(lambda: is_ready(port), port)


@dataclass(frozen=True)
class Service:
    """A running service. `client` keeps its connections."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    client: httpx.Client

    def output(self) -> str:
        return self.log.read_text()

    def wait_for_output(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.output().count(text) >= times, text)


@contextmanager
def service(
    log: Path, *arguments: str | Path, program: str | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Start a service, wait until it is ready, and end it with the block.

    Args:
        log: file for its output.
        arguments: of `python -m healthpredict.serving`, without the port.
        program: runs in place of the module, with the port as the last of the arguments.
        environment: added to that of this process.
    """
    port = free_port()
    how = ["-m", "healthpredict.serving"] if program is None else ["-c", program]
    last = f"--port={port}" if program is None else str(port)
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, *how, *map(str, arguments), last], stderr=said, env={**os.environ, **(environment or {})}
        )
    try:
        wait_until(lambda: process.poll() is not None or is_ready(port), log)
        assert process.returncode is None, log.read_text()
        json = {"Content-Type": "application/json"}  # needed without keys
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20, headers=json) as client:
            yield Service(process, port, log, client)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        finally:
            process.kill()
