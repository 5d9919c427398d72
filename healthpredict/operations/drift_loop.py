"""The loop: take every batch that is not done yet, look at it, and retrain and roll out where that is decided.

The ledger says what is done. A batch gets its event when everything that it led to has ended, so a loop that was killed does the
batch that it was at again; each step of it is safe to repeat and does nothing twice (see `search`, `register`, `roll_out`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from healthpredict.config import Settings
from healthpredict.data.batches import INITIAL
from healthpredict.errors import AlreadyRunning, BatchRefused, HealthPredictError, NoChampion
from healthpredict.operations.accept_batch import AcceptedBatch, accept_batch
from healthpredict.operations.check_ledger import check_ledger
from healthpredict.operations.collect_live import collect_live
from healthpredict.operations.context import hold_lease, open_ledger, open_registry
from healthpredict.operations.dataset import arrived_batches
from healthpredict.operations.detect_drift import DriftCheck, detect_drift
from healthpredict.operations.gate import gate
from healthpredict.operations.register import Challenger, register
from healthpredict.operations.roll_out import roll_out
from healthpredict.operations.search import search
from healthpredict.operations.ship_log import ship_log
from healthpredict.storage.lease import Lease
from healthpredict.storage.lock import exclusive
from healthpredict.training.gate import GateDecision

_logger = logging.getLogger(__name__)
Source = Literal["batches", "live"]


class TrainingOutcome(BaseModel):
    """A training and what the gate said."""

    model_config = ConfigDict(frozen=True)

    challenger: Challenger
    gate: GateDecision


@dataclass(frozen=True)
class Steps:
    """What the loop does at each batch; flows replace them by flows and tasks of the same behaviour."""

    accept: Callable[[Settings, str], AcceptedBatch]
    detect: Callable[[Settings, str], DriftCheck]
    train: Callable[[Settings, str, str], object]
    deploy: Callable[[Settings, int], object]


def train(settings: Settings, trigger: str, arriving: str) -> TrainingOutcome:
    """Search, register and gate."""
    challenger = register(settings, search(settings, trigger, arriving))
    return TrainingOutcome(challenger=challenger, gate=gate(settings, challenger.version, arriving))


PLAIN_STEPS = Steps(accept_batch, detect_drift, train, roll_out)


def drift_loop(settings: Settings, steps: Steps = PLAIN_STEPS, source: Source = "batches") -> list[str]:
    """Do every batch that has arrived and is not in the ledger, in order.

    Args:
        settings: everything.
        steps: what is done at each batch.
        source: "live" first cuts batches from what the API predicted, see `collect_live`.

    Returns:
        The names of the batches done, refused ones included.

    Raises:
        AlreadyRunning: another loop works on the same state or, perhaps on another host, on the same data.
        NoChampion: the first model did not pass the gate; no batch was done.
        HealthPredictError: a step failed. The champion is untouched, the batch is not done, and the next start tries it again.
    """
    with (
        exclusive(settings.state_path / "drift-loop.lock", "The drift loop"),
        hold_lease(settings, "drift-loop", "The drift loop") as lease,
    ):
        if source == "live":
            _collect(settings)
        pending = pending_batches(settings)
        # The ledger and not the alias: a rollout that was killed after moving the alias is not written down yet.
        if open_ledger(settings).last("promotion") is None:
            version, decision = _train_and_deploy(settings, steps, INITIAL, pending[0] if pending else INITIAL)
            if not decision.promote:
                raise NoChampion(version, decision.reasons)
        for name in pending:
            lease.check()
            _do_batch(settings, steps, name, lease)
        check_ledger(settings)
        return pending


def _collect(settings: Settings) -> None:
    if settings.prediction_log_path.exists():
        # The local API's; elsewhere a process beside the API ships.
        with contextlib.suppress(AlreadyRunning):
            ship_log(settings, settings.prediction_log_path)
    collected = collect_live(settings)
    _logger.info("New batches: %s; %d encounters wait", ", ".join(collected.batches) or "none", collected.waiting)


def pending_batches(settings: Settings) -> list[str]:
    """Batches that have arrived and are not in the ledger, in order."""
    done = {event["batch"] for event in open_ledger(settings).events("batch")}
    return [name for name in arrived_batches(settings) if name != INITIAL and name not in done]


def _do_batch(settings: Settings, steps: Steps, name: str, lease: Lease) -> None:
    ledger, registry = open_ledger(settings), open_registry(settings)
    try:
        accepted = steps.accept(settings, name)
    except BatchRefused as error:
        _logger.warning("%s", error)
        ledger.append("batch", batch=name, decision="refused", reasons=[str(error)])
        return
    check = steps.detect(settings, name)
    _logger.info("%s: %s. %s", name, check.decision.state, " ".join(check.decision.reasons))
    challenger = None
    if check.decision.state == "retrain":
        challenger, _ = _train_and_deploy(settings, steps, name, name)
    champion = registry.by_alias("champion")
    lease.check()
    ledger.append(
        "batch",
        batch=name,
        rows=check.rows,
        decision=check.decision.state,
        reasons=list(check.decision.reasons),
        drifted_share=check.data.drifted_share,
        drifted_columns=list(check.decision.columns),
        override=check.override,
        champion_before=check.champion,
        champion=champion.version if champion else None,
        challenger=challenger,
        seconds=accepted.seconds | check.seconds,
    )


def _gated(settings: Settings, trigger: str, arriving: str) -> tuple[int, GateDecision]:
    """What a training led to, from the ledger: it may have been done by another process."""
    ledger = open_ledger(settings)
    training = ledger.last("training", trigger=trigger, arriving=arriving)
    gated = training and ledger.last("gate", version=training["version"], arriving=arriving)
    if not training or not gated:
        raise HealthPredictError(f"The training for {arriving} left nothing in the ledger {ledger.uri}. Start again.")
    return training["version"], GateDecision.model_validate({name: gated[name] for name in GateDecision.model_fields})


def _train_and_deploy(settings: Settings, steps: Steps, trigger: str, arriving: str) -> tuple[int, GateDecision]:
    steps.train(settings, trigger, arriving)
    version, decision = _gated(settings, trigger, arriving)
    _logger.info("Version %d %s", version, "passed the gate" if decision.promote else "did not pass the gate")
    if decision.promote:
        steps.deploy(settings, version)
    return version, decision
