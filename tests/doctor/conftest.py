"""A description of services as docker compose gives it, and a `docker` whose answers a test writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from described_services import Describe, FakeDocker

from healthpredict.doctor.project import DEPLOY_WORKER, ComposeProject


@pytest.fixture
def describe() -> Describe:
    """Returns a project with a deploy worker. Args: environment and mounts of that service; other parts of the model."""

    def described(
        environment: dict[str, str] | None = None, mounts: dict[str, Path] | None = None, **parts: Any
    ) -> ComposeProject:
        project = ComposeProject(["docker", "compose", "-f", "docker-compose/compose.yaml"])
        volumes = [{"type": "bind", "source": str(path), "target": target} for target, path in (mounts or {}).items()]
        service = {
            "environment": environment or {},
            "volumes": [*volumes, {"type": "volume", "source": "data", "target": "/data"}],
            "group_add": ["0"],
            "networks": dict.fromkeys(parts.get("networks", ())),
            "mem_limit": str(3 * 2**30),
        }
        project.__dict__["model"] = {"services": {DEPLOY_WORKER: service}, **parts}
        return project

    return described


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """Put a `docker` first in PATH. Args: the cases of a shell's `case "$*"`; every other command fails."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def answers(cases: str) -> None:
        program = folder / "docker"
        program.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}\n*) exit 1 ;;\nesac\n')
        program.chmod(0o755)

    answers("")
    return answers
