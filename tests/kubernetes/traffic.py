"""Send requests until the process is ended: `python traffic.py URL` with `Requests` as JSON on standard input."""

from __future__ import annotations

import http.client
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PER_SECOND = 20


@dataclass(frozen=True)
class Requests:
    """What is sent, and how often.

    Attributes:
        headers: of each request.
        bodies: sent one after the other.
        per_second: of all clients together.
        clients: every other one keeps its connection alive; the others open a new one for each request.
    """

    headers: dict[str, str]
    bodies: list[dict[str, Any]]
    per_second: float = PER_SECOND
    clients: int = 4


@dataclass(frozen=True)
class Answer:
    """The result of a request.

    Attributes:
        at: `time.monotonic` when it was due.
        version: that answered; None where none did.
        fault: what went wrong; None where nothing did.
        seconds: until it was answered.
    """

    at: float
    version: int | None
    fault: str | None
    seconds: float


class Traffic:
    """The process that sends requests, and their results."""

    def __init__(self, folder: Path, url: str, requests: Requests) -> None:
        """Args: url, of the endpoint."""
        self._notes = folder / "answers.jsonl"
        self.requests = requests
        self._url = url
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, once a version is in service."""
        with self._notes.open("w") as notes:
            command = [sys.executable, __file__, self._url]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=notes, text=True)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(self.requests)) + "\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def since(self, moment: float) -> list[Answer]:
        """The results of requests since then. Waits for those in progress."""
        assert self._process is not None
        now = time.monotonic()
        while True:
            answers = [
                Answer(**json.loads(line)) for line in self._notes.read_text().splitlines(True) if line[-1] == "\n"
            ]
            if len([answer for answer in answers if answer.at >= now]) >= 2 * self.requests.clients:
                return [answer for answer in answers if answer.at >= moment]
            assert self._process.poll() is None, "the process that sends requests has ended"
            time.sleep(0.05)


@contextmanager
def nothing_fails(traffic: Traffic) -> Iterator[set[int | None]]:
    """Assert that no request fails in a `with` block and shortly after it. Then add the versions that answered to the set."""
    start = time.monotonic()
    versions: set[int | None] = set()
    yield versions
    time.sleep(6)  # connections that are kept alive still use pods that are being deleted
    answers = traffic.since(start)
    failed = [answer for answer in answers if answer.fault]
    assert failed == [], failed
    assert len(answers) / (time.monotonic() - start) > 0.9 * traffic.requests.per_second
    versions.update(answer.version for answer in answers)


def ask(number: int, url: str, requests: Requests) -> None:
    bodies = [json.dumps(body) for body in requests.bodies]
    headers = requests.headers | {"Content-Type": "application/json"} | ({} if number % 2 else {"Connection": "close"})
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    start = time.monotonic() + number / requests.per_second
    for turn in itertools.count():
        at = start + turn * requests.clients / requests.per_second
        time.sleep(max(0.0, at - time.monotonic()))
        version, fault, began = None, None, time.monotonic()
        try:
            connection.request("POST", parts.path, bodies[turn % len(bodies)], headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            version = answer.get("model_version")
            fault = None if response.status == http.client.OK else f"status {response.status}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            fault = f"{type(error).__name__}: {error}"
            connection.close()
        sys.stdout.write(json.dumps(asdict(Answer(at, version, fault, time.monotonic() - began))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    given = Requests(**json.loads(sys.stdin.readline()))
    for each in range(given.clients):
        threading.Thread(target=ask, args=(each, sys.argv[1], given)).start()
