"""`make check-cases CASES=folder`: run every case through the command line and the API; print a table of case, expected, got."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from tests.cases.run_case import require_distinct_risks, run_case
from tests.cases.system import System

_SYSTEMS = 2
"""One for each core. A case has a system for itself."""


def main() -> int:
    """Run the cases; 1 if any differs."""
    parser = argparse.ArgumentParser(prog="check-cases", description=__doc__)
    parser.add_argument("cases", type=Path, help="a folder with cases.yaml, or such a file")
    parser.add_argument("--only", default="", help="names that contain this")
    arguments = parser.parse_args()
    given = arguments.cases.resolve()
    file = given / "cases.yaml" if given.is_dir() else given
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    cases = [case for case in document["cases"] if arguments.only in case["name"]]
    console = Console(width=200)
    table = Table("case", "expected", "got", title=f"{file.parent.name}/{file.name}", show_lines=True)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="cases-") as folder, ThreadPoolExecutor(_SYSTEMS) as pool:
        systems = [System(Path(folder, name)) for name in map(str, range(_SYSTEMS))]
        started = time.monotonic()
        list(pool.map(System.build, systems))
        require_distinct_risks(systems[0], file.parent)
        console.print(f"The systems were built in {time.monotonic() - started:.0f} s.")
        idle = SimpleQueue[System]()
        for system in systems:
            idle.put(system)

        def run(case: dict[str, Any]) -> list[str]:
            system = idle.get()
            try:
                system.reset()
                return run_case(case, file.parent, document["base"], system)
            finally:
                idle.put(system)

        for case, problems in zip(cases, pool.map(run, cases), strict=True):
            failed += bool(problems)
            got = "; ".join(problems) if problems else "as expected"
            console.print(f"{case['name']}: {got}", style="red" if problems else None, highlight=False)
            table.add_row(case["name"], case["expected"], got)
    console.print(table)
    console.print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
