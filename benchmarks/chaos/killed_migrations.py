"""Kill the first start of MLflow's SQLite store, then start again: every second start must work."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

_SEED = 17
_LONGEST_SECONDS = 1.0
"""Building a store takes about this long. The import of MLflow writes nothing and is not part of it: each start is forked from a
process that has imported MLflow."""


def run(kills: int = 50) -> dict[str, int]:
    """Kill first starts at random times, each with an empty folder.

    Returns:
        `kills`, how many hit a start that was still running; `failed_starts`, how many later starts did not work.
    """
    times = Random(_SEED)
    hit = failed = 0
    for _ in range(kills):
        with tempfile.TemporaryDirectory() as folder:
            while not kill_while(open_registry, Path(folder), times.uniform(0, _LONGEST_SECONDS)):
                (Path(folder) / "mlflow.db").unlink(missing_ok=True)
            hit += 1
            failed += not starts(Path(folder))
    return {"kills": hit, "failed_starts": failed}


def _processes() -> multiprocessing.context.ForkServerContext:
    """Processes of a server that has imported MLflow and nothing else of this process: no open database, no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.db.utils"])
    return context


def open_registry(folder: Path) -> None:
    """Open the registry of a folder and write to it."""
    from healthpredict.registry.models import Registry

    Registry(f"sqlite:///{folder / 'mlflow.db'}", "readmission", folder).open_run("a run", {"trigger": "chaos"})


def kill_while(work: Callable[[Path], None], folder: Path, seconds: float) -> bool:
    """Run `work` in a process and kill it after some seconds. Returns: whether it was still running."""
    process = _processes().Process(target=work, args=(folder,))
    process.start()
    time.sleep(seconds)
    running = process.is_alive()
    process.kill()
    process.join()
    return running


def starts(folder: Path) -> bool:
    """Whether the registry of a folder can be opened and written to by another process."""
    process = _processes().Process(target=open_registry, args=(folder,))
    process.start()
    process.join()
    return process.exitcode == 0
