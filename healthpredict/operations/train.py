"""Train a challenger: search, register, gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from healthpredict.operations.gate import gate
from healthpredict.operations.installation import Installation
from healthpredict.operations.register import Challenger, register
from healthpredict.operations.search import Training, search
from healthpredict.training.gate import GateDecision

Operation = TypeVar("Operation", bound=Callable[..., Any])


class StepWrapper(Protocol):
    """Wraps an operation without changing its signature."""

    def __call__(self, operation: Operation, /) -> Operation:
        """Return the wrapped operation."""


class TrainingOutcome(BaseModel):
    """A challenger and the decision of the gate."""

    model_config = ConfigDict(frozen=True)

    challenger: Challenger
    gate: GateDecision


def _unchanged(operation: Operation) -> Operation:
    return operation


def train(
    installation: Installation,
    training: Training,
    tags: Mapping[str, str] | None = None,
    *,
    as_step: StepWrapper = _unchanged,
) -> TrainingOutcome:
    """Train a challenger on all matured batches, and compare it with the champion.

    Args:
        installation: where data and models are.
        training: see `Training`.
        tags: for the MLflow run, for instance the id of the flow run.
        as_step: wraps each of the three operations, for instance into a Prefect task.

    Raises:
        NotEnoughData, LeakSuspected, BundleError, RegistryError: see `search`, `register` and `gate`.
    """
    found = as_step(search)(installation, training, tags)
    challenger = as_step(register)(installation, found)
    decision = as_step(gate)(installation, challenger.version, training.arriving)
    return TrainingOutcome(challenger=challenger, gate=decision)
