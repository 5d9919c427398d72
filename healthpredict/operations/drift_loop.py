"""The loop: process every batch that is not done yet; retrain and roll out if the decision says so.

The ledger says what is done. The event of a batch is appended when everything that the batch led to has ended. So a loop that was
killed repeats the last batch; each of its steps can be repeated and does nothing twice (see `search`, `register`, `roll_out`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from healthpredict.config import Settings
from healthpredict.data.batches import INITIAL, natural_key
from healthpredict.errors import (
    AlreadyRunning,
    BatchRefused,
    HealthPredictError,
    NoChampion,
    NotFound,
    NothingToPredict,
    Removed,
    StillArriving,
)
from healthpredict.operations.accept_batch import AcceptedBatch, accept_batch
from healthpredict.operations.accept_outcomes import accept_outcomes, waiting_outcomes
from healthpredict.operations.arrivals import Fingerprint, delivered_batches, delivered_outcomes, fingerprint
from healthpredict.operations.check_ledger import check_ledger
from healthpredict.operations.collect_live import collect_live
from healthpredict.operations.context import hold_lease, open_ledger, open_registry
from healthpredict.operations.detect_drift import DriftCheck, detect_drift
from healthpredict.operations.gate import gate
from healthpredict.operations.pending import Pending, batch_events, find_pending
from healthpredict.operations.promote import promote
from healthpredict.operations.register import Challenger, register
from healthpredict.operations.roll_out import settle
from healthpredict.operations.search import search
from healthpredict.operations.ship_log import ship_log
from healthpredict.storage.lease import Lease
from healthpredict.storage.lock import exclusive
from healthpredict.training.gate import GateDecision

_logger = logging.getLogger(__name__)
BatchSource = Literal["batches", "live"]


class TrainingOutcome(BaseModel):
    """A training and the decision of the gate."""

    model_config = ConfigDict(frozen=True)

    challenger: Challenger
    gate: GateDecision


@dataclass(frozen=True)
class Steps:
    """What the loop does with each batch. The flow replaces them by flows and tasks of the same behaviour."""

    accept: Callable[[Settings, str], AcceptedBatch]
    detect: Callable[[Settings, str], DriftCheck]
    train: Callable[[Settings, str, str], object]
    deploy: Callable[[Settings, int], object]


def train(settings: Settings, trigger: str, arriving: str) -> TrainingOutcome:
    """Search, register and gate."""
    challenger = register(settings, search(settings, trigger, arriving))
    return TrainingOutcome(challenger=challenger, gate=gate(settings, challenger.version, arriving))


PLAIN_STEPS = Steps(accept_batch, detect_drift, train, promote)


class LoopRun(BaseModel):
    """What one run of the loop did.

    Attributes:
        done: names of the batches that it processed, in order, including refused ones.
        notices: what the operator should know about the batches and outcomes of this run.
        state: which files are pending, changed or ignored at its end.
        waits: whether a file of a batch or of outcomes may still be copied, so that another run is needed soon.
    """

    model_config = ConfigDict(frozen=True)

    done: list[str]
    notices: list[str]
    state: list[str]
    waits: bool

    @property
    def sentences(self) -> list[str]:
        """Everything that the operator should know, without repetitions."""
        return list(dict.fromkeys([*self.notices, *self.state]))


def drift_loop(settings: Settings, steps: Steps = PLAIN_STEPS, source: BatchSource = "batches") -> LoopRun:
    """Process every batch that has arrived and is not in the ledger, in order, including those that arrive during the run.

    If a batch cannot be used, its event records the reason, and the loop continues with the next one.

    Args:
        settings: everything.
        steps: what is done at each batch.
        source: "live" first cuts batches from what the API predicted, see `collect_live`.

    Raises:
        AlreadyRunning: another loop, perhaps on another host, uses the same state or the same data.
        NoChampion: the first model did not pass the gate; no batch was done.
        HealthPredictError: a step failed. The champion is untouched, the batch is not done, and the next start tries it again.
    """
    with (
        exclusive(settings.state_path / "drift-loop.lock", "The drift loop"),
        hold_lease(settings, "drift-loop", "The drift loop") as lease,
    ):
        if source == "live":
            _collect(settings)
        notices: list[str] = []
        accept_outcomes(settings, notices.append)
        if (problem := settle(settings)) is not None:
            notices.append(problem)
        # The ledger and not the alias: a rollout that was killed after it moved the alias is not in the ledger yet.
        if open_ledger(settings).last("promotion") is None:
            ready = find_pending(settings).ready
            version, decision = _train_and_deploy(settings, steps, lease, INITIAL, ready[0] if ready else INITIAL)
            if not decision.promote:
                raise NoChampion(version, decision.reasons)
        done: list[str] = []
        tried: set[Fingerprint] = set()
        while (found := _next(settings, tried, notices.append)) is not None:
            lease.check()
            name, delivered = found
            tried.add(delivered)
            try:
                notices += _do_batch(settings, steps, name, delivered, lease)
                done.append(name)
            except StillArriving as error:
                notices.append(str(error))
            accept_outcomes(settings, notices.append)
        check_ledger(settings)
        pending = find_pending(settings)
        _record_changes(settings, pending)
        state = [*pending.sentences, *waiting_outcomes(settings)]
        waits = bool(pending.waiting) or any(found.waits for found in delivered_outcomes(settings).files.values())
        return LoopRun(done=done, notices=notices, state=state, waits=waits)


def _next(
    settings: Settings, tried: set[Fingerprint], report: Callable[[str], object]
) -> tuple[str, Fingerprint] | None:
    """The next batch that is ready and was not tried in this run with the same content."""
    pending = find_pending(settings)
    for name in pending.ready:
        try:
            delivered = fingerprint(pending.files[name])
        except Removed as error:
            _logger.warning("%s", error)
            report(str(error))
            continue
        if delivered not in tried:
            return name, delivered
    return None


def _record_changes(settings: Settings, pending: Pending) -> None:
    """Append an event for each file that changed after it was accepted, once for each content."""
    for name, how in pending.changed.items():
        try:
            sha256 = fingerprint(pending.files[name]).sha256 if name in pending.files else None
        except Removed:
            continue  # the next run records that it was removed
        open_ledger(settings).append("changed", key=f"changed {name} {sha256}", batch=name, sha256=sha256, problem=how)
        _logger.warning("%s changed: %s.", name, how)


def _collect(settings: Settings) -> None:
    if settings.prediction_log_path.exists():
        # Of the local API. In other places, a process beside the API ships its log.
        with contextlib.suppress(AlreadyRunning):
            ship_log(settings, settings.prediction_log_path)
    collected = collect_live(settings)
    _logger.info("New batches: %s; %d encounters wait", ", ".join(collected.batches) or "none", collected.waiting)


def _do_batch(settings: Settings, steps: Steps, name: str, delivered: Fingerprint, lease: Lease) -> list[str]:
    """Process one batch, append its event, and return what the operator should know about it."""
    ledger, registry = open_ledger(settings), open_registry(settings)
    key = f"batch {name} {delivered.sha256}"
    notices = _out_of_order(settings, name)
    try:
        accepted = steps.accept(settings, name)
    except NotFound as error:
        if name in delivered_batches(settings).files:
            raise
        raise Removed(delivered.file) from error
    except BatchRefused as error:
        _logger.warning("%s", error)
        decision = "empty" if isinstance(error, NothingToPredict) else "refused"
        reasons = [str(error)]
        facts = delivered.model_dump()
        lease.check()
        ledger.append("batch", key=key, batch=name, decision=decision, reasons=reasons, notices=notices, **facts)
        return [*notices, *reasons]
    notices += [f"{name}: {notice}" for notice in accepted.notices]
    if accepted.quarantined:
        worst = "; ".join(f"{reason} ({rows} rows)" for reason, rows in accepted.reasons.items())
        notices.append(f"{name}: {accepted.quarantined} of {accepted.rows} rows are in quarantine: {worst}.")
    check = steps.detect(settings, name)
    challenger = None
    if check.decision.state == "retrain":
        challenger, _ = _train_and_deploy(settings, steps, lease, name, name)
    champion = registry.by_alias("champion")
    lease.check()
    ledger.append(
        "batch",
        key=key,
        batch=name,
        rows=check.rows,
        decision=check.decision.state,
        reasons=list(check.decision.reasons),
        notices=notices,
        drifted_share=check.data.drifted_share,
        drifted_columns=list(check.decision.columns),
        override=check.override,
        champion_before=check.champion,
        champion=champion.version if champion else None,
        challenger=challenger,
        seconds=accepted.seconds | check.seconds,
        read_as=accepted.read_as,
        **(accepted.delivered or delivered).model_dump(),
    )
    return notices


def _out_of_order(settings: Settings, name: str) -> list[str]:
    """A notice if a batch sorts before one that is done, because it arrived later."""
    later = [other for other in batch_events(settings) if natural_key(other) > natural_key(name)]
    if not later:
        return []
    notice = f"{name} sorts before {later[-1]}, which is done. Batches are processed in the order of their names; name it later."
    _logger.warning("%s", notice)
    return [notice]


def _gated(settings: Settings, trigger: str, arriving: str) -> tuple[int, GateDecision]:
    """The result of a training, read from the ledger, because another process may have trained."""
    ledger = open_ledger(settings)
    training = ledger.last("training", trigger=trigger, arriving=arriving)
    gated = training and ledger.last("gate", version=training["version"], arriving=arriving)
    if not training or not gated:
        raise HealthPredictError(f"The training for {arriving} left nothing in the ledger {ledger.uri}. Start again.")
    return training["version"], GateDecision.model_validate({name: gated[name] for name in GateDecision.model_fields})


def _train_and_deploy(
    settings: Settings, steps: Steps, lease: Lease, trigger: str, arriving: str
) -> tuple[int, GateDecision]:
    steps.train(settings, trigger, arriving)
    version, decision = _gated(settings, trigger, arriving)
    if decision.promote:
        lease.check()
        steps.deploy(settings, version)
    return version, decision
