"""Lines and progress bar of a long command."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path

import pytest
from rich.console import Console

from healthpredict.cli.step_lines import step_lines
from healthpredict.operations.timing import log_step

LONG = "retrain: " + ", ".join(["28 of 47 features differ"] * 20)
OURS = logging.getLogger("healthpredict.test")


@pytest.fixture(autouse=True)
def _level() -> None:
    logging.getLogger("healthpredict").setLevel(logging.INFO)


def shown(tmp_path: Path, *, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=80, color_system=None)
    with step_lines(console, tmp_path / "log"):
        for ended in range(3):
            OURS.info("Trial %d of 2", ended, extra={"trials": (ended, 2)})
        log_step("batch-03", "drift", 1.94, LONG)
        OURS.warning("%s", LONG)
    return text.getvalue()


def test_terminal_gets_one_line_for_a_step_and_complete_warnings(tmp_path: Path) -> None:
    lines = shown(tmp_path, terminal=True).splitlines()
    assert lines[-1] == LONG
    # The end of the bar is on the same line.
    step = lines[-2][lines[-2].index("batch-03") :]
    assert step.startswith("batch-03   drift      1.9 s  retrain: 28 of 47")
    assert len(step) == 80
    assert step.endswith("…")


def test_terminal_gets_a_progress_bar_of_the_trials(tmp_path: Path) -> None:
    text = shown(tmp_path, terminal=True)
    assert "2/2" in text
    assert "Trial 1 of 2" not in text


def test_file_gets_complete_lines_and_no_bar(tmp_path: Path) -> None:
    assert shown(tmp_path, terminal=False).splitlines() == [f"batch-03   drift      1.9 s  {LONG}", LONG]


def test_what_libraries_log_goes_to_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with step_lines(Console(), tmp_path / "log"), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("vendor").warning("about a run")
        warnings.warn("deprecated", stacklevel=1)
    assert capfd.readouterr() == ("", "")
    log = (tmp_path / "log").read_text()
    assert "vendor: about a run" in log
    assert "deprecated" in log
