"""Kill the drift loop with SIGKILL again and again: every batch must get one event, and no row may be lost.

The loop, the ledger, the lease, the registry and the acceptance of batches are real. Detection, training, recalibration
and rollout are fakes that take some milliseconds and append the same events as the real ones.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Semaphore
from pathlib import Path
from typing import Any

from healthpredict.config import Settings
from healthpredict.data.raw import format_raw
from healthpredict.data.synthetic import synthesize
from healthpredict.evaluation.interval import Interval
from healthpredict.monitoring.alert_rate import AlertRate
from healthpredict.monitoring.data_drift import ColumnDrift, DataDrift
from healthpredict.monitoring.params import DriftState
from healthpredict.monitoring.policy import DriftDecision
from healthpredict.operations.accept_batch import accept_batch
from healthpredict.operations.detect_drift import DriftCheck
from healthpredict.operations.drift_loop import Steps, drift_loop
from healthpredict.operations.installation import Installation
from healthpredict.operations.pending import find_pending
from healthpredict.operations.predict_batch import PredictedBatch
from healthpredict.operations.recalibrate import Recalibrated
from healthpredict.operations.search import TrainingRequest
from healthpredict.storage.layout import Layout
from healthpredict.storage.ledger_check import find_altered
from healthpredict.storage.tables import read_json

_SEED = 17
_ROWS = 40
_BATCHES_AT_ONCE = 4
_STEP_SECONDS = 0.02
_MOST_STEPS = 4
_LATEST_KILL_SECONDS = 0.1
_COLUMN = ColumnDrift(column="age", method="wasserstein", score=0.0, threshold=0.1)
_MADE_ONCE = ("training", "recalibration", "promotion")
"""Kinds of events that the ledger must contain at most once for each version."""
_CONTEXT = multiprocessing.get_context("forkserver")


def run(kills: int = 50) -> dict[str, int]:
    """Kill the loop at random times, and start it again until every batch is done.

    Returns:
        Counts: kills, and 0 of lost_rows, lost_batches, duplicated_events and chain_broken.
    """
    # Imported once, because the import would take seconds in each process.
    stores = ("tracking", "model_registry", "workspace")
    _CONTEXT.set_forkserver_preload(
        [__name__, "mlflow.tracking", *(f"mlflow.store.{name}.sqlalchemy_store" for name in stores)]
    )
    draw, kills_done = random.Random(_SEED), 0
    steps = _CONTEXT.Semaphore(0)
    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(Path(folder))
        batches = _arrive(settings, 0)
        # The first process is not killed, because MLflow creates its tables in it.
        _end(_start(folder, steps))
        while kills_done < kills:
            if not find_pending(Installation(settings)).names:
                batches += _arrive(settings, batches)
            while steps.acquire(block=False):  # those of the previous process
                pass
            process = _start(folder, steps)
            # At a random moment of its start, or after some steps.
            for _ in range(draw.randint(0, _MOST_STEPS)):
                while process.is_alive() and not steps.acquire(timeout=_STEP_SECONDS):
                    pass
            process.join(draw.uniform(0, _LATEST_KILL_SECONDS))
            if process.is_alive():
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                kills_done += 1
            process.join()
        while find_pending(Installation(settings)).names:
            _end(_start(folder, steps))
        return {"kills": kills_done, **_faults(settings, batches)}


def _settings(folder: Path) -> Settings:
    return Settings(data_uri=str(folder / "data"), state_path=folder / "state")


def _arrive(settings: Settings, first: int) -> int:
    """Deliver some batches with an old modification time. Returns: how many."""
    source = synthesize(_BATCHES_AT_ONCE * _ROWS, seed=first).drop(columns="readmitted")
    source["encounter_id"] = [str(first * _ROWS + number + 1) for number in range(len(source))]
    long_ago = time.time() - 86_400
    for number in range(_BATCHES_AT_ONCE):
        path = Path(Layout(settings.data_uri).batch(f"batch-{first + number + 1:04d}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(format_raw(source.iloc[number * _ROWS : (number + 1) * _ROWS]))
        os.utime(path, (long_ago, long_ago))
    return _BATCHES_AT_ONCE


def _start(folder: str, steps: Semaphore) -> ForkServerProcess:
    process = _CONTEXT.Process(target=_loop, args=(folder, steps))
    process.start()
    return process


def _end(process: ForkServerProcess) -> None:
    process.join()
    if process.exitcode != 0:
        raise AssertionError(f"the loop ended with {process.exitcode}")


def _loop(folder: str, steps: Semaphore) -> None:
    def counted(step: Callable[..., Any]) -> Callable[..., Any]:
        def run_counted(*arguments: Any) -> Any:
            steps.release()
            time.sleep(_STEP_SECONDS)
            return step(*arguments)

        return run_counted

    drift_loop(
        Installation(_settings(Path(folder))),
        Steps(*map(counted, (accept_batch, _detect, _train, _recalibrate, _promote, _predict))),
    )


def _detect(installation: Installation, name: str) -> DriftCheck:
    rows = read_json(installation.layout.accepted(name))["cohort_rows"]
    state: DriftState = "retrain" if name.endswith("3") else "recalibrate" if name.endswith("2") else "stable"
    return DriftCheck(
        batch=name,
        champion=1,
        trained_version=1,
        rows=rows,
        data=DataDrift(rows=rows, columns=(_COLUMN,), joint=(), prediction=()),
        concept=None,
        subgroups=(),
        alert_rate=AlertRate(promised=0.2, flagged=Interval(value=0.2, low=0.1, high=0.3), broken=False),
        decision=DriftDecision(state=state, reasons=("made up",), columns=()),
        override=None,
        report_uri="",
        seconds={},
    )


def _predict(_: Installation, name: str) -> PredictedBatch:
    return PredictedBatch(version=1, live=False, expected_auroc=0.6)


def _train(installation: Installation, training: TrainingRequest) -> None:
    """Append the events of a training and its gate. Like `register` and `gate`, do not repeat what is in the ledger."""
    ledger = installation.ledger
    trained = ledger.last("training", **training.model_dump())
    if trained is None:
        version = len(ledger.events("training")) + 1
        trained = ledger.append("training", version=version, **training.model_dump())
    gate = {"version": trained["version"], "arriving": training.arriving}
    if ledger.last("gate", **gate) is None:
        facts = {"promote": True, "reasons": ["made up"], "rows": _ROWS, "auroc": 0.6}
        ledger.append("gate", champion_auroc=None, difference=None, **gate, **facts)


def _recalibrate(installation: Installation, name: str) -> Recalibrated:
    """Append the event of a recalibration, once, as `recalibrate` does."""
    ledger = installation.ledger
    if (event := ledger.last("recalibration", arriving=name)) is None:
        version = 1000 + len(ledger.events("recalibration"))  # above the versions of trainings
        made_up = {"of": 1, "correction": "none", "intercept": 0.0, "slope": 1.0, "threshold": 0.1, "bundle_digest": ""}
        facts = {"version": version, "arriving": name, "reasons": ["made up"], **made_up}
        event = ledger.append("recalibration", key=f"recalibration {name}", seconds={}, **facts)
    return Recalibrated.model_validate({field: event[field] for field in Recalibrated.model_fields})


def _promote(installation: Installation, version: int) -> None:
    ledger = installation.ledger
    if ledger.last("promotion", version=version) is None:
        ledger.append("promotion", version=version, previous=None, seconds={})


def _faults(settings: Settings, batches: int) -> dict[str, int]:
    installation = Installation(settings)
    ledger, layout = installation.ledger, installation.layout
    events = Counter(event["batch"] for event in ledger.events("batch"))
    others = Counter((kind, event["version"]) for kind in _MADE_ONCE for event in ledger.events(kind))
    kept = [read_json(layout.accepted(name))["rows"] for name in events]
    _, altered = find_altered(ledger)
    return {
        "lost_rows": batches * _ROWS - sum(kept),
        "lost_batches": batches - len(events),
        "duplicated_events": sum(number - 1 for number in [*events.values(), *others.values()]),
        "chain_broken": int(altered is not None),
    }
