"""Shared by all benchmarks: the conditions of a run, targets, the JSON file of results, and the printed table."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from healthpredict.operations.installation import Installation

FOLDER = Path(__file__).parent / "results"
_PACKAGES = ("numpy", "pandas", "scikit-learn", "lightgbm", "xgboost", "catboost", "onnxruntime", "ray", "evidently")


@dataclass(frozen=True)
class Target:
    """A measured figure and its target.

    Attributes:
        name: of the figure.
        value: measured.
        limit: what it has to reach or not to exceed.
        at_least: whether the limit is a lower one.
        stretch: what would be better still; None where there is no such aim.
    """

    name: str
    value: float
    limit: float
    at_least: bool
    stretch: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def at_least(name: str, value: float, limit: float, stretch: float | None = None) -> Target:
    return Target(name, value, limit, at_least=True, stretch=stretch)


def at_most(name: str, value: float, limit: float, stretch: float | None = None) -> Target:
    return Target(name, value, limit, at_least=False, stretch=stretch)


def conditions(**more: Any) -> dict[str, Any]:
    """The conditions that the figures depend on, and `more`."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": Installation().git_commit,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: version(_distribution(name)) for name in _PACKAGES},
        **more,
    }


def _distribution(name: str) -> str:
    return "xgboost-cpu" if name == "xgboost" and platform.system() == "Linux" else name


def write(path: Path, section: str, measured: dict[str, Any], targets: list[Target], about: dict[str, Any]) -> bool:
    """Write a section of a results file, keep its other sections, and print the targets.

    Args:
        path: the JSON file; made where it is not there.
        section: its name in the file.
        measured: the figures.
        targets: the figures that have something to reach.
        about: the conditions, kept for each section because sections can be run one at a time.

    Returns:
        Whether every target is reached.
    """
    content = json.loads(path.read_text()) if path.exists() else {}
    checked = [asdict(target) | {"passed": target.passed} for target in targets]
    content[section] = measured
    content.setdefault("targets", {})[section] = checked
    content.setdefault("conditions", {})[section] = about
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    table = Table(title=section, title_justify="left")
    for heading in ("figure", "measured", "limit", "stretch", ""):
        table.add_column(heading, justify="left" if heading in ("figure", "") else "right")
    for target in targets:
        limit = f"{'>=' if target.at_least else '<='} {target.limit:,.4g}"
        stretch = "" if target.stretch is None else f"{target.stretch:,.4g}"
        table.add_row(target.name, f"{target.value:,.4f}", limit, stretch, "passed" if target.passed else "MISSED")
    Console().print(table)
    return all(target.passed for target in targets)


class Stopwatch:
    """CPU seconds of this process (without children) and wall seconds since its creation."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    @property
    def cpu(self) -> float:
        """CPU seconds."""
        return time.process_time() - self._cpu

    @property
    def wall(self) -> float:
        """Wall seconds."""
        return time.perf_counter() - self._wall
