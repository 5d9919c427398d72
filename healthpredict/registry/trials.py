"""Trials of a search as nested MLflow runs."""

from __future__ import annotations

import logging
from typing import Any

_logger = logging.getLogger(__name__)


def trial_logger(tracking_uri: str, experiment: str, parent_run_id: str, metric: str) -> Any:
    """A Ray Tune callback that logs every trial as a run nested under the search.

    Args:
        tracking_uri: of MLflow.
        experiment: its name.
        parent_run_id: the run of the search.
        metric: logged at each report; everything else that Ray reports is about the process, not the model.
    """
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class TrialLogger(MLflowLoggerCallback):  # type: ignore[misc]
        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            wanted = {"training_iteration": result["training_iteration"], metric: result[metric]}
            super().log_trial_result(iteration, trial, wanted)

        def log_trial_end(self, trial: Any, failed: bool = False) -> None:
            super().log_trial_end(trial, failed)
            reached = (trial.last_result or {}).get(metric)
            outcome = "failed" if failed or reached is None else f"{metric} {reached:.4f}"
            _logger.info("Trial %d, %s: %s", len(self._trial_runs), trial.config["family"], outcome)

    return TrialLogger(
        tracking_uri=tracking_uri, experiment_name=experiment, tags={"mlflow.parentRunId": parent_run_id}
    )
