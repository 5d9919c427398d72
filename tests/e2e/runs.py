"""Flow runs, through the API of a Prefect server."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class FlowRuns:
    """What a Prefect server behind a password, and with protection against forged requests, knows.

    Attributes:
        prefect: URL of the server.
    """

    def __init__(self, prefect: str, password_file: Path) -> None:
        self.prefect = prefect
        self._password_file = password_file

    def password(self) -> str:
        """`user:password`."""
        return f"admin:{self._password_file.read_text()}"

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The server's answer, of a POST where there is a body; a server that is being restarted is asked again."""
        deadline = time.monotonic() + 120
        while True:
            try:
                with self._client() as client:
                    if body is None:
                        return client.get(path).raise_for_status().json()
                    return client.post(path, json=body, headers=self._csrf(client)).raise_for_status().json()
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def _client(self) -> httpx.Client:
        user, _, password = self.password().partition(":")
        return httpx.Client(base_url=f"{self.prefect}/api", auth=(user, password), trust_env=False, timeout=30)

    def _csrf(self, client: httpx.Client) -> dict[str, str]:
        answer = client.get("csrf-token", params={"client": "tests"})
        return {"Prefect-Csrf-Token": answer.raise_for_status().json()["token"], "Prefect-Csrf-Client": "tests"}

    def runs(self, *states: str, **of: Any) -> list[dict[str, Any]]:
        """Flow runs with the name of their flow, the oldest first; of the states that are given, where some are."""
        if states:
            of["state"] = {"type": {"any_": list(states)}}
        names = {flow["id"]: flow["name"] for flow in self.ask("flows/filter", {})}
        found = self.ask("flow_runs/filter", {"flow_runs": of, "sort": "EXPECTED_START_TIME_ASC"})
        return [{**run, "flow": names[run["flow_id"]]} for run in found]

    def wait_for(self, name: str, seconds: float = 600) -> dict[str, Any]:
        """The run that was given a name, once it has ended."""
        return until(lambda: self.runs(*ENDED, name={"any_": [name]}), seconds)[0]

    def running(self, flow: str, seconds: float = 240) -> dict[str, Any]:
        """A run of a flow, as soon as one is running."""
        return until(lambda: [run for run in self.runs("RUNNING") if run["flow"] == flow], seconds)[0]

    def children(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        return self.runs(parent_flow_run_id={"any_": [run["id"]]})

    def log(self, run: dict[str, Any]) -> str:
        """Its last lines."""
        lines = self.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200})
        return "\n".join(line["message"] for line in lines[-40:])


def until(answer: Callable[[], Any], seconds: float) -> Any:
    """The first answer that is not empty."""
    deadline = time.monotonic() + seconds
    while not (found := answer()):
        assert time.monotonic() < deadline, f"nothing within {seconds:.0f} s"
        time.sleep(1)
    return found
