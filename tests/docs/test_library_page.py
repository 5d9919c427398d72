"""The page about the library, and what describes the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from healthpredict.bundle.model import Bundle

ROOT = Path(__file__).parents[2]


def test_the_example_runs_as_written(bundle: Bundle, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.+?)```", (ROOT / "docs/library.md").read_text(), re.DOTALL)
    shutil.copytree(bundle.path, tmp_path / "bundle")
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests/encounter.json", tmp_path / "tests")
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    first, *reasons = ran.stdout.splitlines()
    assert re.fullmatch(r"risk 0\.\d{3}, flagged: (True|False), version 1", first)
    assert len(reasons) == 5
    assert all(re.match(r"[+-]\d\.\d\d  [A-Z]", line) for line in reasons)


def test_the_citation_names_the_version_and_the_license_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
