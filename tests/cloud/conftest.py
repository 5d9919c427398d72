"""A stack on a moto server, created by the Pulumi program, and a folder with its configuration."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "infra"))

from aws_server import aws_environment  # noqa: F401
from engine import CONFIG, INFRA, REGION, Stack
from pulumi_fixtures import NewProgram, engine, engine_on_moto, new_program  # noqa: F401
from pulumi_stack import without_conditions

from healthpredict.cloud import account

NAME = "cloud"


@pytest.fixture(scope="session")
def made(new_program: NewProgram) -> Stack:  # noqa: F811
    """The stack that the program created on the moto server."""
    program = new_program(NAME)
    program.up()
    return without_conditions(program)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of the Pulumi program with the configuration of the stack."""
    place = tmp_path / "infra"
    place.mkdir()
    for name in ("estimate.py", "settings.py", "prices.yaml", "Pulumi.example.yaml"):
        shutil.copy(INFRA / name, place / name)
    lines = [f"  health-predict:{key}: {value}" for key, value in CONFIG.items()]
    (place / f"Pulumi.{NAME}.yaml").write_text("\n".join(["config:", f"  aws:region: {REGION}", *lines]) + "\n")
    return place


@pytest.fixture
def stack(made: Stack, folder: Path, aws_environment: None) -> account.Stack:  # noqa: F811
    """The stack, as the command line chooses it."""
    return account.choose_stack(None, None, folder)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Create a stand-in for a program, first on the PATH. Returns: the file for a log of its calls."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:/usr/bin:/bin")

    def put(name: str, text: str) -> Path:
        (place / name).write_text(text.replace("$LOG", str(place / f"{name}.log")))
        (place / name).chmod(0o755)
        return place / f"{name}.log"

    return put
