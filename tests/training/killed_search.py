"""A search that writes down what happens to its trials, and a slow one to be killed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from encoded_hospital import Hospital, encode_hospital
from ray.tune import Callback

from healthpredict.registry.trials import trial_logger
from healthpredict.training.candidates import Candidate, SearchResult
from healthpredict.training.families import STEPS
from healthpredict.training.params import SearchParams
from healthpredict.training.search import METRIC, search_models

NAME = "a-search"
N_TRIALS = 5
KNOWN = tuple(
    Candidate(family="logistic_regression", params={"C": c}, validation_auroc=0.6, steps=STEPS) for c in (0.02, 0.3)
)
"""What an earlier search found: one family, two candidates of it."""
_seconds_per_report = 0.0


def limited(n_trials: int, seconds: float = 120, max_concurrent: int = 2) -> SearchParams:
    """Small params with the same limits for a first search and for a retraining."""
    return SearchParams(
        families=("logistic_regression", "random_forest"),
        n_trials=n_trials,
        time_budget_seconds=seconds,
        retrain_n_trials=n_trials,
        retrain_time_budget_seconds=seconds,
        max_concurrent=max_concurrent,
        seed=1,
    )


PARAMS = limited(N_TRIALS)
ONE_AT_A_TIME = limited(N_TRIALS, max_concurrent=1)


class Notes(Callback):
    """One JSON line for each start and end of a trial, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._note("start", trial)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        time.sleep(_seconds_per_report)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._note("complete", trial)

    def _note(self, event: str, trial: Any) -> None:
        last = trial.last_result or {}
        noted = {"event": event, "trial": trial.trial_id, "config": trial.config, "time": time.time()}
        reached = {"steps": last.get("step"), "auroc": last.get(METRIC), "pid": last.get("pid")}
        with self.path.open("a") as file:
            file.write(json.dumps(noted | reached) + "\n")


def read_notes(path: Path) -> list[dict[str, Any]]:
    """The complete lines of the notes so far."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def search(hospital: Hospital, folder: Path, **changed: Any) -> SearchResult:
    """Run a small search, with notes in `folder`."""
    arguments: dict[str, Any] = {
        "params": PARAMS,
        "state_path": folder / "state" / NAME,
        "callbacks": [Notes(folder / "notes")],
    }
    return search_models(hospital.train, hospital.validation, **(arguments | changed))


def search_slowly(folder: str, tracking_uri: str, experiment: str, run_id: str) -> None:
    """Search so slowly that the process can be killed between two trials."""
    global _seconds_per_report  # noqa: PLW0603 -- a callback's attributes would live on in the search that is resumed
    _seconds_per_report = 0.15
    callbacks = [Notes(Path(folder) / "notes"), trial_logger(tracking_uri, experiment, run_id, METRIC)]
    search(encode_hospital(3000, seed=5), Path(folder), params=ONE_AT_A_TIME, known=KNOWN, callbacks=callbacks)
