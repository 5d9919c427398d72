"""A host on a simulated AWS, created once for all tests of this folder, which are the chapters of its life."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "infra"))

from engine import STACK
from pulumi_fixtures import NewProgram, engine, engine_on_moto, new_program  # noqa: F401
from pulumi_stack import Program, without_conditions

from tests.host.machine import (
    NAME,
    ROOT,
    STAND_INS,
    UNITS,
    Machine,
    Repository,
    build_images,
    docker,
    gateway,
    new_machine,
)

REPORT = ROOT / "reports" / "host.md"
GOAL = 180
"""Seconds from power on to a good report, with built images."""
_machines: list[Machine] = []


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """What GitHub has."""
    if not shutil.which("docker") or subprocess.run(["docker", "info"], check=False, capture_output=True).returncode:
        pytest.skip("Docker is not there, or does not run")
    # One rehearsal at a time, because the container and its disk have fixed names.
    with Path(tempfile.gettempdir(), f"{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Repository(tmp_path_factory.mktemp("github") / "repository")


@pytest.fixture(scope="session")
def program(repository: Repository, new_program: NewProgram) -> Program:  # noqa: F811
    """The stack after its first `pulumi up`."""
    program = new_program(STACK)
    program.up(sourceCommit=repository.commit)
    without_conditions(program)
    return program


@pytest.fixture(scope="session")
def machine(program: Program, repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The host, switched off, with built images."""
    from moto.server import ThreadedMotoServer

    build_images(repository)
    # The same AWS as the program's, at an address that the host reaches, and no other machine.
    server = ThreadedMotoServer(ip_address=gateway(), port=0, verbose=False)
    server.start()
    address, port = server.get_host_and_port()
    try:
        with new_machine(program, repository, f"http://{address}:{port}", tmp_path_factory.mktemp("seed")) as made:
            _machines.append(made)
            yield made
    finally:
        server.stop()
        for target in ("host", "engine"):
            docker("image", "rm", f"{NAME}/{target}", check=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the stand-ins and the times, and write them to a file."""
    if not _machines:
        return
    text = _summary(_machines[0])
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(text)
    terminalreporter.section("the rehearsal")
    terminalreporter.write(text)


def _summary(machine: Machine) -> str:
    boots = machine.boots
    lines = [
        "Stand-ins:",
        "",
        *(f"- {name}: {what}" for name, what in STAND_INS.items()),
        "",
        f"Seconds, {time.strftime('%F')}:",
        "",
    ]
    rows = [["", *(boot.name for boot in boots)], ["---", *("---:" for _ in boots)]]
    rows += [[f"power on to report (goal: {GOAL})", *(f"{boot.seconds:.0f}" for boot in boots)]]
    rows += [[unit, *(f"{boot.units[unit]:.1f}" if unit in boot.units else "" for boot in boots)] for unit in UNITS]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows), ""])
