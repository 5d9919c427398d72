"""Trials of a search as nested MLflow runs."""

from __future__ import annotations

import logging
from typing import Any

_logger = logging.getLogger(__name__)


def trial_logger(tracking_uri: str, experiment: str, parent_run_id: str, metric: str) -> Any:
    """Build a Ray Tune callback that logs every trial as a run nested under the search.

    Its log records have an attribute `trials` for a progress bar: how many trials have ended, and how many there are at most. A
    resumed search continues the count.

    Args:
        tracking_uri: of MLflow.
        experiment: its name.
        parent_run_id: the run of the search.
        metric: the one that is logged. Everything else that Ray reports describes the process, not the model.
    """
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class TrialLogger(MLflowLoggerCallback):  # type: ignore[misc]
        _ended = 0

        def setup(self, *args: Any, **search: Any) -> None:
            super().setup(*args, **search)
            self._total = search["total_num_samples"]
            _logger.info("The search runs up to %d trials", self._total, extra={"trials": (self._ended, self._total)})

        def get_state(self) -> dict[str, Any]:
            return {"ended": self._ended}

        def set_state(self, state: dict[str, Any]) -> None:
            self._ended = state["ended"]

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            wanted = {"training_iteration": result["training_iteration"], metric: result[metric]}
            super().log_trial_result(iteration, trial, wanted)

        def log_trial_end(self, trial: Any, failed: bool = False) -> None:
            super().log_trial_end(trial, failed)
            self._ended += 1
            reached = (trial.last_result or {}).get(metric)
            outcome = "failed" if failed or reached is None else f"{metric} {reached:.4f}"
            trials = (self._ended, self._total)
            _logger.info("Trial %d of %d, %s: %s", *trials, trial.config["family"], outcome, extra={"trials": trials})

        def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
            super().on_experiment_end(trials, **info)
            # The search may have run out of time before its last trial.
            extra = {"trials": (self._ended, self._ended)}
            _logger.info("The search ended after %d trials", self._ended, extra=extra)

    return TrialLogger(
        tracking_uri=tracking_uri, experiment_name=experiment, tags={"mlflow.parentRunId": parent_run_id}
    )
