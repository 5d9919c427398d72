"""`train/train`: train a challenger, register it, and compare it with the champion."""

from __future__ import annotations

from prefect import flow

from flows.artifacts import show_training
from flows.tasks import as_task, run_tags
from healthpredict.operations.dataset import arriving_batch
from healthpredict.operations.installation import Installation
from healthpredict.operations.search import TrainingRequest
from healthpredict.operations.train import TrainingResult
from healthpredict.operations.train import train as operation


@flow(name="train")
def train(trigger: str = "manual", arriving: str | None = None) -> TrainingResult:
    """Train a challenger on all batches with known outcomes, and compare it with the champion.

    Args:
        trigger: name of the training. A training with the same name and data is not run again.
        arriving: train as if this batch were arriving, on outcomes that are known by then; by default the newest batch.
    """
    installation = Installation()
    training = TrainingRequest(trigger=trigger, arriving=arriving_batch(installation, arriving))
    outcome = operation(installation, training, run_tags(), as_step=as_task)
    show_training(outcome)
    return outcome
