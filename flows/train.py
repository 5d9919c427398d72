"""`train/train`: search, fit, calibrate, register a challenger and gate it."""

from __future__ import annotations

from prefect import flow

from flows.artifacts import show_training
from flows.tasks import as_task, run_tags
from healthpredict.config import Settings
from healthpredict.operations.dataset import arriving_batch
from healthpredict.operations.drift_loop import TrainingOutcome
from healthpredict.operations.gate import gate
from healthpredict.operations.register import register
from healthpredict.operations.search import search


@flow(name="train")
def train(trigger: str = "manual", arriving: str | None = None) -> TrainingOutcome:
    """Train a challenger on everything that has matured and compare it with the champion.

    Args:
        trigger: name of the training; one trigger is trained once on the same data.
        arriving: the batch on whose arrival; by default the newest.
    """
    settings = Settings()
    arriving = arriving_batch(settings, arriving)
    found = as_task(search)(settings, trigger, arriving, run_tags())
    challenger = as_task(register)(settings, found)
    outcome = TrainingOutcome(challenger=challenger, gate=as_task(gate)(settings, challenger.version, arriving))
    show_training(outcome)
    return outcome
