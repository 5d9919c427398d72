"""Print a line for each step of a long command, and a progress bar during a search."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

_FILE_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def step_lines(console: Console, log_path: Path) -> Iterator[None]:
    """Print the log records of this system to the console. A file receives them too, with warnings and the records of libraries.

    Args:
        console: on a terminal, lines are cut to its width and a search shows a progress bar. Otherwise, lines are complete.
        log_path: file to append to.
    """
    root, ours = logging.getLogger(), logging.getLogger("healthpredict")
    before = root.handlers[:]
    file, lines = logging.FileHandler(log_path), _StepLines(console)
    file.setFormatter(logging.Formatter(_FILE_FORMAT))
    root.handlers[:] = [file]
    ours.addHandler(lines)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        ours.removeHandler(lines)
        lines.close()
        root.handlers[:] = before
        file.close()


class _StepLines(logging.Handler):
    """Prints records as lines, and records of trials (see `registry.trials`) as a progress bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._bar: Progress | None = None

    def emit(self, record: logging.LogRecord) -> None:
        trials: tuple[int, int] | None = getattr(record, "trials", None)
        if trials is not None:
            self._show_progress(*trials)
            return
        step = record.levelno < logging.WARNING
        text = Text(record.getMessage(), style="" if step else "yellow")
        if step and self._console.is_terminal:
            self._console.print(text, no_wrap=True, overflow="ellipsis")
        else:
            self._console.print(text, soft_wrap=True)

    def close(self) -> None:
        self._end_bar()
        super().close()

    def _show_progress(self, ended: int, total: int) -> None:
        if not self._console.is_terminal:
            return
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.add_task("Trials of the search", total=total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=ended, total=total)
        if ended >= total:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
