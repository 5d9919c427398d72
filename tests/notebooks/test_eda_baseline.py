"""The notebook of the exploration runs as a script."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_eda_baseline.py"
REAL = os.environ.get("HEALTHPREDICT_TEST_DATA", "")


def test_it_runs_as_a_script_within_a_minute_of_cpu(tmp_path: Path) -> None:
    """On the real data where it is there, on synthetic encounters elsewhere."""
    source = Path(REAL)
    if not REAL:
        source = tmp_path / "synthetic.csv"
        source.write_bytes(format_raw(synthesize(10_000, seed=1)))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    shown = subprocess.run(
        [sys.executable, NOTEBOOK, source],
        env=os.environ | {"HEALTHPREDICT_PLOTS": str(tmp_path / "plots")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "logistic regression: AUROC 0." in shown.stdout
    assert (tmp_path / "plots" / "drift.png").stat().st_size > 10_000
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime < 60
