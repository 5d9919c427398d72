"""Train a challenger: search, register, gate."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from healthpredict.operations.gate import gate
from healthpredict.operations.installation import Installation
from healthpredict.operations.register import Challenger, register
from healthpredict.operations.search import TrainingRequest, search
from healthpredict.operations.step_wrapper import StepWrapper, unwrapped
from healthpredict.training.gate import GateDecision


class TrainingResult(BaseModel):
    """A challenger and the decision of the gate."""

    model_config = ConfigDict(frozen=True)

    challenger: Challenger
    gate: GateDecision


def train(
    installation: Installation,
    training: TrainingRequest,
    tags: Mapping[str, str] | None = None,
    *,
    as_step: StepWrapper = unwrapped,
) -> TrainingResult:
    """Train a challenger on all matured batches, and compare it with the champion.

    Args:
        installation: where data and models are.
        training: see `TrainingRequest`.
        tags: for the MLflow run, for instance the id of the flow run.
        as_step: wraps each of the three operations, for instance into a Prefect task.

    Raises:
        NotEnoughData, LeakSuspected, BundleError, RegistryError: see `search`, `register` and `gate`.
    """
    found = as_step(search)(installation, training, tags)
    challenger = as_step(register)(installation, found)
    decision = as_step(gate)(installation, challenger.version, training.arriving)
    return TrainingResult(challenger=challenger, gate=decision)
