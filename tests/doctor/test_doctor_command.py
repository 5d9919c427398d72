"""`healthpredict doctor` prints each problem, and its exit code says whether there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from healthpredict.errors import ConfigurationError, ProblemsFound

# This checkout may have services, which another test checks.
PROGRAM = """
import pathlib
from healthpredict.cli.main import main
from healthpredict.doctor import examine
examine.ENV_FILE = pathlib.Path("none")
main()
"""


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    names = {"DATA_URI": "data", "REPORTS_URI": "reports", "STATE_PATH": "state"}
    return {f"HEALTHPREDICT_{name}": str(tmp_path / folder) for name, folder in names.items()}


def doctor(places: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith(("HEALTHPREDICT_", "PREFECT_"))}
    command = [sys.executable, "-c", PROGRAM, "doctor", *options]
    return subprocess.run(command, env={**others, **places}, capture_output=True, text=True, check=False)


def test_without_a_problem(places: dict[str, str]) -> None:
    done = doctor(places)
    assert (done.returncode, done.stdout, done.stderr) == (0, "No problem was found.\n", "")


def test_with_a_problem(places: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "reports").write_text("")
    done = doctor(places)
    assert done.returncode == ProblemsFound.exit_code
    assert done.stdout.startswith(f"HEALTHPREDICT_REPORTS_URI: Cannot write {tmp_path}/reports/")
    assert done.stderr == "Error: 1 problem was found. Fix it, then repeat the command.\n"
    as_json = doctor(places, "--json")
    assert as_json.returncode == ProblemsFound.exit_code
    assert [problem["sentence"] for problem in json.loads(as_json.stdout)] == [done.stdout.strip()]


def test_servers_are_left_out_before_the_start(places: dict[str, str]) -> None:
    places["HEALTHPREDICT_TRACKING_URI"] = "http://127.0.0.1:9"
    assert doctor(places).returncode == ProblemsFound.exit_code
    assert doctor(places, "--before-start").returncode == 0


def test_a_misspelt_variable(places: dict[str, str]) -> None:
    done = doctor({**places, "HEALTH_PREDICT_N_BATCHES": "3"})
    assert done.returncode == ConfigurationError.exit_code
    assert "The nearest one is HEALTHPREDICT_N_BATCHES" in done.stderr


def test_options_that_exclude_each_other(places: dict[str, str]) -> None:
    done = doctor(places, "--compose", "docker compose", "--before-start")
    assert done.returncode == ConfigurationError.exit_code
    assert "Use --compose or --before-start" in done.stderr
