"""Others' rules of what we deploy: programs in an environment of their own (`make tools`), and exceptions with reasons."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

TOOLS = Path(os.environ.get("HEALTHPREDICT_INFRA_TOOLS", Path(__file__).parents[1] / ".venv-infra" / "bin"))


def run_tool(name: str, *arguments: str) -> str:
    """What a program prints; skips the test where the program is not installed."""
    path = TOOLS / name
    if not path.exists():
        pytest.skip(f"{name} is not in {TOOLS.name}: `make tools` installs it into an environment of its own")
    done = subprocess.run(
        [path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def run_checkov(folder: Path, *frameworks: str) -> list[dict[str, Any]]:
    """Checkov's reports of what lies in a folder, one a framework."""
    options = ["--compact", "--quiet", "--skip-download", "--output", "json"]
    found = json.loads(run_tool("checkov", "--directory", str(folder), "--framework", *frameworks, *options))
    reports: list[dict[str, Any]] = found if isinstance(found, list) else [found]
    assert sum(report["summary"]["parsing_errors"] for report in reports) == 0
    return reports


def assert_every_finding_has_a_reason(reports: list[dict[str, Any]], exceptions_file: Path) -> None:
    """The file has for each finding the resources that may have it and why; one that is no longer found has to go."""
    exceptions = yaml.safe_load(exceptions_file.read_text())
    unexplained, used = [], set()
    for failed in (check for report in reports for check in report["results"]["failed_checks"]):
        exception = exceptions.get(failed["check_id"])
        if exception and re.fullmatch(exception["resources"], failed["resource"]):
            used.add(failed["check_id"])
        else:
            unexplained.append((failed["check_id"], failed["resource"], failed["check_name"]))
    assert unexplained == []
    assert used == set(exceptions), "an exception is no longer needed"
    assert all(len(each["reason"]) > 30 for each in exceptions.values())
